"""What autograd keeps of a LAM3C training step, in bytes a point of its views; runs on a CPU.

    python benchmarks/memory.py --config pretrain-lam3c-v1m1-0-base --points 2000

`lam3c_plugin.machine` estimates the same from a config. A card needs more at its peak (`machine.TRANSIENT`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ["LAM3C_ENGINE"] = "embedded"
from benchmarks.lam3c_step import CONFIGS, make_batch
from lam3c_plugin.host import Config, build_model
from lam3c_plugin.machine import GIB, TRANSIENT, estimate_need, view_sizes

LOCAL = 0.4  # points of a local view over those of a global one, at most


def kept_bytes(run: Callable[[], object], parameters: set[int]) -> int:
    """Bytes of the storages that autograd saves while ``run`` goes, each once.

    Args:
        run: builds the graph; what it returns is held until all is counted.
        parameters: addresses of storages that do not count.
    """
    seen: dict[int, int] = {}
    held = []  # a storage that is freed would lend its address to another

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            seen[storage.data_ptr()] = storage.nbytes()
            held.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held.append(run())
    return sum(seen.values())


def measure(name: str, points: int) -> tuple[float, float, int]:
    """Bytes a point kept by a forward pass under bfloat16, as `machine` estimates it, and the points of a scene.

    The first is what a second scene adds: the weights' copies in bfloat16 are the same for one scene and for two.
    """
    torch.manual_seed(0)
    config = Config.fromfile(str(CONFIGS / f"{name}.py"))
    model = build_model(dict(config.model)).train()
    model.set_step(0, 100)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    found = []
    for scenes in (1, 2):
        batch = make_batch(scenes, points, "cpu", int(LOCAL * points))

        def run(batch: dict[str, Tensor] = batch) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return model(batch)["loss"]

        found.append((kept_bytes(run, own), len(batch["global_coord"]) + len(batch["local_coord"])))
    (one, few), (two, many) = found
    largest, local = view_sizes(config)
    full = config.model["num_global_view"] * largest + config.model["num_local_view"] * local
    return (two - one) / (many - few), estimate_need(config, True).scene * GIB / TRANSIENT / full, few


def main() -> None:
    """Print the count beside the estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="pretrain-lam3c-v1m1-0-base")
    parser.add_argument("--points", type=int, default=2000, help="of a global view")
    args = parser.parse_args()
    kept, estimated, points = measure(args.config, args.points)
    print(f"{args.config}: {kept:,.0f} bytes a point kept ({points} points a scene), {estimated:,.0f} estimated")


if __name__ == "__main__":
    main()
