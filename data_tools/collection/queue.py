"""Many videos: the queue stops and waits at rate limits, drops nothing, and comes back to what failed in passing."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.collection.failures import PASSING
from data_tools.collection.fetch import BROKEN, Factory, Hook, collect_video, standing_record
from data_tools.collection.ledger import state_of
from data_tools.collection.patience import Patience, QueueStoppedError, Say, put_back, to_stderr
from data_tools.collection.settings import CollectSettings
from data_tools.collection.sources import VideoSource
from data_tools.stages.record import StageRecord, read_record

REFRESH_SECONDS = 0.5
MUCH_LATER = ("live", "not yet live", BROKEN)  # not in this run


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


class Asker:
    """One video at a time under one patience; ``say`` gets a line when a wait begins, ``clock`` is of `Patience`."""

    def __init__(
        self,
        videos: Path,
        settings: CollectSettings,
        factory: Factory | None = None,
        hook: Hook | None = None,
        say: Say = to_stderr,
        **clock: Any,
    ) -> None:
        self.videos, self.settings, self.factory, self.hook, self.say = videos, settings, factory, hook, say
        self.patience = Patience(videos, settings, **clock)

    def ask(self, source: VideoSource, overwrite: bool = False) -> tuple[StageRecord, list[str]]:
        """Collect one video, after the wait that may be due.

        Returns:
            Its record, and the names of videos that are to be asked for again.

        Raises:
            QueueStoppedError: see ``Patience.tell``.
        """
        folder = self.videos / source.video_id
        is_asked = source.url is not None and (overwrite or standing_record(source, folder, self.settings) is None)
        if is_asked:
            self.patience.pause.keep(self.say)
        record = collect_video(source, folder, self.settings, overwrite, self.factory, self.hook)
        return record, self.patience.tell(record) if is_asked and not record.skipped else []


def collect_patiently(
    source: VideoSource, folder: Path, settings: CollectSettings | None = None, say: Say = to_stderr
) -> StageRecord:
    """``collect_video`` with waits at rate limits, for one video; what still fails then is in the record.

    The wait is kept in a file beside the videos, so other processes wait too.
    """
    asker, again = Asker(folder.parent, settings or CollectSettings(), say=say), [source.video_id]
    try:
        while again:
            record, again = asker.ask(source)
    except QueueStoppedError as error:
        return read_record(folder) or StageRecord("collect", folder.name, "failed", str(error))
    return record


def fetch_all(
    sources: Sequence[VideoSource],
    videos: Path,
    settings: CollectSettings | None = None,
    limit: int | None = None,
    retry_gone: bool = False,
    is_quiet: bool = False,
    **asker: Any,
) -> FetchSummary:
    """Fetch all videos of a manifest; those that failed in passing are tried again after the others.

    Args:
        limit: at most so many new downloads are tried; what is there does not count.
        retry_gone: try permanent failures again as well.
        **asker: ``factory``, ``sleep``, ``now`` of ``Asker``.
    """
    from tqdm import tqdm

    settings, summary = settings or CollectSettings(), FetchSummary()
    todo = list(sources)
    with tqdm(total=len(todo), desc="collect", unit="video", disable=is_quiet) as bar:
        asker.setdefault("say", lambda text: bar.write(f"collect: {text}", file=sys.stderr))
        one = Asker(videos, settings, hook=_postfix(bar), **asker)
        try:
            for turn in range(settings.rounds):
                if not _turn(todo, one, summary, bar, limit, retry_gone and not turn, turn == 0):
                    return summary
                todo = [source for source in todo if _is_passing(summary.records[source.video_id])]
        except QueueStoppedError as error:
            summary.stopped = str(error)
    return summary


def _turn(
    todo: Sequence[VideoSource],
    one: Asker,
    summary: FetchSummary,
    bar: Any,
    limit: int | None,
    retry_gone: bool,
    is_first: bool,
) -> bool:
    """Once through the queue; returns whether it came to its end (and not to the limit)."""
    left, by_name = deque(todo), {source.video_id: source for source in todo}
    while left:
        if limit is not None and summary.tried >= limit:
            return False
        source = left.popleft()
        record, again = one.ask(source, retry_gone and _is_gone(one.videos / source.video_id))
        summary.records[source.video_id] = record
        put_back(left, [by_name[name] for name in again if name in by_name], record)
        if source.video_id in again:
            continue
        summary.tried += not record.skipped
        bar.update(1 if is_first else 0)
        if record.status != "done" and not record.skipped:
            bar.write(f"{record.status}: {record.item}: {record.reason}", file=sys.stderr)
    return True


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
