"""What is missing of a damaged video, in seconds."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.video.damage import find_holes

pytest.importorskip("av")

from data_tools.video.sampling import DecodeReport, probe_video, raw_frames, write_video
from tests.data_tools.video import videos


def test_holes_of_a_regular_video():
    times = np.arange(100) / 10
    assert find_holes(times, 10.0) == []
    assert find_holes(np.delete(times, np.arange(30, 50)), 10.0) == [(pytest.approx(3.0), pytest.approx(5.0))]
    assert find_holes(times[20:], 10.0) == [(0.0, pytest.approx(2.0))]
    assert find_holes(times[:60], 10.0) == [(pytest.approx(6.0), 10.0)]
    assert find_holes(np.delete(times, [7, 55]), 10.0) == [
        (pytest.approx(0.7), pytest.approx(0.8)),
        (pytest.approx(5.5), pytest.approx(5.6)),
    ]
    assert find_holes(np.zeros(0), 4.0) == [(0.0, 4.0)]
    assert find_holes(times[:1], 0.0) == []
    # of two pictures the gap tells little: they stand for as long as the file shows them
    assert find_holes(times[:5:4], 12.0, np.full(2, 0.1)) == [(pytest.approx(0.5), 12.0)]


def test_pictures_lost_one_by_one_are_counted_by_their_packets():
    packets = np.arange(200) / 10
    times = packets[np.random.default_rng(0).random(200) < 0.7]
    lost = sum(end - start for start, end in find_holes(times, 20.0, None, packets))
    assert len(times) / 10 + lost == pytest.approx(20, abs=0.11)


def test_a_damaged_time_stamp_opens_no_hole():
    times = np.arange(200) / 10
    times[120:150] += 8  # a run of pictures with a wrong time; those after it are squeezed in behind
    times[150:] = times[149] + np.arange(1, 51) / 100
    holes = find_holes(times, 20.0, None, np.arange(200) / 10)
    assert sum(end - start for start, end in holes) <= 0.5


def test_a_variable_rate_has_no_holes_but_long_ones():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([1 / 30, 1 / 10, 0.3], 300))
    times -= times[0]
    assert find_holes(times, times[-1]) == []
    lost = (times > 5) & (times < 9)
    ((start, end),) = find_holes(times[~lost], times[-1])
    assert end - start == pytest.approx(4, abs=0.4)
    still = np.array([0, 0.04, 0.08, 0.12, 6.0, 6.04, 6.08, 6.12])  # a pause that the file states is none
    assert find_holes(still, 6.16, np.append(np.diff(still), 0.04)) == []


@pytest.mark.parametrize("fps", [5, 15, 29.97])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_decoded_and_missing_make_the_whole(tmp_path, suffix, fps):
    path = tmp_path / f"x{suffix}"
    write_video(path, videos.pan(1, 40, fps), fps)
    whole = path.read_bytes()
    damages = {"zeroed": (bytearray(whole), False), "cut": (bytearray(whole[: len(whole) * 2 // 3]), True)}
    middle = len(whole) // 2
    damages["zeroed"][0][middle : middle + 65536] = bytes(65536)
    for name, (content, is_cut) in damages.items():
        if is_cut and suffix != ".mkv":
            continue  # an .mp4 has lost its index, a .ts promises nothing
        path.write_bytes(content)
        report = DecodeReport()
        decoded = sum(1 for _ in raw_frames(path, report=report)) / fps
        holes = find_holes(np.array(report.times), probe_video(path).duration, np.array(report.shown), report.packets)
        missing = sum(end - start for start, end in holes)
        assert missing > 1, name
        assert decoded + missing == pytest.approx(40, abs=0.5), name


def test_a_lost_start_is_missing(tmp_path):
    path = tmp_path / "a.mkv"
    write_video(path, videos.pan(1, 40), videos.FPS)
    content = path.read_bytes()
    assert content.count(b"\x1f\x43\xb6\x75") > 2  # clusters: some seconds each
    path.write_bytes(content.replace(b"\x1f\x43\xb6\x75", bytes(4), 1))
    report = DecodeReport()
    decoded = sum(1 for _ in raw_frames(path, report=report)) / videos.FPS
    ((start, end),) = find_holes(
        np.array(report.times), probe_video(path).duration, np.array(report.shown), report.packets
    )
    assert start == 0
    assert end == report.times[0] > 2
    assert decoded + end == pytest.approx(40, abs=0.5)
    from_there = next(raw_frames(path, start=end + 5, packets=report.packets))
    assert end <= from_there.time <= end + 5
