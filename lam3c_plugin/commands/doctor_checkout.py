"""The part of `lam3c doctor` that looks at a Pointcept checkout: packages, data, GPU memory, and what to do."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lam3c_plugin import machine
from lam3c_plugin.commands.environment import library, release
from lam3c_plugin.commands.install import add_config, config_source, is_complete
from lam3c_plugin.errors import ConfigError, Lam3cError
from lam3c_plugin.host_checkout import Checkout, has_package, how_to_install, inspect_checkout, missing_imports

MARKS = {"ok": "ok     ", "note": "note   ", "todo": "TO DO  "}
DEFAULT_CONFIG = "pretrain-lam3c-v1m1-0-base"
SMALL_CONFIG = "pretrain-lam3c-v1m1-7-24gb"
SMALL_PATCH = 256


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``todo`` is what to do about it."""

    mark: str
    text: str
    todo: str = ""


def check_python() -> Iterator[Finding]:
    """Python, PyTorch and the GPUs; the plugin has to be installed in the Python that runs Pointcept."""
    import torch

    yield Finding("ok", f"Python {platform.python_version()}: {sys.executable} (give it to train.sh: -p)")
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    gpus = machine.find_gpus()
    if gpus:
        names = ", ".join(f"{gpu.name} ({gpu.gib:.0f} GiB)" for gpu in gpus)
        yield Finding("ok", f"PyTorch {torch.__version__} ({build}); {len(gpus)} GPU(s): {names}")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "todo",
            f"PyTorch {torch.__version__} ({build}) sees no GPU although nvidia-smi is here",
            "install a PyTorch whose CUDA is not newer than the driver's: https://pytorch.org/get-started/locally",
        )
    else:
        yield Finding("todo", f"PyTorch {torch.__version__} ({build}); no GPU, and Pointcept runs on GPUs only")
    package = Path(__file__).resolve().parents[2]
    try:
        installed = importlib.metadata.distribution("lam3c-plugin")
        yield Finding("ok", f"lam3c-plugin {installed.version} is installed here")
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "todo",
            "lam3c-plugin is importable but not installed: train.sh resets PYTHONPATH and would not find it",
            f"{sys.executable} -m pip install -e {package}",
        )


def check_checkout(checkout: Checkout) -> Iterator[Finding]:
    """The version and what it lacks, and whether the configs are there."""
    name = f"Pointcept {checkout.version}" + (f" ({checkout.commit})" if checkout.commit else "")
    yield Finding("ok", f"{name} at {checkout.root}")
    newer = f"git -C {checkout.root} checkout v1.7.0"
    if not checkout.accumulates:
        yield Finding("note", "no gradient accumulation before v1.6.1: the whole batch has to fit the GPUs", newer)
    if not checkout.segments_instances:
        yield Finding("note", "no PG-v1m2 before v1.6.1: no instance segmentation", newer)
    import torch

    if checkout.needs_old_torch and release(torch.__version__) >= (2, 6):
        yield Finding(
            "note",
            "v1.6.0 cannot read its own checkpoints of evaluated runs under torch 2.6 and newer",
            f"export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 (only for checkpoints you trust), or {newer}",
        )
    complete = is_complete(checkout.root)
    if complete:
        yield Finding("ok", "the configs are installed")
    else:
        state = "not installed" if complete is None else "half installed"
        yield Finding("todo", f"the configs are {state}", f"lam3c install --pointcept {checkout.root}")


def check_packages(checkout: Checkout) -> Iterator[Finding]:
    """What the checkout imports, and whether its compiled parts fit this PyTorch."""
    missing = missing_imports(checkout)
    for name, path in sorted(missing.items()):
        yield Finding("todo", f"{name} is missing; {path} imports it", how_to_install(name))
    for name in ("spconv", "torch_scatter", "pointops"):
        if name in missing:
            continue
        problem = library(name)["problem"]
        if problem:
            yield Finding("todo", f"{name} does not import: {problem}", f"again: {how_to_install(name)}")
            continue
        yield check_spconv(_distributions()) if name == "spconv" else _check_build(name)


