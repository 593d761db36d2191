"""The chain at the size of RoomTours, with stages that only write their files: how long it plans, and in what memory.

    python benchmarks/scale.py --scenes 50000 --into /scratch/scale

For a tenth of the scenes and for all of them, in processes of their own: planning (a dry run) of nothing and of all, a
first run, a second one that finds all done, and the summary. Every video is a file of its own with one scene
(``--per-video`` changes that), which is the most that there can be to look up; near-duplicates are looked for, by
embeddings of CLIP's size. Prints seconds and peak memory beside
their bars (for 50,000 scenes), and the growth; exit code 1 where a bar is broken. CPU seconds are judged, which others'
work on the machine changes little; those of the wall stand beside them. A minute for 5,000 scenes on /dev/shm.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import io
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._process import MIB, in_new_process, peak_resident
from data_tools.chain import run as chain
from data_tools.chain.items import STAGES, Call, Outcome, Places, SceneItem
from data_tools.chain.plan import ChainSettings
from data_tools.chain.recorded import Settings
from data_tools.chain.run import RunOptions, StageTable
from data_tools.chain.sources import read_videos
from data_tools.chain.stages import provenance
from data_tools.chain.worker import execute
from data_tools.packaging.card import write_summary
from data_tools.segmentation.settings import LOOKS, LOOKS_A_SCENE, SegmentSettings
from data_tools.stages.files import write_json
from data_tools.stages.record import StageRecord, run_stage
from data_tools.stages.scene_folder import settings_hash

STEPS = ("plan of nothing", "first run", "plan of all", "second run", "summary")
GROWTH = 13.0  # times as long for ten times the scenes, at most


@dataclass(frozen=True)
class FakeSettings:
    """What every stage has."""

    labels: str = "none"
    backend: str = "pi3"

    def digest(self) -> str:
        return settings_hash({"labels": self.labels})


class InProcess:
    """An executor that does a call when it is asked for outcomes, in the order of `LocalExecutor`."""

    rooms = 1  # scenes under way

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, Call]] = []
        self.count = itertools.count()
        self.stopped: dict[str, str] = {}

    @property
    def is_busy(self) -> bool:
        return bool(self.calls)

    @property
    def waiting(self) -> int:
        return len(self.calls)

    def submit(self, call: Call) -> None:
        heapq.heappush(self.calls, (call.priority, next(self.count), call))

    def wait(self, seconds: float) -> list[Outcome]:
        return [execute(FAKES.functions, heapq.heappop(self.calls)[2])] if self.calls else []

    def drop_waiting(self, stage: str = "") -> None:
        self.calls.clear()

    def close(self) -> None:
        pass


def fake(write: Callable[[Call, Path], None], figures: int) -> Callable[[Call], StageRecord]:
    """A stage that writes files and a record of a usual size."""

    def stage(call: Call) -> StageRecord:
        def work(folder: Path, record: StageRecord) -> None:
            write(call, folder)
            record.key = call.key  # else the worker writes the record once more, and waits for the disk
            record.result.update({f"figure_{number:02d}": number / 7 for number in range(figures)})

        return run_stage(call.stage, call.folder, call.settings.digest(), call.name, work)

    return stage


def write_scenes(call: Call, folder: Path) -> None:
    """The segment stage's files."""
    count = int(call.source.read_text().split()[1]) if call.source is not None else 0
    write_json(folder / "scenes.json", [[f"{call.name}_{number:03d}", 10 * number] for number in range(count)])
    rng = np.random.default_rng(int(call.source.read_text().split()[2]) if call.source is not None else 0)
    looks = rng.standard_normal((count, LOOKS_A_SCENE, 512), np.float32)
    np.save(folder / LOOKS, (looks / np.linalg.norm(looks, axis=2, keepdims=True)).astype(np.float16))


def write_cloud(call: Call, folder: Path) -> None:
    """The reconstruction's."""
    (folder / "cloud.ply").write_bytes(b"ply\n")


def write_room(call: Call, folder: Path) -> None:
    """A scene's: a meta.json of 4 KB, as real ones have."""
    np.save(folder / "coord.npy", np.zeros((2, 3), np.float32))
    facts = {f"figure_{number:03d}": [number / 7, number / 3] for number in range(60)}
    sizes = {"num_points": 300_000, "extent": [5.0, 4.0, 2.5], "arrays": ["color", "coord", "normal"], "backend": "pi3"}
    write_json(folder / "meta.json", {**provenance(call), **sizes, "figures": facts})


