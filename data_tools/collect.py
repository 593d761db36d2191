"""Collect room-tour videos: search for them, fetch a list of them, see what is there. Polite, and killable any time.

    python data_tools/collect.py search --out lists/tours --limit 20
    python data_tools/collect.py fetch lists/tours/manifest.csv --out data/roomtours/_work/videos
    python data_tools/collect.py report lists/tours/manifest.csv --out data/roomtours/_work/videos

A list is a CSV of video_id,url, RealEstate10K's camera files, YouTube House Tours' urls.npy, text, JSON, a folder of
videos, one video, or one address. `collect.py COMMAND --help` has more examples.
Exit code: 0 all well, 1 some videos failed or wait, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.collection.cities import CITIES, TEMPLATES
from data_tools.collection.fetch import collect_video, standing_record, video_file
from data_tools.collection.filters import WORDS, Filter, read_words
from data_tools.collection.ledger import coverage, state_of
from data_tools.collection.manifest import Manifest, print_problems, read_manifest, scan_manifest
from data_tools.collection.patience import QueueStoppedError
from data_tools.collection.preflight import check_tools
from data_tools.collection.queue import collect_patiently, fetch_all
from data_tools.collection.search import REVIEW, Lister, apply_filters, channel_page, make_queries, print_search
from data_tools.collection.settings import CollectSettings
from data_tools.collection.sources import VideoSource
from data_tools.stages.command_line import count, run_main, usage_errors
from data_tools.stages.record import read_record
from data_tools.stages.run import print_records

__all__ = [
    "CollectSettings",
    "VideoSource",
    "collect_patiently",
    "collect_video",
    "fetch_all",
    "main",
    "read_manifest",
    "video_file",
]

SEARCH_HELP = """List candidates on YouTube and filter them; nothing is downloaded.

    python data_tools/collect.py search --out lists/tours                      # the paper's template, all cities
    python data_tools/collect.py search --out lists/jp --city Tokyo --city Osaka --template "{city} room tour"
    python data_tools/collect.py search --out lists/tours --channel @some_agent --count 500
    python data_tools/collect.py search --out lists/tours --offline --only-allowed   # after editing channels.csv

OUT gets manifest.csv (video_id,url,...), rejected.csv (with reasons), channels.csv (one row a channel: edit its column
`decision`, later runs keep it) and candidates.jsonl (so that filters can change without asking again).
"""
FETCH_HELP = """Download the videos of a list, one folder each; what is there is skipped, unfinished ones go on.

    python data_tools/collect.py fetch lists/tours/manifest.csv --out data/roomtours/_work/videos --dry-run
    python data_tools/collect.py fetch RealEstate10K/train --out data/re10k/_work/videos --limit 200
    python data_tools/collect.py fetch https://www.youtube.com/watch?v=XXXXXXXXXXX --out videos --cookies cookies.txt
    python data_tools/collect.py fetch my_videos/ --out data/mine/_work/videos          # local: recorded, not copied

At a rate limit or bot check the queue waits (15 min, doubling) and goes on with the same video; nothing is dropped.
"""
REPORT_HELP = """Count what is there of a list: asked, fetched, gone, rejected, waiting, by reason.

    python data_tools/collect.py report RealEstate10K/test --out data/re10k/_work/videos
    python data_tools/collect.py report lists/tours/manifest.csv --out videos --missing --json
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    search = commands.add_parser("search", help="list candidates", description=SEARCH_HELP, formatter_class=raw)
    fetch = commands.add_parser("fetch", help="download a list", description=FETCH_HELP, formatter_class=raw)
    report = commands.add_parser("report", help="see what is there", description=REPORT_HELP, formatter_class=raw)
    _search_arguments(search)
    for command in (fetch, report):
        command.add_argument("manifest", metavar="MANIFEST", help="list, folder, video or address")
        command.add_argument("--out", type=Path, required=True, help="folder of the video folders (WORK/videos)")
    _fetch_arguments(fetch)
    for command in (search, fetch):
        _manners(command)
    report.add_argument("--missing", action="store_true", help="name what is not there, with reasons")
    report.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(argv)


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the search")
    add("--template", action="append", help=f"may be repeated; default {TEMPLATES[0]!r}")
    add("--city", action="append", help="may be repeated; default: the list that comes with this tool")
    add("--cities", type=Path, help="text file, a city a line")
    add("--channel", action="append", default=[], help="list a channel's videos instead: address, @handle or id")
    add("--count", type=int, default=50, help="entries a query (default 50)")
    add("--limit", type=int, help="only so many queries")
    add("--offline", action="store_true", help="ask nobody: filter again what was found before")
    add("--only-allowed", action="store_true", help="keep allowed channels only")
    add("--review", type=Path, help="review file, of several searches perhaps (default OUT/channels.csv)")
    add("--words", type=Path, help="text file, `reason: word, word` a line, in place of that reason's words")
    add("--min-duration", type=float, default=90.0, help="seconds (default 90)")
    add("--max-duration", type=float, default=3600.0, help="seconds (default 3600)")


