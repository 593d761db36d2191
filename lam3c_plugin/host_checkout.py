"""What a Pointcept checkout on disk is and lacks, found by reading its files: nothing of it is imported or changed."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lam3c_plugin.errors import Lam3cError

#: files that every Pointcept has and nothing else
LANDMARKS = ("pointcept/engines/train.py", "pointcept/models/builder.py", "scripts/train.sh", "configs/_base_")
BACKBONE = "pointcept/models/point_transformer_v3/point_transformer_v3m2_sonata.py"

#: import name -> how to install it, where that is not `pip install NAME`
INSTALL_HINTS = {
    "SharedArray": "pip install SharedArray",
    "clip": "pip install git+https://github.com/openai/CLIP.git",
    "cv2": "pip install opencv-python-headless",
    "flash_attn": "pip install flash-attn --no-build-isolation",
    "ocnn": "pip install ocnn",
    "pointgroup_ops": "pip install ./libs/pointgroup_ops (in the checkout; needs nvcc)",
    "pointops": "pip install ./libs/pointops (in the checkout; needs nvcc)",
    "spconv": "pip install spconv-cu120 (spconv-cu126 on Python 3.12 and newer)",
    "torch_cluster": "pip install torch-cluster -f https://data.pyg.org/whl/torch-<version>+<cuda>.html",
    "torch_scatter": "pip install torch-scatter -f https://data.pyg.org/whl/torch-<version>+<cuda>.html",
    "torch_geometric": "pip install torch_geometric",
}


class CheckoutError(Lam3cError):
    """A folder is no Pointcept checkout that the plugin can work with."""


@dataclass(frozen=True)
class Checkout:
    """A Pointcept checkout and what its version has.

    Attributes:
        root: absolute folder.
        version: "1.6.0", "1.6.1" or "1.7.0 or newer", by what is in it.
        commit: what git calls it, or "" outside git.
        accumulates: gradient accumulation exists (from 1.6.1).
        segments_instances: PG-v1m2 exists (from 1.6.1).
        needs_ocnn: its models cannot run without `ocnn` (1.6.0).
        needs_old_torch: it cannot read its own checkpoints under torch 2.6 and newer (1.6.0).
    """

    root: Path
    version: str
    commit: str
    accumulates: bool
    segments_instances: bool
    needs_ocnn: bool
    needs_old_torch: bool


def inspect_checkout(folder: str | Path) -> Checkout:
    """Recognise a Pointcept checkout.

    Raises:
        CheckoutError: the folder does not exist, is no Pointcept, or is older than 1.6.0.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise CheckoutError(f"--pointcept {folder}: no such folder; get it by `git clone {REPOSITORY}`")
    missing = [name for name in LANDMARKS if not (root / name).exists()]
    if missing:
        nearby = next((other for other in (root.parent, root / "Pointcept") if _has_landmarks(other)), None)
        hint = f"; did you mean {nearby}?" if nearby else f"; get one by `git clone {REPOSITORY}`"
        raise CheckoutError(f"{root} is no Pointcept checkout: it has no {', '.join(missing)}{hint}")
    if "PT-v3m2" not in _read(root / BACKBONE):
        raise CheckoutError(
            f"the Pointcept at {root} has no PT-v3m2 and so is older than v1.6.0, the oldest that LAM3C works with; "
            "update it: git fetch --tags && git checkout v1.7.0"
        )
    accumulates = "gradient_accumulation_steps" in _read(root / "pointcept/engines/train.py")
    newest = (root / "pointcept/models/litept").is_dir()
    return Checkout(
        root=root,
        version="1.7.0 or newer" if newest else "1.6.1" if accumulates else "1.6.0",
        commit=_git_describe(root),
        accumulates=accumulates,
        segments_instances=any(
            "PG-v1m2" in _read(path) for path in (root / "pointcept/models/point_group").glob("*.py")
        ),
        needs_ocnn="if ocnn is not None" not in _read(root / "pointcept/models/modules.py"),
        needs_old_torch="weights_only" not in _read(root / "pointcept/engines/hooks/misc.py"),
    )


REPOSITORY = "https://github.com/Pointcept/Pointcept"


def _has_landmarks(root: Path) -> bool:
    return all((root / name).exists() for name in LANDMARKS)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _git_describe(root: Path) -> str:
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--tags", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def third_party_imports(checkout: Checkout, start: str = "pointcept.engines.train") -> dict[str, str]:
    """Packages that importing ``start`` imports unconditionally, with the first file that does.

    Imports inside functions and in ``try`` blocks do not count: the checkout lives without those.
    """
    found: dict[str, str] = {}
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        for path in _module_files(checkout.root, waiting.pop()):
            if path in seen:
                continue
            seen.add(path)
            for name in _module_level_imports(path, checkout.root):
                top = name.partition(".")[0]
                if top == "pointcept":
                    waiting.append(name)
                elif top not in sys.stdlib_module_names:
                    found.setdefault(top, str(path.relative_to(checkout.root)))
    if checkout.needs_ocnn:
        found.setdefault("ocnn", "pointcept/models/modules.py")
    return found


def missing_imports(checkout: Checkout) -> dict[str, str]:
    """Those of `third_party_imports` that this Python does not have."""
    return {name: path for name, path in third_party_imports(checkout).items() if not has_package(name)}


def has_package(name: str) -> bool:
    """Whether this Python finds a package, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def how_to_install(name: str) -> str:
    """The command that installs an import name."""
    return INSTALL_HINTS.get(name, f"pip install {name}")


def _module_files(root: Path, module: str) -> Iterator[Path]:
    """Files that importing ``module`` runs: every package on the way, and the module itself."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:count])
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                yield path


def _module_level_imports(path: Path, root: Path) -> Iterator[str]:
    package = path.relative_to(root).parent.parts
    for node in ast.parse(_read(path)).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            yield module
            # `from package import name` imports the submodule of that name
            yield from (f"{module}.{alias.name}" for alias in node.names if module.startswith("pointcept"))
