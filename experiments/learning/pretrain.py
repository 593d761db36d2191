"""A pre-training of the learning proof, through the engine's train entry: with stops on the way, resumed if killed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.learning import data, engine

CONFIG = engine.PRETRAIN
LAST = "model_last.pth"
MONITOR_POINTS = 250  # of a curve in the results


def checkpoint(source: str, step: int, last: bool) -> str:
    """Checkpoint of a pre-training's job at a step, relative to the output folder."""
    return f"jobs/{source}/run/model/{LAST if last else f'step_{step}.pth'}"


def run(spec: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """Train from where the folder's run stands.

    Raises:
        Interrupted: stopped by a signal; the state was saved.
        Lam3cError: what is wrong, in one line.
    """
    target = folder / "run"
    options = run_options(spec, target, out)
    command = engine.shown("train", engine.arguments(CONFIG, options), out)
    for stop in sorted(spec["stops"]):
        kept = target / "model" / f"step_{stop}.pth"
        if not kept.is_file():
            _train_to(stop, target, options)
            _keep(target / "model" / LAST, kept)
    if steps_done(target) < spec["steps"]:
        _train_to(None, target, options)
    done = steps_done(target)
    if done < spec["steps"]:
        raise RuntimeError(f"the run ended after {done} of {spec['steps']} steps; see {target / 'train.log'}")
    return {
        "checkpoint": str((target / "model" / LAST).relative_to(out)),
        "command": command,
        "monitor": read_monitor(target),
    }


def run_random(spec: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """The weights that a pre-training of this seed starts from, as a checkpoint without a step."""
    del out
    from lam3c_plugin.checkpoints.keys import save_atomic
    from lam3c_plugin.embedded.engine.defaults import load_config, setup_rank
    from lam3c_plugin.host import build_model

    target = folder / "run"
    cfg = setup_rank(load_config(CONFIG, {**spec["options"], "seed": spec["seed"], "save_path": str(target)}))
    save_atomic({"epoch": 0, "state_dict": build_model(cfg.model).state_dict()}, target / "model" / LAST)
    return {}


def run_options(spec: Mapping[str, Any], target: Path, out: Path) -> dict[str, Any]:
    """Options of the run over the proof's pre-training config.

    An epoch is as many passes over the rooms as fit between two checkpoints: with few rooms, one pass would end, and
    be saved, every other second.
    """
    passes = max(1, spec["save_steps"] * int(spec["options"].get("batch_size", 2)) // spec["rooms"])
    return {
        "save_path": str(target),
        "seed": spec["seed"],
        "max_steps": spec["steps"],
        "epoch": passes,
        "eval_epoch": 1,
        "data.train.data_root": str(data.root_of(out, "pretrain", spec["noise"])),
        "data.train.split": data.first_rooms(out, "pretrain", spec["noise"], spec["rooms"]),
        "hooks.-1.save_freq_steps": spec["save_steps"],
        **spec["options"],
    }


def steps_done(target: Path) -> int:
    """Optimiser steps in a run's last checkpoint; 0 without one."""
    from lam3c_plugin.checkpoints.keys import read_checkpoint

    path = target / "model" / LAST
    return int(read_checkpoint(path)["lam3c"]["step"]) if path.is_file() else 0


def _train_to(stop: int | None, target: Path, options: Mapping[str, Any]) -> None:
    """Train until ``stop`` steps are done, or to the end."""
    from lam3c_plugin.errors import Interrupted

    done = steps_done(target)
    if stop is not None and done >= stop:
        return
    paused = {"stop_after_steps": stop} if stop is not None else {}
    try:
        argv = engine.arguments(CONFIG, {**options, **paused}, target if done else None)
        engine.train(argv if done else [*argv, "--overwrite"])  # what was killed before its first checkpoint
    except Interrupted as pause:
        if pause.exit_code:
            raise


def _keep(last: Path, kept: Path) -> None:
    from lam3c_plugin.checkpoints.keys import copy_atomic

    copy_atomic(last, kept)


def read_monitor(target: Path) -> dict[str, list[float | None]]:
    """Curves of a run's event files by optimiser step, thinned; None where a measure was not taken or not finite.

    Returns:
        "step", and a list as long for the loss, its terms, the monitor's measures and the schedules.
    """
    from lam3c_plugin.summary import read_scalars

    columns: dict[str, dict[int, float]] = {}
    for tag, (steps, values) in read_scalars(target).items():
        group, _, name = tag.partition("/")
        if group in ("train_batch", "monitor", "params") and "/" not in name:
            columns[name] = dict(zip(steps.tolist(), values.tolist(), strict=True))
    steps = sorted({step for column in columns.values() for step in column if step > 0})
    kept = [step for step in steps if step in columns.get("loss", {})]
    measured = [step for step in kept if step in columns.get("effective_rank", {})] or kept
    stride = math.ceil(max(len(measured), 1) / MONITOR_POINTS)
    kept = sorted({*measured[::stride], *measured[-1:]})
    found: dict[str, list[float | None]] = {"step": list(kept)}
    for name, column in sorted(columns.items()):
        found[name] = [_number(column.get(step)) for step in kept]
    return found


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
