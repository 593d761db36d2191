"""Float32 matrix products on a GPU's bfloat16 units, which are some fifteen times as fast as its float32 ones.

A float32 number is the sum of three bfloat16 ones (8 bits each), two keep 16 bits of it. Products of such pieces are
exact in float32 and are summed in it; those too small to count are left out. (Ozaki et al., 2012, for other types.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def takes_pieces(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products of ``dtype`` on ``device`` are better made of pieces; PyTorch can from 2.8 on."""
    if device.type != "cuda" or dtype != torch.float32 or not hasattr(torch.ops.aten.mm, "dtype_out"):
        return False
    return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)


def pieces(x: Tensor, number: int) -> list[Tensor]:
    """Float32 ``x`` as a sum of bfloat16 tensors, the largest first."""
    found = [x.bfloat16()]
    for _ in range(number - 2):
        x = x - found[-1]
        found.append(x.bfloat16())
    if number > 1:  # the last difference is rounded as it is written
        found.append(torch.sub(x, found[-1], out=torch.empty_like(found[-1])))
    return found


def inner_pieces(x: Tensor, dim: int) -> Tensor:
    """Three pieces of a factor side by side along the product's inner ``dim``: 1 of a left factor, 0 of a right one.

    One product of two such matrices is the product of the two to float32's precision.
    """
    first, second, third = pieces(x, 3)
    order = [first, first, first, second, second, third] if dim == 1 else [first, second, third, first, second, first]
    return torch.cat(order, dim)


def multiply(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Float32 (M, N) product of pieces (M, L) and as many pieces (L, N)."""
    terms = [product_float32(a, b) for place, a in enumerate(left) for b in right[: len(left) - place]]
    return torch.stack(terms).sum(0)


def product_float32(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Product of bfloat16 matrices that stays float32."""
    if out is None:
        out = left.new_empty((left.shape[0], right.shape[1]), dtype=torch.float32)
    return torch.ops.aten.mm.dtype_out(left, right, torch.float32, out=out)
