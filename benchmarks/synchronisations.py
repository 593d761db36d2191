"""Counts where one LAM3C step (forward, backward, EMA) makes the host wait for a GPU; needs no GPU.

    python benchmarks/synchronisations.py              tiny and Base: LAM3C against clustering with the plain losses
    python benchmarks/synchronisations.py --places     every line that waits, of both
    POINTCEPT_ROOT=~/Pointcept python benchmarks/synchronisations.py --host
                                                       in the host, against its own Sonata-v1m1 on its PTv3

The step takes the code path of a GPU (``lam3c_plugin.ops.device.pretend_gpu``), on the CPU. A count does not depend on
the number of points, as long as neighbour searches fit one block of 262,144 queries.
"""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._harness import parser
from benchmarks._waits import Waits
from benchmarks.lam3c_step import CONFIGS, HOST, PlainClusteringLoss, base_model, build, make_batch, step
from lam3c_plugin.host import Config, build_model
from lam3c_plugin.ops.device import pretend_gpu, remember

WITHOUT_TERMS = dict(laplacian_weight_start=0.0, laplacian_weight_base=0.0, consistency_weight=0.0)


def models(size: str) -> tuple[Any, Any, str]:
    """Ours, the reference, and what that is."""
    if HOST:
        return build("cpu")
    if size == "base":
        config = base_model()
    else:
        config = copy.deepcopy(dict(Config.fromfile(str(CONFIGS / "pretrain-lam3c-v1m1-2-tiny.py")).model))
    ours, reference = build_model(config), build_model({**config, **WITHOUT_TERMS})
    reference.clustering_loss = PlainClusteringLoss()
    return ours.train(), reference.train(), "clustering only, plain losses"


def count(model: Any, batch: dict[str, Any], *roots: str) -> Waits:
    """The waits of one step; offsets are known on the host, as the embedded trainer hands them over."""
    run = step(model, batch, amp=False)
    if not HOST:
        for name in batch:
            if name.endswith("offset"):
                remember(batch[name], batch[name].tolist())
    with pretend_gpu(), Waits(*roots) as waits:
        run()
    return waits


def show(title: str, columns: dict[str, Waits], places: bool) -> None:
    """Table by file, and by line where asked for."""
    print(title)
    totals = "".join(f"{name:>14}" for name in columns)
    print(f"{totals}  place")
    files = {name: waits.by_file() for name, waits in columns.items()}
    for file in sorted(set().union(*files.values()), key=lambda file: -max(column[file] for column in files.values())):
        print("".join(f"{column[file]:>14}" for column in files.values()) + f"  {file}")
    print("".join(f"{waits.total:>14}" for waits in columns.values()) + "  all")
    if places:
        for name, waits in columns.items():
            print(f"\n{name}")
            for (place, what), number in sorted(waits.count.items()):
                print(f"{number:>6}  {what:<28} {place}")
    print(flush=True)


def main() -> int:
    """Command line."""
    options = parser(__doc__.splitlines()[0], [600])
    options.add_argument(
        "--models", nargs="+", choices=("tiny", "base"), default=["base"] if HOST else ["tiny", "base"]
    )
    options.add_argument("--places", action="store_true", help="list every line")
    options.add_argument("--host", action="store_true", help="inside Pointcept, against its own Sonata-v1m1")
    args = options.parse_args()
    roots = [os.environ["POINTCEPT_ROOT"]] if HOST else []
    for size in args.models:
        ours, reference, title = models(size)
        for points in args.sizes:
            batch = make_batch(2, points, "cpu")
            columns = {"ours": count(ours, batch, *roots), "reference": count(reference, batch, *roots)}
            where = "Pointcept" if HOST else "embedded engine"
            total = 3 * 2 * points
            show(f"waits in one step, {size}, {where}, {total} points; reference: {title}", columns, args.places)
    return 0


if __name__ == "__main__":
    sys.exit(main())
