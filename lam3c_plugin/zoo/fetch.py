"""Plain https downloads: resumed after a break where a SHA-256 tells that all fits, never half under the final name."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.store import sha256_of

TRIES = 5
_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 18
_LOCAL = ("127.0.0.1", "localhost", "::1")
Progress = Callable[[int, int | None], None]


def check_url(url: str, sha256: str | None) -> None:
    """Refuse what anybody on the way could have changed.

    Raises:
        CheckpointError: http without a SHA-256 to compare (this machine's own addresses may).
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not sha256 and parts.hostname not in _LOCAL:
        raise CheckpointError(f"{url} is not https and has no SHA-256 to check it by; use its https address")


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    wait: float = 1.0,
    progress: Progress = lambda done, total: None,
) -> str:
    """Download a file; with a SHA-256, a broken transfer goes on where it stopped, in this call and in the next.

    Args:
        url: https address.
        target: the file to make; ``<target>.part`` lies beside it meanwhile.
        sha256: what it has to be; ``None``: not known, and every try begins anew.
        wait: seconds before the first new try, doubled each time.
        progress: called with bytes there and bytes in all.

    Returns:
        its SHA-256.

    Raises:
        CheckpointError: no connection (what came is kept for the next call), a web page instead of a file, the wrong
            hash (what came is removed), a full disk.
    """
    check_url(url, sha256)
    part = target.with_name(f"{target.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            time.sleep(wait * 2 ** (attempt - 1) if attempt else 0)
            start = part.stat().st_size if sha256 and part.exists() else 0
            problem = _transfer(url, part, start, progress)
            if problem:
                continue
            found = sha256_of(part)
            if sha256 in (None, found):
                os.replace(part, target)
                return found
            part.unlink()
            problem = f"its SHA-256 is {found} where {sha256} was expected"
            if not start:
                raise CheckpointError(f"{url}: {problem}; it was removed: ask who published it, or update the index")
    except OSError as error:
        raise CheckpointError(
            f"cannot write {target}: {error.strerror or error}; check the folder and the free space, and run it again"
        ) from error
    kept = part.stat().st_size if sha256 and part.exists() else 0
    cure = f"{kept:,} bytes are kept; run it again to go on" if kept else "check the connection and run it again"
    raise CheckpointError(f"{url}: the download broke off {TRIES} times ({problem}); {cure}")


def _transfer(url: str, part: Path, start: int, progress: Progress) -> str:
    """Get what lies behind ``start``; returns what broke it off, or ``""``."""
    headers = {"User-Agent": "lam3c", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is as long as the server's file, or longer
            part.unlink()
        elif error.code not in (408, 425, 429) and error.code < 500:
            raise CheckpointError(f"{url}: HTTP {error.code} {error.reason}; check the address") from error
        return f"HTTP {error.code}"
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    with response:
        if urlsplit(url).scheme == "https":
            check_url(response.url, None)  # no redirect away from https
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise CheckpointError(f"{url} answers with a web page, not a file; use the address of the raw file")
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0  # the server sends all of it
        with open(part, "r+b" if start else "wb") as file:
            file.seek(start)
            return _copy(response, file, start, progress)


def _copy(response: Any, file: Any, done: int, progress: Progress) -> str:
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdigit() else None
    while True:
        try:
            block = response.read(_BLOCK)
        except (http.client.HTTPException, OSError) as error:
            return str(error) or type(error).__name__
        if not block:
            return f"closed at {done:,} of {total:,} bytes" if total is not None and done < total else ""
        file.write(block)
        done += len(block)
        progress(done, total)
