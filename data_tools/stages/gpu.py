"""The one answer to "GPU or CPU?" of the stages that run networks."""

from __future__ import annotations

import os
import re

from data_tools.stages.record import StageError

GPU_SLOT = "LAM3C_GPU_SLOT"  # environment of a worker that was given a GPU
BROKEN = re.compile(r"CUDA error|cuDNN error|CUDA driver|device-side assert|illegal memory access|uncorrectable ECC")


def use_gpu(device: str) -> bool:
    """Whether work runs on a GPU.

    Args:
        device: "auto" (a GPU where PyTorch sees one), "cpu", "cuda" or "cuda:1".

    Raises:
        StageError: a GPU is asked for, or this worker was given one, and PyTorch sees none: no silent day on the CPU.
    """
    import torch

    if device == "cpu":
        return False
    if torch.cuda.is_available():
        return True
    if os.environ.get(GPU_SLOT):
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise StageError(
            f"this worker was given GPU {names or '(any)'}, and PyTorch sees none: check nvidia-smi and that PyTorch "
            "is a build with CUDA, or give --gpus 0",
            permanent=False,
        )
    if device.startswith("cuda"):
        raise StageError(f"device {device}: PyTorch sees no GPU; use cpu, or a build with CUDA", permanent=False)
    return False


def is_broken(reason: str) -> bool:
    """Whether a failure's text tells of a CUDA context that stays broken until its process ends."""
    return BROKEN.search(reason) is not None
