"""List candidates, filter them, and write the manifest: nothing is downloaded.

Every query's result is kept in ``candidates.jsonl``, so a killed search goes on, and filters and channel decisions can
be changed and applied again without asking YouTube.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data_tools.collection.channels import channel_reason, count_channels, decisions_of, read_review, write_review
from data_tools.collection.failures import RATE_LIMITED, Failure, classify
from data_tools.collection.fetch import Factory, QuietLog, youtube_dl
from data_tools.collection.filters import Filter
from data_tools.collection.manifest import write_manifest
from data_tools.collection.patience import Pause, QueueStoppedError, Say, to_stderr
from data_tools.collection.settings import CollectSettings, common_options
from data_tools.collection.sources import SourceError, VideoSource, source_from_id, source_from_url
from data_tools.stages.files import replacing
from data_tools.stages.lines import append_lines, read_lines

OWNER = ("channel", "channel_id", "uploader", "uploader_id")
KEPT_FIELDS = ("id", "url", "title", "duration", *OWNER, "live_status")
MANIFEST_COLUMNS = ("title", "channel", "channel_id", "duration", "query")
CANDIDATES, MANIFEST, REJECTED, REVIEW = "candidates.jsonl", "manifest.csv", "rejected.csv", "channels.csv"


@dataclass
class SearchSummary:
    """What a search found: counts by reason."""

    found: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def make_queries(templates: Sequence[str], cities: Sequence[str]) -> list[str]:
    """Every template for every city; a template without ``{city}`` stands for itself.

    Raises:
        ValueError: a template with another field.
    """
    queries = []
    for template in templates:
        if template.replace("{city}", "").count("{") or template.replace("{city}", "").count("}"):
            raise ValueError(f"template {template!r}: {{city}} is the only field there is")
        queries += [template.replace("{city}", city) for city in cities] if "{city}" in template else [template]
    return list(dict.fromkeys(queries))


def channel_page(text: str) -> str:
    """The address of a channel's list of videos, of an address, a handle or a channel id.

    Raises:
        ValueError: none of these.
    """
    text = text.strip()
    if text.startswith(("http://", "https://")):
        path = urlsplit(text).path.rstrip("/")
        is_list = path.endswith(("/videos", "/playlist", "/streams"))
        return text if is_list else f"{text.partition('?')[0].rstrip('/')}/videos"
    if text.startswith("@") and len(text) > 1 and not set(text) & set("/?# "):
        return f"https://www.youtube.com/{text}/videos"
    if text.startswith("UC") and text.replace("-", "").replace("_", "").isalnum():
        return f"https://www.youtube.com/channel/{text}/videos"
    raise ValueError(f"channel {text!r}: give an address, an @handle or an id that starts with UC")


class Lister:
    """Runs queries through yt-dlp's flat listing, ``count`` entries each, and keeps what they gave in ``out``."""

    def __init__(
        self,
        out: Path,
        count: int,
        settings: CollectSettings,
        factory: Factory | None = None,
        say: Say = to_stderr,
        pause: Pause | None = None,
    ) -> None:
        self.path, self.count, self.settings, self.say = out / CANDIDATES, count, settings, say
        self.factory = factory or youtube_dl
        self.pause = pause or Pause(out)

    def run(
        self, addresses: dict[str, str], failed: list[str], progress: Callable[[Iterable], Iterable] = iter
    ) -> None:
        """Ask what was not asked before.

        Args:
            addresses: query -> address for yt-dlp (``ytsearch50:...`` or a channel's page).
            failed: gets "query: why" of those that failed; they are asked again next time.
            progress: wraps the loop with a bar.

        Raises:
            QueueStoppedError: still refused after the last wait.
        """
        done = {line["query"] for line in read_candidates(self.path) if line["count"] >= self.count}
        for query in progress([query for query in addresses if query not in done]):
            result = self._patiently(addresses[query])
            if isinstance(result, Failure):
                failed.append(f"{query}: {result.reason}")
                continue
            append_lines(self.path, [{"query": query, "count": self.count, "entries": result}])

    def _patiently(self, address: str) -> list[dict[str, Any]] | Failure:
        for waits in range(self.settings.pauses + 1):
            self.pause.keep(self.say)
            result = self._list(address)
            if not isinstance(result, Failure) or result.kind != RATE_LIMITED:
                if not isinstance(result, Failure):
                    self.pause.clear()
                return result
            if waits < self.settings.pauses:
                self.pause.begin(self.settings.pause, self.settings.pause_max, result.reason[:120])
        raise QueueStoppedError(f"still refused ({result.reason}); start it again later, it goes on where it is")

    def _list(self, address: str) -> list[dict[str, Any]] | Failure:
        options = common_options(self.settings, QuietLog())
        options |= {"extract_flat": "in_playlist", "lazy_playlist": True, "playlistend": self.count}
        try:
            with self.factory(options) as ydl:
                info = ydl.extract_info(address, download=False) or {}
                entries = [entry for entry in info.get("entries") or [] if entry]
        except Exception as error:  # an extractor may raise anything; the other queries go on
            return classify(str(error) or type(error).__name__)
        owner = {key: info[key] for key in OWNER if info.get(key)}
        return [{**owner, **{k: entry[k] for k in KEPT_FIELDS if entry.get(k) is not None}} for entry in entries]


