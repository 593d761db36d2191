"""From a name to a file on this machine: found, downloaded or copied, and equal to what it was the first time."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.stages.files import replacing
from lam3c_plugin.checkpoints.opening import sniff
from lam3c_plugin.checkpoints.weights import SUFFIXES, Weights, read
from lam3c_plugin.errors import CheckpointError, near_names
from lam3c_plugin.zoo import fetch, hub, licence
from lam3c_plugin.zoo.index import Entry, find
from lam3c_plugin.zoo.store import Lock, entries, home, read_lock, sha256_of, write_lock


def resolve(
    name_or_path: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    ask: bool = True,
    yes: bool = False,
    update: bool = False,
) -> Path:
    """A file or folder on this machine for a name of the zoo; a path is returned as it is.

    A name of the zoo goes before a file of that name (write ``./name`` for the file).

    Args:
        name_or_path: a name, the name of a zoo file (old spellings too), or a path.
        source: where to take it from instead: a folder, or the address of a mirror of the Hub.
        offline: no network; ``None``: as ``HF_HUB_OFFLINE`` says.
        ask: have the licence confirmed on the terminal before the first download; else refuse.
        yes: agree to the licence.
        update: forget which version came first, and take what the source has now.

    Raises:
        CheckpointError: an unknown name, a licence not agreed to, no connection, a wrong hash or a damaged file.
    """
    text = os.fspath(name_or_path)
    known = entries()
    path = Path(text).expanduser()
    if not any(entry.name == text.lower() for entry in known) and path.exists():
        return path
    named = any(text.lower() in entry.spellings() for entry in known)
    if path.parent != Path() or (path.suffix in SUFFIXES and not named):  # a path
        return _other_spelling(path, known)
    return obtain(find(text, known), source=source, offline=offline, ask=ask, yes=yes, update=update)


def open_weights(
    name_or_path: str | os.PathLike[str],
    *,
    part: str = "student",
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Weights:
    """`resolve` (``options``) and `read` in one; an index's config goes over the file's own.

    Raises:
        CheckpointError: as both do.
    """
    path, text = resolve(name_or_path, **options), os.fspath(name_or_path)
    is_file = path == Path(text).expanduser()  # a file of that name here is not the zoo's
    entry = None if is_file else next((entry for entry in entries() if text.lower() in entry.spellings()), None)
    given = {**(entry.config or {} if entry else {}), **(config or {})}
    weights = read(path, part=part, config=given or None)
    if entry and entry.grid_size:
        weights.inputs.setdefault("grid_size", entry.grid_size)
    return weights


def _other_spelling(path: Path, known: list[Entry]) -> Path:
    """The zoo's file beside a path that is not there, under the other spelling of its name."""
    for entry in known:
        for file in entry.files:
            other = path.with_name(Path(file).name)
            if path.name.lower() in entry.spellings() and other.exists():
                return other
    there = [p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES and p.exists()]
    near = near_names(path.name, there)
    cure = f"did you mean {' or '.join(near)}?" if near else "`lam3c zoo list` names what can be downloaded"
    raise CheckpointError(f"checkpoint not found: {path}; {cure}")


def obtain(
    entry: Entry,
    *,
    source: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    ask: bool = True,
    yes: bool = False,
    update: bool = False,
) -> Path:
    """The local file of an entry; see `resolve`."""
    if entry.path and entry.origin == "shipped":  # it came with the package, which answers for it
        return Path(entry.path)
    offline = hub.is_offline() if offline is None else offline
    lock = None if update else read_lock(entry.name)  # what is recorded stays until the new file is here
    if lock and Path(lock.path).exists() and (entry.sha256 in (None, lock.sha256)):
        if lock.is_untouched() or sha256_of(Path(lock.path)) == lock.sha256:
            _remember(entry, Path(lock.path), lock.sha256, lock.commit, lock.source)
            return Path(lock.path)
        _drop_damaged(entry, lock)
    wanted = entry.sha256 or (lock.sha256 if lock else None)
    place = os.fspath(source) if source is not None else None
    mirror = place if place and place.startswith(("http://", "https://")) else None
    if place and not mirror:
        print(licence.describe(entry), file=sys.stderr)  # who has the file already is not asked
        return _from_folder(entry, Path(place).expanduser(), wanted)
    if entry.path:
        return _from_folder(entry, Path(entry.path).parent, wanted, copy=False)
    if offline and not entry.hub:
        raise CheckpointError(
            f"{entry.name} is not on this machine and HF_HUB_OFFLINE or --offline forbids the network; "
            "give a folder that has its file (--from DIR)"
        )
    if not offline:
        licence.confirm(entry, yes=yes, ask=ask)
    if entry.hub:
        return _from_hub(entry, lock, wanted, mirror, offline)
    if mirror:
        raise CheckpointError(f"{entry.name} is no Hub entry ({entry.url}), so --from takes a folder only")
    return _from_url(entry, wanted)


