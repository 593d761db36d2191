"""Counts where one LAM3C step (forward, backward, EMA) makes the host wait for a GPU; needs no GPU.

    python benchmarks/synchronisations.py              tiny and Base: LAM3C against clustering with the plain losses
    python benchmarks/synchronisations.py --places     every line that waits, of both
    POINTCEPT_ROOT=~/Pointcept python benchmarks/synchronisations.py --host
                                                       in the host, against its own Sonata-v1m1 on its PTv3

The step takes the code path of a GPU (``lam3c_plugin.ops.device.pretend_gpu``), on the CPU. A count does not depend on
the number of points, as long as neighbour searches fit one block of 262,144 queries.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._harness import parser
from benchmarks._waits import Waits
from benchmarks.lam3c_step import HOST, build, make_batch, step
from lam3c_plugin.ops.device import pretend_gpu, remember

CONFIGS = {"tiny": "pretrain-lam3c-v1m1-2-tiny", "base": "pretrain-lam3c-v1m1-0-base"}


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
    options.add_argument("--models", nargs="+", choices=CONFIGS, default=["base"] if HOST else list(CONFIGS))
    options.add_argument("--places", action="store_true", help="list every line")
    options.add_argument("--host", action="store_true", help="inside Pointcept, against its own Sonata-v1m1")
    args = options.parse_args()
    roots = [os.environ["POINTCEPT_ROOT"]] if HOST else []
    for size in args.models:
        ours, reference, title = build("cpu", CONFIGS[size])
        for points in args.sizes:
            batch = make_batch(2, points, "cpu")
            columns = {"ours": count(ours, batch, *roots), "reference": count(reference, batch, *roots)}
            where = "Pointcept" if HOST else "embedded engine"
            total = 3 * 2 * points
            show(f"waits in one step, {size}, {where}, {total} points; reference: {title}", columns, args.places)
    return 0


if __name__ == "__main__":
    sys.exit(main())
