"""Cuts and scenes: pure functions of pictures, probabilities and times."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from data_tools.segmentation.cuts import Cut, CutSignals, Tiny, difference, find_cuts
from data_tools.segmentation.labels import read_labels
from data_tools.segmentation.scenes import find_scenes, most_likely_path, smooth
from data_tools.segmentation.settings import SegmentSettings
from data_tools.stages.record import StageError
from tests.data_tools.video.videos import panorama

NAMES = ["bathroom", "bedroom", "kitchen", "outdoor"]
FPS = 30


def cuts_of(images, fps=FPS):
    signals = CutSignals()
    for i, image in enumerate(images):
        signals.add(i / fps, image)
    return find_cuts(signals, SegmentSettings(labels="none").cut_threshold)


def views(seed, seconds, speed=12.0, fps=FPS, blur=False):
    """Tiny views (48, 64, 3) of a panning camera, ``speed`` of their pixels a second."""
    wide = panorama(seed, 48 * 3, 64 * 3 * 6).reshape(48, 3, -1, 3, 3).mean((1, 3))
    for i in range(round(seconds * fps)):
        x = i * speed / fps
        steps = max(1, int(speed / fps)) if blur else 1
        shots = [wide[:, (o := int(x + s * speed / fps / steps)) : o + 64] for s in range(steps)]
        yield np.mean(shots, axis=0).astype(np.uint8)


def test_a_hard_cut_is_found_at_its_frame():
    cuts = cuts_of([*views(1, 2), *views(2, 2), *views(3, 2)])
    assert [cut.kind for cut in cuts] == ["cut", "cut"]
    assert [cut.start for cut in cuts] == pytest.approx([2 - 0.5 / FPS, 4 - 0.5 / FPS])


def test_a_missing_pyscenedetect_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect.detectors", None)
    with pytest.raises(
        StageError, match=r"^finding cuts needs PySceneDetect: pip install scenedetect-headless$"
    ) as caught:
        CutSignals()
    assert not caught.value.permanent


def test_cuts_close_to_each_other_are_all_found():
    assert len(cuts_of([*views(1, 2), *views(2, 0.4), *views(3, 2)])) == 2


@pytest.mark.parametrize(("speed", "blur"), [(0, False), (60, False), (120, True)])
def test_still_and_panning_cameras_have_no_cut(speed, blur):
    assert cuts_of(views(5, 2, speed, blur=blur)) == []


def test_exposure_changes_and_flashes_are_no_cuts():
    images = list(views(1, 4))
    for i, gain in enumerate(1 + 0.5 * np.sin(np.arange(120) / 6)):
        images[i] = np.clip(images[i] * gain, 0, 255).astype(np.uint8)
    assert cuts_of(images) == []
    images = list(views(1, 4))
    images[50:90] = [np.clip(image * 1.6, 0, 255).astype(np.uint8) for image in images[50:90]]
    images[30] = np.clip(images[30] * 2.0 + 90, 0, 255).astype(np.uint8)
    assert cuts_of(images) == []


@pytest.mark.parametrize("length", [8, 15, 30])
def test_dissolves_are_found(length):
    one, two = list(views(1, 4)), list(views(2, 4))
    weights = np.linspace(0, 1, length + 2)[1:-1]
    middle = [(a * (1 - w) + b * w).astype(np.uint8) for a, b, w in zip(one[90:], two, weights, strict=False)]
    cuts = cuts_of([*one[:90], *middle, *two[length:]])
    assert [cut.kind for cut in cuts] == ["dissolve"]
    assert cuts[0].start < 3 + length / 60 < cuts[0].end
    assert cuts[0].end - cuts[0].start < 1.7


def test_fade_through_black_is_one_fade():
    weights = np.minimum(1, np.abs(np.arange(180) - 90) / 20)[:, None, None, None]
    images = np.array([*list(views(1, 3)), *list(views(2, 3))]) * weights
    cuts = cuts_of(images.astype(np.uint8))
    assert [cut.kind for cut in cuts] == ["fade"]
    assert cuts[0].start <= 3 <= cuts[0].end


def test_difference_is_of_content_not_of_light_or_shift():
    one, two = (list(views(seed, 1, 30)) for seed in (1, 2))
    first = Tiny(0, one[0])
    assert difference(first, first) == pytest.approx(0, abs=1e-3)
    assert difference(first, Tiny(0, (one[0] * 0.6).astype(np.uint8))) < 0.1
    assert difference(first, Tiny(0, one[5])) < 0.1
    assert difference(first, Tiny(0, two[0])) > 0.4


def rows(plan, rate=3.0, sure=0.9):
    """(times, probabilities) of rows (label, seconds)."""
    ends = np.cumsum([seconds for _, seconds in plan])
    times = np.arange(0, ends[-1], 1 / rate)
    shares = np.full((len(times), len(NAMES)), (1 - sure) / (len(NAMES) - 1))
    for i, place in enumerate(np.searchsorted(ends, times, side="right")):
        shares[i, NAMES.index(plan[place][0])] = sure
    return times, shares, float(ends[-1])


def scenes_of(plan, cuts=(), rate=3.0, **settings):
    times, shares, duration = rows(plan, rate)
    return find_scenes(times, shares, NAMES, cuts, duration, SegmentSettings(labels="none", **settings))


def found(result):
    return [(span.label, span.start, span.end) for span in result.scenes]


@pytest.mark.parametrize("rate", [2.0, 3.0, 5.0, 29.97])
def test_boundaries_lie_within_half_a_frame_of_the_truth(rate):
    result = scenes_of([("outdoor", 7.3), ("kitchen", 20.1), ("bedroom", 15.2)], rate=rate)
    assert [span.label for span in result.scenes] == ["kitchen", "bedroom"]
    assert result.boundaries == pytest.approx([7.3, 27.4], abs=0.51 / rate + 1e-6)
    assert result.scenes[0].start == pytest.approx(7.3 + 1.0, abs=0.51 / rate)
    assert result.scenes[1].end == pytest.approx(42.6)
    assert result.scenes[0].probability == pytest.approx(0.9, abs=0.02)


def test_smoothing_keeps_a_step_where_it_is_at_uneven_times():
    times = np.sort(np.concatenate([np.arange(0, 5, 0.5), np.arange(5, 10, 0.04)]))
    step = smooth(times, (times > 4.99)[:, None].astype(float), 0.5)[:, 0]
    assert np.interp(0.5, step[:14], times[:14]) == pytest.approx(4.75, abs=0.06)  # midway between two frames
    assert step[0] == 0
    assert step[-1] == 1
    assert np.array_equal(smooth(times, step[:, None], 0.0)[:, 0], step)


def test_a_wild_frame_changes_nothing():
    times, shares, _ = rows([("kitchen", 30)])
    shares[40] = [0.01, 0.01, 0.0, 0.98]
    assert set(most_likely_path(times, shares, 0.5)) == {NAMES.index("kitchen")}


def test_short_rooms_join_the_longer_neighbour_of_their_shot():
    result = scenes_of([("kitchen", 14), ("bathroom", 4), ("bedroom", 20)])
    assert [label for label, *_ in found(result)] == ["kitchen", "bedroom"]
    assert result.scenes[1].start == pytest.approx(14, abs=0.2)
    result = scenes_of([("kitchen", 6), ("bathroom", 5), ("kitchen", 6)])
    assert found(result) == [("kitchen", 0.0, pytest.approx(17))]


def test_a_short_room_does_not_join_over_a_cut():
    result = scenes_of([("kitchen", 14), ("bathroom", 4)], [Cut(14.0, 14.0, "cut")])
    assert found(result) == [("kitchen", 0.0, pytest.approx(13.9))]
    assert result.dropped[-1].reason == "3.9 s of room, shorter than 10 s"


def test_short_indoor_runs_are_dropped_and_margins_kept_around_outdoors():
    result = scenes_of([("kitchen", 8), ("outdoor", 6), ("bedroom", 20), ("outdoor", 5)])
    assert found(result) == [("bedroom", pytest.approx(15, abs=0.2), pytest.approx(33, abs=0.2))]
    reasons = [span.reason for span in result.dropped]
    assert sum(reason == "margin" for reason in reasons) == 3
    assert "no room to see" in reasons
    total = sum(span.length for span in result.scenes + result.dropped)
    assert total == pytest.approx(39, abs=1e-6)  # nothing is lost and nothing twice


def test_a_room_shorter_than_the_margin_leaves_the_next_ones_margin():
    result = scenes_of([("outdoor", 9), ("bathroom", 3), ("kitchen", 20)], margin=4.0, min_room=2.0)
    assert found(result) == [("kitchen", pytest.approx(13, abs=0.2), pytest.approx(32))]


def test_long_scenes_are_split_evenly():
    result = scenes_of([("kitchen", 70)], max_length=30.0)
    assert [span.length for span in result.scenes] == pytest.approx([70 / 3] * 3)


def test_without_labels_shots_are_scenes():
    cuts = [Cut(20.0, 20.0, "cut"), Cut(29.0, 30.0, "fade")]
    result = find_scenes(np.arange(0, 50, 0.3), None, [], cuts, 50.0, SegmentSettings(labels="none"))
    assert [(s.start, s.end, s.probability) for s in result.scenes] == [(0, 19.9, None), (30.1, 50.0, None)]
    assert [span.reason for span in result.dropped] == ["8.8 s of room, shorter than 10 s"]


def test_outdoors_only_has_no_scene():
    assert scenes_of([("outdoor", 40)]).scenes == []


def test_label_files(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("frame,time,label\n0,0.0,Outdoor\n1,4,kitchen\n\n2,8,kitchen\n")
    table = read_labels(path)
    assert table.names == ["kitchen", "outdoor"]
    assert table.probabilities(np.array([0.0, 1.9, 2.1, 99.0])).argmax(1).tolist() == [1, 1, 0, 0]
    path.write_text("0,outdoor\n1,kitchen\n")
    assert read_labels(path).labels == ["outdoor", "kitchen"]
    for text in ("", "time,label\n", "0,outdoor\nx,kitchen\n", "0,\n", "nan,kitchen\n"):
        path.write_text(text)
        with pytest.raises(StageError, match=r"^labels\.csv: "):
            read_labels(path)


@pytest.mark.parametrize(
    "values",
    [
        {"labels": "nowhere.csv"},
        {"rate": 0},
        {"smoothing": -1},
        {"max_length": 12},
        {"cut_threshold": 1.5},
        {"temperature": 0},
        {"prior_outdoor": 0.99},
        {"rooms": ("kitchen", "kitchen")},
        {"rooms": ("outdoor",)},
        {"precision": "int8"},
        {"clip_weights": "nowhere.pt"},
    ],
)
def test_settings_refuse_what_would_fail_later(values):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        SegmentSettings(**values)


def test_settings_hash_changes_with_what_touches_the_result():
    usual = SegmentSettings(labels="none").digest()
    assert SegmentSettings(labels="none", device="cpu", batch=3, temperature=2.0).digest() == usual
    assert SegmentSettings(labels="none", margin=2.0).digest() != usual
    assert SegmentSettings(temperature=2.0).digest() != SegmentSettings().digest()


@pytest.mark.parametrize("every", [4, 8])
def test_a_tour_edited_into_short_shots_gives_scenes_in_all_of_them(every):
    cuts = [Cut(float(t), float(t), "cut") for t in range(every, 300, every)]
    result = scenes_of([("kitchen", 300)], cuts)
    assert [span.label for span in result.scenes] == ["kitchen"] * 3
    assert sum(span.length for span in result.scenes) == pytest.approx(300 - 0.2 * len(cuts))
    parts = [interval for span in result.scenes for interval in span.intervals]
    assert len(parts) == len(cuts) + 1
    assert parts[1] == pytest.approx((every + 0.1, 2 * every - 0.1))
    assert all(span.length <= 120 + every for span in result.scenes)
    assert result.scenes[0].probability == pytest.approx(0.9, abs=0.02)
    assert result.dropped == []


def test_short_shots_join_by_room_and_not_past_a_scene_or_another_room():
    plan = [
        ("kitchen", 6),
        ("outdoor", 4),
        ("kitchen", 8),
        ("bedroom", 6),
        ("kitchen", 9),
        ("bedroom", 20),
        ("kitchen", 9),
    ]
    edges = np.cumsum([seconds for _, seconds in plan])[:-1]
    result = scenes_of(plan, [Cut(float(t), float(t), "cut") for t in edges])
    assert found(result) == [
        ("kitchen", 0.0, pytest.approx(17.9)),  # the outdoor shot between does not part them
        ("bedroom", pytest.approx(33.1), pytest.approx(52.9)),
    ]
    assert result.scenes[0].intervals == (pytest.approx((0, 5.9)), pytest.approx((10.1, 17.9)))
    assert [span.label for span in result.dropped if "shorter" in span.reason] == ["bedroom", "kitchen", "kitchen"]


def test_a_glimpse_joins_no_scene():
    cuts = [Cut(float(t), float(t), "cut") for t in np.arange(0.9, 30, 0.9)]
    assert scenes_of([("kitchen", 30)], cuts).scenes == []
