"""Plain https downloads: streamed, hashed on the way, resumed after a break, never half a file under the final name."""

from __future__ import annotations

import hashlib
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

TRIES = 5
_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 18
_LOCAL = ("127.0.0.1", "localhost", "::1")


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
    size: int | None = None,
    wait: float = 1.0,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> str:
    """Download a file; a broken transfer goes on where it stopped, in this call and in the next.

    Args:
        url: https address.
        target: the file to make; ``<target>.part`` and ``.part.tag`` lie beside it meanwhile.
        sha256: what it has to be, where known.
        size: likewise, in bytes.
        wait: seconds before the first new try, doubled each time.
        progress: called with bytes there and bytes in all.

    Returns:
        its SHA-256.

    Raises:
        CheckpointError: no connection (what came is kept for the next call), a web page instead of a file, the wrong
            size or hash (what came is removed), a full disk.
    """
    check_url(url, sha256)
    try:
        transfer = _Transfer(url, target, sha256, progress)
        for attempt in range(TRIES):
            time.sleep(wait * 2 ** (attempt - 1) if attempt else 0)
            problem = transfer.request()
            if not problem:
                break
    except OSError as error:
        raise CheckpointError(
            f"cannot write {target}: {error.strerror or error}; check the folder and the free space, and run it again"
        ) from error
    if problem:
        kept = f"{transfer.done:,} bytes are kept; run it again to go on"
        cure = kept if transfer.done else "check the connection and run it again"
        raise CheckpointError(f"{url}: the download broke off {TRIES} times ({problem}); {cure}")
    found = transfer.digest.hexdigest()
    wrong = ""
    if size is not None and transfer.done != size:
        wrong = f"it has {transfer.done:,} bytes where {size:,} were expected"
    elif sha256 is not None and found != sha256:
        wrong = f"its SHA-256 is {found} where {sha256} was expected"
    if wrong:
        transfer.discard()
        raise CheckpointError(f"{url}: {wrong}; what came was removed: ask who published it, or update the index")
    os.replace(transfer.part, target)
    transfer.tag.unlink(missing_ok=True)
    return found


class _Transfer:
    """A file on its way: the part that is there, its hash so far, and the server's mark of the version it is of."""

    def __init__(self, url: str, target: Path, sha256: str | None, progress: Callable[[int, int | None], None]) -> None:
        self.url, self.progress, self.checked = url, progress, sha256 is not None
        self.part, self.tag = (target.with_name(target.name + ending) for ending in (".part", ".part.tag"))
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self.digest, self.done = hashlib.sha256(), 0
        if self.part.exists():
            with open(self.part, "rb") as file:
                while block := file.read(_BLOCK):
                    self.digest.update(block)
                    self.done += len(block)

    def discard(self) -> None:
        """Remove what came."""
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)
        self.digest, self.done = hashlib.sha256(), 0

    def request(self) -> str:
        """Ask for what is missing, if the server still has the same file; returns what broke it off, or ``""``."""
        headers = {"User-Agent": "lam3c", "Accept-Encoding": "identity"}
        known = self.tag.read_text(encoding="utf-8") if self.tag.exists() else ""
        if self.done and (known or self.checked):
            headers["Range"] = f"bytes={self.done}-"
            if known:
                headers["If-Range"] = known
        try:
            response = urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            return self._refused(error)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            return str(getattr(error, "reason", error)) or type(error).__name__
        with response:
            return self._receive(response)

    def _refused(self, error: urllib.error.HTTPError) -> str:
        if error.code == 416:  # the part is as long as the server's file, or longer
            self.discard()
            return "the server's file is another one now"
        if error.code in (408, 425, 429) or error.code >= 500:
            return f"HTTP {error.code}"
        self.discard()
        raise CheckpointError(f"{self.url}: HTTP {error.code} {error.reason}; check the address") from error

    def _receive(self, response: Any) -> str:
        if urlsplit(self.url).scheme == "https":
            check_url(response.url, None)  # no redirect away from https
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            self.discard()
            raise CheckpointError(f"{self.url} answers with a web page, not a file; use the address of the raw file")
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {self.done}-"):
            self.discard()
            return "the server went on at another place"
        if not resumed:
            self.discard()
            self.tag.write_text(_version(response.headers), encoding="utf-8")
        length = response.headers.get("Content-Length", "")
        total = self.done + int(length) if length.isdigit() else None
        with open(self.part, "ab") as file:
            problem = self._copy(response, file, total)
            file.flush()
            os.fsync(file.fileno())
        if not problem and total is not None and self.done < total:
            problem = f"closed at {self.done:,} of {total:,} bytes"
        return problem

    def _copy(self, response: Any, file: Any, total: int | None) -> str:
        problem = ""
        while not problem:
            try:
                block = response.read(_BLOCK)
            except http.client.IncompleteRead as error:
                block, problem = error.partial, "the connection was closed"
            except (http.client.HTTPException, OSError) as error:
                block, problem = b"", str(error) or type(error).__name__
            if not block:
                break
            file.write(block)
            self.digest.update(block)
            self.done += len(block)
            self.progress(self.done, total)
        return problem


def _version(headers: Any) -> str:
    """What tells one version of the server's file from another; a weak tag does not."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
