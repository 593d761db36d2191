"""Send a folder to a dataset of the Hugging Face Hub, some files a commit; what is there already is not sent again."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.packaging.card import NO_SPLITS, README, has_other_license, write_card
from data_tools.packaging.shards import read_index
from data_tools.stages.files import checksum
from data_tools.stages.record import StageError

ADDRESS = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:/([^\s]+?))?/*")
COMMIT_BYTES, COMMIT_FILES = 8 * 10**9, 200  # the hub allows 128 commits an hour
MANY = 10_000


@dataclass(frozen=True)
class Part:
    """A file to send: where it lies, its path in the dataset and its bytes."""

    file: Path
    path: str
    size: int

    def is_there(self, entry: Any) -> bool:
        """Whether the hub's entry holds the same bytes."""
        if entry is None or entry.size != self.size:
            return False
        if entry.lfs is None:
            data = self.file.read_bytes()
            return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # git's name of it
        index = read_index(self.file.with_suffix(".json")) if self.file.suffix == ".tar" else {}
        return entry.lfs.sha256 == (index.get("sha256") or checksum(self.file))


def parse_address(text: str) -> tuple[str, str]:
    """Dataset and path within it of ``hf://datasets/USER/NAME[/path]``.

    Raises:
        ValueError: it is something else; one line.
    """
    found = ADDRESS.fullmatch(text)
    if found is None or ".." in text.split("/"):
        raise ValueError(f"--upload {text!r}: give hf://datasets/USER/NAME, with or without /a/path behind it")
    return found[1], found[2] or ""


def list_parts(folder: Path, within: str) -> list[Part]:
    """The files to send, the card first; nothing hidden, and no work and report of the chain."""
    found: list[Part] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        skipped = NO_SPLITS if Path(place) == folder else ()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skipped)
        for file in (Path(place, name) for name in sorted(files) if not name.startswith(".")):
            path = f"{within}/{file.relative_to(folder).as_posix()}".lstrip("/")
            found.append(Part(file, path, file.stat().st_size))
    return sorted(found, key=lambda part: (part.file != folder / README, part.path))


def upload(folder: Path, address: str, license_note: str = "") -> str:
    """Send a folder; a dataset that is not there is made, private.

    Returns:
        What was sent, in words.

    Raises:
        StageError: huggingface_hub is missing, nobody is logged in, no right, no connection; what was sent stays.
        OSError: a file cannot be read.
    """
    try:
        import huggingface_hub as hub
        from tqdm import tqdm
    except ImportError as error:
        raise StageError(f"--upload needs {error.name}: pip install huggingface_hub tqdm", permanent=False) from None
    repo, within = parse_address(address)
    if not hub.get_token():
        raise StageError("nobody is logged in to the hub: run `hf auth login` or set HF_TOKEN, then this again", False)
    if not (folder / README).is_file():
        write_card(folder, folder, license_note)
    elif has_other_license(folder, license_note):
        print(f"note: {folder / README} names another licence than the scenes have: mend or delete it, then this again")
    parts = list_parts(folder, within)
    if len(parts) > MANY:
        print(f"note: {len(parts):,} files; the hub takes a few large ones sooner: --shards 2GB first")
    api = hub.HfApi(library_name="lam3c")
    try:
        api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        there = _entries(api, hub, repo)
        left = [part for part in tqdm(parts, desc="look", unit="file") if not part.is_there(there.get(part.path))]
        with tqdm(total=sum(part.size for part in left), desc="upload", unit="B", unit_scale=True) as bar:
            for group in _groups(left):
                operations = [hub.CommitOperationAdd(part.path, str(part.file)) for part in group]
                title = f"{group[-1].path} and {len(group) - 1} more"
                api.create_commit(repo, operations, commit_message=title, repo_type="dataset")
                bar.update(sum(part.size for part in group))
    except Exception as error:  # errors of the hub, its web client and xet share no base class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StageError(
            f"{address}: {reason:.200}; check name, rights and connection, then start it again: what is there stays",
            permanent=False,
        ) from error
    return f"{address}: {len(left)} files sent, {len(parts) - len(left)} were there"


def _entries(api: Any, hub: Any, repo: str) -> dict[str, Any]:
    """What the dataset holds: path to entry."""
    listed = api.list_repo_tree(repo, recursive=True, repo_type="dataset")
    return {entry.path: entry for entry in listed if isinstance(entry, hub.hf_api.RepoFile)}


def _groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    group = list[Part]()
    for part in parts:
        group.append(part)
        if len(group) == COMMIT_FILES or sum(part.size for part in group) >= COMMIT_BYTES:
            yield group
            group = []
    if group:
        yield group
