"""What a download needs on this machine, asked before the first request."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from data_tools.collection.sources import VideoSource, is_youtube

RUNTIMES = ("deno", "node", "bun", "qjs")


def find_program(name: str) -> str | None:
    """A program on the path, or beside this Python (deno and ffmpeg come as wheels too)."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sysconfig.get_path("scripts"))))


def check_tools(
    sources: Sequence[VideoSource], find: Callable[[str], str | None] = find_program
) -> tuple[list[str], list[str]]:
    """What is missing for these videos.

    Args:
        sources: what will be fetched.
        find: a program's name to its place, or None; for tests.

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
