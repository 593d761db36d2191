"""Sinkhorn-Knopp assignment of points to prototypes, over all ranks.

Reference: Cuturi, "Sinkhorn Distances", 2013, arXiv 1306.0895; as targets of clustering: Caron et al., "SwAV", 2020,
arXiv 2006.09882; in LAM3C (arXiv 2512.23042) 3 iterations on the teacher's similarities.

The assignment is Q = diag(v) E diag(u) with E = exp(similarity / temperature): an iteration only needs two
matrix-vector products and a (K,) sum over ranks, and Q itself is never stored by whoever can use it block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lam3c_plugin.ops.distributed import all_reduce_max, all_reduce_sum

# Elements of a block of rows: it has to stay in a CPU's cache, and to fill a GPU.
_BLOCK_CPU = 2**20
_BLOCK_CUDA = 2**24
# What rounding s / temperature may do to exp(s / temperature), relative; decides when float32 is left for float64.
_ROUNDING = 1e-5
# (largest - smallest similarity) / temperature that float32 holds whatever the matrix: cosines from 0.036 on.
_SAFE_RANGE = 56


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 where one of the tensors is, else float32 (also for float16 and bfloat16)."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def safe_range(largest: float | None, temperature: float) -> bool:
    """Whether float32 holds exp(similarity / temperature) for all similarities that ``largest`` allows."""
    return largest is not None and 2 * largest <= _SAFE_RANGE * temperature


def block_rows(num_columns: int, device: torch.device) -> int:
    """Rows of a block."""
    return max(1, (_BLOCK_CPU if device.type == "cpu" else _BLOCK_CUDA) // max(1, num_columns))


def row_blocks(num_rows: int, num_columns: int, device: torch.device) -> list[slice]:
    """Slices that cut ``num_rows`` rows into blocks of a bounded number of elements."""
    size = block_rows(num_columns, device)
    return [slice(begin, min(begin + size, num_rows)) for begin in range(0, num_rows, size)]


class RowKernel:
    """E, a block of rows at a time, each row divided by its largest entry: exp((s_ij - max_j s_ij) / temperature).

    The row factor cancels in Q except at the start, where `sinkhorn_scaling` puts it back; without it a row far below
    the largest similarity of all would underflow to zeros. Once `absorb` has given every prototype a potential u_j,
    s_ij / temperature - u_j takes the place of s_ij / temperature.

    Args:
        rows: gives the similarities (R, K) of a slice of rows.
        shape: (N, K) of the whole.
        temperature: > 0.
        dtype: of the computation.
        device: of the result.
        largest: no similarity is beyond it, if known. Where float32 holds the exponentials of all such similarities,
            the rows stay undivided, and nobody asks for their range.
        cache: (M, K) of that dtype, keeps the first M rows of E after the first pass (of N: a quarter of the
            exponentials); M is N or a number of whole blocks. None: recompute all.
    """

    def __init__(
        self,
        rows: Callable[[slice], Tensor],
        shape: tuple[int, int],
        temperature: float,
        dtype: torch.dtype,
        device: torch.device,
        cache: Tensor | None = None,
        largest: float | None = None,
    ) -> None:
        self.blocks = row_blocks(*shape, device)
        self.num_prototypes, self.temperature = shape[1], temperature
        self.cache = cache
        self.bounded = safe_range(largest, temperature)
        self.peak = torch.zeros(shape[0], dtype=dtype, device=device)
        self._rows, self._inverse = rows, 1.0 / temperature
        self._kept = 0 if cache is None else len(cache)
        self._potential: Tensor | None = None
        height = self.blocks[0].stop if self._kept < shape[0] else 0
        # One buffer for all blocks: fresh pages for each would cost as much as the arithmetic.
        self._buffer = torch.empty((height, shape[1]), dtype=dtype, device=device)

    def _out(self, rows: slice) -> Tensor:
        return self.cache[rows] if rows.stop <= self._kept else self._buffer[: rows.stop - rows.start]

    def first(self) -> Iterator[tuple[slice, Tensor]]:
        """The first pass over all blocks: (rows, E of these rows); fills ``peak``, the rows' maxima / temperature."""
        for rows in self.blocks:
            similarity = self._rows(rows)
            if not self.bounded:
                self.peak[rows] = torch.amax(similarity, dim=1).to(self.peak.dtype).mul_(self._inverse)
            yield rows, self._exponential(similarity, rows)

    def __call__(self, rows: slice) -> Tensor:
        """E of these rows; valid until the next call."""
        if self._potential is not None:
            logit = self.logits(rows).sub_(self._potential)
            return self._out(rows).copy_(logit.sub_(logit.amax(1, keepdim=True)).exp_())
        return self.cache[rows] if rows.stop <= self._kept else self._exponential(self._rows(rows), rows)

    def _exponential(self, similarity: Tensor, rows: slice) -> Tensor:
        similarity = similarity.to(self.peak.dtype)
        if self.bounded:
            scaled = similarity if self._inverse == 1 else similarity * self._inverse
            return torch.exp(scaled, out=self._out(rows))
        return torch.add(-self.peak[rows, None], similarity, alpha=self._inverse, out=self._out(rows)).exp_()

    def logits(self, rows: slice) -> Tensor:
        """Similarities / temperature of these rows, (R, K) float64."""
        return self._rows(rows).to(torch.float64, copy=True).div_(self.temperature)

    def absorb(self, potential: Tensor) -> None:
        """Take potentials (K,) float64 of the prototypes into E, which then keeps every entry that counts."""
        self._potential = potential


