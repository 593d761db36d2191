"""`lam3c install`: drops the configs into a Pointcept checkout, and takes exactly them out again.

The host's `scripts/train.sh` looks for ``configs/<dataset>/<config>.py`` with ``scannet`` as the default dataset. The
configs go to ``configs/lam3c/`` (for ``-d lam3c -c NAME``) and each runnable one gets a two-line twin in
``configs/scannet/lam3c/`` (for ``-c lam3c/NAME``) that has it as its base, so there is one file to edit.
Every file ends with a mark that holds the hash of the rest: a file is ours, to update and to remove, while its mark is
right. No list is kept, so that an installation killed half-way can be finished or undone.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_tools.stages.files import replacing, write_text
from lam3c_plugin.host_checkout import Checkout, CheckoutError, inspect_checkout

TARGET = PurePosixPath("configs/lam3c")
TWINS = PurePosixPath("configs/scannet/lam3c")
FITTED = "-fit.py"  # written by `lam3c doctor --write`, not part of the configs
TWIN_TEXT = '"""What `-c lam3c/{name}` finds without `-d`: {target}."""\n\n'
MARK = "# written by `lam3c install`, which updates and removes it while it is not edited: "

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
class Plan:
    """What an installation does to each file, by its path relative to the checkout."""

    write: dict[str, str | Path] = field(default_factory=dict)  # text, or the file to link to
    keep: list[str] = field(default_factory=list)  # as it should be
    conflict: list[str] = field(default_factory=list)  # there, and not as an installation left it
    stale: list[str] = field(default_factory=list)  # of an earlier version, no longer needed


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


def wanted_files(source: Path, link: bool = False) -> dict[str, str | Path]:
    """Every file that an installation puts into a checkout: its text or, with ``link``, the config to link to."""
    wanted: dict[str, str | Path] = {}
    for path in sorted(source.rglob("*.py")):
        name = PurePosixPath(path.relative_to(source).as_posix())
        runnable = "_base_" not in name.parts
        text = path.read_text(encoding="utf-8")
        wanted[str(TARGET / name)] = path if link else marked(guarded(text) if runnable else text)
        if runnable:
            wanted[str(TWINS / name)] = marked(_twin(name))
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


def marked(text: str) -> str:
    """The text with our mark as its last line."""
    return f"{text}{MARK}{hashlib.sha256(text.encode()).hexdigest()}\n"


def is_ours(path: Path) -> bool:
    """Whether an installation wrote or linked what is at ``path``, and nobody changed it since."""
    if path.is_symlink():
        return f"/{TARGET}/" in Path(os.readlink(path)).as_posix()
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return MARK in text and text == marked(text[: text.rindex(MARK)])


def _files_in(root: Path) -> list[str]:
    """The configs in our two folders, ours and others', relative to the checkout."""
    found = {path for folder in (TARGET, TWINS) for path in (root / folder).rglob("*.py")}
    return sorted(path.relative_to(root).as_posix() for path in found)


def make_plan(root: Path, wanted: dict[str, str | Path]) -> Plan:
    """Compare what should be there with what is there."""
    plan = Plan()
    for name, content in wanted.items():
        path = root / name
        if isinstance(content, Path):
            is_right = path.is_symlink() and Path(os.readlink(path)) == content
        else:
            is_right = is_ours(path) and not path.is_symlink() and path.read_text(encoding="utf-8") == content
        if is_right:
            plan.keep.append(name)
        elif is_ours(path) or not os.path.lexists(path):
            plan.write[name] = content
        else:
            plan.conflict.append(name)
    others = [name for name in _files_in(root) if name not in wanted and not name.endswith(FITTED)]
    plan.stale = [name for name in others if is_ours(root / name)]
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


def install(checkout: Checkout, link: bool = False, dry_run: bool = False, force: bool = False) -> Plan:
    """Install the configs and print what it does.

    Args:
        checkout: where to.
        link: link the configs instead of copying them (the twins are files all the same).
        dry_run: only say what would happen.
        force: overwrite files of the user's.

    Raises:
        InstallError: a file of the user's is in the way, or a file cannot be written.
    """
    root = checkout.root
    wanted = wanted_files(config_source(), link)
    plan = make_plan(root, wanted)
    check_folders(root, list(wanted))
    if plan.conflict and not (force or dry_run):
        raise InstallError(
            f"{_files(len(plan.conflict))} of your own would be overwritten: {', '.join(plan.conflict[:4])}"
            f"{', …' if len(plan.conflict) > 4 else ''}; move them away, or pass --force"
        )
    plan.write |= {name: wanted[name] for name in plan.conflict}
    if plan.keep:
        print(f"{'unchanged':<16} {_files(len(plan.keep))}")
    for name in plan.write:
        verb = "overwrite" if name in plan.conflict else "update" if (root / name).exists() else "write"
        print(f"{('would ' if dry_run else '') + verb:<16} {name}")
    for name in plan.stale:
        print(f"{('would ' if dry_run else '') + 'remove':<16} {name} (no longer part of LAM3C)")
    if not dry_run:
        _apply(root, plan.write)
        for name in plan.stale:
            (root / name).unlink()
    return plan


