"""What the adapters of networks share: finding the package, weights, device, precision, repeatable runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.reconstruction.base import ReconstructSettings
from data_tools.stages.gpu import use_gpu
from data_tools.stages.record import StageError

if TYPE_CHECKING:
    import torch

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def import_torch() -> ModuleType:
    """PyTorch, or one line on how to get it.

    Raises:
        StageError: it is not installed.
    """
    try:
        return import_module("torch")
    except ImportError:
        raise StageError("this backend needs PyTorch: pip install torch", permanent=False) from None


def import_package(module: str, root_variable: str, how: str) -> ModuleType:
    """A module from an installed package, or from the checkout that an environment variable names.

    Args:
        module: for example ``pi3.models.pi3``.
        root_variable: for example ``PI3_ROOT``; its folder goes first on the path.
        how: one line that tells how to get it.

    Raises:
        StageError: it is nowhere, or something it imports is missing; one line.
    """
    root = os.environ.get(root_variable, "")
    if root:
        if not (Path(root) / module.split(".")[0]).is_dir():
            raise StageError(f"{root_variable}={root} holds no {module.split('.')[0]}/; {how}", permanent=False)
        if root not in sys.path:
            sys.path.insert(0, root)
    try:
        return import_module(module)
    except ImportError as error:
        top = module.split(".")[0]
        if error.name == top or (error.name or "").startswith(f"{top}."):
            raise StageError(f"{top} is not installed: {how}", permanent=False) from None
        reason = f"{top} cannot be imported ({str(error).splitlines()[0]})"
        raise StageError(f"{reason}: pip install {error.name or 'what it names'}", permanent=False) from None


def pick_device(settings: ReconstructSettings) -> torch.device:
    """The device of the settings.

    Raises:
        StageError: a GPU is asked for, or was given to this worker, and there is none.
    """
    torch = import_torch()
    return torch.device("cuda" if use_gpu(settings.device) else "cpu")


def pick_dtype(settings: ReconstructSettings, device: torch.device) -> torch.dtype:
    """Precision of the network: as set, else bfloat16 (float16 before Ampere) on a GPU and float32 on a CPU."""
    torch = import_torch()
    named = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if settings.dtype != "auto":
        return named[settings.dtype]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Mixed precision on a device; nothing for float32."""
    torch = import_torch()
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


@contextmanager
def repeatable(seed: int, deterministic: bool) -> Iterator[None]:
    """No gradients, seeded draws; with ``deterministic`` also reproducible kernels and one CPU thread."""
    torch = import_torch()
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode():
        torch.manual_seed(seed)
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.benchmark = False
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.backends.cudnn.benchmark = benchmark
            torch.set_num_threads(threads)


def load_model(model_class: type, weights: str, default: str, device: torch.device) -> Any:
    """A network with its weights, in evaluation mode on a device.

    Args:
        model_class: has ``from_pretrained`` (a hub mixin) and takes no argument.
        weights: a file of weights, a folder as the hub lays it out, or a hub name; empty takes ``default``.
        default: hub name.
        device: where it goes.

    Raises:
        StageError: the weights are not there or do not fit; one line.
    """
    name = weights or default
    path = Path(name).expanduser()
    if path.is_file():
        model = model_class()
        _fill(model, path)
    elif path.is_absolute() or name.startswith(("./", "../", "~")) or path.suffix in WEIGHT_SUFFIXES:
        if not path.is_dir():
            raise StageError(f"weights {name}: no such file; check --weights", permanent=False)
        model = _from_hub(model_class, str(path))
    else:
        model = _from_hub(model_class, name)
    return model.to(device).eval()


def _fill(model: Any, path: Path) -> None:
    torch = import_torch()
    try:
        if path.suffix == ".safetensors":
            state = import_module("safetensors.torch").load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            state = state[key] if isinstance(state.get(key), dict) else state
    except ImportError:
        raise StageError(f"{path}: reading it needs safetensors: pip install safetensors", permanent=False) from None
    except Exception as error:  # every reader has errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StageError(f"{path}: cannot be read as weights ({reason}); download it again", permanent=False) from None
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError:  # shapes
        raise StageError(f"{path}: its tensors do not fit {type(model).__name__}; check --weights", False) from None
    if found.missing_keys:
        raise StageError(
            f"{path}: not the weights of {type(model).__name__} ({len(found.missing_keys)} of its tensors are missing, "
            f"first {found.missing_keys[0]}); check --weights and the model option",
            permanent=False,
        )


def _from_hub(model_class: type, name: str) -> Any:
    try:
        return model_class.from_pretrained(name)
    except Exception as error:  # the hub client's errors share no base class
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise StageError(
            f"weights {name} could not be had ({type(error).__name__}: {reason}); download model.safetensors from "
            f"https://huggingface.co/{name} and give it with --weights FILE",
            permanent=False,
        ) from None


def image_batch(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """(F, H, W, 3) uint8 to (F, 3, H, W) float32 in [0, 1] on a device."""
    torch = import_torch()
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255.0)


def to_numpy(value: Any, dtype: type = np.float32) -> np.ndarray:
    """A tensor of any device and precision as an array."""
    torch = import_torch()
    kind = torch.float64 if dtype is np.float64 else torch.float32
    return value.detach().to("cpu", kind).numpy() if isinstance(value, torch.Tensor) else np.asarray(value, dtype)
