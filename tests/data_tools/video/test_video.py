"""Reading and writing of video files, the whole and the broken ones."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

pytest.importorskip("av")

from data_tools.video.damage import find_holes
from data_tools.video.sampling import DecodeReport, Ticker, VideoError, probe_video, write_video
from tests.data_tools.video import videos
from tests.data_tools.video.videos import sample_frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """10 s at 15 frames a second, 320 x 240, under a name that FFmpeg would take for a protocol."""
    path = tmp_path_factory.mktemp("video") / "a:b -x.mp4"
    write_video(path, videos.pan(1, 10), 15)
    return path


@pytest.fixture(scope="module")
def frames(clip):
    return list(sample_frames(clip))


def test_probe(clip):
    info = probe_video(clip)
    assert (info.width, info.height, info.rotation, info.codec) == (320, 240, 0, "h264")
    assert info.fps == pytest.approx(15)
    assert info.duration == pytest.approx(10, abs=0.01)


def test_every_frame_comes_with_its_time_and_content(frames):
    assert [frame.index for frame in frames] == list(range(150))
    assert np.allclose([frame.time for frame in frames], np.arange(150) / 15, atol=1e-4)
    for frame, true in zip(frames[::30], list(videos.pan(1, 10))[::30], strict=True):
        assert frame.image.shape == true.shape
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - true).mean() < 6  # noise and chroma do not survive coding


def test_sampling_picks_by_time(clip):
    assert [frame.index for frame in sample_frames(clip, 3)] == list(range(0, 150, 5))
    assert [frame.time for frame in sample_frames(clip, 1, start=2, end=5)] == pytest.approx([2, 3, 4, 5], abs=0.04)


def test_a_range_gives_the_frames_of_the_whole(clip, frames):
    part = list(sample_frames(clip, start=7.0, end=8.0))
    assert [frame.index for frame in part] == list(range(105, 121))
    for frame in part:
        assert np.array_equal(frame.image, frames[frame.index].image)


def test_known_packet_times_save_a_reading_of_the_file(clip, monkeypatch):
    report = DecodeReport()
    assert len(list(sample_frames(clip, report=report))) == 150
    wanted = [(frame.index, frame.time) for frame in sample_frames(clip, start=7.0, end=8.0)]
    monkeypatch.setattr("data_tools.video.decode.packet_times", None)
    part = sample_frames(clip, start=7.0, end=8.0, packets=report.packets)
    assert [(frame.index, frame.time) for frame in part] == wanted


def test_decoding_twice_gives_the_same_bytes(clip, frames):
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, sample_frames(clip), strict=True))


def test_a_longer_side_scales_down_only_and_a_size_is_exact(clip):
    assert next(sample_frames(clip, size=160)).image.shape == (120, 160, 3)
    assert next(sample_frames(clip, size=1000)).image.shape == (240, 320, 3)
    assert next(sample_frames(clip, size=(154, 112))).image.shape == (112, 154, 3)
    assert next(sample_frames(clip, size=(640, 480))).image.shape == (480, 640, 3)


def test_variable_rate_is_read_by_time_stamps(tmp_path):
    path, times = videos.write_variable_rate(tmp_path / "vfr.mp4", 6)
    assert [frame.time for frame in sample_frames(path)] == pytest.approx(times, abs=1e-3)
    picked = [frame.time for frame in sample_frames(path, 2)]
    assert picked == pytest.approx(np.arange(len(picked)) / 2, abs=0.11)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_turns_the_pictures_as_shown(tmp_path, rotation):
    path = videos.write_rotated(tmp_path / "phone.mp4", 0.4, rotation)
    info = probe_video(path)
    image = next(sample_frames(path)).image
    assert info.rotation == rotation
    assert image.shape[:2] == (info.height, info.width)
    true = np.rot90(next(videos.pan(4, 0.4)), rotation // 90)
    assert np.abs(image.astype(int) - true).mean() < 6


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".ts", ".avi"])
def test_containers_start_at_zero_and_can_be_searched(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    write_video(path, videos.pan(1, 8), 15)
    assert next(sample_frames(path)).time == pytest.approx(0, abs=1e-6)
    assert [frame.time for frame in sample_frames(path, 1, start=5)] == pytest.approx([5, 6, 7], abs=0.07)
    assert probe_video(path).duration == pytest.approx(8, abs=0.2)


@pytest.mark.parametrize("form", ["yuv444p", "yuv422p10le", "gray", "yuvj420p"])
def test_odd_pixel_formats(tmp_path, form):
    path = videos.write_with(tmp_path / "odd.mp4", list(videos.pan(1, 0.2)), form=form)
    image, true = next(sample_frames(path)).image, next(videos.pan(1, 0.2))
    assert image.shape == true.shape
    assert np.abs(image.mean(-1) - true.mean(-1)).mean() < 12


TINT = np.full((120, 160, 3), (200, 100, 50), np.uint8)


def test_pixels_that_are_not_square_are_shown_square(tmp_path):
    path = videos.write_with(tmp_path / "a.mp4", [TINT] * 3, "libx264", "yuv420p", sample_aspect_ratio=Fraction(4, 3))
    info = probe_video(path)
    assert (info.width, info.height) == (213, 120)
    assert next(sample_frames(path)).image.shape == (120, 213, 3)
    assert next(sample_frames(path, size=(56, 28))).image.shape == (28, 56, 3)


@pytest.mark.parametrize("level", [4, 128, 250])
def test_the_full_range_of_yuvj_is_kept(tmp_path, level):
    grey = np.full_like(TINT, level)
    path = videos.write_with(tmp_path / "a.mp4", [grey] * 3, "libx264", "yuvj420p")
    assert np.abs(next(sample_frames(path)).image.astype(int) - level).max() <= 3


@pytest.mark.parametrize(("suffix", "codec", "form"), [(".mov", "qtrle", "argb"), (".mkv", "ffv1", "bgra")])
def test_what_is_transparent_keeps_its_colour(tmp_path, suffix, codec, form):
    image = np.dstack([TINT, np.zeros((120, 160), np.uint8)])
    path = videos.write_with(tmp_path / f"a{suffix}", [image] * 3, codec, form)
    assert np.abs(next(sample_frames(path)).image.astype(int) - TINT).max() <= 1


def test_a_gif_is_a_video(tmp_path):
    path = videos.write_with(tmp_path / "a.gif", list(videos.pan(1, 2)), "gif", "rgb8")
    frames = list(sample_frames(path))
    assert len(frames) == 30
    assert frames[-1].time == pytest.approx(29 / 15, abs=0.06)
    assert np.abs(frames[0].image.astype(int) - next(videos.pan(1, 2))).mean() < 20  # 256 colours


def test_of_interlaced_pictures_one_field_is_taken(tmp_path):
    fields = [cv2.GaussianBlur(image, (0, 0), 1.5) for image in videos.pan(1, 1, 30, speed=300)]  # without its noise
    woven = [even.copy() for even in fields[::2]]
    for image, odd in zip(woven, fields[1::2], strict=True):
        image[1::2] = odd[1::2]
    options = {"x264_params": "interlaced=1:tff=1", "crf": 10}
    path = videos.write_with(tmp_path / "a.mp4", woven, "libx264", "yuv420p", **options)
    for frame, true in zip(sample_frames(path, size=(160, 120)), fields[::2], strict=True):
        wanted, combed = (cv2.resize(a, (160, 120), interpolation=cv2.INTER_AREA) for a in (true, woven[frame.index]))
        found, wanted, combed = (image.mean(-1) for image in (frame.image, wanted, combed))  # the colour stays mixed
        assert np.abs(found - wanted).mean() < 0.6 * np.abs(combed - wanted).mean()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_pictures_that_begin_after_the_sound_begin_at_zero_and_lack_nothing(tmp_path, suffix):
    path = videos.write_with(tmp_path / f"a{suffix}", list(videos.pan(1, 3)), "libx264", "yuv420p", late=1.0)
    report = DecodeReport()
    times = [frame.time for frame in sample_frames(path, report=report)]
    assert times[0] == 0
    assert probe_video(path).duration == pytest.approx(3, abs=0.1)
    assert find_holes(np.array(times), probe_video(path).duration, np.array(report.shown)) == []


def test_missing_duration_is_found_by_decoding(tmp_path):
    path = tmp_path / "raw.h264"
    write_video(path, videos.pan(1, 4), 25)
    assert probe_video(path).duration == pytest.approx(60 / 25, abs=0.1)  # 60 frames; raw streams state no rate


@pytest.mark.parametrize("make", [videos.write_empty, videos.write_text, videos.write_audio_only])
def test_what_is_no_video_is_refused_in_one_line(tmp_path, make):
    path = make(tmp_path / "bad.mp4")
    with pytest.raises(VideoError, match=r"^bad\.mp4: [^\n]+$") as caught:
        probe_video(path)
    assert caught.value.permanent
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        list(sample_frames(path))


def test_a_missing_file_may_come_later(tmp_path):
    with pytest.raises(VideoError, match="no such file") as caught:
        probe_video(tmp_path / "none.mp4")
    assert not caught.value.permanent


def test_truncated_files(tmp_path):
    with pytest.raises(VideoError, match="cut off"):
        probe_video(videos.write_truncated(tmp_path / "t.mp4", 4))
    path = videos.write_truncated(tmp_path / "t.mkv", 10)
    report = DecodeReport()
    count = len(list(sample_frames(path, report=report)))
    assert 15 < count < 150
    assert probe_video(path).duration == pytest.approx(10, abs=0.1)
    assert report.last_time < 9
    assert report.is_complete


def test_damage_in_the_middle_costs_some_frames(tmp_path):
    report = DecodeReport()
    frames = list(sample_frames(videos.write_damaged(tmp_path / "d.mkv"), report=report))
    assert report.errors > 0
    assert 100 < len(frames) < 300
    assert frames[-1].time > 19


def test_one_frame_is_a_video(tmp_path):
    path = videos.write_one_frame(tmp_path / "one.mp4")
    assert [frame.index for frame in sample_frames(path)] == [0]


def test_writing_gives_the_same_bytes_and_cleans_up(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, videos.pan(1, 1), 15)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with pytest.raises(ValueError, match="no frame"):
        write_video(tmp_path / "none.mp4", [], 15)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    write_video(tmp_path / "odd.mp4", (np.full((121, 161, 3), 90, np.uint8) for _ in range(3)), 15)
    info = probe_video(tmp_path / "odd.mp4")
    assert (info.width, info.height) == (160, 120)


def test_ticker_takes_each_frame_once():
    ticker = Ticker(2.0)
    assert [t for t in (0, 0.1, 0.5, 0.9, 3.0, 3.1, 3.5) if ticker.is_due(t)] == [0, 0.5, 3.0, 3.5]
    with pytest.raises(ValueError, match="above 0"):
        Ticker(0)
