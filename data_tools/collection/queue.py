"""Many videos: the queue stops and waits at rate limits, drops nothing, and comes back to what failed in passing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.collection.failures import DISK, PASSING, RATE_LIMITED
from data_tools.collection.fetch import BROKEN, Factory, Hook, collect_video, standing_record
from data_tools.collection.ledger import state_of
from data_tools.collection.pacing import Pause
from data_tools.collection.settings import CollectSettings
from data_tools.collection.sources import VideoSource
from data_tools.stages.record import StageRecord, read_record

NETWORK = ("network", "server")
REFRESH_SECONDS = 0.5
MUCH_LATER = ("live", "not yet live", BROKEN)  # not in this run
Say = Callable[[str], None]


class QueueStoppedError(Exception):
    """The queue cannot go on now; what is left waits for the next run."""


@dataclass
class FetchSummary:
    """What a run did: a record per video it came to, and why it stopped early, if it did."""

    records: dict[str, StageRecord] = field(default_factory=dict)
    stopped: str = ""
    tried: int = 0

    @property
    def exit_code(self) -> int:
        """1 if a video failed or the run stopped early, else 0."""
        return 1 if self.stopped or any(r.status == "failed" for r in self.records.values()) else 0


def to_stderr(message: str) -> None:
    """Print a line beside a progress bar."""
    print(f"collect: {message}", file=sys.stderr)


class Patience:
    """One video at a time, with waits: a rate limit or a dead network stops here, and the same video is tried again.

    Args:
        videos: folder of the video folders.
        settings: see ``CollectSettings``.
        factory, hook: as for ``collect_video``.
        say: gets a line when a wait begins.
        sleep, now: for tests.
    """

    def __init__(
        self,
        videos: Path,
        settings: CollectSettings,
        factory: Factory | None = None,
        hook: Hook | None = None,
        say: Say = to_stderr,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.videos, self.settings, self.factory, self.hook, self.say = videos, settings, factory, hook, say
        self.pause = Pause(videos, sleep, now)
        self.network_failures = 0

    def collect(self, source: VideoSource, overwrite: bool = False) -> StageRecord:
        """Collect one video, waiting as long as the settings allow.

        Raises:
            QueueStoppedError: still refused after the last wait, or the disk is full.
        """
        folder, waits = self.videos / source.video_id, 0
        while True:
            is_asked = source.url is not None and (overwrite or standing_record(source, folder, self.settings) is None)
            if is_asked:
                self.pause.keep(self.say)
            record = collect_video(source, folder, self.settings, overwrite, self.factory, self.hook)
            if not is_asked:
                return record
            kind, category = record.result.get("failure"), record.result.get("category", "")
            if kind == DISK:
                raise QueueStoppedError(f"{self.videos}: the disk is full; make room, then start it again")
            first = self._first_wait(kind, category)
            if first is None:
                return record
            if waits == self.settings.pauses:
                raise QueueStoppedError(f"still refused after {waits} waits ({record.reason}); start it again later")
            self.pause.begin(first, max(first, self.settings.pause_max), f"{category}: {record.reason[:120]}")
            waits += 1

    def _first_wait(self, kind: str | None, category: str) -> float | None:
        """Seconds of the first wait that a failure calls for, or None to go on."""
        if kind == RATE_LIMITED:
            return self.settings.pause
        is_network = kind == PASSING and category in NETWORK
        self.network_failures = self.network_failures + 1 if is_network else 0
        if is_network and self.network_failures >= self.settings.network_failures:
            return self.settings.network_pause
        if kind is None:
            self.pause.clear()
        return None


def collect_patiently(
    source: VideoSource, folder: Path, settings: CollectSettings | None = None, say: Say = to_stderr
) -> StageRecord:
    """``collect_video`` with waits at rate limits, for one video; what still fails then is in the record.

    The wait is kept in a file beside the videos, so other processes wait too.
    """
    try:
        return Patience(folder.parent, settings or CollectSettings(), say=say).collect(source)
    except QueueStoppedError as error:
        return read_record(folder) or StageRecord("collect", folder.name, "failed", str(error))


def fetch_all(
    sources: Sequence[VideoSource],
    videos: Path,
    settings: CollectSettings | None = None,
    limit: int | None = None,
    retry_gone: bool = False,
    is_quiet: bool = False,
    **patience: Any,
) -> FetchSummary:
    """Fetch all videos of a manifest; those that failed in passing are tried again after the others.

    Args:
        sources: the manifest.
        videos: folder of the video folders.
        settings: see ``CollectSettings``.
        limit: at most so many new downloads are tried; what is there does not count.
        retry_gone: try permanent failures again as well.
        is_quiet: no progress bar.
        **patience: ``factory``, ``sleep``, ``now`` of ``Patience``.
    """
    from tqdm import tqdm

    settings, summary = settings or CollectSettings(), FetchSummary()
    todo = list(sources)
    with tqdm(total=len(todo), desc="collect", unit="video", disable=is_quiet) as bar:
        patience.setdefault("say", lambda text: bar.write(f"collect: {text}", file=sys.stderr))
        patient = Patience(videos, settings, hook=_postfix(bar), **patience)
        try:
            for turn in range(settings.rounds):
                for source in todo:
                    if limit is not None and summary.tried >= limit:
                        return summary
                    record = patient.collect(source, retry_gone and not turn and _is_gone(videos / source.video_id))
                    summary.tried += not record.skipped
                    summary.records[source.video_id] = record
                    bar.update(1 if not turn else 0)
                    if record.status != "done" and not record.skipped:
                        bar.write(f"{record.status}: {record.item}: {record.reason}", file=sys.stderr)
                todo = [source for source in todo if _is_passing(summary.records[source.video_id])]
        except QueueStoppedError as error:
            summary.stopped = str(error)
    return summary


def _is_passing(record: StageRecord) -> bool:
    return record.result.get("failure") == PASSING and record.result.get("category") not in MUCH_LATER


def _is_gone(folder: Path) -> bool:
    return state_of(read_record(folder)) == "gone"


def _postfix(bar: Any) -> Hook:
    shown = [0.0]

    def show(state: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - shown[0] < REFRESH_SECONDS:
            return
        shown[0] = now
        have, whole = state.get("downloaded_bytes") or 0, state.get("total_bytes") or state.get("total_bytes_estimate")
        bar.set_postfix_str(f"{have / 1e6:.0f}{f'/{whole / 1e6:.0f}' if whole else ''} MB")

    return show
