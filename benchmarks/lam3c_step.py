"""One LAM3C step (forward, backward, EMA) against plain Sonata's, Base size, same batch and settings.

    python benchmarks/lam3c_step.py                     the embedded engine: full LAM3C against clustering only with the
                                                        plain, dense losses
    python benchmarks/lam3c_step.py --sizes 2000 4000   how the step grows with its points
    POINTCEPT_ROOT=~/Pointcept python benchmarks/lam3c_step.py --host
                                                        in the host: full LAM3C against its own Sonata-v1m1

Both run interleaved in one process; the clustering terms are compared first. Without a GPU the host runs on the test
suite's CPU harness: the backbone is then the wheel's CPU convolution in both columns.
"""

from __future__ import annotations

import copy
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path[0] = str(ROOT)
HOST = "--host" in sys.argv
if HOST:
    if not os.environ.get("POINTCEPT_ROOT"):
        sys.exit("lam3c_step --host: POINTCEPT_ROOT names no Pointcept checkout")
    os.environ["LAM3C_ENGINE"] = "pointcept"
    sys.path.insert(0, os.environ["POINTCEPT_ROOT"])
    import torch

    if not torch.cuda.is_available():
        sys.path.insert(0, str(ROOT / "tests/pointcept/cpu_host"))
        import lam3c_cpu_host

        lam3c_cpu_host.patch_torch(torch)
else:
    os.environ["LAM3C_ENGINE"] = "embedded"
    import torch

from torch import Tensor, nn

from benchmarks._harness import Result, interleaved, parser, peak_memory, report
from benchmarks.clustering_loss import sonata_loss
from benchmarks.ptv3_forward import GRID, room_cloud
from lam3c_plugin.host import Config, build_model

CONFIGS = ROOT / "configs/lam3c"
COMPARED = ("mask_loss", "roll_mask_loss", "unmask_loss")


class PlainClusteringLoss(nn.Module):
    """The clustering loss as the formula reads: gathered similarities, dense targets, autograd."""

    def forward(self, student: Tensor, teacher: Tensor, batch: Tensor, teacher_temp: float, **others: Any) -> Tensor:
        return sonata_loss(student, teacher, batch, 0.1, teacher_temp, others["num_clouds"])


def make_batch(scenes: int, points: int, device: str, local: int | None = None) -> dict[str, Tensor]:
    """Two global views of ``points`` and four local ones of ``local`` (a fourth) a scene, crops of one dense room.

    Local views lie in the scene's first global view: Sonata's mean counts a view without a match as 0, ours leaves it
    out, and the comparison is not about that.
    """
    room = room_cloud(2 * points, "crop")["coord"]
    generator = torch.Generator().manual_seed(1)
    batch: dict[str, Any] = {"grid_size": torch.full((scenes,), GRID)}

    def crop(cloud: Tensor, size: int) -> Tensor:
        centre = cloud[torch.randint(len(cloud), (1,), generator=generator)]
        return cloud[(cloud - centre).norm(dim=1).topk(size, largest=False).indices.sort().values]

    views = {"global": [], "local": []}
    for _ in range(scenes):
        principal = crop(room, points)
        views["global"] += [principal, crop(room, points)]
        views["local"] += [crop(principal, local or points // 4) for _ in range(4)]
    for kind, parts in views.items():
        origin = torch.cat(parts)
        batch[f"{kind}_origin_coord"] = origin
        batch[f"{kind}_coord"] = torch.cat([part - part.amin(0) for part in parts])
        colour = torch.rand(origin.shape, generator=generator)
        normal = nn.functional.normalize(torch.randn(origin.shape, generator=generator), dim=1)
        batch[f"{kind}_feat"] = torch.cat([batch[f"{kind}_coord"], colour, normal], 1)
        batch[f"{kind}_offset"] = torch.tensor([len(part) for part in parts]).cumsum(0)
    return {name: value.to(device) for name, value in batch.items()}


def model_of(config: str, **changes: Any) -> nn.Module:
    """A config's model, without random depth so that both columns do the same work."""
    model = copy.deepcopy(dict(Config.fromfile(str(CONFIGS / f"{config}.py")).model))
    model["backbone"] = {**model["backbone"], "drop_path": 0.0, "enable_flash": False}
    return build_model({**model, **changes})


def build(device: str, config: str = "pretrain-lam3c-v1m1-0-base") -> tuple[nn.Module, nn.Module, str]:
    """Ours, the reference with the same weights, and what it is."""
    torch.manual_seed(0)
    ours = model_of(config).to(device).train()
    if HOST:
        reference = model_of("pretrain-sonata-v1m1-roomtours")
        reference.trainer = SimpleNamespace(
            cfg=SimpleNamespace(scheduler=SimpleNamespace(total_steps=1000)),
            start_epoch=0,
            train_loader=[0],
            writer=None,
        )
        reference.before_train()
        reference.before_step()
        title = "the host's Sonata-v1m1"
    else:
        off = dict(laplacian_weight_start=0.0, laplacian_weight_base=0.0, consistency_weight=0.0)
        reference = model_of(config, **off)
        reference.clustering_loss = PlainClusteringLoss()
        title = "clustering only with the plain losses"
    reference.load_state_dict(ours.state_dict())
    return ours, reference.to(device).train(), title


def step(model: nn.Module, batch: dict[str, Tensor], amp: bool) -> Callable[[], dict[str, Tensor]]:
    """Forward, backward, EMA; gradients are dropped at the end as the trainer does."""
    device = batch["grid_size"].device.type

    def run() -> dict[str, Tensor]:
        torch.manual_seed(0)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=amp):
            result = model(batch)
        result["loss"].backward()
        model.momentum = 0.994
        if hasattr(model, "update_teacher"):
            model.update_teacher()
        else:
            model.after_step()
        model.zero_grad(set_to_none=True)
        return {name: value.detach() for name, value in result.items()}

    return run


def main() -> int:
    """Command line."""
    options = parser(__doc__.splitlines()[0], [2000])
    options.add_argument("--scenes", type=int, default=2, help="scenes per step; a global view has SIZE points")
    options.add_argument("--host", action="store_true", help="inside Pointcept, against its own Sonata-v1m1")
    options.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: CPU seconds of all threads")
    options.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    args = options.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    ours, reference, title = build(args.device)
    results = []
    for points in args.sizes:
        batch = make_batch(args.scenes, points, args.device)
        steps = [step(model, batch, args.amp) for model in (ours, reference)]
        seen = [run() for run in steps]
        for name in COMPARED:
            one, other = (float(values[name]) for values in seen)
            # the host's curves are shuffled in its poolings whatever the flag says: features differ a little there
            if abs(one - other) > (2e-2 if HOST or args.amp else 2e-4) * abs(other):
                raise SystemExit(f"{name}: ours {one:.6f}, reference {other:.6f}: not the same step")
        print(f"{points}: terms " + ", ".join(f"{k} {float(v):.4f}" for k, v in seen[0].items()), flush=True)
        ours.load_state_dict(reference.state_dict())
        peaks = [peak_memory(run, args.device) for run in steps]
        times = interleaved(steps, args.device, args.repeats, args.clock)
        total = 3 * args.scenes * points  # two global views and four local ones of a fourth
        results.append(Result(total, *times, *peaks))
        gc.collect()
    engine = "Pointcept" if HOST else "embedded engine"
    report(
        f"LAM3C step, Base, {engine}, {args.scenes} scenes, points of all views, {args.clock} time",
        title,
        results,
        args.device,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
