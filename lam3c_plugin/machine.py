"""What this machine has, what a pre-training config needs, and how to fit the one to the other.

The memory model counts what autograd keeps under bfloat16 (`benchmarks/memory.py` counts it too) and adds what was
measured beyond it on a card: on an H200 with the embedded engine, Base with 1 to 12 scenes of full views and Large with
1 to 8, it is within 5 % of the peak from 2 scenes on. Smaller scenes give smaller views: the result is an upper bound.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = float(1 << 30)
KEPT_BYTES = 43  # per point, channel and block: inputs of the linears, norms and activations
TRANSIENT = 1.42  # measured over kept: the teacher's pass, features of the losses, gradients on their way
WEIGHT_BYTES = 22  # student 4 + gradient 4 + Adam 8 + teacher 4 + bfloat16 copies
CONTEXT_GIB = 1.5  # CUDA itself and what its allocator holds beside
_VIEW_SCALES = {"global_view_scale": (0.4, 1.0), "local_view_scale": (0.1, 0.4)}  # of MultiViewGenerator
POINTS_LEFT = (1.0, 1 / 4, 1 / 16, 1 / 64, 1 / 256)  # surfaces: a stride of 2 keeps a quarter of the points


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: its name and memory."""

    name: str
    gib: float


@dataclass(frozen=True)
class Need:
    """GPU memory of a pre-training config: ``fixed`` plus ``scene`` for every scene on the GPU, in GiB."""

    fixed: float
    scene: float

    def scenes(self, gib: float) -> int:
        """Scenes that fit a GPU, leaving 8 % free."""
        return max(int((gib * 0.92 - self.fixed) / self.scene), 0)


@dataclass(frozen=True)
class Fit:
    """``batch_size`` over all GPUs and ``gradient_accumulation_steps`` with the config's effective batch."""

    batch_size: int
    accumulation: int


def host_memory() -> tuple[int | None, int | None]:
    """Bytes of this machine, and of the control group (a container) it runs in, where that has less; None: unknown."""
    if not hasattr(os, "sysconf"):  # Windows
        return None, None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such group, or "max"
            limits.append(int(Path(path).read_text()))
    limit = min(limits, default=total)
    return total, limit if limit < total else None


def find_gpus() -> list[Gpu]:
    """The CUDA devices that PyTorch sees."""
    import torch  # not at the top: the commands import this module where torch may be missing

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [Gpu(item.name, item.total_memory / GIB) for item in found]


def estimate_need(cfg: Mapping[str, Any], flash: bool) -> Need:
    """Memory of a LAM3C pre-training config, every view at its largest size.

    Args:
        cfg: the config.
        flash: whether attention keeps no (points, patch) matrices: flash-attn, or the embedded engine's SDPA.
    """
    model, backbone = cfg["model"], cfg["model"]["backbone"]
    blocks = list(zip(backbone["enc_depths"], backbone["enc_channels"], POINTS_LEFT, strict=False))
    kept = KEPT_BYTES * sum(depth * channels * left for depth, channels, left in blocks)
    if not flash:
        stages = zip(backbone["enc_depths"], backbone["enc_num_head"], backbone["enc_patch_size"], POINTS_LEFT)  # noqa: B905
        kept += sum(depth * heads * patch * left * 2 * 2 for depth, heads, patch, left in stages)
    head = model["head"]
    level = len(blocks) - 1 - model["up_cast_level"]
    kept += POINTS_LEFT[level] * 2 * 2 * head["hidden_channels"]  # before and behind the activation
    largest, local = view_sizes(cfg)
    points = model["num_global_view"] * largest + model["num_local_view"] * local
    return Need(
        fixed=CONTEXT_GIB + WEIGHT_BYTES * count_weights(model) / GIB,
        scene=TRANSIENT * kept * points / GIB,
    )


def count_weights(model: Mapping[str, Any]) -> float:
    """Weights of the student, roughly: 27-tap convolution, attention and MLP of every block, and the heads."""
    backbone, head = model["backbone"], model["head"]
    # convolution 27 c^2, its linear c^2, qkv and projection 4 c^2, MLP 8 c^2
    blocks = sum(
        depth * 40 * width**2 for depth, width in zip(backbone["enc_depths"], backbone["enc_channels"], strict=True)
    )
    one_head = head["hidden_channels"] * (head["in_channels"] + head["embed_channels"])
    return blocks + 2 * (one_head + head["embed_channels"] * head["num_prototypes"])


def view_sizes(cfg: Mapping[str, Any]) -> tuple[int, int]:
    """Most points of a global and of a local view, by the config's MultiViewGenerator."""
    train, settings = cfg["data"]["train"], {}
    for part in train.get("datasets", [train]):
        for step in part.get("transform", ()):
            if step.get("type") == "MultiViewGenerator":
                settings = step
    shares = (settings.get(key, default)[1] for key, default in _VIEW_SCALES.items())
    return tuple(int(share * settings.get("max_size", 65536)) for share in shares)


def effective_batch(cfg: Mapping[str, Any]) -> int:
    """Scenes an optimiser step: ``batch_size`` times ``gradient_accumulation_steps``."""
    return int(cfg["batch_size"]) * int(cfg.get("gradient_accumulation_steps", 1) or 1)


def suggest(need: Need, batch: int, gpus: int, gib: float, accumulates: bool = True) -> Fit | None:
    """The largest batch over ``gpus`` GPUs of ``gib`` GiB that fits, with the same scenes an optimiser step.

    Returns:
        ``None`` where not even one scene a GPU fits, or ``batch`` cannot be cut evenly.
    """
    room = need.scenes(gib)
    for steps in range(1, batch + 1) if accumulates else (1,):
        if batch % (steps * gpus) == 0 and batch // (steps * gpus) <= room:
            return Fit(batch // steps, steps)
    return None
