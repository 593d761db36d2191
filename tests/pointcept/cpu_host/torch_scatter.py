"""Stand-in for `torch_scatter` (7 minutes to compile): the reductions that Pointcept calls, in plain torch (tests)."""

from __future__ import annotations

import torch

_REDUCE = {"sum": "sum", "add": "sum", "mean": "mean", "min": "amin", "max": "amax"}


def _reduce(src, index, size, reduce):
    shape = (size, *src.shape[1:])
    index = index.view(-1, *[1] * (src.dim() - 1)).expand_as(src)
    return src.new_zeros(shape).scatter_reduce(0, index, src, _REDUCE[reduce], include_self=False)


def segment_csr(src, indptr, out=None, reduce="sum"):
    """Reduce rows indptr[i]:indptr[i + 1]."""
    count = indptr.diff()
    index = torch.repeat_interleave(torch.arange(len(count), device=src.device), count)
    return _reduce(src, index, len(count), reduce)


def segment_coo(src, index, out=None, dim_size=None, reduce="sum"):
    """Reduce the rows that share a (sorted) index."""
    return _reduce(src, index, dim_size or int(index[-1]) + 1, reduce)


def scatter(src, index, dim=0, out=None, dim_size=None, reduce="sum"):
    """Reduce the rows that share an index."""
    assert dim == 0
    return _reduce(src, index, dim_size or int(index.max()) + 1, reduce)


def scatter_mean(src, index, dim=0, out=None, dim_size=None):
    """Mean of the rows that share an index."""
    return scatter(src, index, dim, out, dim_size, "mean")


def scatter_min(src, index, dim=0, out=None, dim_size=None):
    """Minimum of the rows that share an index; without the arguments of the minima."""
    return scatter(src, index, dim, out, dim_size, "min"), None


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    from lam3c_cpu_host import made_up_class

    return made_up_class(f"torch_scatter.{name}")
