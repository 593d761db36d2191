"""Space-filling curves: the cell of a point becomes one int64, and sorting by it lines up the cloud.

Two curves, each also with x and y exchanged: Morton order (``z``, ``z-trans``) and the Hilbert curve (``hilbert``,
``hilbert-trans``) after J. Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707 (2004). The weights of
PT-v3m2 depend on the exact codes: x is the most significant axis, and a Hilbert code changes with the depth of the
curve. Everything is bit arithmetic on whole columns; no table of bits per point is built.
"""

from __future__ import annotations

import torch
from torch import Tensor

CURVES = ("z", "z-trans", "hilbert", "hilbert-trans")
MAX_DEPTH = 16  # bits an axis; 3 * 16 bits of cell leave 15 bits for the cloud's index

# (shift, mask) pairs that move bit i of a 16-bit number to bit 3 i
_SPREAD = (
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


def _spread_bits(value: Tensor) -> Tensor:
    """(N,) int64 below 2^16 -> (N,) int64 with two zero bits between neighbouring bits."""
    for shift, mask in _SPREAD:
        value = (value | (value << shift)) & mask
    return value


def _interleave(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Bits of three axes woven together, x above y above z on every level."""
    return (_spread_bits(x.long()) << 2) | (_spread_bits(y.long()) << 1) | _spread_bits(z.long())


def z_code(cells: Tensor) -> Tensor:
    """Morton codes of ``cells`` (N, 3), non-negative integers below 2^16 -> (N,) int64."""
    return _interleave(*cells.unbind(1))


def hilbert_code(cells: Tensor, depth: int | Tensor) -> Tensor:
    """Hilbert codes of ``cells`` (N, 3) on curves of ``depth`` levels -> (N,) int64.

    Args:
        cells: non-negative integers below ``2 ** depth``.
        depth: levels of the curve, one for all, or (N,) one for each point's curve. A point only takes part in the
            levels of its own curve, so clouds of different depths are coded in one go.
    """
    axes = [column.clone() for column in cells.int().unbind(1)]
    top = depth if isinstance(depth, int) else MAX_DEPTH
    for bit in range(top - 1, 0, -1):
        below: int | Tensor = (1 << bit) - 1
        if isinstance(depth, Tensor):
            below = (depth > bit).int() * below
        for axis in range(3):
            # where the axis has this bit, the lower bits of x are inverted; elsewhere they change places with its own
            has_bit = -((axes[axis] >> bit) & 1)
            if axis == 0:
                axes[0] = axes[0] ^ (has_bit & below)
                continue
            swapped = (axes[0] ^ axes[axis]) & ~has_bit & below
            axes[axis] = axes[axis] ^ swapped
            axes[0] = axes[0] ^ swapped ^ (has_bit & below)
    code = _interleave(*axes)
    for shift in (1, 2, 4, 8, 16, 32):  # Gray code to number: every bit is the parity of itself and those above
        code = code ^ (code >> shift)
    return code


def encode(cells: Tensor, depth: int | Tensor = MAX_DEPTH, order: str = "z") -> Tensor:
    """Codes of one curve.

    Args:
        cells: (N, 3) non-negative integers, the cell of each point.
        depth: levels of the curve, at most 16: an int, or (N,) int64 with the depth of each point's cloud.
        order: one of ``z``, ``z-trans``, ``hilbert``, ``hilbert-trans``.

    Returns:
        (N,) int64.

    Raises:
        ValueError: unknown ``order``.
    """
    if order not in CURVES:
        raise ValueError(f"unknown curve {order!r}; choose from {', '.join(CURVES)}")
    if order.endswith("-trans"):  # not by a list of columns: a GPU would wait for it to be sent
        x, y, z = cells.unbind(1)
        cells = torch.stack([y, x, z], dim=1)
    return z_code(cells) if order.startswith("z") else hilbert_code(cells, depth)
