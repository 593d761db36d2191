"""`gpu.py`: the training step of Base, its work and waits; memory of Base and Large by views and scenes."""

from __future__ import annotations

import copy
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._gpu_case import Case
from benchmarks._harness import ROOT, interleaved, peak_memory, seconds
from benchmarks._process import GIB
from benchmarks._waits import Waits
from benchmarks.lam3c_step import CONFIGS, make_batch
from benchmarks.ptv3_forward import counted_gflop
from lam3c_plugin.host import Config, build_model
from lam3c_plugin.machine import estimate_need
from lam3c_plugin.ops.device import offset_on_device, pretend_gpu

# points of a global and of a local view of the recipe: at most, and on the average of its draws
VIEWS = {"full": (65_536, 26_214), "mean": (45_875, 16_384), "half": (32_768, 13_107)}
VIEWS["dry"] = (300, 100)
MIDDLE = 1 << 20  # of a run of twice as many steps: masks and temperatures have warmed up
DATASHEET = {"H100": 989.4, "H200": 989.4}  # dense bfloat16 TFLOP/s, SXM


class Step:
    """A training step of a config's model: forward in bfloat16, backward, clipping, AdamW, teacher."""

    def __init__(self, name: str, device: str) -> None:
        torch.manual_seed(0)
        self.config = Config.fromfile(str(CONFIGS / f"pretrain-lam3c-v1m1-{name}.py"))
        self.model = build_model(copy.deepcopy(dict(self.config.model))).to(device).train()
        # of the tiny recipe the first step: its mask patches are small enough to leave something of a tiny view
        self.model.set_step(0 if name == "2-tiny" else MIDDLE, 2 * MIDDLE)
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-5)
        self.device = device

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, dtype=torch.bfloat16):
            result = self.model(dict(batch))
        result["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.optimizer.step()
        self.model.update_teacher()
        return {name: value.detach() for name, value in result.items()}

    @contextmanager
    def without_regularisers(self) -> Iterator[None]:
        """Clustering only: as configs/lam3c/pretrain-lam3c-v1m1-3 has it."""
        before = self.model.use_laplacian, self.model.consistency_weight
        self.model.use_laplacian, self.model.consistency_weight = False, 0.0
        yield
        self.model.use_laplacian, self.model.consistency_weight = before


def first_scenes(batch: dict[str, Tensor], scenes: int, device: str) -> tuple[dict[str, Tensor], int]:
    """A part of a batch on a device, its offsets known on the host as the trainer hands them over; points of all views.

    Args:
        batch: of `make_batch`, on the CPU.
        scenes: how many of it.
    """
    found, points = {"grid_size": batch["grid_size"][:scenes].to(device)}, 0
    for kind, views in (("global", 2), ("local", 4)):
        ends = batch[f"{kind}_offset"][: views * scenes].tolist()
        for key in ("origin_coord", "coord", "feat"):
            found[f"{kind}_{key}"] = batch[f"{kind}_{key}"][: ends[-1]].to(device)
        found[f"{kind}_offset"] = offset_on_device(ends, device)
        points += ends[-1]
    return found, points


def _sizes(views: str) -> tuple[int, str, int]:
    """`make_batch`'s arguments after the number of scenes, for a batch on the CPU."""
    points, local = VIEWS[views]
    return points, "cpu", local


def peaks(run: Callable[[], object], device: str) -> dict[str, float]:
    """Most memory during a call in GiB: allocated and reserved on a GPU, beyond what was there before on a CPU."""
    if device == "cpu":
        return {"peak GiB": peak_memory(run, device) / GIB}
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return {
        "peak GiB": torch.cuda.max_memory_allocated() / GIB,
        "reserved GiB": torch.cuda.max_memory_reserved() / GIB,
    }


def largest_batch(step: Step, case: Case) -> tuple[dict[str, Tensor], int, int]:
    """The recipe's 12 scenes of full views, or as many as fit; two steps have been made with it."""
    counts = (1,) if case.dry else (12, 10, 8, 6, 4, 2)
    made = make_batch(counts[0], *_sizes("dry" if case.dry else "full"))
    for scenes in counts:
        try:
            batch, points = first_scenes(made, scenes, case.device)
            for _ in range(2):
                terms = step(batch)
            case.note(f"{scenes} scenes: " + ", ".join(f"{name} {float(value):.4f}" for name, value in terms.items()))
            return batch, points, scenes
        except torch.OutOfMemoryError:
            case.note(f"{scenes} scenes of full views do not fit")
        step.optimizer.zero_grad(set_to_none=True)
        case.free()
    raise RuntimeError("not even two scenes of full views fit")


def step(case: Case) -> None:
    """Time, memory, work, waits and kernels of Base's step."""
    one = Step("2-tiny" if case.dry else "0-base", case.device)
    batch, points, scenes = largest_batch(one, case)

    def full() -> None:
        one(batch)

    def clustering() -> None:
        with one.without_regularisers():
            one(batch)

    runs = {"LAM3C": full, "clustering only": clustering}
    taken = [seconds(run, case.device) for run in runs.values() for _ in range(2)]
    repeats = 1 if case.dry else max(3, min(9, int(0.3 * case.left / sum(taken[1::2]))))
    times = interleaved(list(runs.values()), case.device, repeats)
    for (name, run), time_taken in zip(runs.items(), times, strict=True):
        case.row(
            "step, bfloat16: forward, backward, clipping, AdamW, teacher",
            step=name, scenes=scenes, points=points, seconds=time_taken, **{"points/s": points / time_taken},
            repeats=repeats, **peaks(run, case.device),
        )  # fmt: skip
    case.row("against its bar", ratio=times[0] / times[1], bar="<= 1.05 (clustering only)")
    with case.trying("work"):
        work(one, full, times[0], case)
    with case.trying("waits"):
        for (place, what), number in waits(full, case.device).most_common():
            case.row("waits of the host in one step", number=number, what=what, place=place)
    with case.trying("kernels"):
        for row in kernels(full, case.device):
            case.row("kernels of one step, by their own time", **row)


def work(one: Step, run: Callable[[], None], time_taken: float, case: Case) -> None:
    """Model flops utilisation of a step."""
    loss = one.model.clustering_loss
    products = [0.0]

    def count(_: nn.Module, args: tuple[Any, ...]) -> None:
        student, teacher = args[:2]
        passes = 3 * student.embedding.shape[1] + teacher.embedding.shape[1]
        products[0] += 2e-9 * len(student.embedding) * len(student.prototypes) * passes

    handle = loss.register_forward_pre_hook(count)
    try:
        with counted_gflop(one.model) as gflop:
            run()
    finally:
        handle.remove()
    total, peak = sum(gflop.values()) / 1e3, matrix_tflops(case.device, 256 if case.dry else 8192)
    row = {f"{name} TFLOP": value / 1e3 for name, value in gflop.items()}
    row |= {"sum TFLOP": total, "TFLOP/s": total / time_taken, "matrix product TFLOP/s": peak}
    row["utilisation"] = total / time_taken / peak
    name = torch.cuda.get_device_name() if case.device == "cuda" else ""
    sheet = next((value for key, value in DATASHEET.items() if key in name), None)
    row["of the datasheet"] = None if sheet is None else total / time_taken / sheet
    case.row("work of one step", **row, **{"clustering products, TFLOP": products[0] / 1e3})
    case.note(
        "work: matrix products only, a multiply-add as two; linear layers by their rows, convolution by the pairs of "
        "neighbouring cells, attention 4 L^2 C a sequence; the student's backward as twice its forward, the teacher's "
        "forward once; what is made again in the backward is not counted, nor the clustering's products"
    )


def matrix_tflops(device: str, size: int) -> float:
    """Best of five bfloat16 products of random square matrices, 10^12 operations a second."""
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16).unbind()
    times = [seconds(lambda: a @ b, device) for _ in range(6)]
    return 2e-12 * size**3 / min(times[1:])