def read_scenes(folder: Path) -> list[SceneItem]:
    """What `write_scenes` wrote."""
    rows = json.loads((folder / "scenes.json").read_text())
    return [SceneItem(name, ((start, start + 8.0),), "bedroom", 0.9) for name, start in rows]


FAKES = StageTable(
    {"segment": fake(write_scenes, 10), "reconstruct": fake(write_cloud, 30), "postprocess": fake(write_room, 30)},
    read_scenes,
)


def make_videos(folder: Path, scenes: int, per_video: int) -> None:
    """Files that stand for videos."""
    folder.mkdir(parents=True)
    for number in range(-(-scenes // per_video)):
        count = min(per_video, scenes - number * per_video)
        (folder / f"tour{number:06d}.mp4").write_text(f"room {count} {number}")


def step(name: str, folder: Path) -> dict[str, float]:
    """One step in this process: its seconds (CPU), those of the wall, and its peak memory, MB."""
    places = Places(folder / "out", folder / "out" / "_work")
    copies = SegmentSettings(labels="none").copies
    settings = ChainSettings(Settings.of(dict.fromkeys(STAGES, FakeSettings())), copies=copies)
    options = RunOptions(report=False, quiet=True)
    chain.build_executor = lambda *_: InProcess()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        if name == "summary":
            write_summary(places.out, title="RoomTours")
        else:
            videos, _ = read_videos([str(folder / "videos")])
            if name.startswith("plan"):
                print(chain.dry_run(videos, places, settings, options, FAKES))
            elif chain.run_chain(videos, places, settings, options, FAKES):
                raise RuntimeError(f"the run failed: {said.getvalue()}")
    wall, seconds = time.perf_counter() - begun, time.process_time() - begun_cpu
    return {"seconds": seconds, "wall": wall, "peak": peak_resident() / MIB}


def measure(folder: Path, scenes: int, per_video: int) -> dict[str, dict[str, float]]:
    """What `step` says of all steps of one size, each in a process of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    make_videos(folder / "videos", scenes, per_video)
    found = {}
    for name in STEPS:
        found[name] = in_new_process(step, name, folder)
        figures = "{seconds:7.1f} s ({wall:7.1f} of the wall) {peak:6.0f} MB".format(**found[name])
        print(f"{scenes:>7} {name:16} {figures}", flush=True)
    written = json.loads((folder / "out" / "stats.json").read_text())["splits"]["train"]["scenes"]
    if written != scenes:
        raise SystemExit(f"scale: {written} scenes of {scenes} were made")
    shutil.rmtree(folder)
    return found


def bars(found: dict[str, dict[str, float]]) -> list[tuple[str, float, float]]:
    """Name, value and most allowed, for 50,000 scenes."""
    plan = max(found[name]["seconds"] for name in STEPS if name.startswith("plan"))
    planner = max(found[name]["peak"] for name in STEPS if name != "summary")
    return [
        ("planning, s", plan, 15),
        ("second run beyond planning, s", found["second run"]["seconds"] - found["plan of all"]["seconds"], 10),
        ("planner, MB", planner, 300),
        ("summary, MB", found["summary"]["peak"], 200),
    ]


def main() -> int:
    """Both sizes, the bars and the growth; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=50_000)
    parser.add_argument("--per-video", type=int, default=1)
    parser.add_argument(
        "--into", type=Path, default=Path("scale"), help="a folder of its own, emptied before and after"
    )
    args = parser.parse_args()
    small = measure(args.into, max(1, args.scenes // 10), args.per_video)
    large = measure(args.into, args.scenes, args.per_video)
    rows = bars(large)
    rows += [(f"growth of the {name}, x", large[name]["seconds"] / small[name]["seconds"], GROWTH) for name in STEPS]
    for name, value, most in rows:
        print(f"{name:32} {value:7.1f} of {most:5.1f} {'' if value <= most else 'TOO MUCH'}")
    return int(any(value > most for _, value, most in rows))


if __name__ == "__main__":
    sys.exit(main())
