"""The host's PT-v3m2 on a CPU, for comparison: taken from a Pointcept checkout, its file untouched.

Needs ``POINTCEPT_ROOT`` and the packages that file imports (spconv's CPU wheel, timm, addict); ``torch_scatter`` is
stood in for where it is missing. Three things make spconv's CPU wheel usable: its convolution runs on one thread (with
more it writes wrong rows), the model stays in training mode (in eval the wheel takes a path without CPU kernels), and
the curves are not shuffled, which the host's pooling does even in eval.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def _segment_csr(values: Tensor, indptr: Tensor, reduce: str = "sum") -> Tensor:
    return torch.segment_reduce(values, reduce, lengths=torch.diff(indptr), axis=0, unsafe=True)


def _stand_in(name: str, **attributes: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def _open_package(name: str, folder: Path) -> None:
    """Make submodules of ``name`` importable from ``folder`` without running the package's own ``__init__``."""
    _stand_in(name, __path__=[str(folder)])


def load_host_ptv3() -> type[nn.Module] | str:
    """The host's PointTransformerV3 (v3m2), or a sentence that says why it is not to be had."""
    root = os.environ.get("POINTCEPT_ROOT")
    if not root:
        return "POINTCEPT_ROOT is not set"
    folder = Path(root) / "pointcept"
    if not (folder / "models/point_transformer_v3/point_transformer_v3m2_sonata.py").is_file():
        return f"POINTCEPT_ROOT={root} holds no PT-v3m2 (Pointcept v1.6.0 or newer)"
    missing = [name for name in ("spconv", "timm", "addict") if importlib.util.find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if importlib.util.find_spec("torch_scatter") is None:
        _stand_in("torch_scatter", segment_csr=_segment_csr)
    for name in ("pointcept", "pointcept.models", "pointcept.models.point_transformer_v3", "pointcept.engines"):
        _open_package(name, folder.joinpath(*name.split(".")[1:]))
    _stand_in("pointcept.engines.hooks", HookBase=object)
    import spconv.pytorch as spconv

    multiply = spconv.SubMConv3d.forward

    def on_one_thread(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return multiply(self, *args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    spconv.SubMConv3d.forward = on_one_thread
    module = importlib.import_module("pointcept.models.point_transformer_v3.point_transformer_v3m2_sonata")
    return module.PointTransformerV3


def build_host_ptv3(cls: type[nn.Module], config: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """The host's model with ``weights``, as it runs on spconv's CPU wheel."""
    model = cls(**{**config, "enable_flash": False, "drop_path": 0.0, "shuffle_orders": False})
    model.load_state_dict(weights)
    for module in model.modules():
        if type(module).__name__ == "GridPooling":
            module.shuffle_orders = False
    return model.train()
