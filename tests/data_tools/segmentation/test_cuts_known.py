"""Films whose cuts are known: hard cuts, dissolves, fades, and all that is no cut; a table, never worse than before.

``BEFORE`` holds what the detector of November 2026 found in the same films (its own differences of every frame, without
PySceneDetect), as (found, cuts there are, found where there is none).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import cv2
import numpy as np
import pytest

from data_tools.segmentation.cuts import CutSignals, find_cuts
from tests.data_tools.video.videos import FPS, pan, panorama, tour

pytest.importorskip("scenedetect")

Film = tuple[list[np.ndarray], list[float]]
SEEDS = range(3)  # raise it for a broader look; the figures of BEFORE are of 3
NEAR = 0.15  # seconds


def hard(seed: int, least: float = 4.0, most: float = 8.0) -> Film:
    rng = np.random.default_rng(seed)
    plan = [(int(rng.integers(1, 1000)), round(float(rng.uniform(least, most)) * FPS) / FPS) for _ in range(5)]
    return list(tour(plan)), list(np.cumsum([seconds for _, seconds in plan])[:-1])


def dark(seed: int) -> Film:
    images, cuts = hard(seed, 2.0, 3.0)
    return [(image * 0.3).astype(np.uint8) for image in images], cuts


def grey(seed: int) -> Film:
    images, cuts = hard(seed, 2.0, 3.0)
    return [np.repeat(image[..., 1:2], 3, -1) for image in images], cuts


def same_room(seed: int) -> Film:
    wide = panorama(seed, 240, 2600)
    starts = [*range(0, 100, 2), *range(1400, 1500, 2)]
    return [wide[:, x : x + 320] for x in starts], [50 / FPS]


def blend(seed: int, count: int, level: int | None = None) -> Film:
    """A dissolve over ``count`` frames, or a fade to a level and back."""
    one, two = list(pan(2 * seed + 1, 5)), list(pan(2 * seed + 2, 5))
    if level is None:
        share = np.linspace(0, 1, count + 2)[1:-1]
        middle = [a * (1 - w) + b * w for a, b, w in zip(one[45:], two, share, strict=False)]
    else:
        share = np.concatenate([np.linspace(1, 0, count // 2), np.zeros(3), np.linspace(0, 1, count // 2)])
        middle = [a * w + level * (1 - w) for a, w in zip([*one[45 : 45 + count // 2 + 2], *two], share, strict=False)]
    rest = two[count:] if level is None else two[count // 2 + 1 :]
    return [*one[:45], *(image.astype(np.uint8) for image in middle), *rest], [3 + len(middle) / 2 / FPS]


def blurred(seed: int, places: np.ndarray) -> Film:
    """A camera that goes from place to place (pixels of a panorama) with the blur of its motion."""
    wide = panorama(seed, 240, 1280).astype(np.float32)
    images = []
    for last, now in zip([places[0], *places], places, strict=False):
        parts = [wide[:, (x := int(last + (now - last) * part)) : x + 320] for part in np.linspace(0.5, 1, 5)]
        images.append(np.mean(parts, axis=0).astype(np.uint8))
    return images, []


def fast_pan(seed: int) -> Film:
    x = np.arange(90) * 40.0 % 1920
    return blurred(seed, np.where(x < 960, x, 1920 - x))


def turns(seed: int) -> Film:
    stops = [0, 430, 860, 330, 760]
    parts = [[np.full(18, a), np.linspace(a, b, 7)] for a, b in pairwise(stops)]
    return blurred(seed, np.concatenate([part for pair in parts for part in pair]))


def lit(seed: int, gain: Callable[[np.ndarray], np.ndarray], offset: float = 0.0) -> Film:
    images = list(pan(seed, 8))
    gains = gain(np.arange(len(images)))
    return [np.clip(a * g + offset * (g > 2), 0, 255).astype(np.uint8) for a, g in zip(images, gains, strict=True)], []


def still(seed: int, noise: float) -> Film:
    rng, image = np.random.default_rng(seed), panorama(seed, 240, 320).astype(np.float32)
    return [np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8) for _ in range(60)], []


FILMS: dict[str, Callable[[int], Film]] = {
    "cuts every 4 to 8 s": hard,
    "cuts every 0.6 s": lambda seed: hard(seed, 0.6, 0.6),
    "cuts in the dark": dark,
    "cuts without colour": grey,
    "a cut within a room": same_room,
    "dissolve, 0.5 s": lambda seed: blend(seed, 8),
    "dissolve, 1 s": lambda seed: blend(seed, 15),
    "dissolve, 2 s": lambda seed: blend(seed, 30),
    "fade to black": lambda seed: blend(seed, 24, 0),
    "fade to white": lambda seed: blend(seed, 24, 255),
    "fast pan": fast_pan,
    "quick turns": turns,
    "exposure drifts": lambda seed: lit(seed, lambda i: 1 + 0.5 * np.sin(i / 6)),
    "exposure jumps": lambda seed: lit(seed, lambda i: np.where(i // 30 % 2, 1.6, 1.0)),
    "flicker": lambda seed: lit(seed, lambda i: np.where(i % 2, 1.25, 0.8)),
    "flashes": lambda seed: lit(seed, lambda i: np.where(i % 40 == 20, 2.5, 1.0), 90),
    "still": lambda seed: still(seed, 0.0),
    "still, noisy": lambda seed: still(seed, 12.0),
}
BEFORE = {
    "cuts every 4 to 8 s": (12, 12, 0),
    "cuts every 0.6 s": (12, 12, 0),
    "cuts in the dark": (12, 12, 0),
    "cuts without colour": (12, 12, 0),
    "a cut within a room": (3, 3, 0),
    "dissolve, 0.5 s": (3, 3, 0),
    "dissolve, 1 s": (3, 3, 0),
    "dissolve, 2 s": (0, 3, 0),
    "fade to black": (3, 3, 0),
    "fade to white": (3, 3, 0),
    "fast pan": (0, 0, 3),
    "quick turns": (0, 0, 10),
    "exposure drifts": (0, 0, 0),
    "exposure jumps": (0, 0, 0),
    "flicker": (0, 0, 0),
    "flashes": (0, 0, 9),
    "still": (0, 0, 0),
    "still, noisy": (0, 0, 0),
}


def cuts_in(images: list[np.ndarray]) -> Iterator[tuple[float, float]]:
    signals = CutSignals()
    for number, image in enumerate(images):
        signals.add(number / FPS, cv2.resize(image, (64, 48), interpolation=cv2.INTER_AREA))
    return ((cut.start, cut.end) for cut in find_cuts(signals))


def count(name: str) -> tuple[int, int, int]:
    """(cuts found, cuts there are, found where there is none) over all seeds."""
    hits = there = wrong = 0
    for seed in SEEDS:
        images, truth = FILMS[name](seed + 1)
        found = list(cuts_in(images))
        hits += sum(any(a - NEAR <= time <= b + NEAR for a, b in found) for time in truth)
        wrong += sum(not any(a - 1 - NEAR <= time <= b + 1 + NEAR for time in truth) for a, b in found)
        there += len(truth)
    return hits, there, wrong


@pytest.mark.parametrize("name", FILMS)
def test_never_worse_than_before(name):
    before, now = BEFORE[name], count(name)
    print(f"{name:22} before {before[0]:3}/{before[1]:<3} +{before[2]:<3} now {now[0]:3}/{now[1]:<3} +{now[2]}")
    assert now[0] >= before[0]
    assert now[1:] == (before[1], 0)  # and nothing is found where there is nothing
    if "dissolve" not in name:
        assert now[0] == before[1]
