"""Hugging Face Hub: one file of a repository at one commit, through huggingface_hub (cache, resume, offline)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lam3c_plugin.checkpoints.opening import require
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.index import Entry

TRIES = 3


@dataclass(frozen=True)
class HubFile:
    """A file in the Hub's cache, the commit it is of, and its SHA-256 as the Hub has it (large files)."""

    path: Path
    commit: str
    sha256: str | None


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` is set."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("1", "on", "yes", "true")


def failures(errors: Any) -> tuple[type[Exception], ...]:
    """What the library lets through: its own errors, the system's, and those of its HTTP client (httpx or requests)."""
    client = [kind for kind in errors.HfHubHTTPError.__mro__ if kind not in (Exception, BaseException, object)]
    return (*client, errors.HFValidationError, errors.FileMetadataError, OSError)


def get_file(entry: Entry, revision: str | None, *, endpoint: str | None = None, offline: bool = False) -> HubFile:
    """Download an entry's file, or find it in the cache; of several spellings the first that exists.

    Args:
        entry: with ``hub`` and ``files``.
        revision: commit; ``None``: what the branch ``main`` is now.
        endpoint: a mirror; ``None``: ``HF_ENDPOINT`` or the Hub.
        offline: look into the cache only.

    Raises:
        CheckpointError: there is no such repository, revision or file, no access, no connection, or no library.
    """
    hub = require("huggingface_hub")
    errors = require("huggingface_hub.errors")
    endpoint = endpoint or os.environ.get("HF_ENDPOINT") or None
    where = f"{entry.hub} on {endpoint or 'huggingface.co'}"
    for file in entry.files:
        try:
            options = {"revision": revision, "endpoint": endpoint, "local_files_only": offline}
            return _describe(_download(hub, errors, str(entry.hub), file, options))
        except errors.LocalEntryNotFoundError as error:
            problem: Exception = error  # not in the cache, or the Hub was not reached
        except errors.EntryNotFoundError as error:
            problem = error
        except failures(errors) as error:
            raise CheckpointError(f"{entry.name}: {_explain(error, errors, where, revision)}") from error
    if offline:
        raise CheckpointError(
            f"{entry.name} is not on this machine and HF_HUB_OFFLINE or --offline forbids the network; "
            f"download it where there is one, or give a folder that has {' or '.join(entry.files)} (--from DIR)"
        )
    if isinstance(problem.__cause__, errors.FileMetadataError):
        raise CheckpointError(f"{entry.name}: {_explain(problem.__cause__, errors, where, revision)}") from problem
    if isinstance(problem, errors.LocalEntryNotFoundError):
        raise CheckpointError(
            f"{entry.name}: cannot reach {where}; check the connection, or use a mirror (HF_ENDPOINT or --from URL) "
            "or a folder (--from DIR)"
        ) from problem
    raise CheckpointError(f"{entry.name}: {where} has no {' or '.join(entry.files)}; update the plugin") from problem


def _download(hub: Any, errors: Any, repo: str, file: str, options: dict[str, Any]) -> Path:
    """One file; older versions of the library give up where a transfer breaks off, and go on when asked again."""
    for left in reversed(range(TRIES)):
        try:
            return Path(hub.hf_hub_download(repo, file, library_name="lam3c", **options))
        except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.FileMetadataError, errors.HFValidationError):
            raise
        except failures(errors) as error:
            if left == 0 or getattr(error, "errno", None) is not None:  # the disk's errors have a number
                raise
    raise AssertionError


def _describe(path: Path) -> HubFile:
    """The commit is a folder of the cache's path; a large file's blob is named by its SHA-256."""
    match = re.search(r"[\\/]snapshots[\\/]([^\\/]+)[\\/]", str(path))
    blob = path.resolve().name
    return HubFile(path, match[1] if match else "", blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None)


def _explain(error: Exception, errors: Any, where: str, revision: str | None) -> str:
    if isinstance(error, errors.GatedRepoError):
        return f"{where} asks for consent on its page; give it there, then run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{where} has no revision {revision}; `lam3c zoo download NAME --update` takes the newest"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no {where}, or it is private: check the name, or run `hf auth login`"
    if isinstance(error, errors.FileMetadataError):
        return f"{where} does not answer as a Hub does (a proxy's page?); check HF_ENDPOINT or --from URL"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{where}: {reason:.160}; check the connection and the free space, and run it again: it goes on"


def remove(file: HubFile) -> None:
    """Take a damaged file out of the Hub's cache: the name in the snapshot, and its bytes."""
    blob = file.path.resolve()
    file.path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