def waits(run: Callable[[], None], device: str) -> Counter[tuple[str, str]]:
    """How often the host waits for the GPU in a call, by line of Python; counted by operators on a CPU."""
    if device == "cpu":
        with pretend_gpu(), Waits() as found:
            run()
        return found.count
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    count: Counter[tuple[str, str]] = Counter()
    for warning in seen:
        if "called a synchronizing CUDA operation" in str(warning.message):
            place = Path(warning.filename)
            place = place.relative_to(ROOT) if place.is_relative_to(ROOT) else Path(*place.parts[-2:])
            count[f"{place.as_posix()}:{warning.lineno}", "synchronisation"] += 1
    return count


def kernels(run: Callable[[], None], device: str, most: int = 25) -> list[dict[str, Any]]:
    """The kernels (on a CPU, operators) that take most of a call's time."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as seen:
        run()
        if device == "cuda":
            torch.cuda.synchronize()
    time_of = attrgetter(f"self_{'device' if device == 'cuda' else 'cpu'}_time_total")
    entries = sorted(((time_of(e), e) for e in seen.key_averages() if time_of(e) > 0), key=lambda item: -item[0])
    total = sum(took for took, _ in entries)
    rows = [dict(ms=took / 1e3, share=took / total, calls=e.count, kernel=e.key[:110]) for took, e in entries[:most]]
    return [*rows, dict(ms=total / 1e3, share=1.0, calls=sum(e.count for _, e in entries), kernel="all")]


def memory(case: Case) -> None:
    """Peak of a step by model, views and scenes; beside it the estimate of `lam3c doctor`."""
    grid = [
        ("0-base", "full", (1, 2, 4, 6, 8, 12)),
        ("1-large", "full", (1, 2, 4, 6, 8)),
        ("1-large", "half", (2, 6)),
        ("1-large", "mean", (2, 6)),
        ("0-base", "half", (2, 6, 12)),
        ("0-base", "mean", (4, 12, 16)),
    ]
    if case.dry:
        grid = [("2-tiny", "dry", (1,))]
    held: tuple[str, Step] | None = None
    made: dict[str, dict[str, Tensor]] = {}
    for name, views, sizes in grid:
        if held is None or held[0] != name:
            held = None
            case.free()
            held = (name, Step(name, case.device))
        if views not in made:  # the most scenes that any row of these views asks for
            made[views] = make_batch(max(max(counts) for _, kind, counts in grid if kind == views), *_sizes(views))
        for scenes in sizes:
            if case.left < 6 and not case.dry:
                case.note(f"no time for {name}, {views} views, {scenes} scenes and what follows")
                return
            if not _measure(case, held[1], name, views, scenes, made[views]):
                break


def _measure(case: Case, one: Step, name: str, views: str, scenes: int, made: dict[str, Tensor]) -> bool:
    """One row; False where it does not fit."""
    need = estimate_need(one.config, True)
    row: dict[str, Any] = dict(model=name, views=views, scenes=scenes)
    if views == "full":
        row["estimated GiB"] = need.fixed + scenes * need.scene
    fits = True
    try:
        batch, row["points"] = first_scenes(made, scenes, case.device)
        one(batch)
        start = time.perf_counter()
        row.update(peaks(lambda: one(batch), case.device))
        row["seconds"] = time.perf_counter() - start
    except torch.OutOfMemoryError:
        row["fits"], fits = "no", False
    case.row("memory of a step, weights and AdamW included", **row)
    one.optimizer.zero_grad(set_to_none=True)
    case.free()
    return fits
