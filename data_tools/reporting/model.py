"""What a report is made from: scenes, states of items by stage, counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("collect", "segment", "reconstruct", "postprocess", "package")
AREAS = {"collect": "videos", "segment": "segments", "reconstruct": "clouds", "postprocess": "rejected"}
STAGE_TITLES = {
    "collect": "videos collected",
    "segment": "videos segmented",
    "reconstruct": "scenes reconstructed",
    "postprocess": "scenes finished",
    "package": "clouds packaged",
}
STATUSES = ("done", "rejected", "failed", "waiting")
NO_SPLIT = "_"  # the folder, in the report, of scenes that are not packaged


class ReportError(Exception):
    """A report that cannot be made; the message is one line with the cure."""

    exit_code = 2


@dataclass(frozen=True)
class ReportSettings:
    """What decides a report's bytes, with the data.

    Attributes:
        pages: scenes, in the order of their names, that get a page; None for all. The best and worst always do.
        points: most points in the cloud of a page.
        extremes: how many best and how many worst scenes are shown.
        chunk: scenes in a data file of the gallery.
    """

    pages: int | None = 200
    points: int = 60_000
    extremes: int = 12
    chunk: int = 2000
    title: str = "RoomTours"

    def __post_init__(self) -> None:
        """Refuse what would fail later: a ValueError of one line."""
        if self.pages is not None and self.pages < 0:
            raise ValueError(f"pages {self.pages} is negative; give a number or all")
        if self.points < 100 or self.chunk < 1 or self.extremes < 0:
            raise ValueError("points >= 100, chunk >= 1 and extremes >= 0 are needed")


@dataclass(frozen=True)
class State:
    """What a stage says of an item."""

    status: str
    reason: str = ""


@dataclass
class SceneRow:
    """One scene of the gallery.

    Attributes:
        split: of the folder; empty where it is not packaged.
        stage: the last one that says something of it.
        seconds: of video that it is made of, 0 where not known.
        score: quality in [0, 1], or None.
        points: 0 where not known.
        extent: metres along x, y, z.
        said: how far these lengths are to be believed; empty where not known.
        spacing: metres, 0 where not known.
        cloud: scene folder or file with the best cloud there is, or None.
        key: hash of the records and meta.json it was made from.
        has_page: whether the report holds a page of it.
    """

    name: str
    split: str = ""
    video: str = ""
    stage: str = "segment"
    status: str = "waiting"
    reason: str = ""
    label: str = ""
    seconds: float = 0.0
    score: float | None = None
    points: int = 0
    extent: tuple[float, ...] = ()
    said: str = ""
    spacing: float = 0.0
    cloud: Path | None = None
    picture: Path | None = None
    key: str = ""
    has_page: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """Folder in the report and name."""
        return self.split or NO_SPLIT, self.name

    @property
    def thumb(self) -> str:
        """File name of the thumbnail; another one when the scene changes."""
        return f"{self.name}-{self.key[:8]}.jpg"


@dataclass
class Step:
    """A stage of the funnel: how many items it has in each state."""

    stage: str
    counts: dict[str, int]

    @property
    def total(self) -> int:
        """All items that reached the stage."""
        return sum(self.counts.values())


@dataclass
class ReasonRow:
    """Items that were left out for one reason."""

    stage: str
    status: str
    reason: str
    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Report:
    """All that the pages show.

    Attributes:
        scenes: sorted by split and name.
        states: stage -> item -> state.
        videos: name -> what collect and segment say of it (title, url, duration, ...).
        seconds: stage -> working seconds, from the logs.
        origins: video -> the list that named it, from the logs.
        license: of the dataset card.
    """

    out: Path
    work: Path
    scenes: list[SceneRow]
    states: dict[str, dict[str, State]]
    videos: dict[str, dict[str, Any]]
    seconds: dict[str, float] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    license: str = ""

    def stage_folder(self, stage: str, row: SceneRow) -> Path:
        """What a stage left of a scene: a finished one lies in the data set."""
        if stage == "postprocess" and row.split:
            return self.out / row.split / row.name
        return self.work / AREAS[stage] / row.name
