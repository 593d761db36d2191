"""What this machine has: engine, libraries, processors, memory, GPUs. Imports nothing heavy until asked."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from lam3c_plugin.host_checkout import CheckoutError, inspect_checkout, missing_imports
from lam3c_plugin.machine import GIB, host_memory

SHARED = "/dev/shm"

#: import name -> names of the distributions that bring it
LIBRARIES: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "addict": ("addict",),
    "tensorboard": ("tensorboard",),
    "matplotlib": ("matplotlib",),
    "tqdm": ("tqdm",),
    "spconv": tuple(f"spconv{build}" for build in ("-cu126", "-cu124", "-cu121", "-cu120", "-cu118", "-cu117", "")),
    "torch_scatter": ("torch-scatter",),
    "flash_attn": ("flash-attn",),
    "pointops": ("pointops",),
    "tensorboardX": ("tensorboardX",),
    "timm": ("timm",),
    "yapf": ("yapf",),
    "h5py": ("h5py",),
    "wandb": ("wandb",),
    "open3d": ("open3d", "open3d-cpu"),
    "safetensors": ("safetensors",),
    "huggingface_hub": ("huggingface_hub", "huggingface-hub"),
    "open_clip": ("open-clip-torch",),
    "av": ("av",),
    "pycolmap": ("pycolmap",),
    "ray": ("ray",),
    "yt_dlp": ("yt-dlp",),
    "cv2": ("opencv-python-headless", "opencv-python"),
    "scenedetect": ("scenedetect-headless", "scenedetect"),
    "laspy": ("laspy",),
    "pytest": ("pytest",),
    "ruff": ("ruff",),
}
# an extension built for another torch or CUDA is there, but does not import
COMPILED = ("torch", "spconv", "torch_scatter", "flash_attn", "pointops")


def library(module: str) -> dict[str, Any]:
    """``found`` (bool), ``version`` (or None) and ``problem`` (why it is there but of no use, or None)."""
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    result: dict[str, Any] = {"found": found, "version": None, "problem": None}
    for distribution in LIBRARIES.get(module, (module,)) if found else ():
        try:
            result["version"] = importlib.metadata.version(distribution)
            break
        except importlib.metadata.PackageNotFoundError:
            continue
    if found and module in COMPILED:
        try:
            importlib.import_module("spconv.pytorch" if module == "spconv" else module)
        except Exception as error:  # a broken extension raises whatever it likes
            result["problem"] = _one_line(error)
    return result


def release(version: str | None) -> tuple[int, ...]:
    """(2, 5) of "2.5.1+cu124"; what cannot be read counts as newer than all."""
    try:
        return tuple(int(part) for part in str(version).split("+")[0].split(".")[:2])
    except ValueError:
        return (1000,)


def libraries() -> dict[str, dict[str, Any]]:
    """`library` of everything in `LIBRARIES`."""
    return {module: library(module) for module in LIBRARIES}


def engine() -> dict[str, Any]:
    """Which engine answers and why: ``asked``, ``used`` (None if none does), ``why``, ``problem``, ``pointcept``."""
    asked = os.environ.get("LAM3C_ENGINE", "").strip().lower() or "auto"
    result: dict[str, Any] = {"asked": asked, "used": None, "why": None, "problem": None, "pointcept": pointcept()}
    found = result["pointcept"]["path"]
    try:
        package = importlib.import_module("lam3c_plugin")
        host = importlib.import_module("lam3c_plugin.host")
        if getattr(package, "import_error", None) is not None:
            raise package.import_error
        if "LAM3C-v1m1" not in host.MODELS.module_dict:
            raise ImportError("`import lam3c_plugin` did not register LAM3C-v1m1")
    except Exception as error:  # telling why is what doctor is for
        result["problem"] = _one_line(error)
        return result
    result["used"] = host.ENGINE
    if asked != "auto":
        result["why"] = f"LAM3C_ENGINE={asked} asks for it"
    elif found:
        result["why"] = f"a Pointcept is importable from {found}; LAM3C_ENGINE=embedded runs without it"
    else:
        result["why"] = "no Pointcept is importable; put a checkout on PYTHONPATH to use it"
    return result


def pointcept() -> dict[str, Any]:
    """Where an importable Pointcept lies and what it can do, read from its files without importing it."""
    try:
        spec = importlib.util.find_spec("pointcept")
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if not folders:
        return {"path": None, "problem": None}
    result: dict[str, Any] = {"path": folders[0], "problem": None}
    try:
        checkout = inspect_checkout(Path(folders[0]).parent)
    except CheckoutError as error:
        return {**result, "problem": str(error)}
    has = {"gradient accumulation": checkout.accumulates, "PG-v1m2": checkout.segments_instances}
    return {**result, "version": checkout.version, "has": has, "missing": sorted(missing_imports(checkout))}


def machine() -> dict[str, Any]:
    """Operating system, Python, CPU threads this process may use, memory in GB, GPUs, room in /dev/shm."""
    total, limit = host_memory()
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "cpu_threads": _cpu_threads(),
        "memory_gb": round(total / GIB, 1) if total else None,
        "memory_limit_gb": round(limit / GIB, 1) if limit else None,
        "shared_gb": round(shutil.disk_usage(SHARED).free / GIB, 1) if Path(SHARED).is_dir() else None,
        **_gpus(),
    }


def _cpu_threads() -> int:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():  # a container's share of the machine
        count = min(count, max(1, round(int(quota[0]) / int(quota[1]))))
    return count


def _gpus() -> dict[str, Any]:
    result: dict[str, Any] = {"cuda": None, "gpus": []}
    try:
        import torch

        result["cuda"] = torch.version.cuda
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            properties = torch.cuda.get_device_properties(index)
            free, _ = torch.cuda.mem_get_info(index)
            result["gpus"].append(
                {
                    "name": properties.name,
                    "memory_gb": round(properties.total_memory / GIB, 1),
                    "free_gb": round(free / GIB, 1),
                    "capability": f"{properties.major}.{properties.minor}",
                }
            )
    except Exception as error:  # no torch, or a driver that does not fit it
        result["gpu_problem"] = _one_line(error)
    return result


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]
