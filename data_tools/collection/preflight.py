"""What a download needs on this machine, asked before the first request."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from data_tools.collection.sources import VideoSource, is_youtube
from data_tools.stages.record import tool_versions

OLD_DAYS = 60  # sites change faster than that
RUNTIMES = ("deno", "node", "bun", "qjs")


def find_program(name: str) -> str | None:
    """A program on the path, or beside this Python (deno and ffmpeg come as wheels too)."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sysconfig.get_path("scripts"))))


def age_of_yt_dlp(today: date | None = None) -> str:
    """What the installed version's name, a date, says of its age, where it is an old one; else empty."""
    version = tool_versions(["yt-dlp"]).get("yt-dlp", "")
    found = re.match(r"(\d{4})\.(\d{1,2})\.(\d{1,2})", version)
    if found is None:
        return ""
    days = ((today or date.today()) - date(*map(int, found.groups()))).days
    return f"yt-dlp {version} is {days} days old" if days > OLD_DAYS else ""


def check_tools(
    sources: Sequence[VideoSource], find: Callable[[str], str | None] = find_program
) -> tuple[list[str], list[str]]:
    """What is missing for these videos.

    Returns:
        (errors, warnings), a line each with its cure; without errors the run can start.
    """
    urls = [source.url for source in sources if source.url]
    if not urls:
        return [], []
    errors, warnings = [], []
    if importlib.util.find_spec("yt_dlp") is None:
        errors.append('yt-dlp is not installed; pip install "yt-dlp[default]"')
    if any(is_youtube(url) for url in urls):
        if not any(find(name) for name in RUNTIMES):
            errors.append(
                f"no JavaScript runtime ({', '.join(RUNTIMES)}): YouTube hides most formats without one; "
                "install deno (https://deno.com, or pip install deno), or pass --skip-preflight"
            )
        if importlib.util.find_spec("yt_dlp_ejs") is None:
            warnings.append('yt-dlp\'s solver scripts are missing: some formats may be; pip install "yt-dlp[default]"')
    if find("ffmpeg") is None:
        warnings.append(
            "no ffmpeg: streams that come in pieces cannot be mended; apt install ffmpeg or brew install it"
        )
    return errors, warnings
