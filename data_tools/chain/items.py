"""What goes through the chain: videos, scenes, stages, calls, and the folders they live in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.stages.record import RECORD, StageRecord

CHAIN_MARK = "chain.json"  # beside a stage's record: the key the chain made the folder for
META = "meta.json"
SCENE_NAME = re.compile(r"^(?P<video>.+)_(?P<number>\d{3,})$")


@dataclass(frozen=True)
class VideoItem:
    """One video: a local file, or an address that the collect stage fetches.

    Attributes:
        video_id: its name in the chain.
        path: the local file (or folder of frames), or None.
        url: the address, or "".
        ranges: (start, end) seconds that are asked for; empty is the whole video.
        extra: facts for meta.json (title, channel), JSON types.
        labels: a file of frame labels for this video, or None.
    """

    video_id: str
    path: Path | None = None
    url: str = ""
    ranges: tuple[tuple[float, float], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    labels: Path | None = None


@dataclass(frozen=True)
class SceneItem:
    """One scene of a video: its name, times in seconds (end None: the end of the video) and label."""

    scene_id: str
    start: float = 0.0
    end: float | None = None
    label: str = ""
    probability: float | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of the chain.

    Attributes:
        name: of the stage.
        level: "video" or "scene".
        area: the folder under WORK; empty for the stage that writes OUT/<split>.
        needs: files that must lie in the folder for the next stage; they may be thrown away when a scene is finished.
        in_place: works in the final folder itself (a download that goes on where it stopped).
    """

    name: str
    level: str
    area: str
    needs: tuple[str, ...] = ()
    in_place: bool = False


STAGES = {
    stage.name: stage
    for stage in (
        Stage("collect", "video", "videos", in_place=True),
        Stage("segment", "video", "segments", ("scenes.json",)),
        Stage("reconstruct", "scene", "clouds", ("cloud.ply",)),
        Stage("postprocess", "scene", "clean", ("cloud.ply",)),
        Stage("package", "scene", ""),
    )
}
SCENE_STAGES = ("reconstruct", "postprocess", "package")
ORDER = {name: number for number, name in enumerate(STAGES)}


@dataclass(frozen=True)
class Places:
    """Where everything is: OUT (the data set) and WORK (what the stages leave)."""

    out: Path
    work: Path

    def folder(self, stage: str, name: str, split: str = "train") -> Path:
        """The final folder of an item."""
        area = STAGES[stage].area
        return self.work / area / name if area else self.out / split / name

    def attempts(self, stage: str, run: str) -> Path:
        """Where the attempts of a run build their folders, on the file system of the final ones."""
        return (self.work if STAGES[stage].area else self.out) / ".attempts" / run

    @property
    def table(self) -> Path:
        """The table of states."""
        return self.out / "roomtours.sqlite"


def mark_file(stage: str) -> str:
    """The file that stands for a finished folder of a stage."""
    return RECORD if STAGES[stage].area else META


@dataclass(frozen=True)
class Call:
    """One attempt at one item, as the worker gets it; everything in it pickles.

    Attributes:
        stage: name of the stage.
        name: the item's, which is the folder's.
        video, scene: the item.
        folder: the item's final folder; the stage function gets a private one of its attempt there, unless the stage
            works in place.
        attempts: where attempts make their folders, or None for a stage that works in place.
        source: the video's file, or None for collect.
        inputs: the folder of the stage before, or None.
        settings: the stage's settings.
        key: what the result stands for.
        gpu: whether it wants a GPU slot.
        facts: of the run, for meta.json (the backend's name).
        seed: the final folder is whole and its record may be current (made by the stage's own script).
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
    seed: bool = False

    @property
    def kind(self) -> str:
        """The kind of slot it runs in: "net" (one at a time), "gpu" or "cpu"."""
        return "net" if STAGES[self.stage].in_place else "gpu" if self.gpu else "cpu"

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
        seconds, host: of the work.
    """

    call: Call
    record: StageRecord | None
    folder: Path
    seconds: float = 0.0
    host: str = ""


StageFunction = Callable[[Call], StageRecord]


def shard_of(video_id: str, count: int) -> int:
    """The shard of a video: the same on every machine and however many other videos there are."""
    return int.from_bytes(hashlib.blake2b(video_id.encode(), digest_size=8).digest(), "big") % count
