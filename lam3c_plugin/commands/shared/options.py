"""Command-line options of everything that encodes clouds; needs nothing but Python, as ``lam3c --help`` does."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from lam3c_plugin.errors import ConfigError

RANDOM_SIZES = ("tiny", "base", "large")


def add_encoder_options(parser: argparse.ArgumentParser, level: str = "full") -> None:
    """``--checkpoint`` or ``--random``, and how clouds are encoded."""
    group = parser.add_argument_group("encoder")
    group.add_argument("--checkpoint", metavar="NAME_OR_FILE", help="zoo name, file or folder (default lam3c-tiny)")
    group.add_argument("--teacher", action="store_true", help="of a training checkpoint the teacher, not the student")
    group.add_argument("--random", choices=RANDOM_SIZES, help="random weights instead, to try things out")
    group.add_argument("--seed", type=int, default=0, help="of --random and of everything drawn (default 0)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
    group.add_argument(
        "--level", default=level, help=f"stages joined, 0 (coarsest) to 4, or full (default {level}); docs/encode.md"
    )
    group.add_argument("--grid-size", type=float, help="metres of a cell (default: as the weights were trained)")
    group.add_argument("--no-level", action="store_true", help="take z as up, also where a cloud lies on its side")
    group.add_argument("--normals", choices=("estimate", "zero"), default="estimate", help="where a cloud has none")
    group.add_argument("--chunk", default="auto", help="cells a pass may take: a number, auto (default), none")


def add_output_options(parser: argparse.ArgumentParser, out: str) -> None:
    """``--out``, ``--view`` and how large the page may be."""
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, default=Path(out), help=f"folder (default {out})")
    add_page_options(group)


def add_page_options(group: argparse._ActionsContainer) -> None:
    """``--view`` and how large the page and the pictures may be."""
    group.add_argument("--view", action="store_true", help="write an interactive page too, and open it in a browser")
    group.add_argument("--no-open", action="store_true", help="with --view: write the page and open nothing")
    group.add_argument("--max-points", type=int, default=150_000, help="points of the page (default 150000)")
    group.add_argument("--size", type=_size, default=(480, 360), metavar="WxH", help="of one picture (default 480x360)")


def parse_level(text: str) -> int | str:
    """``--level`` as `lam3c_plugin.encode.Encoder.encode` takes it."""
    return int(text) if text.lstrip("-").isdigit() else text


def parse_chunk(text: str) -> int | str | None:
    """``--chunk`` as `lam3c_plugin.encode.Encoder.encode` takes it.

    Raises:
        ConfigError: neither a number of cells nor auto or none.
    """
    if text in ("auto", "none"):
        return None if text == "none" else text
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--chunk {text}: give auto, none, or a number of cells, for example 65536")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT in pixels, as 640x480")
    return int(match[1]), int(match[2])
