"""Checkpoints: read, write so that nothing is lost, and fit weights to a model whatever run they come from.

Three layouts of a state dict are known ("layout" below), each with or without DDP's ``module.`` in front:

* ``pretrain``: ``student.backbone.*``, ``student.mask_head.*``, …, ``teacher.*`` (training runs of LAM3C and Sonata);
* ``downstream``: ``backbone.*`` beside a task head (fine-tuned models);
* ``backbone``: the backbone's own keys (model zoo, ``{"config": …, "state_dict": …}``).
"""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_tools.stages.files import replacing
from lam3c_plugin.errors import CheckpointError, near_names

TRUST_VARIABLE = "LAM3C_TRUST_CHECKPOINTS"
ENCODER = ("embedding.", "enc.")
MASK_TOKEN = "embedding.mask_token"  # there in pre-training, mostly not downstream
_STUDENT, _TEACHER, _PLAIN = "student.backbone.", "teacher.backbone.", "backbone."


# ---------------------------------------------------------------------------------------------------------- reading
def read_checkpoint(
    path: str | os.PathLike[str], map_location: Any = "cpu", *, trust: bool | None = None, mmap: bool = False
) -> dict[str, Any]:
    """Read a checkpoint file as data only (``weights_only=True``; NumPy numbers are let in, hosts write them).

    Args:
        path: the file.
        map_location: as ``torch.load`` takes it.
        trust: let other pickled objects in; ``None``: as ``LAM3C_TRUST_CHECKPOINTS`` says.
        mmap: leave the tensors on the disk until they are used (of files from before PyTorch 1.6 nothing is left).

    Raises:
        CheckpointError: missing, unreadable or cut short, or it holds pickled objects of other classes; these can run
            code when loaded, so they need ``LAM3C_TRUST_CHECKPOINTS=1``.
    """
    path = Path(path)
    if not path.is_file():
        near = near_names(path.name, [p.name for p in path.parent.glob("*.pth")]) if path.parent.is_dir() else []
        raise CheckpointError(
            f"checkpoint not found: {path}" + (f"; did you mean {' or '.join(near)}?" if near else "")
        )
    mapped = (mmap and zipfile.is_zipfile(path)) or None
    trusted = os.environ.get(TRUST_VARIABLE, "") not in ("", "0") if trust is None else trust
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location=map_location, weights_only=not trusted, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "eights" in str(error) and "only" in str(error):
            raise CheckpointError(
                f"{path} holds more than tensors and numbers, and loading such a file can run code; "
                f"set {TRUST_VARIABLE}=1 if you trust its source"
            ) from error
        raise CheckpointError(f"cannot read checkpoint {path}: not a PyTorch file, or damaged") from error
    except Exception as error:  # torch.load raises whatever the damage makes of it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot read checkpoint {path}: damaged or cut short ({reason:.120})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint's dictionary")
    return dict(content)


def _numpy_globals() -> list[Any]:
    """What a pickled NumPy number is made of; its maker's module has another name in NumPy 1 and 2 files."""
    core = getattr(np, "_core", None) or np.core
    if not hasattr(core, "multiarray"):
        core = np.core
    makers = []
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):

        def scalar(*args: Any) -> Any:
            return core.multiarray.scalar(*args)

        scalar.__module__, scalar.__qualname__ = module, "scalar"
        makers.append(scalar)
    return [*makers, np.dtype, *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?"))]


def state_dict_of(
    checkpoint: Mapping[str, Any], source: str | os.PathLike[str] = "the checkpoint"
) -> dict[str, Tensor]:
    """The weights in a checkpoint, without ``module.`` in front."""
    state: Any = checkpoint
    for key in ("state_dict", "model"):
        if isinstance(checkpoint.get(key), Mapping):
            state = checkpoint[key]
            break
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{source} has no weights: neither 'state_dict' nor tensors (keys: {sorted(map(str, state))[:5]})"
        )
    return strip_module(tensors)


def strip_module(state: Mapping[str, Any]) -> dict[str, Any]:
    """Keys without the ``module.`` that DistributedDataParallel puts in front."""
    return {key.removeprefix("module."): value for key, value in state.items()}


# ---------------------------------------------------------------------------------------------------------- mapping
def layout_of(keys: Iterable[str]) -> str:
    """``"pretrain"``, ``"downstream"`` or ``"backbone"``; see the module's text."""
    keys = list(keys)
    if any(key.startswith(("student.", "teacher.")) for key in keys):
        return "pretrain"
    return "downstream" if any(key.startswith(_PLAIN) for key in keys) else "backbone"


def backbone_state(state: Mapping[str, Tensor], part: str = "student") -> dict[str, Tensor]:
    """The backbone's weights under its own keys, out of any layout.

    Args:
        state: weights without ``module.``.
        part: whose, in a pre-training checkpoint: ``"student"`` (downstream runs and the zoo use it) or ``"teacher"``;
            where there is only one, that one.
    """
    prefixes = [_STUDENT, _TEACHER] if part == "student" else [_TEACHER, _STUDENT]
    for prefix in [*prefixes, _PLAIN]:
        found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if found:
            return found
    return dict(state) if layout_of(state) == "backbone" else {}


def is_encoder(name: str) -> bool:
    """Whether a tensor of a backbone belongs to the pre-trained encoder (the mask token does not count)."""
    return name.startswith(ENCODER) and name != MASK_TOKEN


