"""What all pages share: the frame around them, escaping, data that sits inside them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

ASSETS = Path(__file__).parent / "assets"
EMPTY_ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"


@cache
def asset(name: str) -> str:
    """Text of a file that lies beside this module in ``assets/``."""
    return (ASSETS / name).read_text(encoding="utf-8")


@cache
def assets_digest() -> str:
    """Hash of all assets and of the page writers: pages made by other ones are made again."""
    files = sorted([*ASSETS.iterdir(), *Path(__file__).parent.glob("*.py")])
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files if file.is_file()), digest_size=8).hexdigest()


def text(value: object) -> str:
    """Any value as HTML text, quotes included, so that it may stand in an attribute."""
    return escape(str(value), quote=True)


def link(*parts: str) -> str:
    """A relative address of path segments, each quoted: names may hold ``#``, ``%``, quotes and blanks."""
    return "/".join(quote(part, safe="") if part not in (".", "..") else part for part in parts)


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element: no ``<`` in it, so nothing in it can end the element."""
    dumped = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    for sign, code in (("<", "\\u003c"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        dumped = dumped.replace(sign, code)
    return dumped


def page(title: str, body: str, styles: tuple[str, ...] = (), scripts: tuple[str, ...] = (), key: str = "") -> str:
    """A whole page: no address outside of it but relative ones.

    Args:
        title: plain text.
        body: HTML of the ``<main>`` element.
        styles: names of assets that are put into the page, after ``page.css``.
        scripts: names of assets that are put into the page, before ``theme.js``.
        key: what the page was made from, to tell later whether it is current (see `page_key`).
    """
    style = "\n".join(asset(name) for name in ("page.css", *styles))
    code = "\n".join(f"<script>\n{asset(name)}</script>" for name in (*scripts, "theme.js"))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="report-key" content="{key}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{text(title)}</title>\n<link rel="icon" href="{EMPTY_ICON}">\n<style>\n{style}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n{code}\n</body>\n</html>\n"
    )


def page_key(path: Path) -> str:
    """The key a page on disk was made with; empty where there is no page or no key."""
    try:
        with path.open("rb") as handle:
            head = handle.read(400).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return head.partition('name="report-key" content="')[2].partition('"')[0]


THEME_BUTTON = '<button type="button" class="theme" title="light or dark">light / dark</button>'