def check_spconv(wheels: list[tuple[str, str]]) -> Finding:
    """Which spconv wheels are installed, by (name, version), and whether one of them can train here."""
    import torch

    wanted = torch.version.cuda
    text = ", ".join(f"{wheel} {version}" for wheel, version in wheels) or "spconv of unknown origin"
    if len(wheels) > 1:
        return Finding("todo", f"several spconv wheels hide each other: {text}", "pip uninstall all but one of them")
    if wheels and wheels[0][0] == "spconv":
        return Finding("todo", f"{text} is the CPU build: it cannot train", how_to_install("spconv"))
    if wanted and wheels and not wheels[0][0].startswith(f"spconv-cu{wanted.split('.')[0]}"):
        return Finding("todo", f"{text} against PyTorch's CUDA {wanted}", "pip install the wheel of that CUDA")
    return Finding("ok", text)


def _check_build(name: str) -> Finding:
    import torch

    if name == "torch_scatter" and torch.version.cuda:
        version = getattr(torch.ops.torch_scatter, "cuda_version", None)
        if version is not None and version() == -1:
            return Finding("todo", "torch_scatter was built without CUDA", how_to_install(name))
    return Finding("ok", name)


def _distributions() -> list[tuple[str, str]]:
    names = {(item.metadata["Name"] or "", item.version) for item in importlib.metadata.distributions()}
    found = [(name.lower().replace("_", "-"), version) for name, version in names]
    return sorted(item for item in found if item[0].startswith("spconv"))


def check_flash(cfg: Mapping[str, Any]) -> Iterator[Finding]:
    """flash-attn, and what follows where it is missing: `enable_flash` off and a smaller patch."""
    if not has_package("flash_attn"):
        patch = max(cfg["model"]["backbone"]["enc_patch_size"])
        yield Finding(
            "note",
            "flash-attn is missing: the configs turn enable_flash off by themselves; plain attention keeps a matrix "
            f"of points x {patch}, so a patch of {SMALL_PATCH} is advised (--write sets it)",
            f"{how_to_install('flash_attn')}, or go on with the smaller patch",
        )
        return
    problem = library("flash_attn")["problem"]
    if problem:
        yield Finding("todo", f"flash-attn does not import: {problem}", f"again: {how_to_install('flash_attn')}")
    else:
        yield Finding("ok", "flash-attn")


def check_data(cfg: Mapping[str, Any], root: Path) -> Iterator[Finding]:
    """The data folders of a config."""
    train = cfg["data"]["train"]
    for part in train.get("datasets", [train]):
        roots = part.get("data_root", "data/roomtours")
        for folder in [roots] if isinstance(roots, str) else roots:
            path = root / folder
            scenes = sum(1 for _ in path.glob("*/*/coord.npy")) if path.is_dir() else 0
            if scenes:
                yield Finding("ok", f"{path}: {scenes} scenes")
                continue
            what = "has no <split>/<scene>/coord.npy" if path.is_dir() else "is not there"
            yield Finding("todo", f"{path} {what}", f"python data_tools/package.py CLOUDS... --out {path}")


def check_memory(cfg: Mapping[str, Any], flash: bool, gpus: int, gib: float, accumulates: bool) -> Iterator[Finding]:
    """GPU memory against the config, with a batch and accumulation that fit."""
    need, batch = machine.estimate_need(cfg, flash), machine.effective_batch(cfg)
    each, uneven = int(cfg["batch_size"]) / gpus, int(cfg["batch_size"]) % gpus
    text = f"about {need.fixed:.1f} GiB + {need.scene:.1f} GiB a scene with all views at their largest (estimate)"
    if uneven:
        yield Finding("todo", f"batch_size={cfg['batch_size']} does not divide by {gpus} GPUs: Pointcept will refuse")
    elif each <= need.scenes(gib):
        yield Finding("ok", f"{text}; {each:.0f} scenes fit each of {gpus} x {gib:.0f} GiB")
        return
    else:
        total = need.fixed + each * need.scene
        yield Finding("note", f"{text}; {each:.0f} scenes a GPU would take {total:.0f} of {gib:.0f} GiB")
    fit = machine.suggest(need, batch, gpus, gib, accumulates)
    if fit is None:
        patch = "" if flash else "--write (with the smaller patch), "
        cure = f"{patch}--config {SMALL_CONFIG} (smaller views), another number of GPUs, or another batch"
        yield Finding("todo", f"no even split of {batch} scenes fits {gpus} x {gib:.0f} GiB", cure)
        return
    yield Finding(
        "note",
        f"fits: batch_size={fit.batch_size} gradient_accumulation_steps={fit.accumulation} "
        f"(still {batch} scenes an optimiser step)",
        "the same command with --write makes a config of it",
    )


