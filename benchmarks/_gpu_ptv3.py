"""`gpu.py`: PTv3 Base with our convolution against the same network on spconv-triton's, and on a plain one.

spconv-triton (https://github.com/L-Reichardt/spconv-triton) has spconv's interface in Triton. Its kernels are tuned on
first use over some sixty candidates each; here over fewer (`CANDIDATES`). Under autocast it works in float16, as spconv
does; the other two in bfloat16.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._gpu_case import Case
from benchmarks._gpu_step import peaks
from benchmarks._harness import interleaved, seconds
from benchmarks.ptv3_forward import BASE, counted_gflop, room_cloud
from lam3c_plugin.embedded.ptv3 import Block, PointTransformerV3, SubmanifoldConv3d
from lam3c_plugin.embedded.ptv3.sparse_conv import CENTRE, _directions, kernel_map
from lam3c_plugin.embedded.structure import Point, PointModule
from lam3c_plugin.recipes.ptv3 import ENCODERS

POINTS = 200_000
# places of the candidates in spconv-triton 1.0.0's own lists: the usual tiles of 3 stages, small to large
CANDIDATES = {"_gather_gemm_kernel": (0, 2, 4, 6, 7, 10, 12, 14, 16), "_dweight_masked_kernel": (0, 1, 3, 7, 8, 9, 10)}


class PlainConv(PointModule):
    """Our convolution written with PyTorch's own gather, product and scatter, and autograd's backward."""

    def __init__(self, conv: SubmanifoldConv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, point: Point) -> Point:
        kmap = kernel_map(point.locate())
        weight = self.weight.flatten(1, 3).permute(1, 2, 0)  # (27, C_in, C_out)
        x = point.feat if kmap.points is None else point.feat[kmap.points.first]
        total = (x @ weight[CENTRE]).float()
        for entry, written, read in _directions(kmap.taps):
            total = total.index_add(0, written, (x.index_select(0, read) @ weight[entry]).float())
        total = total + self.bias
        point.feat = total if kmap.points is None else total[kmap.points.group]
        return point


class TritonConv(PointModule):
    """spconv-triton's ``SubMConv3d`` with the weights of ours; pairs are found once a stage, as the host does it."""

    def __init__(self, conv: SubmanifoldConv3d) -> None:
        super().__init__()
        from spconv_triton.pytorch import SubMConv3d

        out_channels, *kernel, in_channels = conv.weight.shape
        self.conv = SubMConv3d(in_channels, out_channels, kernel_size=kernel[0], bias=True, indice_key="stage")
        self.conv.weight, self.conv.bias = conv.weight, conv.bias

    def forward(self, point: Point) -> Point:
        from spconv_triton.pytorch import SparseConvTensor

        geometry = point.locate()
        stage = geometry.memo("spconv-triton", list)
        if stage:
            x = stage[0].replace_feature(point.feat)
        else:
            indices = torch.cat([geometry.batch.int().unsqueeze(1), geometry.cells.int()], 1).contiguous()
            shape = (geometry.cells.amax(0) + 96).tolist()  # as Pointcept pads it
            x = SparseConvTensor(point.feat, indices, shape, len(geometry.sizes))
        x = self.conv(x)
        stage[:] = [x.replace_feature(x.features.detach())]
        point.feat = x.features
        return point


def with_convolution(model: PointTransformerV3, kind: type[PointModule]) -> PointTransformerV3:
    """A copy with another convolution in every block, on the same weights."""
    other = copy.deepcopy(model)
    for block in other.modules():
        if isinstance(block, Block):
            block.cpe._modules["0"] = kind(block.cpe._modules["0"])
    return other


def calls(model: nn.Module, batch: dict[str, Any], device: str) -> dict[str, Callable[[], Tensor]]:
    """A forward pass without gradients, and one with its backward; each on new tables, as in training."""

    def forward() -> Tensor:
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
            return model(batch).feat

    def both() -> Tensor:
        model.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16):
            feat = model(batch).feat
        (feat.float().square().sum() / 16).backward()  # no smaller: float16 holds these gradients without scaling
        return feat.detach()

    return {"forward": forward, "forward + backward": both}