def map_state(state: Mapping[str, Tensor], target_keys: Iterable[str]) -> dict[str, Tensor]:
    """Rename weights of one layout to the layout of a model.

    The same layout passes unchanged. For a pre-training model, bare or fine-tuned backbone weights fill the student's
    *and* the teacher's backbone, and a checkpoint with one of the two fills both. For a downstream model or a bare
    backbone, the student's backbone of a pre-training checkpoint is taken.
    """
    target = layout_of(target_keys)
    source = layout_of(state)
    if target == "pretrain":
        if source != "pretrain":
            bare = backbone_state(state)
            return {prefix + key: value for prefix in (_STUDENT, _TEACHER) for key, value in bare.items()}
        mapped = dict(state)
        for have, lack in (("student.", "teacher."), ("teacher.", "student.")):
            if not any(key.startswith(lack) for key in state):
                mapped.update(
                    {lack + key.removeprefix(have): value for key, value in state.items() if key.startswith(have)}
                )
        return mapped
    if source == target:
        return dict(state)
    prefix = _PLAIN if target == "downstream" else ""
    return {prefix + key: value for key, value in backbone_state(state).items()}


def replace_keywords(state: Mapping[str, Tensor], keywords: str, replacement: str | None) -> dict[str, Tensor]:
    """The host's renaming: every key with ``keywords`` in it, once (also where they begin with ``module.``)."""
    old, new = keywords, keywords if replacement is None else replacement
    renamed = {}
    for key, value in state.items():
        full = f"module.{key}"
        renamed[(full.replace(old, new, 1) if old in full else full).removeprefix("module.")] = value
    return renamed


# ---------------------------------------------------------------------------------------------------------- loading
@dataclass
class LoadReport:
    """How weights met a model: names by what became of them."""

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reshaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Every name and shape agreed."""
        return not (self.missing or self.unexpected or self.reshaped)

    @property
    def share(self) -> float:
        """Part of the weights that fitted, of those that could have."""
        offered = len(self.matched) + len(self.reshaped) + len(self.unexpected)
        wanted = len(self.matched) + len(self.reshaped) + len(self.missing)
        return len(self.matched) / max(1, min(offered, wanted))

    def summary(self, limit: int = 3) -> str:
        """Counts, and the first few names of everything that did not fit."""
        text = f"{len(self.matched)} weights matched"
        for label, names in (("missing", self.missing), ("not in the model", self.unexpected)):
            if names:
                text += f", {len(names)} {label} ({', '.join(names[:limit])}{', …' if len(names) > limit else ''})"
        if self.reshaped:
            first = "; ".join(f"{key} {_dims(have)} for {_dims(want)}" for key, have, want in self.reshaped[:limit])
            text += f", {len(self.reshaped)} of another shape ({first}{'; …' if len(self.reshaped) > limit else ''})"
        return text


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def compare(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> LoadReport:
    """Match names and shapes of weights against a model's state dict."""
    report = LoadReport(missing=[key for key in target if key not in state])
    for key, value in state.items():
        if key not in target:
            report.unexpected.append(key)
        elif value.shape != target[key].shape:
            report.reshaped.append((key, tuple(value.shape), tuple(target[key].shape)))
        else:
            report.matched.append(key)
    return report


def load_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    strict: bool = False,
    source: str | os.PathLike[str] = "the checkpoint",
    least_share: float = 0.5,
) -> LoadReport:
    """Load what fits into a model (not wrapped in DDP) and say what did not.

    Raises:
        CheckpointError: with ``strict``, anything that does not fit; otherwise less than ``least_share`` of the
            weights. The message counts and names them; the model is unchanged then.
    """
    report = compare(state, model.state_dict())
    if (strict and not report.exact) or report.share < least_share or not report.matched:
        raise CheckpointError(f"{source} is of another architecture than the model: {report.summary()}")
    model.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    return report


def warm_start(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    keywords: str = "",
    replacement: str | None = None,
    strict: bool = False,
) -> LoadReport:
    """Initialise a model from a checkpoint file of any layout (`map_state`), or by explicit ``keywords``.

    Keywords that are in no key of the file (a zoo checkpoint where a training run was expected) leave it to the layout.

    Raises:
        CheckpointError: see `read_checkpoint` and `load_weights`.
    """
    state = state_dict_of(read_checkpoint(path), path)
    if keywords and any(keywords in f"module.{key}" for key in state):
        state = replace_keywords(state, keywords, replacement)
    else:
        state = map_state(state, model.state_dict())
    return load_weights(model, state, strict=strict, source=path)


# ---------------------------------------------------------------------------------------------------------- writing
def save_atomic(content: Any, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint beside its place, flush it to the disk and rename: the old one survives any failure.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; the partial file is removed.
    """
    path = Path(path)
    sink: _Sink | None = None
    try:
        with replacing(path, durable=True) as temporary, open(temporary, "wb") as raw:
            sink = _Sink(raw)
            torch.save(content, sink)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else getattr(sink, "error", None) or error
        if isinstance(error, RuntimeError) and cause is error:
            raise
        full = getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else getattr(cause, "strerror", None) or str(cause)
        kept = "the previous checkpoint is intact" if path.exists() else "there is no earlier checkpoint"
        cure = "free some space and resume" if full else "check the folder"
        raise CheckpointError(f"cannot save {path}: {reason}; {kept}; {cure}") from error


class _Sink:
    """A binary file that remembers its error: torch's writer turns it into a RuntimeError without the reason."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.raw.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.raw.flush()


def copy_atomic(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a written checkpoint a second name; later saves replace the first name only.

    A hard link where the file system has them, which costs neither time nor space; else a copy.
    """
    try:
        with replacing(target) as temporary:
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)
    except OSError as error:
        raise CheckpointError(f"cannot save {target}: {error.strerror}; {source} is intact") from error
