"""What a run is unless its config says otherwise, and the preparation of a config for a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from lam3c_plugin.embedded import comm
from lam3c_plugin.embedded.config import Config
from lam3c_plugin.embedded.config_types import check_parts
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.errors import ConfigError, near_names
from lam3c_plugin.ops.rng import random_seed, set_seed

# The host's settings and meanings, then those of this engine alone.
DEFAULTS: dict[str, Any] = {
    "weight": None,
    "resume": False,
    "evaluate": False,
    "test_only": False,
    "seed": None,
    "save_path": "exp/default",
    "num_worker": 16,
    "batch_size": 16,
    "gradient_accumulation_steps": 1,
    "batch_size_val": None,
    "batch_size_test": None,
    "epoch": 100,
    "eval_epoch": None,
    "clip_grad": None,
    "sync_bn": False,
    "enable_amp": False,
    "amp_dtype": "float16",
    "empty_cache": False,
    "empty_cache_per_epoch": False,
    "find_unused_parameters": False,
    "enable_wandb": False,
    "mix_prob": 0,
    "param_dicts": None,
    "hooks": [
        {"type": "CheckpointLoader"},
        {"type": "ModelHook"},
        {"type": "IterationTimer", "warmup_iter": 2},
        {"type": "InformationWriter"},
        {"type": "CheckpointSaver", "save_freq": None},
    ],
    "train": {"type": "DefaultTrainer"},
    "max_steps": None,  # the run's length in optimiser steps, whatever `epoch` says; the schedules span it
    "stretch_schedule": False,  # resume a run that was planned for another number of steps, its schedules stretched
    "stop_after_steps": None,  # pause there: save and exit as on Ctrl-C; the schedules do not change
    "device": "auto",
    "num_threads": None,
    "deterministic": False,
}
_BATCH_SIZES = ("batch_size", "batch_size_val", "batch_size_test")
_LEAST = {  # of settings that are whole numbers
    **{"epoch": 1, "eval_epoch": 1, "batch_size": 1, "batch_size_val": 1, "batch_size_test": 1, "num_threads": 1},
    **{"gradient_accumulation_steps": 1, "max_steps": 1, "stop_after_steps": 1, "num_worker": 0, "seed": 0},
}
_REQUIRED = ("model", "data", "optimizer", "scheduler")
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {  # of settings whose parts are read everywhere
    **dict.fromkeys((*_REQUIRED, "data.train", "train"), ((Mapping,), "a group of settings, dict(...)")),
    "hooks": ((list, tuple), "a list"),
    "param_dicts": ((list, tuple, type(None)), "a list, or None"),
    "save_path": ((str, os.PathLike), "the path of a folder"),
}
EMPTY_EVENTS = 128  # bytes: TensorBoard's file without a value has 88 and the host's name
# Settings of one launch that a resumed run must not inherit.
_NOT_DUMPED = ("stop_after_steps", "stretch_schedule")


def load_config(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Config:
    """`read_config`, then `make_run_folder`."""
    cfg = read_config(path, options)
    make_run_folder(cfg)
    return cfg


def read_config(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Config:
    """Read a config for a run, apply overrides and defaults.

    Raises:
        ConfigError: see `Config`; an override looks like a slip; a required part is missing or of another kind.
    """
    cfg = Config.fromfile(path)
    _warn_of_slips(cfg)
    if options:
        for key, value in DEFAULTS.items():  # before the overrides: a slip in them is compared with all known keys
            cfg.setdefault(key, value)
        _refuse_slips(cfg, options)
        cfg.merge_from_dict(options)
    for key, value in DEFAULTS.items():
        cfg.setdefault(key, value)
    missing = [key for key in _REQUIRED if key not in cfg]
    if missing:
        raise ConfigError(f"{path} has no {' and no '.join(missing)}")
    _check_kinds(cfg)
    if cfg.seed is None:
        cfg.seed = random_seed()
    _settle_epochs(cfg)
    return cfg


def make_run_folder(cfg: Config) -> None:
    """Make the folder of a run; a new run's gets its ``config.py``.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        os.makedirs(os.path.join(cfg.save_path, "model"), exist_ok=True)
        if not cfg.resume or cfg.stretch_schedule:
            _dump(cfg)
    except OSError as error:
        raise ConfigError(f"cannot write the run folder {cfg.save_path}: {error.strerror or error}") from error