def _drop_damaged(entry: Entry, lock: Lock) -> None:
    """A file that is no longer what was downloaded: ours is removed, others' are theirs to remove."""
    path = Path(lock.path)
    if path.is_relative_to(home()) or (lock.commit and "snapshots" in path.parts):
        hub.remove(hub.HubFile(path, "", None))
        print(f"{path} is damaged (SHA-256 differs) and was removed; it is fetched again", file=sys.stderr)
        return
    raise CheckpointError(
        f"{path} is not the file that {entry.name} was at first (SHA-256 {lock.sha256[:16]}…); "
        f"restore it, or run `lam3c zoo download {entry.name} --update` to take it as it is"
    )


def _remember(entry: Entry, path: Path, sha256: str, commit: str | None, source: str) -> None:
    stat = path.stat()
    lock = Lock(str(path), sha256, stat.st_size, commit, source, stat.st_mtime_ns)
    try:
        is_new = lock != read_lock(entry.name)
    except CheckpointError:  # damaged, and an update was asked for
        is_new = True
    if is_new:
        write_lock(entry.name, lock)


def _wrong_hash(entry: Entry, found: str, wanted: str, where: object) -> CheckpointError:
    first = "its index" if entry.sha256 else "the first download"
    return CheckpointError(
        f"{entry.name}: the SHA-256 of {where} is {found} where {first} had {wanted}; "
        f"it was not taken: ask who published it"
        + ("" if entry.sha256 else f", or run `lam3c zoo download {entry.name} --update` to take it as it is now")
    )


def _from_hub(entry: Entry, lock: Lock | None, wanted: str | None, mirror: str | None, offline: bool) -> Path:
    revision = entry.revision or (lock.commit if lock else None)
    file = hub.get_file(entry, revision, endpoint=mirror, offline=offline)
    found = sha256_of(file.path)
    if file.sha256 and found != file.sha256:
        hub.remove(file)
        raise CheckpointError(f"{entry.name}: its download was damaged and has been removed; run it again")
    if wanted and found != wanted:
        hub.remove(file)
        raise _wrong_hash(entry, found, wanted, f"the file on {entry.hub}")
    try:
        sniff(file.path)
    except CheckpointError:
        hub.remove(file)
        raise
    _remember(entry, file.path, found, file.commit or None, mirror or entry.where)
    return file.path


def _from_url(entry: Entry, wanted: str | None) -> Path:
    from tqdm import tqdm

    assert entry.url is not None
    target = home() / "files" / entry.name / (Path(entry.url.split("?")[0]).name or "weights")
    with tqdm(desc=target.name, unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = fetch.download(entry.url, target, sha256=wanted, progress=progress)
    try:
        sniff(target)
    except CheckpointError:
        target.unlink()
        raise
    _remember(entry, target, found, None, entry.url)
    return target


def _from_folder(entry: Entry, folder: Path, wanted: str | None, copy: bool = True) -> Path:
    """The file out of a local folder: directly in it, or below ``<owner>/<name>/`` as on the Hub."""
    names = entry.files or (Path(entry.path or entry.url or "").name,)
    tried = [place / name for place in (folder, folder / str(entry.hub)) for name in names]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        raise CheckpointError(f"{entry.name}: {folder} has no {' or '.join(names)}; give the folder that has it")
    sniff(found)
    if not copy:
        digest = sha256_of(found)
        if wanted and digest != wanted:
            raise _wrong_hash(entry, digest, wanted, found)
        _remember(entry, found.absolute(), digest, None, str(folder))
        return found.absolute()
    target = home() / "files" / entry.name / found.name
    try:
        with replacing(target) as temporary:
            shutil.copyfile(found, temporary)
            digest = sha256_of(temporary)  # of the copy: what was read from a worn disk may differ
            if wanted and digest != wanted:
                raise _wrong_hash(entry, digest, wanted, found)
    except OSError as error:
        raise CheckpointError(f"cannot copy {found} to {target}: {error.strerror}; LAM3C_HOME moves the zoo") from error
    _remember(entry, target, digest, None, str(folder))
    return target
