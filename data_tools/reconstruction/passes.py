"""A scene through its backend: in one pass, with fewer frames where memory ends, or in chunks."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np

from data_tools.reconstruction.base import Frames, Prediction, Reconstructor, ReconstructSettings
from data_tools.reconstruction.chunks.tour import reconstruct_tour
from data_tools.reconstruction.contract import keep_contract
from data_tools.stages.record import StageError

LESS = 0.75  # share of the frames kept after running out of memory
FEWEST = 8  # a scene of fewer frames than this, for memory alone, is no scene
MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")


def predict_scene(
    backend: Reconstructor, frames: Frames, settings: ReconstructSettings, notes: list[str], folder: Path
) -> tuple[Prediction, Frames]:
    """A scene's prediction, in one pass or in chunks, and the frames it is of.

    Args:
        backend: to run.
        frames: of the scene.
        settings: how many frames a pass takes; seed.
        notes: gets what happened, in words.
        folder: of `work_folder`, for chunks.

    Raises:
        StageError: as `predict_with_less`, `keep_contract` and `reconstruct_tour`.
    """

    def one_pass(some: Frames, words: list[str]) -> tuple[Prediction, Frames]:
        prediction, used = predict_with_less(backend, some, settings.seed, words, settings.deterministic)
        keep_contract(backend, prediction, words, settings.deterministic)
        return prediction, used

    limit = settings.chunk_frames or backend.chunk_frames
    if not limit or len(frames) <= limit:
        return one_pass(frames, notes)
    return reconstruct_tour(one_pass, frames, limit, folder, notes), frames


def predict_with_less(
    backend: Reconstructor, frames: Frames, seed: int, notes: list[str], begins_whole: bool = False
) -> tuple[Prediction, Frames]:
    """Run a backend; where memory ends, with three quarters of the frames, evenly, and so on.

    Args:
        backend: to run. The number that fitted is kept on it: the next scene of that size begins there.
        frames: of the scene.
        seed: for the backend.
        notes: gets a line for every try that ran out of memory.
        begins_whole: try all frames first, so that a scene does not depend on those before it.

    Returns:
        The prediction and the frames it is of.

    Raises:
        StageError: even `FEWEST` frames are too many, no view came back, or the prediction is not usable.
    """
    fitted: dict[tuple[int, ...], int] = vars(backend).setdefault("fitted", {})
    size, most = frames.images.shape[1:3], len(frames)
    if not begins_whole and fitted.get(size, most) < most:
        notes.append(f"{fitted[size]} of {most} frames: as many as fitted into memory before")
        frames = frames.select(np.linspace(0, most - 1, fitted[size]).round().astype(int))
    while True:
        prediction, reason = _try(backend, frames, seed)
        if prediction is not None:
            if len(frames) < most:
                fitted[size] = len(frames)
            if not len(prediction):
                raise StageError(f"{backend.name} placed none of {len(frames)} frames; is there a room in them?")
            return prediction, frames
        _free_memory()
        count = int(len(frames) * LESS)
        if count < FEWEST:
            raise StageError(
                f"{backend.name}: out of memory with {len(frames)} frames ({reason}); use smaller images "
                "(--max-side, --option), another backend, or a larger machine",
                permanent=False,
            )
        notes.append(f"out of memory with {len(frames)} frames: tried again with {count}")
        frames = frames.select(np.linspace(0, len(frames) - 1, count).round().astype(int))


def _try(backend: Reconstructor, frames: Frames, seed: int) -> tuple[Prediction | None, str]:
    """The prediction, or None and the reason where memory ended; the failed call's frames are let go of on return."""
    try:
        return backend.reconstruct(frames, seed), ""
    except MemoryError as error:
        return None, str(error).splitlines()[0] if str(error) else "MemoryError"
    except RuntimeError as error:  # torch.cuda.OutOfMemoryError is one; its CPU allocator has no class of its own
        if type(error).__name__ != "OutOfMemoryError" and not any(word in str(error) for word in MEMORY_WORDS):
            raise StageError(f"{backend.name}: {_first_line(error)}", permanent=False) from error
        return None, _first_line(error)
    except (ValueError, AssertionError) as error:
        raise StageError(f"{backend.name}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
