"""The segment stage on small videos: scenes, records, faulty files, the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")

from data_tools import segment
from data_tools.collection.manifest import scan_manifest
from data_tools.segment import SegmentSettings, find_videos, read_scenes, segment_video
from data_tools.stages.record import StageError
from data_tools.video.decode import packet_times
from tests.data_tools.video import videos

PLACES = {videos.SKY: "outdoor", 1: "living room", 2: "kitchen", 3: "bedroom"}
NONE = SegmentSettings(labels="none")


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """6 s outdoors, 14 s living room, a cut, 13 s kitchen."""
    return videos.write_tour(tmp_path_factory.mktemp("tour") / "tour.mp4", [(videos.SKY, 6), (1, 14), (2, 13)])


@pytest.fixture(scope="module")
def done(tour, tmp_path_factory):
    classifier = videos.TintClassifier(PLACES)
    folder = tmp_path_factory.mktemp("work") / "segments" / "tour"
    return folder, segment_video(tour, folder, SegmentSettings(), classifier=classifier), classifier


def test_a_tour_becomes_scenes_of_one_room(done):
    folder, record, _ = done
    assert (record.status, record.reason) == ("done", "")
    scenes = read_scenes(folder)
    assert [(scene.scene_id, scene.label) for scene in scenes] == [("tour_001", "living room"), ("tour_002", "kitchen")]
    times = [time for scene in scenes for time in (scene.start, scene.end)]
    assert times == pytest.approx([6.1, 19.9, 20.1, 33.0], abs=0.1)
    assert all(scene.probability > 0.8 for scene in scenes)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    thumbs = {f"thumbs/tour_{number:03d}_{i}.jpg" for number in (1, 2) for i in range(3)}
    assert names == {"scenes.json", "packets.npy", "looks.npy", "timeline.png", "record.json"} | thumbs
    looks = np.load(folder / "looks.npy").astype(np.float32)
    assert looks.shape[:2] == (2, 16)
    assert np.allclose(np.linalg.norm(looks, axis=2), 1, atol=1e-2)


def test_every_frame_is_decoded_once_and_few_are_classified(done):
    _, record, classifier = done
    assert record.result["frames_decoded"] == 33 * 15
    assert classifier.calls == record.result["frames_classified"] == 33 * 3


def test_one_pass_over_the_file(tour, tmp_path, monkeypatch):
    from data_tools.segmentation import scan

    calls = []
    real = scan.raw_frames
    monkeypatch.setattr(scan, "raw_frames", lambda path, **kwargs: calls.append(path) or real(path, **kwargs))
    segment_video(tour, tmp_path / "tour", SegmentSettings(), classifier=videos.TintClassifier(PLACES))
    assert len(calls) == 1


def test_the_same_again_is_skipped_and_gives_the_same_bytes(tour, done, tmp_path):
    folder, record, classifier = done
    before = classifier.calls
    assert segment_video(tour, folder, SegmentSettings(), classifier=classifier).skipped
    assert classifier.calls == before
    other = tmp_path / "elsewhere" / "tour"
    segment_video(tour, other, SegmentSettings(), classifier=videos.TintClassifier(PLACES))
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        assert path.read_bytes() == (other / path.relative_to(folder)).read_bytes(), path.name
    changed = segment_video(tour, folder.parent / "tour", SegmentSettings(margin=0.5), classifier=classifier)
    assert not changed.skipped
    assert changed.settings_hash != record.settings_hash


def test_room_boundaries_of_a_walk_without_cuts(tmp_path):
    plan = [(videos.SKY, 8.0), (1, 16.0), (2, 15.0)]
    path, table = tmp_path / "walk.mp4", tmp_path / "labels.csv"
    videos.write_video(path, videos.walk(plan), videos.FPS)
    truth = [(t / 10, 0 if t < 80 else 1 if t < 240 else 2) for t in range(390)]
    table.write_text("time,label\n" + "".join(f"{t},{PLACES[plan[i][0]]}\n" for t, i in truth))
    record = segment_video(path, tmp_path / "walk", SegmentSettings(labels=str(table)))
    value = json.loads((tmp_path / "walk" / "scenes.json").read_text())
    assert record.result["cuts"] == {}
    assert value["labels"] == "file"
    assert value["boundaries"] == pytest.approx([8.0, 24.0], abs=0.25)
    assert [scene["label"] for scene in value["scenes"]] == ["living room", "kitchen"]


def test_without_labels_shots_are_scenes_and_it_is_said(tour, tmp_path, capsys):
    assert segment.main([str(tour), "--work", str(tmp_path), "--labels", "none", "--min-indoor", "5"]) == 0
    assert "no labels: scenes are shots" in capsys.readouterr().out
    folder = tmp_path / "segments" / "tour"
    assert [scene.label for scene in read_scenes(folder)] == ["", "", ""]
    assert "no labels" in json.loads((folder / "record.json").read_text())["notes"][0]


@pytest.mark.parametrize(
    ("make", "name", "status", "reason"),
    [
        (videos.write_empty, "x.mp4", "failed", "0 bytes"),
        (videos.write_text, "x.mp4", "failed", "not a video"),
        (videos.write_audio_only, "x.mp4", "failed", "no video that can be decoded"),
        (videos.write_one_frame, "x.mp4", "rejected", "1 frame"),
        (videos.write_truncated, "x.mp4", "failed", "cut off at its index"),
        (lambda path: videos.write_truncated(path, 8, 0.12), "x.mkv", "failed", "fetch it again"),
        (lambda path: videos.write_tour(path, [(1, 4)]), "x.mp4", "rejected", "shorter than a scene"),
    ],
)
def test_faulty_files_are_recorded_with_their_reason(tmp_path, make, name, status, reason):
    record = segment_video(make(tmp_path / name), tmp_path / "out" / "x", NONE)
    assert (record.status, record.permanent) == (status, True)
    assert reason in record.reason
    assert "\n" not in record.reason
    assert [path.name for path in (tmp_path / "out" / "x").iterdir()] == ["record.json"]
    assert segment_video(tmp_path / name, tmp_path / "out" / "x", NONE).skipped


def test_a_video_without_a_room_is_rejected(tmp_path):
    path = videos.write_no_room(tmp_path / "sky.mp4")
    record = segment_video(path, tmp_path / "sky", SegmentSettings(), classifier=videos.TintClassifier(PLACES))
    assert (record.status, record.reason) == ("rejected", "sky.mp4: shows no room (0% of its frames look like one)")
    path = videos.write_tour(tmp_path / "short.mp4", [(videos.SKY, 6), (1, 6)])
    record = segment_video(path, tmp_path / "short", SegmentSettings(), classifier=videos.TintClassifier(PLACES))
    assert record.status == "rejected"
    assert "shows no room long enough (5.9 s at a time" in record.reason


def test_what_is_left_of_a_truncated_video_is_used(tmp_path):
    path = videos.write_truncated(tmp_path / "t.mkv", 30)
    record = segment_video(path, tmp_path / "t", NONE)
    assert record.status == "done"
    assert record.notes[0].startswith("cut off: ")
    result = record.result
    decoded = result["frames_decoded"] / result["fps"]
    assert decoded + result["seconds_missing"] == pytest.approx(result["duration_stated"], abs=0.5)
    assert read_scenes(tmp_path / "t")[0].end == record.result["duration"] < 25


def test_a_hole_in_the_middle_is_counted_and_ends_a_scene(tmp_path):
    path = videos.write_zeroed(tmp_path / "z.mkv", 60)
    record = segment_video(path, tmp_path / "z", NONE)
    result = record.result
    assert record.status == "done"
    assert result["seconds_missing"] > 5
    assert result["frames_decoded"] / 15 + result["seconds_missing"] == pytest.approx(60, abs=0.6)
    assert record.notes[0].startswith(f"damaged: {result['seconds_missing']:.1f} s of 60.0 s are missing (")
    before, after = read_scenes(tmp_path / "z")
    assert after.start - before.end == pytest.approx(result["seconds_missing"], abs=0.8)
    assert result["cuts"]["hole"] == 1


def test_packet_times_are_kept_for_later_stages(tour, tmp_path):
    segment_video(tour, tmp_path / "tour", NONE)
    times = np.load(tmp_path / "tour" / "packets.npy")
    assert np.array_equal(times, packet_times(tour))


def test_variable_rate_4k_and_rotated_videos(tmp_path):
    path, _ = videos.write_variable_rate(tmp_path / "vfr.mp4")
    segment_video(path, tmp_path / "vfr", NONE)
    assert [scene.start for scene in read_scenes(tmp_path / "vfr")] == pytest.approx([0.0, 12.1], abs=0.11)
    record = segment_video(videos.write_4k(tmp_path / "big.mp4"), tmp_path / "big", NONE)
    assert (record.status, record.result["width"]) == ("done", 3840)
    record = segment_video(videos.write_rotated(tmp_path / "phone.mp4"), tmp_path / "phone", NONE)
    assert (record.result["width"], record.result["height"], record.result["rotation"]) == (240, 320, 90)
    from PIL import Image

    with Image.open(tmp_path / "phone" / "thumbs" / "phone_001_0.jpg") as image:
        assert image.size == (120, 160)


def test_the_command_goes_on_after_bad_videos(tour, tmp_path, capsys):
    folder = tmp_path / "tours"
    (folder / "-id").mkdir(parents=True)
    (folder / "-id" / "video.mp4").write_bytes(tour.read_bytes())
    videos.write_empty(folder / "empty.mp4")
    assert [name for name, _ in find_videos([folder])] == ["id", "empty"]
    command = [str(folder), "--work", str(tmp_path / "work"), "--labels", "none"]
    assert segment.main(command) == 1
    out = capsys.readouterr()
    assert "1 done, 0 rejected, 1 failed" in out.out
    assert "failed: empty: empty.mp4: 0 bytes" in out.err
    assert segment.main(command) == 1
    assert "0 done, 0 rejected, 0 failed, 2 as before" in capsys.readouterr().out


def test_wrong_arguments(tmp_path, capsys):
    for arguments in (["none.mp4"], [str(tmp_path)], [str(tmp_path), "--rate", "0"], [str(tmp_path), "--labels", "x"]):
        assert segment.main(["--labels", "none", *arguments]) == 2
        assert capsys.readouterr().err.startswith("segment: ")
    with pytest.raises(StageError, match=r"scenes\.json"):
        read_scenes(tmp_path)


def test_video_ids_are_unique(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        videos.write_empty(tmp_path / place / "tour.mp4")
    assert [name for name, _ in find_videos([tmp_path, tmp_path / "a"])] == ["tour", "tour~2"]


def test_label_folder_has_a_file_for_each_video(tour, tmp_path):
    record = segment_video(tour, tmp_path / "tour", SegmentSettings(labels=str(tmp_path)))
    assert record.status == "failed"
    assert not record.permanent
    assert "tour.csv" in record.reason
    (tmp_path / "tour.csv").write_text("0,outdoor\n5.9,outdoor\n6,kitchen\n")
    record = segment_video(tour, tmp_path / "tour", SegmentSettings(labels=str(tmp_path)))
    assert record.status == "done"
    assert {scene.label for scene in read_scenes(tmp_path / "tour")} == {"kitchen"}


def test_long_videos_keep_few_thumbnails(monkeypatch):
    from data_tools.segmentation import scan

    class Raw:
        def __init__(self, time):
            self.time = time

        def pixels(self, side):
            return np.full((2, 2, 3), int(self.time) % 256, np.uint8)

    monkeypatch.setattr(scan, "MAX_THUMBS", 20)
    thumbs = scan.Thumbs()
    for i in range(2000):
        thumbs.offer(Raw(i / 10))
    assert 10 <= len(thumbs.times) <= 20
    assert np.ptp(np.diff(thumbs.times)) < 1e-6
    assert thumbs.nearest(100.0)[0, 0, 0] == pytest.approx(100, abs=8)


def test_a_folder_of_photos_is_one_scene_from_the_list_of_videos_on(tmp_path):
    photos = tmp_path / "my room"
    photos.mkdir()
    for i in (10, 9, 1):
        Image.fromarray(np.full((24, 32, 3), 20 * i, np.uint8)).save(photos / f"IMG_{i}.jpg")
    (source,) = scan_manifest(photos).sources
    assert (source.video_id, source.path) == ("my room", photos)
    record = segment_video(photos, tmp_path / "segments" / "my room", NONE)
    (scene,) = read_scenes(tmp_path / "segments" / "my room")
    assert (record.status, scene.scene_id, scene.intervals) == ("done", "my room_001", ((0.0, 2.0),))
    assert segment_video(photos, tmp_path / "segments" / "my room", NONE).skipped
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(photos / "IMG_11.jpg")
    assert not segment_video(photos, tmp_path / "segments" / "my room", NONE).skipped
