"""Why the regularisers do what they do: sizes of feature differences and shares of the gradient. No score, exploratory.

Every measurement goes to OUT/why.json as it is made; the same command makes those that are missing (the run of the tiny
recipe starts anew, which takes minutes).

  python experiments/learning/why.py --out exp/why        one CPU core, about ten minutes
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["LAM3C_ENGINE"] = "embedded"  # before the package is imported

import torch
from torch.nn import functional as F

from data_tools.stages.files import write_json
from data_tools.synthetic.rooms.generate import SyntheticSettings, generate_one, scene_name
from experiments.learning import rooms
from experiments.learning.plan import PRESETS, Job
from experiments.learning.train import MASKS, Runs
from lam3c_plugin.embedded.config import Config
from lam3c_plugin.errors import run_main
from lam3c_plugin.host import build_dataset, build_model, point_collate_fn
from lam3c_plugin.ops.rng import derive_seed, set_seed
from lam3c_plugin.recipes.pretrain import view_transforms

STEPS, AT = 50, (1, 10, 25, 50)  # of the table's runs, and where they are measured
BASE = ROOT / "configs/lam3c/pretrain-lam3c-v1m1-0-base.py"
BASE_ROOM = SyntheticSettings(15_000, "pi3", 150_000)  # a generator seed of its own; dense enough for 2 cm
BASE_VIEW = 16_384  # points of a view at most, a quarter of the paper's, equally dense
SIZES = (0.1, 0.5, 0.9)  # quantiles of ||z_i - z_j||
CPU = torch.device("cpu")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is not there yet; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of why.json and of the rooms")
    out = parser.parse_args(argv).out.resolve()
    torch.set_num_threads(1)
    path = out / "why.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, measure in (("base", measure_base), ("tiny", measure_tiny)):
        for step, values in () if name in found else measure(out):
            print(name, step, values, flush=True)
            found.setdefault(name, {})[str(step)] = values
        write_json(path, found)  # a case as a whole
    return 0


def measure_tiny(out: Path) -> Any:
    """The full row of seed 0 at `pi3`, as the table has it: (step, measurement) along the run."""
    settings = PRESETS["cpu"]
    for room in rooms.every(settings):
        if room.part == "pretrain" and room.noise == "pi3":
            rooms.make(room, out, settings)
    runs = Runs(Job("table", "pi3", 0, ("full",), (), settings, STEPS), out, CPU)
    run = runs.rows["full"]
    for number in range(STEPS):
        batch = runs.batch(number)
        if number + 1 in AT:
            set_seed(derive_seed(0, number, MASKS))  # the masks that the step sees, too
            yield number + 1, gradients(run.model, batch, number, STEPS)
        run.step(number, batch)


def measure_base(out: Path) -> Any:
    """PTv3 Base as it is initialised, one room at the paper's grid and first weights: (0, measurement)."""
    split = "train"
    generate_one(BASE_ROOM, 0, out / "base" / split, labels=False, overwrite=False)
    write_json(out / "base" / "one.json", [f"{split}/{scene_name(BASE_ROOM, 0)}"])
    config = Config.fromfile(BASE)
    data = config.data.train
    data.update(data_root=str(out / "base"), split="one.json", transform=view_transforms(0.02, max_size=BASE_VIEW))
    set_seed(0)
    model = build_model(config.model).train()
    yield 0, gradients(model, point_collate_fn([build_dataset(data)[0]]), 0, STEPS)


def gradients(model: torch.nn.Module, batch: Mapping[str, Any], number: int, total: int) -> dict[str, Any]:
    """Measure one batch at optimiser step ``number`` (0-based) of ``total``; the model keeps its weights.

    Returns:
        ``apart``: quantiles of ||z_i - z_j|| over the Laplacian's edges; ``beyond``: share of them beyond the Huber
        delta; ``norm``: median ||z||; ``weight``: lambda at this step; ``share``: norm of a weighted term's gradient by
        that of the clustering terms, over the student's encoder; ``cosine``: between both gradients.
    """
    seen: list[Any] = []
    hook = model.laplacian_loss.register_forward_pre_hook(lambda module, given: seen.extend(given))
    model.set_step(number, total)
    losses = model(dict(batch))
    hook.remove()
    feat, (coord, offset) = seen[0].detach(), seen[1:3]
    first, second = model.laplacian_loss.build_graph(coord, offset).pairs
    apart = (feat[first] - feat[second]).norm(dim=1)
    terms = {
        "clustering": sum(getattr(model, f"{name}_weight") * losses[name] for name in losses if "mask_loss" in name),
        "laplacian": model.laplacian_weight * losses["laplacian_loss"],
        "consistency": model.consistency_weight * losses["consistency_loss"],
    }
    weights = list(model.student["backbone"].parameters())
    flat = {}
    for name, term in terms.items():
        found = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
        flat[name] = torch.cat([value.flatten() for value in found])
    others = {name: value for name, value in flat.items() if name != "clustering"}
    base = flat["clustering"]
    return {
        "points": len(feat),
        "edges": len(apart),
        "norm": digits(feat.norm(dim=1).median()),
        "apart": [digits(torch.quantile(apart, size)) for size in SIZES],
        "beyond": digits((apart > model.laplacian_loss.huber_delta).float().mean()),
        "weight": digits(model.laplacian_weight),
        "share": {name: digits(value.norm() / base.norm()) for name, value in others.items()},
        "cosine": {name: digits(F.cosine_similarity(value, base, dim=0)) for name, value in others.items()},
    }


def digits(value: Any) -> float:
    """Four digits."""
    return float(f"{float(value):.4g}")


if __name__ == "__main__":
    sys.exit(run_main(main))