def holds_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a run got under way in a folder: a checkpoint, or event files with a value in them."""
    folder = Path(folder)
    events = folder.glob("events.out.tfevents*")
    return any(folder.glob("model/*.pth")) or any(file.stat().st_size > EMPTY_EVENTS for file in events)


def claim_run_folder(cfg: Config, overwrite: bool = False) -> None:
    """See that a new run mixes with no other: what is there stops it, or is deleted where that is asked for.

    Raises:
        ConfigError: the folder holds a run; or the weights to start from, which would be deleted.
    """
    folder = cfg.save_path
    if not holds_run(folder):
        return
    if not overwrite:
        raise ConfigError(
            f"{folder} holds a run already: resume it with --resume {folder}, choose another save_path, or delete "
            "it with --overwrite"
        )
    if cfg.weight and Path(cfg.weight).resolve().is_relative_to(Path(folder).resolve()):
        raise ConfigError(f"--overwrite would delete weight={cfg.weight}: copy it first")
    shutil.rmtree(folder)


def _dump(cfg: Config) -> None:
    kept = {key: value for key, value in cfg.items() if key not in _NOT_DUMPED}
    Config(kept).dump(os.path.join(cfg.save_path, "config.py"))


def _warn_of_slips(cfg: Config) -> None:
    for key in cfg.keys():  # noqa: SIM118 - a Config is no dict
        near = get_close_matches(key, DEFAULTS, n=1, cutoff=0.85)
        if key not in DEFAULTS and near:
            get_root_logger().warning(f"config key {key!r} means nothing to the engine; did you mean {near[0]!r}?")


def _refuse_slips(cfg: Config, options: Mapping[str, Any]) -> None:
    """An override that nothing reads would be lost in silence (a config file may have names of its own)."""
    for full_key in options:
        key = full_key.split(".")[0]
        near = near_names(key, list(cfg.keys()), limit=1) if key not in cfg else []
        if near:
            raise ConfigError(f"override {full_key}: there is no setting {key!r}; did you mean {near[0]!r}?")
        if key not in cfg:
            get_root_logger().warning(f"override {full_key}: neither the config nor the engine knows {key!r}")


def _check_kinds(cfg: Config) -> None:
    for name, (kinds, words) in _KINDS.items():
        value: Any = cfg
        for part in name.split("."):
            value = value.get(part)
        if not isinstance(value, kinds) or value == "":
            raise ConfigError(f"{name}={value!r:.60} must be {words}")
    if "transform" in cfg.data.train and not isinstance(cfg.data.train.transform, (list, tuple)):
        raise ConfigError(f"data.train.transform={cfg.data.train.transform!r:.60} must be a list of transforms")
    clip = cfg.clip_grad  # 0 would learn nothing, and a norm below it would turn the gradients round
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, (int, float)) or not clip > 0):
        raise ConfigError(f"clip_grad={clip!r:.60} must be a number above 0, or None")
    check_parts(cfg.to_dict())


def _settle_epochs(cfg: Config) -> None:
    """``epoch`` passes over the data in ``eval_epoch`` rounds, as the host counts: the dataset loops the difference."""
    if cfg.eval_epoch is None:
        cfg.eval_epoch = cfg.epoch
    for key, least in _LEAST.items():
        value, is_needed = cfg[key], DEFAULTS[key] is not None and key != "num_worker"
        if value is None and not is_needed:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{key}={value!r} must be a whole number of at least {least}")
    if cfg.epoch % cfg.eval_epoch:
        raise ConfigError(
            f"epoch={cfg.epoch} is not a multiple of eval_epoch={cfg.eval_epoch}; set eval_epoch={cfg.epoch} as well"
        )
    loop = cfg.epoch // cfg.eval_epoch
    if loop > 1 or "loop" in cfg.data.train:
        cfg.data.train.loop = loop


def choose_device(cfg: Config) -> torch.device:
    """``device``: "auto" takes this rank's GPU where there is one.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    wanted = str(cfg.get("device") or "auto")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise ConfigError(f"device={wanted!r} must be auto, cpu or cuda")
    if wanted == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("device='cuda', but torch sees no GPU; use device='auto' or 'cpu'")
    return torch.device("cuda", comm.get_local_rank())


def check_shares(cfg: Config, world_size: int) -> None:
    """Raise `ConfigError` where a batch size does not divide by the number of ranks."""
    for key in _BATCH_SIZES:
        if cfg[key] is not None and cfg[key] % world_size:
            near = max(world_size, round(cfg[key] / world_size) * world_size)
            raise ConfigError(f"{key}={cfg[key]} does not divide by {world_size} ranks; take {near}")


def setup_rank(cfg: Config) -> Config:
    """Prepare this rank: shares of batch and workers, threads, seeds.

    Raises:
        ConfigError: a batch size does not divide by the number of ranks.
    """
    world = comm.get_world_size()
    check_shares(cfg, world)
    for key in _BATCH_SIZES:
        cfg[f"{key}_per_gpu"] = cfg[key] // world if cfg[key] is not None else 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    local = comm.get_local_size()
    asked = cores if cfg.num_worker is None else int(cfg.num_worker)
    cfg.num_worker_per_gpu = min(asked // world, max(1, cores // local))
    if cfg.num_threads:
        torch.set_num_threads(int(cfg.num_threads))
    elif local > 1 and choose_device(cfg).type == "cpu":
        torch.set_num_threads(max(1, cores // local))
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    set_seed(int(cfg.seed) + comm.get_rank())
    return cfg


def checkpoint_path(save_path: str | os.PathLike[str]) -> Path:
    """Where a run keeps its latest checkpoint."""
    return Path(save_path) / "model" / "model_last.pth"
