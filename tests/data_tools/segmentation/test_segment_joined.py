"""The release's way to scenes, against arrays written by hand from its rule; edited tours in all recipes."""

import numpy as np
import pytest

from data_tools.chain.recipes import RECIPES
from data_tools.segmentation.cuts import Cut
from data_tools.segmentation.joined import box_mean, joined_scenes
from data_tools.segmentation.scenes import find_scenes
from data_tools.segmentation.settings import SegmentSettings

NAMES = ["outdoor", "other", "living room", "bedroom", "bathroom"]


def recipe(name, **changes):
    return SegmentSettings(**{**RECIPES[name].get("segment", {}), **changes})


def frames(plan, rate):
    """(times, probabilities) of (label, seconds)."""
    labels = [label for label, seconds in plan for _ in range(round(seconds * rate))]
    shares = np.full((len(labels), len(NAMES)), 0.05)
    shares[np.arange(len(labels)), [NAMES.index(label) for label in labels]] = 0.8
    return np.arange(len(labels)) / rate, shares


def found(result):
    return [(scene.label, [pytest.approx(part) for part in scene.intervals]) for scene in result.scenes]


def test_the_mean_is_a_box_of_half_a_second():
    times = np.arange(8) / 4  # half a second: a frame and its two neighbours
    votes = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    assert box_mean(times, votes, 0.5) == pytest.approx([1 / 2, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 2])


def test_runs_of_ten_seconds_are_kept_cut_by_a_fifth_and_joined():
    plan = [("outdoor", 2), ("living room", 12), ("outdoor", 2), ("living room", 9), ("outdoor", 2)]
    plan += [("bedroom", 14), ("bathroom", 4)]
    times, shares = frames(plan, 20)
    shares[120:125] = [0.8, 0.05, 0.05, 0.05, 0.05]  # five wild frames: six of the eleven around say indoor
    result = joined_scenes(times, shares, NAMES, 45.0, recipe("release"))
    # 9 s go; 0.2 s at outdoor frames go, not at the video's end; 4 s of bathroom join the bedroom
    assert found(result) == [("living room", [(2.2, 13.8)]), ("bedroom", [(27.2, 45.0)])]
    assert [span.reason for span in result.dropped].count("9.0 s of room, shorter than 10 s") == 1


def test_one_room_goes_on_over_what_is_dropped_between():
    times, shares = frames([("bedroom", 11), ("outdoor", 3), ("bedroom", 10), ("living room", 20)], 10)
    result = joined_scenes(times, shares, NAMES, 44.0, recipe("release"))
    assert found(result) == [("bedroom", [(0.0, 10.8), (14.2, 24.0)]), ("living room", [(24.0, 44.0)])]


def test_rooms_are_told_apart_in_five_frames_a_second():
    times, shares = frames([("bedroom", 12), ("bathroom", 12)], 20)
    is_seen = np.arange(len(times)) % 4 == 0
    shares[~is_seen] = [0.1, 0.1, 0.6, 0.1, 0.1]  # what the others show does not matter
    result = joined_scenes(times, shares, NAMES, 24.0, recipe("release"))
    assert found(result) == [("bedroom", [(0.0, 12.0)]), ("bathroom", [(12.0, 24.0)])]


def test_answers_are_made_0_or_1_before_the_mean():
    times, shares = frames([("bedroom", 20)], 4)
    shares[[30, 31, 33, 34, 36, 37]] = [0.6, 0.0, 0.05, 0.3, 0.05]  # three frames' mean is 0.6, of 0 and 1 a third
    result = joined_scenes(times, shares, NAMES, 20.0, recipe("release", min_indoor=1.0, margin=0.0))
    assert found(result) == [("bedroom", [(0.0, 7.5), (9.5, 20.0)])]


@pytest.mark.parametrize("name", RECIPES)
def test_a_tour_edited_into_short_shots_gives_scenes(name):
    shots = [("living room", 5), ("living room", 7), ("bedroom", 4), ("bedroom", 8), ("outdoor", 4), ("bedroom", 6)]
    shots += [("bathroom", 6), ("bathroom", 7)]
    settings = recipe(name, **({"labels": "clip"} if name == "best" else {}))
    times, shares = frames(shots, 10 if settings.is_joined else settings.rate)
    ends = np.cumsum([seconds for _, seconds in shots])
    cuts = [Cut(float(end), float(end), "cut") for end in ends[:-1]]
    if settings.is_joined:
        scenes = joined_scenes(times, shares, NAMES, float(ends[-1]), settings).scenes
    else:
        has_labels = settings.kind != "none"
        scenes = find_scenes(times, shares if has_labels else None, NAMES, cuts, float(ends[-1]), settings).scenes
    assert len(scenes) >= 3
    assert sum(scene.length for scene in scenes) > 0.8 * 43 * 0.9
