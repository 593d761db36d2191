"""The ledger of tries: one JSON line a try, kept beside the videos; the folders' records say what is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from data_tools.collection.failures import LOGIN, PERMANENT
from data_tools.collection.sources import VideoSource
from data_tools.stages.lines import append_lines, read_lines
from data_tools.stages.record import StageRecord, read_record

AREA = ".download"  # beside the video folders: unfinished downloads, the ledger, the pause
LEDGER = "ledger.jsonl"


def add_try(videos: Path, source: VideoSource, kind: str, category: str, reason: str, **facts: Any) -> None:
    """Note one try of a video."""
    time = datetime.now(timezone.utc).isoformat(timespec="seconds")
    entry = {"time": time, "video_id": source.video_id, "url": source.url, "kind": kind, "category": category}
    append_lines(videos / AREA / LEDGER, [{**entry, "reason": reason, **facts}])


def read_tries(videos: Path) -> list[dict[str, Any]]:
    """All tries, oldest first."""
    return [entry for entry in read_lines(videos / AREA / LEDGER) if "video_id" in entry]


@dataclass
class Coverage:
    """How much of a manifest is there.

    Attributes:
        fetched, gone, rejected, waiting: of them; waiting has failed in passing or was not tried yet.
        hours: playing time of the fetched.
        reasons: "gone: removed" and the like -> videos.
        tries: downloads tried, of all videos.
        missing: (video_id, kind, reason) of what is not there.
    """

    asked: int = 0
    fetched: int = 0
    gone: int = 0
    rejected: int = 0
    waiting: int = 0
    hours: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    tries: int = 0
    missing: list[tuple[str, str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as text."""
        share = 100 * self.fetched / max(self.asked, 1)
        head = (
            f"asked {self.asked}, fetched {self.fetched} ({share:.1f} %, {self.hours:.1f} h), gone {self.gone}, "
            f"rejected {self.rejected}, waiting {self.waiting}; {self.tries} tries"
        )
        return [head, *(f"  {count:6d}  {reason}" for reason, count in self.reasons.most_common())]


def state_of(record: StageRecord | None) -> str:
    """fetched, gone, rejected, waiting."""
    if record is None:
        return "waiting"
    if record.status == "done":
        return "fetched"
    if record.status == "rejected":
        return "rejected"
    return "gone" if record.permanent or record.result.get("failure") in (PERMANENT, LOGIN) else "waiting"


def coverage(sources: Sequence[VideoSource], videos: Path) -> Coverage:
    """Count what is there of a manifest, from the records and the ledger."""
    report = Coverage(asked=len(sources))
    tries = Counter(str(entry["video_id"]) for entry in read_tries(videos))
    for source in sources:
        report.tries += tries[source.video_id]
        record = read_record(videos / source.video_id)
        state = state_of(record)
        setattr(report, state, getattr(report, state) + 1)
        if state == "fetched":
            report.hours += float(record.result.get("duration") or 0) / 3600
            continue
        category = str(record.result.get("category", "")) if record is not None else "not tried yet"
        report.reasons[f"{state}: {category or 'other'}"] += 1
        report.missing.append((source.video_id, state, record.reason if record is not None else "not tried yet"))
    return report
