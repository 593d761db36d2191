"""How much memory a pass takes and a machine has, to decide whether a cloud goes through in one piece.

The decision uses what the machine has in all, not what is free at the moment: it must not change from run to run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lam3c_plugin.embedded.geometry import PointCloudError
from lam3c_plugin.machine import GIB, host_memory

# bytes a point in a pass of a stage: per channel (features, queries, the MLP's hidden layer, ...), and of its geometry;
# on a CPU the peaks of tiny, Base and Large (60,000 and 180,000 cells, whole and in chunks) lie 0 to 50 % below,
# but for chunks of many sizes, where the allocator has kept up to 20 % more
CHANNEL_BYTES = 60
GEOMETRY_BYTES = 700
KEPT_BYTES = 250  # a cell's rows, indices and input channels, kept throughout
SHARE = {"cpu": 0.5, "cuda": 0.8}  # of the memory that encoding may count on
SMALLEST_PASS = 1 << 14


def machine_bytes(device: torch.device) -> float:
    """Memory of the device in all; of a CPU the machine's, or the limit of the control group it runs in."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    total, limit = host_memory()
    return float(limit or total or 8 * GIB)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; PyTorch's allocator on a CPU has a plain RuntimeError for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def pass_bytes(cells: int, channels: Sequence[int], limit: int | None = None) -> float:
    """Peak of the encoder over ``cells`` cells, beyond weights and output, when passes take at most ``limit`` cells.

    A stage is taken to keep a third of the points of the one before (surfaces keep a quarter).
    """
    widest, kept, count = 0.0, KEPT_BYTES * cells, float(cells)
    for width in channels:
        taken = count if limit is None else min(count, limit)
        widest = max(widest, taken * (CHANNEL_BYTES * width + GEOMETRY_BYTES))
        kept += 2 * 4 * width * count  # a stage's features before and after
        count /= 3
    return kept + widest


def choose_limit(
    cells: int,
    channels: Sequence[int],
    device: torch.device,
    held: float = 0.0,
    chunk: str | int | None = "auto",
) -> int | None:
    """Most cells a pass may take, None for all.

    Args:
        cells: of the cloud.
        channels: of the stages.
        device: that runs the encoder.
        held: bytes that are taken besides (weights, the output if it lies there).
        chunk: ``"auto"``, a number, or None for one pass whatever it takes.

    Raises:
        PointCloudError: a chunk that is no positive number.
    """
    if chunk is None:
        return None
    if chunk != "auto":
        if isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1:
            raise PointCloudError(f"chunk={chunk!r}: give 'auto', a number of cells, or None for one pass")
        return int(chunk)
    budget = SHARE.get(device.type, 0.5) * machine_bytes(device) - held
    if pass_bytes(cells, channels) <= budget:
        return None
    limit = 1 << max(cells.bit_length() - 1, 14)
    while limit > SMALLEST_PASS and pass_bytes(cells, channels, limit) > budget:
        limit //= 2
    return limit
