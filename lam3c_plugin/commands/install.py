"""`lam3c install`: drops the configs into a Pointcept checkout, and takes exactly them out again.

The host's `scripts/train.sh` looks for ``configs/<dataset>/<config>.py`` with ``scannet`` as the default dataset. The
configs go to ``configs/lam3c/`` (for ``-d lam3c -c NAME``) and each runnable one gets a two-line twin in
``configs/scannet/lam3c/`` (for ``-c lam3c/NAME``) that has it as its base, so there is one file to edit.
A manifest with a hash of every file is written *before* the files: a killed installation can be finished or undone.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_tools.stages.files import replacing
from lam3c_plugin import __version__
from lam3c_plugin.host_checkout import Checkout, CheckoutError, inspect_checkout

MANIFEST = "configs/lam3c/.lam3c-install.json"
TARGET = PurePosixPath("configs/lam3c")
TWINS = PurePosixPath("configs/scannet/lam3c")
FITTED = "-fit.py"  # written by `lam3c doctor --write`, not part of the configs
TWIN_TEXT = '"""What `-c lam3c/{name}` finds without `-d`: {target}. Written by `lam3c install`."""\n\n'

GUARD = """
# added by `lam3c install`
import importlib.util
import sys

if importlib.util.find_spec("lam3c_plugin") is None:
    raise ModuleNotFoundError(
        f"LAM3C's plugin is not installed in {{sys.executable}}: run there  "
        f"{{sys.executable}} -m pip install -e {repository}  (train.sh resets PYTHONPATH, so that does not help)"
    )
del importlib, sys
"""


class InstallError(CheckoutError):
    """The configs cannot be put into the checkout or taken out of it."""


@dataclass
class Item:
    """One file to be in the checkout: its text, or the file that it links to."""

    text: bytes = b""
    link: Path | None = None

    @property
    def digest(self) -> str:
        """What the manifest remembers of the file."""
        return f"-> {self.link}" if self.link else hashlib.sha256(self.text).hexdigest()


@dataclass
class Plan:
    """What an installation does to each file, by its path relative to the checkout."""

    write: dict[str, Item] = field(default_factory=dict)
    keep: list[str] = field(default_factory=list)  # ours already, and as it should be
    foreign: list[str] = field(default_factory=list)  # there, equal, and not ours to remove later
    conflict: list[str] = field(default_factory=list)  # there, different, and not as we left it
    stale: list[str] = field(default_factory=list)  # ours from an earlier version, no longer needed


def config_source() -> Path:
    """The folder of the configs: the repository's in an editable install, else the copy inside the package.

    Raises:
        InstallError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "configs" / "lam3c", package / "configs" / "lam3c"):
        if (folder / "_base_").is_dir():
            return folder
    raise InstallError("this lam3c-plugin came without its configs; reinstall it: pip install -e <its repository>")


def wanted_files(source: Path, link: bool = False) -> dict[str, Item]:
    """Every file that an installation puts into a checkout, by its path relative to the checkout."""
    wanted: dict[str, Item] = {}
    for path in sorted(source.rglob("*.py")):
        name = PurePosixPath(path.relative_to(source).as_posix())
        runnable = "_base_" not in name.parts
        text = path.read_text(encoding="utf-8")
        wanted[str(TARGET / name)] = Item(link=path) if link else Item((guarded(text) if runnable else text).encode())
        if runnable:
            wanted[str(TWINS / name)] = Item(_twin(name).encode())
    return wanted


def guarded(text: str) -> str:
    """A config that first checks for the plugin, and says how to install it in the Python that runs it.

    `scripts/train.sh` resets PYTHONPATH, and each machine of a run has a Python of its own.
    """
    start = ast.parse(text).body[0]
    lines = text.splitlines(keepends=True)
    split = start.end_lineno or 0 if isinstance(getattr(start, "value", None), ast.Constant) else 0
    repository = Path(__file__).resolve().parents[2]
    guard = GUARD.format(repository=repository if (repository / "setup.py").is_file() else "<LAM3C's repository>")
    return "".join(lines[:split]) + guard + "".join(lines[split:])


def _twin(name: PurePosixPath) -> str:
    """A config that is another one, found by a relative path (`_base_` is joined lexically)."""
    up = "../" * len((TWINS / name).relative_to("configs").parent.parts)
    text = TWIN_TEXT.format(name=name.with_suffix(""), target=TARGET / name)
    return guarded(f'{text}_base_ = ["{up}lam3c/{name}"]\n')


