"""Open a weights file as data only, and say what it is when it is none."""

from __future__ import annotations

import codecs
import importlib
import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from lam3c_plugin.checkpoints.keys import read_checkpoint
from lam3c_plugin.errors import CheckpointError

AGAIN = "get it again (`lam3c zoo download NAME`, or the file's raw link)"
_HTML = re.compile(rb"^\s*(<!doctype html|<html|<\?xml|<head|<body)", re.IGNORECASE)
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_MOST_HEADER = 100 << 20  # bytes; the format's own bound


def sniff(path: Path) -> str:
    """``"zip"``, ``"pickle"`` or ``"safetensors"``, by the file's first bytes.

    Raises:
        CheckpointError: it is empty, text, an HTML page, a Git LFS pointer, cut short, or of no known format.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; check its name and rights") from error
    if not head:
        raise CheckpointError(f"{path} is empty; {AGAIN}")
    if _HTML.match(head):
        raise CheckpointError(f"{path} is an HTML page, not weights: a web server's answer was saved; {AGAIN}")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder")
    if head.startswith(_ZIP):
        if not _has_end(path):
            raise CheckpointError(f"{path} is cut short (at {size:,} bytes) or damaged; {AGAIN}")
        _refuse_other_zip(path)
        return "zip"
    if head.startswith(_PICKLE):
        return "pickle"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _MOST_HEADER:
        _check_length(path, size)
        return "safetensors"
    kind = "a text file" if _is_text(head) else "neither a PyTorch nor a safetensors file"
    raise CheckpointError(f"{path} is {kind}, not weights; give a .pth, .safetensors or a folder with one")


def _has_end(path: Path) -> bool:
    """Whether the directory at the end of a zip file is there."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def _refuse_other_zip(path: Path) -> None:
    """PyTorch's zip has its pickle in ``<anything>/data.pkl``, TorchScript's and an exported program's code beside."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        raise CheckpointError(f"{path} is cut short or damaged; {AGAIN}") from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{path} is a TorchScript program, which is code; give a checkpoint with the tensors")
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"{path} is a zip file without PyTorch's tensors ({', '.join(names[:2]) or 'empty'})")


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # whose last character may be cut
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def _check_length(path: Path, size: int) -> None:
    """A safetensors file is its header's length, the header, and the data whose ends the header tells."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        ends = [int(item["data_offsets"][1]) for name, item in header.items() if name != "__metadata__"]
        wanted = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise CheckpointError(f"{path} has a damaged safetensors header or is cut short; {AGAIN}") from None
    if size != wanted:
        raise CheckpointError(f"{path} has {size:,} bytes where its header says {wanted:,}; {AGAIN}")


def open_pickle(path: Path) -> dict[str, Any]:
    """The content of a PyTorch file, never running what a pickle asks for (``LAM3C_TRUST_CHECKPOINTS`` or not).

    Raises:
        CheckpointError: damaged, or it holds other things than tensors, numbers, texts and containers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about a foreign pickle, before it refuses
            return read_checkpoint(path, trust=False, mmap=True)
    except CheckpointError as error:
        cause = error.__cause__
        if isinstance(cause, pickle.UnpicklingError) and "eights" in str(cause):
            wanted = re.search(r"GLOBAL (\S+)", str(cause))
            if wanted is None:
                raise CheckpointError(
                    f"cannot read {path}: its pickle is damaged (nothing was run); {AGAIN}"
                ) from error
            raise CheckpointError(
                f"{path} was refused, and nothing in it was run: it asks to load other objects than tensors "
                f"({wanted[1]}), which can execute any code; ask its author for a .safetensors file"
            ) from error
        raise CheckpointError(f"{' '.join(str(error).split())}; {AGAIN}") from error


def open_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and the texts in its header.

    Raises:
        CheckpointError: damaged, or the library is missing.
    """
    safetensors = require("safetensors")
    sniff(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot read {path}: damaged safetensors ({error!s:.120}); {AGAIN}") from error


def require(name: str) -> Any:
    """Import ``safetensors`` or ``huggingface_hub``, or a module of theirs.

    Raises:
        CheckpointError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CheckpointError(f"this needs {name}; run `pip install {name.split('.')[0]}`") from error