def sinkhorn_scaling(kernel: RowKernel, num_iters: int) -> Tensor:
    """The prototypes' factors u (K,) after ``num_iters`` iterations, the same on every rank.

    The assignment of row i is ``E[i] * u / (E[i] @ u)``: the iteration ends with the rows, which makes them sum to 1.
    Similarities of too wide a range for E in this dtype are found on the way (the prototypes' sums part by more than it
    holds, or rounding of the rows' maxima shows); the iteration then starts afresh on logarithms in float64, and E
    absorbs the result.

    Args:
        kernel: of this rank's rows.
        num_iters: iterations, >= 1.
    """
    if num_iters < 1:
        raise ValueError(f"num_iters={num_iters}: Sinkhorn-Knopp needs at least one iteration (LAM3C: 3)")
    column, farthest = _first_column_sums(kernel)
    limits = torch.finfo(column.dtype)
    fits = farthest <= _ROUNDING / limits.eps
    scale = torch.ones_like(column)
    for iteration in range(num_iters):
        if iteration:
            column = _column_sums(kernel, scale)
        # What underflows in a row's or a column's sum is below 1e-8 of it as long as this holds.
        fits = fits & (column.amin() >= limits.tiny ** (2 / 3) * column.amax())
        scale = column.clamp_(min=limits.tiny).reciprocal_()
    if not kernel.bounded and not _read_back(fits):
        kernel.absorb(_potentials(kernel, num_iters))
        return torch.ones_like(scale)
    return scale


def _column_sums(kernel: RowKernel, scale: Tensor) -> Tensor:
    """Sums (K,) over all ranks of what the prototypes hold once ``scale`` (K,) is applied and every row sums to 1."""
    column = torch.zeros_like(scale)
    tiny = torch.finfo(scale.dtype).tiny
    for rows in kernel.blocks:
        block = kernel(rows)
        column.addmv_(block.t(), torch.mv(block, scale).clamp_(min=tiny).reciprocal_())
    return all_reduce_sum(column)


def _read_back(flag: Tensor) -> bool:
    """The value of a flag; a GPU's host waits for it."""
    return bool(flag)


