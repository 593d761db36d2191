"""The host's transforms without installing the host: its one transform file, loaded from a checkout."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

FILE = Path("pointcept", "datasets", "transform.py")


def missing_host() -> str | None:
    """Why the host's transforms cannot be loaded, or None."""
    root = os.environ.get("POINTCEPT_ROOT", "")
    if not root:
        return "POINTCEPT_ROOT names no Pointcept checkout"
    if not (Path(root) / FILE).is_file():
        return f"POINTCEPT_ROOT={root} is no Pointcept checkout"
    if importlib.util.find_spec("torchvision") is None:
        return "torchvision, which Pointcept's transforms import, is not installed"
    return None


def load_host_transforms() -> ModuleType:
    """The module ``pointcept.datasets.transform`` of POINTCEPT_ROOT; ``sys.modules`` is left as it was.

    Raises:
        RuntimeError: see `missing_host`.
    """
    reason = missing_host()
    if reason:
        raise RuntimeError(reason)
    root = Path(os.environ["POINTCEPT_ROOT"]).resolve()
    known = dict(sys.modules)
    sys.path.insert(0, str(root))
    try:
        # under a name of its own: `import pointcept.datasets` would want all that the host ever reads
        spec = importlib.util.spec_from_file_location("pointcept_transform", root / FILE)
        module = importlib.util.module_from_spec(spec)
        sys.modules["pointcept_transform"] = module  # its registries ask which module they are in
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - set(known):
            if name.split(".")[0] in ("pointcept", "pointcept_transform"):
                del sys.modules[name]
    return module
