"""Pre-trains ``lam3c-tiny`` on synthetic rooms and chooses nothing on test rooms: rooms, training, export, probes.

What is done is not done again: the same command goes on after a kill. ``OUT/result`` holds all that is worth keeping:
the encoders of student and teacher in half precision, the student with its heads to train on from, a linear head for
the rooms' classes, ``lam3c-tiny.json`` (what it is, how it was made, its scores), the tables, log and curves.

  python experiments/tiny/run.py --out exp/tiny --minutes 4        one GPU
  python experiments/tiny/run.py --out exp/tiny --steps 262        a result that is there: its scores, two CPU cores
  python experiments/tiny/run.py --out exp/try --steps 20 --rooms 12       does it run at all (a CPU: two rooms a step)
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["LAM3C_ENGINE"] = "embedded"  # before the package is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait sleep: as `lam3c` does it

from data_tools.stages.files import replacing, write_json, write_text
from experiments.tiny import rooms  # nothing of torch up here: the processes that make rooms read this file, too

NAME = "lam3c-tiny"
CONFIG = Path(__file__).with_name("config.py")
SEED = 0
WARM_UP, TRIAL = 10, 30  # steps of the trial run: the first ones do not count
MARGIN = 0.96  # of the minutes: saving, and the trial was short
PROBE_ROOMS = {"train": 32, "val": 18, "test": 18}  # of each kind, at most as many as are pre-trained on


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="of training; a short trial tells how many steps that is")
    length.add_argument("--steps", type=int, help="of training, instead")
    parser.add_argument("--rooms", type=int, default=2400, help="to pre-train on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 2), help="processes")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="of the config, changed")
    args = parser.parse_args(argv)
    if (args.minutes or args.steps) <= 0 or args.rooms < 2 or args.workers < 1:
        parser.error("--minutes, --steps and --workers are above 0, --rooms at least 2")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """All stages; returns the exit code.

    Raises:
        Interrupted: stopped by a signal; the training is saved.
        Lam3cError: what is wrong, in one line.
    """
    args = parse_args(argv)
    out, begun = args.out.resolve(), time.monotonic()
    sets = {
        (kind, split): rooms.probe_rooms(kind, split, min(most, args.rooms))
        for kind in rooms.PROBE_NOISE
        for split, most in PROBE_ROOMS.items()
    }
    card = read_card(out)
    is_brought = card and not (out / "run").is_dir()  # from another machine, where it was trained
    every = [] if is_brought else rooms.pretrain_rooms(args.rooms)
    every += [room for chosen in sets.values() for room in chosen]
    rooms.make(every, out / "rooms", args.workers)
    say(begun, f"{len(every)} rooms")
    if not is_brought:
        export(out, train(args, out, begun))
        card = read_card(out)
    say(begun, f"trained for {card['steps']} steps; encoders in {out / 'result'}")
    evaluate(args, out, sets)
    say(begun, f"probed:\n{(out / 'result' / 'table.md').read_text(encoding='utf-8')}")
    return 0


def train(args: argparse.Namespace, out: Path, begun: float) -> dict[str, Any]:
    """Train to the end of the plan, which is made first; return it."""
    options = run_options(args, out)
    path = out / "plan.json"
    if not path.is_file():
        per_step = None if args.steps else trial(out, options)
        steps = args.steps or max(1, int(60 * args.minutes * MARGIN / per_step))
        write_json(path, {"steps": steps, "minutes": args.minutes, "seconds_per_step": per_step, "rooms": args.rooms})
    plan = json.loads(path.read_text(encoding="utf-8"))
    say(begun, f"{plan['steps']} steps to train, {plan['seconds_per_step'] or float('nan'):.3f} s each in the trial")
    limit = 60 * args.minutes * 1.1 + 20 if args.minutes else None
    train_to(out / "run", {**options, "max_steps": plan["steps"]}, limit)
    return plan


def run_options(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Settings of the run over the config's: device, rooms, those of the command line."""
    import torch

    from lam3c_plugin.embedded.config import parse_value

    on_gpu = args.device == "cuda" or (args.device == "auto" and torch.cuda.is_available())
    return {
        "seed": SEED,
        "device": args.device,
        "enable_amp": on_gpu,
        **({"num_worker": args.workers} if on_gpu else {"num_worker": 0, "batch_size": 2}),
        "data.train.data_root": str(out / "rooms" / "pretrain"),
        "data.train.split": "pretrain.json",
        **{key: parse_value(value) for key, _, value in (item.partition("=") for item in args.options)},
    }