def _fetch_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--limit", type=count, help="try only so many new downloads")
    add("--dry-run", action="store_true", help="say what would be fetched")
    add("--max-height", type=int, default=720, help="best stream of at most so many lines (default 720)")
    add("--min-height", type=int, default=480, help="reject what has fewer, from now on (default 480; 0: take all)")
    add("--max-duration", type=float, default=0.0, help="reject what is longer, seconds (default 0: take all)")
    add("--retry-gone", action="store_true", help="try permanent failures again")
    add("--rounds", type=int, default=2, help="times through the queue for passing failures (default 2)")
    add(
        "--rate",
        dest="bytes_per_second",
        type=float,
        default=0.0,
        metavar="RATE",
        help="at most so many bytes a second (default 0: no limit)",
    )
    add("--alike", type=int, default=20, help="stop after so many equal answers in a row (default 20; 0: never)")
    add("--skip-preflight", action="store_true", help="start without a JavaScript runtime")


def _manners(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cookies", type=Path, help="Netscape cookie file; yt-dlp writes renewed cookies back (default: none)")
    add("--proxy", default="", help="of all requests, such as socks5://host:1080 (default: the environment's)")
    add("--extractor-args", action="append", default=[], metavar="KEY:ARG=VALUE", help="of yt-dlp; repeatable")
    add("--sleep", type=float, nargs=2, default=(5.0, 10.0), metavar=("LEAST", "MOST"), help="between downloads, s")
    add("--sleep-requests", type=float, default=0.75, help="between requests, seconds (default 0.75)")
    add("--pause", type=float, default=900.0, help="first wait at a rate limit, seconds; doubles (default 900)")
    add("--pauses", type=int, default=8, help="waits without a video in between before the run ends (default 8)")


def _settings(args: argparse.Namespace) -> CollectSettings:
    names = ["proxy", "cookies", "sleep_requests", "pause", "pauses"]
    if args.command == "fetch":
        names += ["max_height", "min_height", "max_duration", "rounds", "alike", "bytes_per_second"]
    return CollectSettings(
        **{name: getattr(args, name) for name in names},
        extractor_args=tuple(args.extractor_args),
        sleep_interval=tuple(args.sleep),
        pause_max=max(args.pause, CollectSettings.pause_max),
    )


def run_search(args: argparse.Namespace) -> int:
    """``collect.py search``."""
    from tqdm import tqdm

    settings = _settings(args)
    cities = (args.city or []) + (args.cities.read_text(encoding="utf-8-sig").splitlines() if args.cities else [])
    queries = make_queries(args.template or TEMPLATES, [city.strip() for city in cities if city.strip()] or CITIES)
    if args.count < 1 or (args.limit is not None and args.limit < 0):
        raise ValueError(f"--count {args.count} starts at 1, --limit {args.limit} at 0")
    addresses = {text: channel_page(text) for text in args.channel}
    if not args.channel or args.template or cities:
        addresses |= {query: f"ytsearch{args.count}:{query}" for query in queries}
    words = {**WORDS, **(read_words(args.words) if args.words else {})}
    wanted = Filter(args.min_duration, args.max_duration, words)
    failed, stopped = list[str](), ""
    if not args.offline:
        listed = dict(list(addresses.items())[: args.limit])
        lister = Lister(args.out, args.count, settings, say=tqdm.write)
        try:
            lister.run(listed, failed, partial(tqdm, desc="search", unit="query"))
        except QueueStoppedError as error:
            stopped = str(error)
    found = apply_filters(args.out, wanted, args.only_allowed, args.review)
    return print_search(found, args.out, args.review or args.out / REVIEW, failed, stopped)


def run_fetch(args: argparse.Namespace) -> int:
    """``collect.py fetch``."""
    settings = _settings(args)
    manifest = scan_manifest(args.manifest)
    print_problems(manifest)
    sources = manifest.sources
    todo = [source for source in sources if not _is_there(source, args.out, settings)]
    if args.dry_run:
        return _print_plan(manifest, todo, args.limit)
    errors, warnings = check_tools([source for source in todo if source.url])
    for line in warnings + errors:
        print(f"collect: {line}", file=sys.stderr)
    if errors and not args.skip_preflight:
        return 2
    summary = fetch_all(sources, args.out, settings, args.limit, args.retry_gone)
    print_records(list(summary.records.values()), "video")
    if summary.stopped:
        print(f"collect: {summary.stopped}", file=sys.stderr)
    return summary.exit_code


def _is_there(source: VideoSource, videos: Path, settings: CollectSettings) -> bool:
    folder = videos / source.video_id
    if source.path is not None:
        return state_of(read_record(folder)) == "fetched"
    return standing_record(source, folder, settings) is not None


def _print_plan(manifest: Manifest, todo: list[VideoSource], limit: int | None) -> int:
    for source in todo[:limit]:
        print(f"{source.video_id}\t{source.url or source.path}")
    shown = len(todo[:limit])
    print(f"{len(manifest.sources)} videos, {shown} to do, {manifest.duplicates} named twice", file=sys.stderr)
    return 0


def run_report(args: argparse.Namespace) -> int:
    """``collect.py report``."""
    manifest = scan_manifest(args.manifest)
    print_problems(manifest)
    report = coverage(manifest.sources, args.out)
    if args.json:
        value = {**vars(report), "missing": report.missing if args.missing else []}
        print(json.dumps(value, indent=1, ensure_ascii=False))
        return 0
    print("\n".join(report.lines()))
    for video_id, state, reason in report.missing if args.missing else []:
        print(f"{state}\t{video_id}\t{reason}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    return run_main(lambda: _run(args), "collect", out=args.out)


def _run(args: argparse.Namespace) -> int:
    with usage_errors():
        return {"search": run_search, "fetch": run_fetch, "report": run_report}[args.command](args)


if __name__ == "__main__":
    sys.exit(main())