def _apply(root: Path, files: dict[str, str | Path]) -> None:
    try:
        for name, content in files.items():
            if isinstance(content, Path):
                with replacing(root / name) as temporary:
                    temporary.symlink_to(content)
            else:
                write_text(root / name, content)
    except OSError as error:
        raise InstallError(
            f"cannot write {error.filename or root}: {error.strerror}; "
            "make the checkout writable for you, or install into a clone of it"
        ) from error


def add_config(root: Path, base: str, text: str) -> Path:
    """Add the config ``<base>-fit.py`` and its twin to what is installed, so that ``--uninstall`` removes them.

    Raises:
        InstallError: ``base`` is not installed, the file is there already, or cannot be written.
    """
    name = PurePosixPath(base + FITTED)
    if not (root / TARGET / f"{base}.py").exists():
        raise InstallError(f"{base} is not installed in {root}; run `lam3c install --pointcept {root}` first")
    items: dict[str, str | Path] = {str(TARGET / name): marked(text), str(TWINS / name): marked(_twin(name))}
    plan = make_plan(root, items)
    if plan.conflict:
        raise InstallError(f"{root / plan.conflict[0]} is there already and yours; move it away")
    _apply(root, plan.write)
    return root / TARGET / name


def uninstall(checkout: Checkout, dry_run: bool = False) -> list[str]:
    """Remove the files that installations wrote and nobody changed since; return those that stay.

    Raises:
        InstallError: nothing is installed, or a file cannot be removed.
    """
    root = checkout.root
    names = _files_in(root)
    ours = [name for name in names if is_ours(root / name)]
    if not ours:
        raise InstallError(f"nothing to remove: {root} has no file that `lam3c install` wrote")
    try:
        for name in names:
            verb = "keep" if name not in ours else "would remove" if dry_run else "remove"
            print(f"{verb:<16} {name}{' (yours, or changed by you)' if verb == 'keep' else ''}")
            if verb == "remove":
                (root / name).unlink()
        if not dry_run:
            _remove_empty_folders(root, ours)
    except OSError as error:
        raise InstallError(f"cannot remove {error.filename}: {error.strerror}; make the checkout writable") from error
    return [name for name in names if name not in ours]


def _remove_empty_folders(root: Path, names: list[str]) -> None:
    folders = {parent for name in names for parent in PurePosixPath(name).parents}
    ours = [folder for folder in folders if folder.is_relative_to(TARGET) or folder.is_relative_to(TWINS)]
    for folder in sorted(ours, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # not empty: something of the user's is in it
            (root / folder).rmdir()


def is_complete(root: Path) -> bool | None:
    """Whether every config is there; ``None`` where nothing is installed."""
    there = [(root / name).exists() for name in wanted_files(config_source())]
    return all(there) if any(is_ours(root / name) for name in _files_in(root)) else None


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def run(args: argparse.Namespace) -> int:
    """Entry point of the command."""
    checkout = inspect_checkout(args.pointcept)
    known = f"Pointcept {checkout.version}" + (f" ({checkout.commit})" if checkout.commit else "")
    print(f"{known} at {checkout.root}")
    if args.uninstall:
        left = uninstall(checkout, args.dry_run)
        if left:
            print(f"{_files(len(left))} changed by you stay; they are yours now")
        return 0
    plan = install(checkout, args.link, args.dry_run, args.force)
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
        "No file of the checkout is changed; a file of yours is only overwritten with --force.",
        epilog="examples:\n"
        "  lam3c install --pointcept ../Pointcept --dry-run    what would be written\n"
        "  lam3c install --pointcept ../Pointcept --link       links, so that edits here count there\n"
        "  lam3c install --pointcept ../Pointcept --uninstall  removes exactly what was written",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pointcept", required=True, metavar="DIR", help="the checkout")
    parser.add_argument("--link", action="store_true", help="link the configs instead of copying them")
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")
    parser.add_argument("--force", action="store_true", help="overwrite files of yours")
    parser.add_argument("--uninstall", action="store_true", help="remove what was installed and not changed since")
    parser.set_defaults(run=run)