def trial(out: Path, options: dict[str, Any]) -> float:
    """Seconds a step, of a short run in a folder of its own, by the clock of its event file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = out / "trial"
    shutil.rmtree(folder, ignore_errors=True)  # of a trial that was killed
    train_to(folder, {**options, "max_steps": TRIAL})
    events = EventAccumulator(str(folder))
    events.Reload()
    clock = {event.step: event.wall_time for event in events.Scalars("train_batch/loss")}
    steps = [step for step in sorted(clock) if step >= WARM_UP]
    return (clock[steps[-1]] - clock[steps[0]]) / (steps[-1] - steps[0])


def train_to(folder: Path, options: dict[str, Any], limit: float | None = None) -> None:
    """Train a run to its end, from where it stands; after ``limit`` seconds it is saved and left as it is."""
    from lam3c_plugin.embedded.engine.defaults import checkpoint_path, make_run_folder, read_config
    from lam3c_plugin.embedded.engine.trainer import run_rank
    from lam3c_plugin.errors import Interrupted

    last = checkpoint_path(folder)
    resume = {"resume": True, "weight": str(last)} if last.is_file() else {}
    if resume and steps_done(last) >= options["max_steps"]:
        return
    cfg = read_config(CONFIG, {**options, **resume, "save_path": str(folder)})
    make_run_folder(cfg)
    too_late = threading.Event()
    timer = threading.Timer(limit or 0, lambda: (too_late.set(), os.kill(os.getpid(), signal.SIGTERM)))
    timer.daemon = True
    if limit:
        timer.start()
    try:
        run_rank(cfg)
    except Interrupted:
        if not too_late.is_set():
            raise
    finally:
        timer.cancel()


def steps_done(last: Path) -> int:
    """Optimiser steps in a run's checkpoint."""
    from lam3c_plugin.checkpoints.keys import read_checkpoint

    return int(read_checkpoint(last, mmap=True)["lam3c"]["step"])


def export(out: Path, plan: dict[str, Any]) -> None:
    """Half-precision weights, log and curves into ``result``."""
    import torch

    from lam3c_plugin.checkpoints.convert import write
    from lam3c_plugin.checkpoints.keys import read_checkpoint, save_atomic
    from lam3c_plugin.checkpoints.weights import read

    last, result = out / "run" / "model" / "model_last.pth", out / "result"
    done = steps_done(last)
    if read_card(out).get("steps") == done:
        return
    result.mkdir(exist_ok=True)
    (result / "table.md").unlink(missing_ok=True)  # of fewer steps
    for part, name in (("student", NAME), ("teacher", f"{NAME}-teacher")):
        weights = read(last, part=part)
        weights.check_usable()
        weights.backbone = {key: value.half() for key, value in weights.backbone.items()}
        write(weights, result / f"{name}.safetensors", "safetensors")
    content = read_checkpoint(last)
    student = {key: value.half() for key, value in content["state_dict"].items() if "student." in key}
    save_atomic({"epoch": 0, "state_dict": student}, result / "student-with-heads.pth")
    events = sorted((out / "run").glob("events.out.tfevents*"), key=lambda path: path.stat().st_size)[-1]
    for source, name in ((out / "run" / "train.log", "train.log"), (events, "events.out.tfevents.tiny")):
        with replacing(result / name) as partial:
            shutil.copyfile(source, partial)
    card = {"name": NAME, "licence": "mit", "grid_size": 0.04, "backbone": weights.backbone_config}
    card["inputs"] = "xyz after CenterShift (m), rgb / 255, unit normal"
    card |= {"steps": done, "plan": plan, "torch": torch.__version__}
    card["machine"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    write_json(result / f"{NAME}.json", card)


def read_card(out: Path) -> dict[str, Any]:
    """``lam3c-tiny.json``; empty where there is none yet."""
    path = out / "result" / f"{NAME}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def evaluate(args: argparse.Namespace, out: Path, sets: dict[tuple[str, str], list[rooms.Room]]) -> None:
    """The tables, as Markdown and row by row in the JSON file; and a head for the classes of synthetic rooms."""
    import torch

    from data_tools.synthetic.rooms.palette import CLASSES
    from experiments.tiny import probe
    from lam3c_plugin.encode import Encoder, load
    from lam3c_plugin.encode.heads import write_head
    from lam3c_plugin.encode.models import build_encoder

    result, card = out / "result", read_card(out)
    if (result / "table.md").is_file():
        return
    student = load(result / f"{NAME}.safetensors", device=args.device)
    torch.manual_seed(SEED)
    networks = {
        "random weights": Encoder(build_encoder(card["backbone"]), args.device),
        "student": student,
        "teacher": load(result / f"{NAME}-teacher.safetensors", device=args.device),
    }
    describers = {"raw inputs": probe.raw_inputs, **{name: probe.encoded(net) for name, net in networks.items()}}
    rows = card.setdefault("scores", {})
    for name, describe in describers.items():
        if name in rows:
            continue
        row = probe.measure(describe, sets, out / "rooms", str(student.device))
        if name == "student":
            head = row["mixed"]["head"]
            write_head(result / "head.pth", head.weight, head.bias, CLASSES, probe.GRID_SIZE)
        for found in (row["clean"], row["noisy"], row["mixed"], *row["two_rooms"]):
            del found["head"]
        rows[name] = row
        write_json(result / f"{NAME}.json", {**card, "classes": list(CLASSES)})
    title = f"mIoU in percent after {card['steps']} steps, probes chosen on the validation rooms"
    val, test = (probe.table(rows, split) for split in ("val", "test"))
    write_text(result / "table.md", f"{title}; on those rooms:\n\n{val}\nOn test rooms:\n\n{test}")


def say(begun: float, text: str) -> None:
    """A line with the seconds since the start."""
    print(f"[{time.monotonic() - begun:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    from lam3c_plugin.errors import run_main

    sys.exit(run_main(main))