def read_candidates(path: Path) -> list[dict[str, Any]]:
    """Kept results, a query each; a line that a kill cut off is passed over, and its query asked again."""
    return [line for line in read_lines(path) if {"query", "count", "entries"} <= set(line)]


def apply_filters(out: Path, wanted: Filter, only_allowed: bool = False, review: Path | None = None) -> SearchSummary:
    """Write manifest.csv, rejected.csv and the review file of what was found; asks nobody.

    Args:
        only_allowed: keep only channels that the review file allows.
        review: default ``out/channels.csv``.

    Raises:
        ValueError: the review file has an unknown decision.
    """
    review = review or out / REVIEW
    before = read_review(review)
    decisions, summary = decisions_of(before), SearchSummary()
    kept: dict[str, VideoSource] = {}
    seen: set[str] = set()
    verdicts: list[tuple[dict[str, Any], str]] = []
    for result in read_candidates(out / CANDIDATES):
        for entry in result["entries"]:
            identity = str(entry.get("id") or entry.get("url") or "")
            if identity in seen:
                continue
            seen.add(identity)
            reason = channel_reason(entry, decisions, only_allowed) or wanted.reason(entry)
            source = _source(entry, str(result["query"]))
            if isinstance(source, str):
                reason = reason or f"no video: {source}"
            elif not reason:
                kept[source.video_id] = source
            verdicts.append((entry, reason))
    summary.found, summary.kept = len(verdicts), len(kept)
    summary.reasons.update(reason.split(":")[0] for _, reason in verdicts if reason)
    write_manifest(out / MANIFEST, list(kept.values()), MANIFEST_COLUMNS)
    _write_rejected(out / REJECTED, verdicts)
    write_review(review, count_channels(verdicts), before)
    return summary


def _source(entry: dict[str, Any], query: str) -> VideoSource | str:
    extra = {name: str(entry[name]) for name in MANIFEST_COLUMNS if entry.get(name) is not None} | {"query": query}
    try:
        if entry.get("url"):
            return source_from_url(str(entry["url"]), extra=extra)
        return source_from_id(str(entry.get("id") or ""), extra=extra)
    except SourceError as error:
        return str(error)


def _write_rejected(path: Path, verdicts: Sequence[tuple[dict[str, Any], str]]) -> None:
    columns = ("id", "url", "reason", "title", "channel")
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["video_id", *columns[1:]])
        for entry, reason in verdicts:
            if reason:
                known = {**entry, "reason": reason}
                writer.writerow([known.get(name, "") for name in columns])


def print_search(summary: SearchSummary, out: Path, review: Path, failed: Sequence[str], stopped: str) -> int:
    """Counts, queries that failed and why the search stopped, as lines; returns the exit code."""
    print(f"found {summary.found}, kept {summary.kept} in {out / MANIFEST}")
    for reason, count in summary.reasons.most_common():
        print(f"  {count:6d}  {reason}")
    print(f"decide on channels in {review} (column decision: allow, deny), then run search --offline")
    for line in [*failed[:10], *([stopped] if stopped else [])]:
        print(f"collect: {line}", file=sys.stderr)
    return 1 if failed or stopped else 0
