"""What goes through the chain: videos, scenes, stages, calls, and the folders they live in."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_tools.stages.record import StageRecord

SCENE_NAME = re.compile(r"^(?P<video>.+)_(?P<number>\d{3,})$")
NO_SPLITS = ("report", "_work")
Intervals = tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class VideoItem:
    """One video: a local file, or an address that the collect stage fetches.

    Attributes:
        video_id: its name in the chain.
        path: the local file (or folder of frames), or None.
        url: the address, or "".
        ranges: (start, end) seconds that are asked for; empty is the whole video.
        extra: facts for meta.json (title, channel), JSON types.
        labels: a file of frame labels for this video, or None.
        origin: the set that it comes from, for the report, or "".
    """

    video_id: str
    path: Path | None = None
    url: str = ""
    ranges: tuple[tuple[float, float], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    labels: Path | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """The file of a video (it may have been deleted since it was fetched), and its fingerprint."""

    path: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SceneItem:
    """One scene of a video: its name, intervals in seconds (an end of None: the video's) and label."""

    scene_id: str
    intervals: Intervals = ((0.0, None),)
    label: str = ""
    probability: float | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of the chain.

    Attributes:
        name: of the stage.
        area: the folder under WORK with a folder an item.
        needs: a file that must lie in the folder of a finished item, for the next stage.
        into_split: a finished item goes to OUT/<split>; ``area`` holds the records of the others.
        in_place: works in the final folder itself (a download that goes on where it stopped).
    """

    name: str
    area: str
    needs: str = ""
    into_split: bool = False
    in_place: bool = False


STAGES = {
    stage.name: stage
    for stage in (
        Stage("collect", "videos", in_place=True),
        Stage("segment", "segments", "scenes.json"),
        Stage("reconstruct", "clouds", "cloud.ply"),
        Stage("postprocess", "rejected", "coord.npy", into_split=True),
    )
}
SCENE_STAGES = ("reconstruct", "postprocess")
FRAMES = "frames"  # the part of reconstruct that needs no GPU, ahead of it; no stage: it leaves no record
COPY_OF = "copy_of"  # ``result`` of a scene that is left out: the one that shows the same
ORDER = {name: number for number, name in enumerate(("collect", "segment", FRAMES, *SCENE_STAGES))}


@dataclass(frozen=True)
class Places:
    """Where everything is: OUT (the data set) and WORK (what the stages leave)."""

    out: Path
    work: Path

    def folder(self, stage: str, name: str, split: str = "train") -> Path:
        """The folder of a finished item."""
        return self.out / split / name if STAGES[stage].into_split else self.refused(stage, name)

    def refused(self, stage: str, name: str) -> Path:
        """The folder with the record of a rejected or failed item."""
        return self.work / STAGES[stage].area / name

    def attempts(self, stage: str, run: str) -> Path:
        """Where the attempts of a run build their folders, on the file system of the final ones."""
        return (self.out if STAGES[stage].into_split else self.work) / ".attempts" / run

    @property
    def log(self) -> Path:
        """The folder of the logs."""
        return self.work / "log"

    def splits(self) -> list[Path]:
        """The folders of the data set's splits."""
        return [path for path in folders_in(self.out) if path != self.work and path.name not in NO_SPLITS]

    def areas(self, stage: str) -> list[Path]:
        """Folders that hold the stage's item folders: the finished ones first."""
        return [*(self.splits() if STAGES[stage].into_split else []), self.work / STAGES[stage].area]


def names_in(area: Path) -> list[str]:
    """Names of the folders in a folder, in order, without hidden ones; none where it is missing."""
    try:
        with os.scandir(area) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def folders_in(area: Path) -> list[Path]:
    """`names_in` as paths."""
    return [area / name for name in names_in(area)]


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at one item, as the worker gets it; everything in it pickles.

    Attributes:
        stage: name of the stage.
        name: the item's, which is the folder's.
        video: that it is about.
        scene: that it is about; None for the whole video.
        folder: the item's final folder; the stage function gets a private one of its attempt there, unless the stage
            works in place.
        attempts: where attempts make their folders, or None for a stage that works in place.
        source: the video's file, or None for collect.
        inputs: the folder of the stage before, or None.
        settings: the stage's settings.
        key: what the result stands for.
        gpu: whether it wants a GPU slot.
        facts: of the run, for meta.json (the backend's name).
        frames: file that `FRAMES` leaves and reconstruct begins with, where it is there; None: it decodes by itself.
        original: facts of the scene that this one shows again (`COPY_OF`): nothing is made of it, it is rejected.
    """

    stage: str
    name: str
    video: VideoItem
    scene: SceneItem | None
    folder: Path
    attempts: Path | None
    source: Path | None
    inputs: Path | None
    settings: Any
    key: str
    gpu: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    frames: Path | None = None
    original: Mapping[str, Any] = field(default_factory=dict)

    def ahead(self) -> Call:
        """The call that decodes this one's frames in a CPU slot."""
        return replace(self, stage=FRAMES, attempts=None, gpu=False)

    @property
    def item(self) -> tuple[str, str]:
        """Stage and name."""
        return self.stage, self.name

    @property
    def part_of(self) -> str:
        """The stage; of `FRAMES` the one that it works ahead of."""
        return "reconstruct" if self.stage == FRAMES else self.stage

    @property
    def kind(self) -> str:
        """The kind of slot it runs in: "net" (one at a time), "gpu" or "cpu"."""
        return "net" if self.stage == "collect" else "gpu" if self.gpu else "cpu"

    @property
    def priority(self) -> int:
        """Smaller goes first: what is nearest to its end."""
        return -ORDER[self.stage]


@dataclass
class Outcome:
    """What came of a call: a record, or the news that the process running it died.

    Attributes:
        call: as submitted.
        record: None when the worker was killed.
        folder: where the attempt built its folder (it need not exist).
        seconds: of the work.
        host: where it was done.
        is_last: False where the executor tries the call once more.
    """

    call: Call
    record: StageRecord | None
    folder: Path
    seconds: float = 0.0
    host: str = ""
    is_last: bool = True


StageFunction = Callable[[Call], StageRecord]


def shard_of(video_id: str, count: int) -> int:
    """The shard of a video: the same on every machine and however many other videos there are."""
    return int.from_bytes(hashlib.blake2b(video_id.encode(), digest_size=8).digest(), "big") % count
