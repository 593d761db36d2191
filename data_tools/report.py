"""A report over a RoomTours folder: what was made, what was left out and why, every scene to look at.

Writes OUT/report/index.html, which opens from disk: counts by stage and reason, distributions beside ScanNet's, a
gallery to sort and filter, best and worst scenes, and pages with an interactive cloud, frames, timeline and factors.

    python data_tools/report.py data/roomtours --open
    python data_tools/report.py data/roomtours --pages all --jobs 4
    python data_tools/report.py data/roomtours --serve --port 8080
    ssh -L 8080:localhost:8080 cluster   # then http://localhost:8080 here shows a report served there

Only what changed is made again; the run may be killed at any moment and started again. --serve makes pages that are
missing when they are asked for, and shows whole clouds.
Exit code: 0 all well, 1 the report cannot be written, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.reporting.build import build
from data_tools.reporting.model import ReportError, ReportSettings
from data_tools.reporting.scan import scan
from data_tools.stages.command_line import count, run_main, usage_errors

__all__ = ["ReportSettings", "build", "main", "scan"]


def _pages(value: str) -> int | None:
    return None if value == "all" else int(value)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path("data/roomtours"), metavar="OUT")
    parser.add_argument("--work", type=Path, help="the stages' folders (default OUT/_work)")
    parser.add_argument("--report", type=Path, help="where the report goes (default OUT/report)")
    parser.add_argument(
        "--pages",
        type=_pages,
        default=ReportSettings.pages,
        metavar="N|all",
        help=f"pages of their own for the first N scenes, besides the best and worst (default {ReportSettings.pages})",
    )
    parser.add_argument(
        "--points", type=int, default=ReportSettings.points, help=f"of a page's cloud (default {ReportSettings.points})"
    )
    parser.add_argument("--jobs", type=count, default=1, help="processes for the thumbnails (default 1)")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.add_argument("--serve", action="store_true", help="serve it, with whole clouds, until Ctrl-C")
    parser.add_argument("--port", type=int, default=8080, help="of --serve (default 8080; 0 takes a free one)")
    parser.add_argument("--host", default="127.0.0.1", help="of --serve (default 127.0.0.1: this machine only)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    folder = args.report or args.out / "report"
    return run_main(lambda: _run(args, folder), "report", (OSError, ReportError), folder)


def _run(args: argparse.Namespace, folder: Path) -> int:
    with usage_errors():
        settings = ReportSettings(args.pages, args.points, title=args.out.resolve().name)
        if folder.resolve() == args.out.resolve():
            raise ValueError(f"--report {folder} is the data set itself; give a folder of its own")
        if not 0 <= args.port <= 65535:
            raise ValueError(f"--port {args.port} is not in [0, 65535]")
        report = scan(args.out, args.work)
    counts = build(report, folder, settings, max(1, args.jobs))
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    print(folder / "index.html")
    if args.serve:
        from data_tools.reporting.server import serve

        serve(report, folder, settings, args.host, args.port, args.open)
    elif args.open:
        webbrowser.open((folder / "index.html").resolve().as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
