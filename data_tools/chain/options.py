"""From command line words to settings: what "auto" means on this machine, ``--set``, GPU slots."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from data_tools.chain.recipes import RECIPES, USUAL

BACKENDS = ("auto", "pi3", "vggt", "depth_anything", "mapanything", "sfm")
PACKAGES = {  # of the learnt backends: module, and the variable that may name a checkout
    "pi3": ("pi3", "PI3_ROOT"),
    "vggt": ("vggt", "VGGT_ROOT"),
    "depth_anything": ("depth_anything_3", "DEPTH_ANYTHING_ROOT"),
    "mapanything": ("mapanything", "MAPANYTHING_ROOT"),
}
GIGABYTES_PER_JOB = 4


def visible_gpus() -> list[str]:
    """GPUs of this machine, as CUDA_VISIBLE_DEVICES or nvidia-smi name them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip() not in ("", "-1")]
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number, line in enumerate(li for li in found.splitlines() if li.startswith("GPU "))]


def gpu_slots(text: str, visible: Sequence[str]) -> list[str]:
    """A GPU for each slot.

    Args:
        text: "auto" (all), a number of GPUs, or a list with a comma (``0,0,1``: two workers share GPU 0; ``3,`` is
            GPU 3 alone).
        visible: GPUs of the machine.

    Raises:
        ValueError: neither; or more GPUs than there are.
    """
    if text == "auto":
        return list(visible)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if "," in text and parts:
        return parts
    if not text.isdigit():
        raise ValueError(f"--gpus {text!r}: give auto, a number, or a list such as 0,0,1")
    if int(text) > len(visible):
        raise ValueError(f"--gpus {text}: this machine shows {len(visible)}; give fewer, or a list such as 0,1")
    return list(visible[: int(text)])


def has_backend(name: str) -> bool:
    """Whether the package of a learnt backend can be found: installed, or the checkout its variable names."""
    if name not in PACKAGES:
        return True
    module, variable = PACKAGES[name]
    return importlib.util.find_spec(module) is not None or bool(os.environ.get(variable))


def choose_backend(
    name: str, gpus: Sequence[str], is_ray: bool = False, is_recorded: bool = False, recipe: str = USUAL
) -> tuple[str, str]:
    """The reconstruction backend, and why it was taken.

    Args:
        name: as the command line gives it.
        gpus: slots of this machine.
        is_ray: other machines do the work.
        is_recorded: the data set has a backend; it stays, and what is returned for "auto" stands in for it.
        recipe: whose word counts where none is given.

    Raises:
        ValueError: the one asked for is not installed here (on a cluster, its machines may have it).
    """
    if name == "auto" and is_recorded:
        return "sfm", "as before"
    name, why = _word(name, recipe, "reconstruct", "backend")
    if name != "auto":
        if not is_ray and not has_backend(name):
            raise ValueError(f"backend {name} ({why}): not installed here; see docs/reconstruct.md, or --backend sfm")
        return name, why
    is_there = has_backend("pi3")
    if is_there and (gpus or is_ray):
        return "pi3", "pi3 is installed and there is a GPU"
    missing = "pi3 is not installed" if not is_there else "there is no GPU"
    return "sfm", f"{missing}; sfm needs neither weights nor a GPU"


def _word(given: str, recipe: str, stage: str, field: str) -> tuple[str, str]:
    """What is given, or what the recipe says, and which of the two it is; "auto" where neither says a thing."""
    if given != "auto":
        return given, "given"
    return RECIPES[recipe].get(stage, {}).get(field, "auto"), f"recipe {recipe}"


def choose_labels(
    name: str, changes: Sequence[str] = (), is_recorded: bool = False, recipe: str = USUAL
) -> tuple[str, str]:
    """Where frame labels come from, and why.

    Args:
        name: as the command line gives it.
        changes: the ``--set`` words, which may name CLIP's weights.
        is_recorded: the data set has its labels; they stay, and what is returned for "auto" stands in for them.
        recipe: whose word counts where none is given.
    """
    if name == "auto" and is_recorded:
        return "none", "as before"
    name, why = _word(name, recipe, "segment", "labels")
    if name != "auto":
        return name if name in ("clip", "none") else str(Path(name).absolute()), why
    if importlib.util.find_spec("open_clip") is None:
        return "none", "open_clip is not installed (pip install open-clip-torch): shot cuts only, no room types"
    if any(change.startswith("segment.clip_weights=") for change in changes):
        return "clip", "its weights are given"
    if not clip_is_cached():
        return "none", "CLIP's weights are not on this machine (--labels clip fetches them): shot cuts only"
    return "clip", "open_clip and its weights are there"