def current_digest(path: Path) -> str | None:
    """The digest of what is at ``path`` now, ``None`` where nothing is."""
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    if path.is_dir():
        return "a folder"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def read_manifest(root: Path) -> dict[str, list[str]]:
    """The files that an earlier installation wrote, with their digests; empty where there was none.

    A file has two digests, new and old, while an update is under way.

    Raises:
        InstallError: the manifest is damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        return {}
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): [str(digest) for digest in digests] for name, digests in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstallError(
            f"{path} is damaged ({error}); remove it and run `lam3c install` again: equal files are recognised"
        ) from error


def make_plan(root: Path, wanted: dict[str, Item], manifest: dict[str, list[str]]) -> Plan:
    """Compare what should be there with what is there and with what an earlier installation left."""
    plan = Plan()
    for name, item in wanted.items():
        there = current_digest(root / name)
        ours = there is not None and there in manifest.get(name, ())
        if there == item.digest:
            (plan.keep if ours else plan.foreign).append(name)
        elif there is None or ours:
            plan.write[name] = item
        else:
            plan.conflict.append(name)
    plan.stale = [name for name in manifest if name not in wanted and not name.endswith(FITTED)]
    return plan


def check_folders(root: Path, names: list[str]) -> None:
    """Refuse folders through which a file would land outside the checkout.

    Raises:
        InstallError: a parent folder is a symbolic link, or no folder.
    """
    for folder in sorted({parent for name in names for parent in PurePosixPath(name).parents}):
        path = root / folder
        if path.is_symlink():
            raise InstallError(
                f"{path} is a symbolic link to {os.readlink(path)}: the files would land there and `_base_` paths "
                "break; remove the link (`lam3c install --link` links file by file)"
            )
        if path.exists() and not path.is_dir():
            raise InstallError(f"{path} is a file where a folder is needed; move it away")


def install(
    checkout: Checkout,
    link: bool = False,
    dry_run: bool = False,
    force: bool = False,
    ask: Callable[[str], bool] | None = None,
    say: Callable[[str], None] = print,
) -> Plan:
    """Install the configs.

    Args:
        checkout: where to.
        link: link the configs instead of copying them (the twins are files all the same).
        dry_run: only say what would happen.
        force: overwrite files of the user's.
        ask: asked with the name of every such file when not ``force``; ``None`` refuses.
        say: takes the lines of the report.

    Raises:
        InstallError: a file of the user's is in the way, or a file cannot be written.
    """
    root = checkout.root
    manifest = read_manifest(root)
    wanted = wanted_files(config_source(), link)
    plan = make_plan(root, wanted, manifest)
    check_folders(root, list(wanted))
    refused = [] if force else list(plan.conflict)
    if ask is not None and not dry_run:
        refused = [name for name in refused if not ask(f"{root / name} is not as `lam3c install` left it. Overwrite?")]
    if refused and not dry_run:
        raise InstallError(
            f"{_files(len(refused))} of your own would be overwritten: {', '.join(refused[:4])}"
            f"{', …' if len(refused) > 4 else ''}; move them away, or pass --force"
        )
    for name in plan.conflict:
        plan.write[name] = wanted[name]
    for verb, names in (("unchanged", plan.keep), ("not ours, equal", plan.foreign)):
        if names:
            say(f"{verb:<16} {len(names)} files")
    for name in plan.write:
        verb = "overwrite" if name in plan.conflict else "update" if name in manifest else "link" if link else "write"
        say(f"{('would ' if dry_run else '') + verb:<16} {name}")
    if not dry_run:
        _apply(root, plan, wanted, manifest)
        _remove_stale(root, plan.stale, manifest, say)
    return plan


def _apply(root: Path, plan: Plan, wanted: dict[str, Item], manifest: dict[str, list[str]]) -> None:
    ours = {name: [wanted[name].digest] for name in (*plan.keep, *plan.write)}
    stale = {name: manifest[name] for name in manifest if name in plan.stale or name.endswith(FITTED)}
    under_way = {name: list(dict.fromkeys(digests + manifest.get(name, []))) for name, digests in ours.items()}
    try:
        # first the manifest: whoever is killed between two files can finish or undo
        _write(root / MANIFEST, _manifest_bytes({**stale, **under_way}))
        for name, item in plan.write.items():
            if item.link:
                _link(root / name, item.link)
            else:
                _write(root / name, item.text)
        _write(root / MANIFEST, _manifest_bytes({**stale, **ours}))
    except OSError as error:
        raise InstallError(
            f"cannot write {error.filename or root}: {error.strerror}; "
            "make the checkout writable for you, or install into a clone of it"
        ) from error


def _remove_stale(root: Path, names: list[str], manifest: dict[str, list[str]], say: Callable[[str], None]) -> None:
    for name in names:
        if current_digest(root / name) in manifest[name]:
            (root / name).unlink()
            say(f"{'remove':<16} {name} (no longer part of LAM3C)")
        elif (root / name).exists():
            say(f"{'keep':<16} {name} (no longer part of LAM3C; you changed it)")
    if names:
        left = {name: digests for name, digests in read_manifest(root).items() if name not in names}
        _write(root / MANIFEST, _manifest_bytes(left))


def add_config(root: Path, base: str, text: str) -> Path:
    """Add the config ``<base>-fit.py`` and its twin to what is installed, so that ``--uninstall`` removes them.

    Raises:
        InstallError: ``base`` is not installed, the file is there already, or cannot be written.
    """
    name = PurePosixPath(base + FITTED)
    manifest = read_manifest(root)
    if str(TARGET / f"{base}.py") not in manifest:
        raise InstallError(f"{base} is not installed in {root}; run `lam3c install --pointcept {root}` first")
    items = {str(TARGET / name): Item(text.encode()), str(TWINS / name): Item(_twin(name).encode())}
    plan = make_plan(root, items, manifest)
    if plan.conflict or plan.foreign:
        raise InstallError(f"{root / (plan.conflict + plan.foreign)[0]} is there already and yours; move it away")
    _apply(root, Plan(write=items, stale=[other for other in manifest if other not in items]), items, manifest)
    return root / TARGET / name


def uninstall(checkout: Checkout, dry_run: bool = False, say: Callable[[str], None] = print) -> list[str]:
    """Remove the files that installations wrote and nobody changed since; return those that stay.

    Raises:
        InstallError: nothing is installed, or a file cannot be removed.
    """
    root = checkout.root
    manifest = read_manifest(root)
    if not (root / MANIFEST).is_file():
        raise InstallError(f"nothing to remove: {root} has no {MANIFEST}, so `lam3c install` wrote nothing there")
    changed = []
    try:
        for name, digests in sorted(manifest.items()):
            there = current_digest(root / name)
            if there is None:
                continue
            if there not in digests:
                changed.append(name)
                say(f"{'keep':<16} {name} (you changed it)")
                continue
            say(f"{'would remove' if dry_run else 'remove':<16} {name}")
            if not dry_run:
                (root / name).unlink()
        if not dry_run:
            (root / MANIFEST).unlink()
            _remove_empty_folders(root, [*manifest, MANIFEST])
    except OSError as error:
        raise InstallError(f"cannot remove {error.filename}: {error.strerror}; make the checkout writable") from error
    return changed


def _remove_empty_folders(root: Path, names: list[str]) -> None:
    folders = {parent for name in names for parent in PurePosixPath(name).parents}
    ours = [folder for folder in folders if folder.is_relative_to(TARGET) or folder.is_relative_to(TWINS)]
    for folder in sorted(ours, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # not empty: something of the user's is in it
            (root / folder).rmdir()


def _manifest_bytes(files: dict[str, list[str]]) -> bytes:
    return (json.dumps({"lam3c": __version__, "files": dict(sorted(files.items()))}, indent=1) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def is_complete(root: Path) -> bool | None:
    """Whether every file of the manifest is there; ``None`` where nothing is installed."""
    manifest = read_manifest(root)
    return all((root / name).exists() for name in manifest) if manifest else None


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _ask(question: str) -> bool:
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def run(args: argparse.Namespace) -> int:
    """Entry point of the command."""
    checkout = inspect_checkout(args.pointcept)
    known = f"Pointcept {checkout.version}" + (f" ({checkout.commit})" if checkout.commit else "")
    print(f"{known} at {checkout.root}")
    if args.uninstall:
        changed = uninstall(checkout, args.dry_run)
        if changed:
            print(f"{_files(len(changed))} changed by you stay; they are yours now")
        return 0
    ask = _ask if sys.stdin.isatty() and not args.force else None
    plan = install(checkout, args.link, args.dry_run, args.force, ask)
    if args.dry_run:
        print(f"\nnothing was written; {_files(len(plan.conflict))} of your own in the way")
        return 0
    print(f"\n{_files(len(plan.write))} written; `lam3c install --pointcept {args.pointcept} --uninstall` removes them")
    print("now, in the checkout, with this Python:")
    print(f"  sh scripts/train.sh -p {sys.executable} -c lam3c/pretrain-lam3c-v1m1-0-base -n lam3c -g 8")
    print(f"  lam3c doctor --pointcept {args.pointcept}      what is missing, and what fits your GPUs")
    return 0


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "install",
        help="put the configs into a Pointcept checkout",
        description="Put the configs into a Pointcept checkout (v1.6.0 or newer), or take them out again. "
        "No file of the checkout is changed; a file of yours is never overwritten without asking.",
        epilog="examples:\n"
        "  lam3c install --pointcept ../Pointcept --dry-run    what would be written\n"
        "  lam3c install --pointcept ../Pointcept --link       links, so that edits here count there\n"
        "  lam3c install --pointcept ../Pointcept --uninstall  removes exactly what was written",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pointcept", required=True, metavar="DIR", help="the checkout")
    parser.add_argument("--link", action="store_true", help="link the configs instead of copying them")
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")
    parser.add_argument("--force", action="store_true", help="overwrite files of yours without asking")
    parser.add_argument("--uninstall", action="store_true", help="remove what was installed and not changed since")
    parser.set_defaults(run=run)