def ptv3(case: Case) -> None:
    """Times, memory and agreement of the three, without random depth, so that all do the same work."""
    torch.manual_seed(0)
    size = {"drop_path": 0.0, "shuffle_orders": False, **(ENCODERS["tiny"] if case.dry else {})}
    model = PointTransformerV3(**{**BASE, **size}).to(case.device).train()
    batch = room_cloud(600 if case.dry else POINTS)
    batch = {key: value.to(case.device) if torch.is_tensor(value) else value for key, value in batch.items()}
    runs = {"ours": calls(model, batch, case.device)}
    wanted = _result(runs["ours"], model)
    with case.trying("work"), counted_gflop(model) as gflop:
        runs["ours"]["forward + backward"]()
    references: dict[str, type[PointModule]] = {"plain": PlainConv}
    if case.device == "cuda" and importlib.util.find_spec("spconv_triton") is not None:
        keep_candidates()
        references = {"spconv-triton": TritonConv, **references}
    else:
        case.note("spconv-triton is not there or there is no GPU: compared with the plain convolution alone")
    for name, kind in references.items():
        if case.left < 15 and not case.dry:
            case.note(f"no time for {name}")
            continue
        with case.trying(name):
            other = with_convolution(model, kind)
            run = calls(other, batch, case.device)
            first = seconds(run["forward + backward"], case.device)
            found = _result(run, other)
            errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)]
            case.row("agreement with ours", convolution=name, features=errors[0], gradients=errors[1], first=first)
            runs[name] = run
    _time(case, runs, len(batch["coord"]), sum(gflop.values()) / 1e3)


def _result(run: dict[str, Callable[[], Tensor]], model: nn.Module) -> tuple[Tensor, Tensor]:
    """Features, and the gradients as one vector."""
    feat = run["forward + backward"]().float()
    grads = torch.cat([p.grad.flatten() for _, p in sorted(_named(model)) if p.grad is not None])
    model.zero_grad(set_to_none=True)
    return feat, grads


def _named(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Parameters by the names they have with any of the convolutions."""
    return [(name.replace("cpe.0.conv.", "cpe.0."), parameter) for name, parameter in model.named_parameters()]


def _time(case: Case, runs: dict[str, dict[str, Callable[[], Tensor]]], points: int, tflop: float) -> None:
    medians: dict[tuple[str, str], float] = {}
    for what in ("forward + backward", "forward"):
        if what == "forward" and case.left < 8 and not case.dry:
            case.note("no time for the forward passes alone")
            continue
        together = [run[what] for run in runs.values()]
        for call in together:
            call()
        repeats = 1 if case.dry else 7
        times = interleaved(together, case.device, repeats)
        for (name, run), taken in zip(runs.items(), times, strict=True):
            medians[name, what] = taken
            row = dict(what=what, convolution=name, points=points, seconds=taken, repeats=repeats)
            row["of ours"] = taken / times[0]
            if what == "forward + backward":
                row["TFLOP/s"] = tflop / taken
            case.row("PTv3 Base under bfloat16 autocast", **row, **peaks(run[what], case.device))
    if ("spconv-triton", "forward + backward") in medians:
        ratio = medians["spconv-triton", "forward + backward"] / medians["ours", "forward + backward"]
        case.row("against its bar", ratio=ratio, bar=">= 1.3 (spconv-triton, forward + backward)")
        tuned = ", ".join(f"{len(places)} candidates of {kernel}" for kernel, places in CANDIDATES.items())
        case.note(f"spconv-triton is tuned over {tuned}")


def keep_candidates() -> None:
    """Leave spconv-triton the `CANDIDATES` to tune over, and have it remember nothing on disk."""
    from spconv_triton.pytorch._impl import gemm

    for name, chosen in CANDIDATES.items():
        kernel = getattr(gemm, name)
        kernel.configs = [kernel.configs[place] for place in chosen]
    for kernel in vars(gemm).values():
        if hasattr(kernel, "cache_results"):
            kernel.cache_results = False