def write_fitted(checkout: Checkout, name: str, cfg: Mapping[str, Any], gpus: int, gib: float, flash: bool) -> Path:
    """Write ``<name>-fit.py``: the config with batch, accumulation and patch for this machine.

    Raises:
        ConfigError: nothing fits.
        InstallError: the configs are not installed, or the file is there and not ours.
    """
    model = cfg["model"]
    lines = [f'"""{name}, fitted to {gpus} x {gib:.0f} GiB by `lam3c doctor --write`."""', ""]
    lines += [f'_base_ = ["./{name}.py"]', ""]
    if not flash:
        patch = [min(int(size), SMALL_PATCH) for size in model["backbone"]["enc_patch_size"]]
        model = {**model, "backbone": {**model["backbone"], "enc_patch_size": patch}}
        lines.append(f"model = dict(backbone=dict(enable_flash=False, enc_patch_size={tuple(patch)}))")
    need, batch = machine.estimate_need({**cfg, "model": model}, flash), machine.effective_batch(cfg)
    fit = machine.suggest(need, batch, gpus, gib, checkout.accumulates)
    if fit is None:
        raise ConfigError(f"{name} fits no even split over {gpus} x {gib:.0f} GiB; try --config {SMALL_CONFIG}")
    lines += [f"batch_size = {fit.batch_size}", f"gradient_accumulation_steps = {fit.accumulation}"]
    lines += [f"num_worker = {min(int(cfg['num_worker']), 8 * gpus)}"]
    return add_config(checkout.root, name, "\n".join(lines) + "\n")


def _print(title: str, findings: Iterator[Finding]) -> int:
    print(f"\n{title}")
    todo = 0
    for finding in findings:
        print(f"  {MARKS[finding.mark]}{finding.text}")
        if finding.todo:
            print(f"  {'':7}-> {finding.todo}")
        todo += finding.mark == "todo"
    return todo


def load_config(name: str) -> Mapping[str, Any]:
    """A pre-training config of this installation by its name.

    Raises:
        ConfigError: there is none of that name, or it does not pre-train.
    """
    from lam3c_plugin.embedded.config import Config

    path = config_source() / f"{name.removeprefix('lam3c/').removesuffix('.py')}.py"
    cfg = Config.fromfile(path, import_custom_modules=False).to_dict()
    if "head" not in cfg["model"]:
        raise ConfigError(f"--config {name}: the memory estimate is for pre-training configs, such as {DEFAULT_CONFIG}")
    return cfg


def run(args: argparse.Namespace) -> int:
    """`lam3c doctor --pointcept`; 1 when something is left to do."""
    checkout = inspect_checkout(args.pointcept)
    cfg = load_config(args.config)
    todo = _print("This Python", check_python())
    todo += _print("The checkout", check_checkout(checkout))
    todo += _print("What the checkout imports", check_packages(checkout))
    todo += _print("Attention", check_flash(cfg))
    todo += _print(f"Data of {args.config}", check_data(cfg, checkout.root))
    found = machine.find_gpus()
    gpus = args.gpus or len(found)
    gib = args.gpu_memory or min((gpu.gib for gpu in found), default=0.0)
    flash = has_package("flash_attn")
    if gpus and gib:
        todo += _print(f"Memory of {args.config}", check_memory(cfg, flash, gpus, gib, checkout.accumulates))
    else:
        print("\nno GPU to fit the config to; --gpus 8 --gpu-memory 80 asks about another machine")
    if args.write:
        if not (gpus and gib):
            raise Lam3cError("--write needs GPUs: here, or named by --gpus and --gpu-memory")
        print(f"\nwrote {write_fitted(checkout, args.config, cfg, gpus, gib, flash)}")
    print(f"\n{'nothing to do' if not todo else f'{todo} thing(s) to do, marked above'}")
    return 1 if todo else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `lam3c doctor` takes about a checkout."""
    group = parser.add_argument_group("about a Pointcept checkout")
    group.add_argument("--pointcept", metavar="DIR", help="check this checkout, its packages, data and GPU memory")
    group.add_argument("--config", default=DEFAULT_CONFIG, metavar="NAME", help="a pre-training config (%(default)s)")
    group.add_argument("--gpus", type=int, metavar="N", help="ask about so many GPUs (default: those here)")
    group.add_argument("--gpu-memory", type=float, metavar="GIB", help="memory of each (default: those here)")
    group.add_argument("--write", action="store_true", help="write <config>-fit.py, fitted to the GPUs")