def _first_column_sums(kernel: RowKernel) -> tuple[Tensor, Tensor]:
    """Column sums of exp((s - largest s of all ranks) / temperature), with a running maximum in one pass.

    Returns:
        The sums (K,), and the largest of all rows' abs(maximum) / temperature, 0-d; over all ranks.
    """
    column = kernel.peak.new_zeros(kernel.num_prototypes)
    top = kernel.peak.new_full((), -torch.inf)
    for rows, block in kernel.first():
        peak = kernel.peak[rows]
        higher = torch.maximum(top, peak.amax())
        column.mul_(torch.exp(top - higher)).addmv_(block.t(), torch.exp(peak - higher))
        top = higher
    farthest = kernel.peak.abs().amax() if len(kernel.peak) else torch.zeros_like(top)
    overall, farthest = all_reduce_max(torch.stack([top, farthest])).unbind()
    # A rank without rows has top = -inf and adds nothing; without rows anywhere the difference is no number.
    column.mul_(torch.exp(torch.nan_to_num(top - overall, nan=0.0)))
    return all_reduce_sum(column), farthest


def _potentials(kernel: RowKernel, num_iters: int) -> Tensor:
    """Logarithms (K,) of the prototypes' sums after ``num_iters`` iterations, in float64: no range is too wide."""
    potential = torch.zeros(kernel.num_prototypes, dtype=torch.float64, device=kernel.peak.device)
    for iteration in range(num_iters):
        top, total = torch.full_like(potential, -torch.inf), torch.zeros_like(potential)
        for rows in kernel.blocks:
            logit = kernel.logits(rows)
            if iteration:
                logit -= torch.logsumexp(logit - potential, 1, keepdim=True)
            higher = torch.maximum(top, logit.amax(0))
            total.mul_(torch.exp(top - higher)).add_(logit.sub_(higher).exp_().sum(0))
            top = higher
        overall = all_reduce_max(top.clone())
        potential = overall + torch.log(all_reduce_sum(total.mul_(torch.exp(top - overall))))
    return potential


@torch.no_grad()
def sinkhorn_knopp(similarity: Tensor, temperature: float, num_iters: int = 3) -> Tensor:
    """Assignment of points to prototypes: every row sums to 1, the prototypes share the mass of all ranks evenly.

    Args:
        similarity: (N, K) this rank's points against the prototypes; N = 0 is fine, on one rank or on all.
        temperature: > 0; the smaller, the harder the assignment.
        num_iters: >= 1.

    Returns:
        (N, K) float32 (float64 for float64 input); no gradient.

    Raises:
        ValueError: not a matrix, temperature <= 0, num_iters < 1.
    """
    check_similarity(similarity)
    check_temperature(temperature)
    dtype = compute_dtype(similarity)
    out = torch.empty(similarity.shape, dtype=dtype, device=similarity.device)
    with torch.autocast(similarity.device.type, enabled=False):
        kernel = RowKernel(
            lambda rows: similarity[rows], tuple(similarity.shape), temperature, dtype, out.device, cache=out
        )
        scale = sinkhorn_scaling(kernel, num_iters)
        for rows in kernel.blocks:
            block = kernel(rows).mul_(scale)
            block.div_(block.sum(1, keepdim=True))
    return out


@torch.no_grad()
def sinkhorn_knopp_reference(similarity: Tensor, temperature: float, num_iters: int = 3) -> Tensor:
    """`sinkhorn_knopp` as the formula reads, on dense matrices: Q = exp(similarity / temperature), by its logarithm."""
    check_similarity(similarity)
    check_temperature(temperature)
    log_q = similarity.double() / temperature
    for _ in range(num_iters):
        top = log_q.amax(0) if len(log_q) else log_q.new_full(log_q.shape[1:], -torch.inf)
        top = all_reduce_max(top)
        log_q = log_q - top - all_reduce_sum((log_q - top).exp().sum(0)).log()  # each prototype holds the same mass
        log_q = log_q - log_q.logsumexp(1, keepdim=True)  # every point's row sums to 1
    return log_q.exp().to(compute_dtype(similarity))


def check_similarity(similarity: Tensor) -> None:
    """Raise ValueError for what is no (N, K) matrix."""
    if similarity.dim() != 2 or similarity.shape[1] < 1 or not similarity.is_floating_point():
        raise ValueError(
            f"similarity is {similarity.dtype} {tuple(similarity.shape)}: give floating point (points, prototypes)"
        )


def check_temperature(temperature: float) -> None:
    """Raise ValueError for what is no temperature."""
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: give a positive one (LAM3C: teacher 0.04 to 0.07, student 0.1)")
