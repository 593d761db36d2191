"""Near-duplicates: scenes that show what one of the data set shows, such as re-uploads, or a tour under two names.

The segment stage leaves CLIP's embeddings of `LOOKS_A_SCENE` frames spread evenly over each scene. A scene is a copy
where nearly all of them are alike to those of the other in the same order: each to the one at the same share of the
length, or to a neighbour of that. So it is the same footage, encoded, cropped or marked anew; a room that merely looks
alike, or that is filmed once more, shows other things at other times. Scenes that begin or end elsewhere are no copies.

A sketch of each scene (random signs, then sums: Charikar et al. 2002, "Finding frequent items in data streams") keeps
50,000 of them in 20 MB; frames are read again only where the sketches are nearly as alike.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.chain.folders import mark_of
from data_tools.chain.items import SCENE_NAME, Intervals, names_in, shard_of
from data_tools.chain.plan import Planner
from data_tools.segmentation.settings import LOOKS, LOOKS_A_SCENE
from data_tools.stages.record import StageError
from data_tools.stages.scene_folder import read_meta

LEAST_ALIKE = 14  # of LOOKS_A_SCENE frames
REACH = 1  # frames: how far aside of its share of the length a partner may be
LEAST_GAP = 10.0  # seconds between scenes of one video that are compared: a long room is split into several
SKETCH = 96
BLOCK = 4096  # sketches
SLACK = 0.06  # of a sketch's similarity: nearly four times its error

Looks = NDArray[np.float32]


def count_alike(one: Looks, other: Looks, alike: float) -> int:
    """Frames of the scene that has fewer, which have a partner in the other.

    Args:
        one: (K, E) embeddings of length 1, in order of time.
        other: (K, E).
        alike: least cosine.
    """
    steps = np.arange(len(one))
    is_near = np.abs(steps[:, None] - steps) <= REACH
    is_alike = (one @ other.T >= alike) & is_near
    return int(min(is_alike.any(0).sum(), is_alike.any(1).sum()))


@lru_cache(maxsize=1)
def _signs(size: int) -> Looks:
    return np.random.default_rng(0).choice(np.array([-1, 1], np.float32), size)


def sketch(looks: Looks) -> Looks:
    """(SKETCH,) of length 1; the cosine of two is about the mean cosine of the scenes' frames, one by one."""
    values = looks.ravel() * _signs(looks.size)
    sums = np.pad(values, (0, -len(values) % SKETCH)).reshape(-1, SKETCH).sum(0)
    return sums / max(float(np.linalg.norm(sums)), 1e-12)


class Copies:
    """The scenes that are taken: those in the data set, and those that are under way.

    Args:
        planner: knows the folders, the scenes and the least cosine.
        shard: (i, n): only scenes of its videos count, whatever other shards have done meanwhile.

    Attributes:
        unknown: scenes of the data set without embeddings; they are not compared.
    """

    def __init__(self, planner: Planner, shard: tuple[int, int] | None = None) -> None:
        self.planner, self.shard, self.unknown = planner, shard, 0
        self._names: list[str] = []
        self._sketches: list[Looks] = []  # (BLOCK, SKETCH) each
        self._is_loaded = False
        self._video = lru_cache(maxsize=64)(self._read_video)

    def find(self, scene: str) -> tuple[str, int] | None:
        """The first taken scene that this one is a copy of, and how many frames say so."""
        self._load()
        mine = self._scene(scene)
        if mine is None:
            return None
        least = self.planner.settings.copies
        wanted = sketch(mine[1])
        similar = np.concatenate([np.zeros(0), *(block @ wanted for block in self._sketches)])[: len(self._names)]
        for name in (self._names[number] for number in np.flatnonzero(similar >= least - SLACK)):
            other = self._scene(name)
            if other is None or other[1].shape != mine[1].shape or not _are_apart(scene, mine[0], name, other[0]):
                continue
            count = count_alike(mine[1], other[1], least)
            if count >= LEAST_ALIKE and self._has_these_times(name, other[0]):
                return name, count
        return None

    def take(self, scene: str) -> None:
        """From now on this one has no copies."""
        found = self._scene(scene)
        if found is None:
            self.unknown += 1
            return
        place = len(self._names) % BLOCK
        if not place:
            self._sketches.append(np.zeros((BLOCK, SKETCH), np.float32))
        self._sketches[-1][place] = sketch(found[1])
        self._names.append(scene)

    def drop(self, scene: str) -> None:
        """A taken one came to nothing."""
        self._names = ["" if name == scene else name for name in self._names]

    def pairs(self) -> list[tuple[str, str, int]]:
        """Copies within the data set (shards do not see each other's): scene, original, how many frames say so."""
        found, self._is_loaded = [], True  # they are taken one after the other
        for name in self._finished():
            copy = self.find(name)
            if copy is None:
                self.take(name)
            else:
                found.append((name, *copy))
        return found

    def _load(self) -> None:
        """Take what is in the data set, when the first new scene asks."""
        if not self._is_loaded:
            self._is_loaded = True
            for name in self._finished():
                self.take(name)

    def _finished(self) -> list[str]:
        names = sorted(name for split in self.planner.places.splits() for name in names_in(split))
        return [name for name in names if (match := SCENE_NAME.match(name)) and self._is_mine(match["video"])]

    def _is_mine(self, video: str) -> bool:
        return self.shard is None or shard_of(video, self.shard[1]) == self.shard[0]

    def _scene(self, name: str) -> tuple[Intervals, Looks] | None:
        match = SCENE_NAME.match(name)
        if match is None:
            return None  # dropped
        folder = self.planner.places.folder("segment", match["video"])
        return self._video(folder, mark_of(folder)).get(name)

    def _read_video(self, folder: Path, _mark: str) -> dict[str, tuple[Intervals, Looks]]:
        """Intervals and embeddings of a video's scenes; empty where it was segmented without CLIP."""
        try:
            scenes, looks = self.planner.read_scenes(folder), np.load(folder / LOOKS)
        except (StageError, OSError, ValueError):
            return {}
        if looks.ndim != 3 or looks.shape[:2] != (len(scenes), LOOKS_A_SCENE):
            return {}
        return {s.scene_id: (s.intervals, row) for s, row in zip(scenes, looks.astype(np.float32), strict=True)}

    def _has_these_times(self, name: str, intervals: Intervals) -> bool:
        """Whether a scene of the data set is the one that the embeddings are of; what is under way is."""
        folder = self.planner.scene_folder(name)
        meta = read_meta(folder) if folder.is_dir() else None
        return meta is None or meta.get("intervals") == [list(interval) for interval in intervals]


def _are_apart(one: str, times: Intervals, other: str, other_times: Intervals) -> bool:
    """Whether two scenes are of different videos, or lie apart in theirs."""
    if one.rpartition("_")[0] != other.rpartition("_")[0]:
        return True
    (start, end), (other_start, other_end) = ((part[0][0], part[-1][1] or np.inf) for part in (times, other_times))
    return bool(max(start, other_start) - min(end, other_end) >= LEAST_GAP)