def clip_is_cached() -> bool:
    """Whether the segment stage's CLIP weights are on this machine."""
    try:
        from huggingface_hub import constants, try_to_load_from_cache
    except ImportError:
        return False
    if not any(Path(constants.HF_HUB_CACHE).glob("models--*clip*")):
        return False  # known without loading PyTorch
    import open_clip

    from data_tools.segmentation.settings import SegmentSettings

    hub = open_clip.get_pretrained_cfg(SegmentSettings(labels="none").clip_model, "openai").get("hf_hub", "").strip("/")
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(hub, name), str) for name in names) if hub else False


def default_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs() -> int:
    """CPU workers: a core each, and memory for each."""
    cores = default_cores()
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        memory = GIGABYTES_PER_JOB * cores
    return max(1, min(cores, int(memory // GIGABYTES_PER_JOB)))


def usual_settings(backend: str, labels: str, recipe: str = USUAL) -> dict[str, Any]:
    """Today's settings of all stages.

    Args:
        backend: of the reconstruction.
        labels: of the segmentation.
        recipe: whose other settings they are.

    Raises:
        ValueError: a value that the stage refuses; one line.
    """
    from data_tools.collection.settings import CollectSettings
    from data_tools.postprocessing.settings import PostprocessSettings
    from data_tools.reconstruction.base import ReconstructSettings
    from data_tools.segmentation.settings import SegmentSettings

    table = RECIPES[recipe]
    return {
        "collect": CollectSettings(**table.get("collect", {})),
        "segment": SegmentSettings(**{**table.get("segment", {}), "labels": labels}),
        "reconstruct": ReconstructSettings(**{**table.get("reconstruct", {}), "backend": backend}),
        "postprocess": PostprocessSettings(**table.get("postprocess", {})),
    }


def given_changes(settings: Mapping[str, Any], backend: str, labels: str, deterministic: bool) -> list[str]:
    """What the command line says in words of its own, as `with_changes` takes it.

    Args:
        settings: of all stages, to see who has a switch for it.
        backend: "auto" says nothing.
        labels: "auto" says nothing.
        deterministic: switches on what stages have for it.
    """
    changes = [] if backend == "auto" else [f"reconstruct.backend={backend}"]
    changes += [] if labels == "auto" else [f"segment.labels={labels}"]
    has_switch = [name for name, stage in settings.items() if any(f.name == "deterministic" for f in fields(stage))]
    return changes + ([f"{name}.deterministic=true" for name in has_switch] if deterministic else [])


def with_changes(settings: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Settings with ``STAGE.FIELD=VALUE`` applied; a field may lie deeper (``postprocess.limits.min_score=0.1``).

    Raises:
        ValueError: an unknown stage or field, or a value that the stage refuses; one line.
    """
    changed = dict(settings)
    for change in changes:
        path, found, text = change.partition("=")
        stage, *names = path.strip().split(".")
        if not found or stage not in changed or not names:
            raise ValueError(f"--set {change!r}: give STAGE.FIELD=VALUE, STAGE of {', '.join(changed)}")
        try:
            changed[stage] = _replaced(changed[stage], names, text)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"--set {change!r}: {error}") from error
    return changed


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    try:
        return words[text.lower()] if text.lower() in words else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _replaced(settings: Any, names: Sequence[str], text: str) -> Any:
    known = [field.name for field in fields(settings)] if is_dataclass(settings) else []
    if names[0] not in known:
        raise AttributeError(f"no field {names[0]!r}; there are: {', '.join(known) or 'none'}")
    before = getattr(settings, names[0])
    value = text if isinstance(before, str) else _value(text)
    if len(names) > 1:
        value = _replaced(before, names[1:], text)
    elif isinstance(before, bool) != isinstance(value, bool) and before is not None:
        raise TypeError(f"{value!r} is no {'yes/no (true, false)' if isinstance(before, bool) else 'value'} for it")
    return replace(settings, **{names[0]: value})
