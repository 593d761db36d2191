"""A scene of more frames than a backend takes: chunks with overlap, joined, closed in loops, fused.

Joining chunks through the points of shared frames and closing loops through a pass over views of both visits follows
Deng et al. 2025, "VGGT-Long" (arXiv 2507.16443, section 3).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_tools.reconstruction.alignment import Similarity
from data_tools.reconstruction.base import Frames, Prediction
from data_tools.reconstruction.chunks import graph
from data_tools.reconstruction.chunks.fuse import fuse
from data_tools.reconstruction.chunks.join import Joint, join
from data_tools.reconstruction.chunks.loops import close_loop, find_candidates, views_of_both
from data_tools.reconstruction.chunks.store import Chunk, load, pack, save
from data_tools.stages.record import StageError

OVERLAP = 6  # a chunk shares one in so many frames with the next
LEAST_OVERLAP = 4  # frames
Predict = Callable[[Frames, list[str]], tuple[Prediction, Frames]]


def split(count: int, limit: int) -> list[np.ndarray]:
    """Rows of the frames of each chunk: as few chunks as the limit allows, of equal length, with overlap.

    Args:
        count: of all frames, more than ``limit``.
        limit: most frames of a chunk, at least 8.
    """
    overlap = max(LEAST_OVERLAP, limit // OVERLAP)
    chunks = max(1, -(-(count - overlap) // (limit - overlap)))
    ends = overlap + np.linspace(0, count - overlap, chunks + 1).round().astype(int)
    return [np.arange(low - overlap, high) for low, high in pairwise(ends)]


@contextmanager
def work_folder(folder: Path, key: str) -> Iterator[Path]:
    """A folder beside the scene's for its chunks.

    It is made when it is first written to. It outlives a run that was killed or interrupted or met a passing failure (a
    full disk), whose chunks the next one with the same key takes up; else it goes at the end of the block.

    Args:
        folder: the scene's.
        key: of everything the chunks depend on; folders of other keys are removed.
    """
    name = f".{folder.name}.chunks-"
    place = folder.with_name(name + key)
    if folder.parent.is_dir():
        for stale in [entry for entry in folder.parent.iterdir() if entry.name.startswith(name) and entry != place]:
            shutil.rmtree(stale)
    try:
        yield place
    except StageError as error:
        if error.permanent:
            shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)


def reconstruct_tour(
    predict: Predict, frames: Frames, limit: int, folder: Path, notes: list[str], closes_loops: bool = True
) -> Prediction:
    """A prediction of all frames from passes of at most ``limit``.

    Args:
        predict: one pass: frames and notes to a prediction and the frames it is of, which are fewer where memory ended:
            then all chunks are made anew with as many.
        frames: of the scene.
        limit: most frames of a pass.
        folder: of `work_folder`; the prediction's arrays are mapped files in it.
        notes: gets what happened, in words.
        closes_loops: whether places that the tour comes back to are looked for.

    Raises:
        StageError: no chunk could be reconstructed; one line.
    """
    chunks, spans = _chunks(predict, frames, limit, folder, notes)
    joints = [joint for a, b in _overlapping(spans) if (joint := join(chunks[a], chunks[b], a, b)) is not None]
    tried = find_candidates(frames.images, spans) if closes_loops else []
    loops = _close_loops(predict, frames, tried, chunks, spans, folder)
    places, reached = graph.chain(len(chunks), [*joints, *loops])
    number = {node: place for place, node in enumerate(reached)}
    edges = [_renamed(joint, number) for joint in [*joints, *loops] if joint.a in number and joint.b in number]
    found = [places[node] for node in reached]
    weight = np.ones(len(edges))
    if any(edge.is_loop for edge in edges):
        found, weight = graph.optimise(found, edges)
    prediction = fuse([chunks[node] for node in reached], _centred(found), folder)
    used = sum(bool(w > graph.USED) for edge, w in zip(edges, weight, strict=True) if edge.is_loop)
    prediction.notes = [f"{len(chunks)} chunks of at most {max(map(len, spans))} frames, {used} loops closed"]
    if len(reached) < len(chunks):
        lost = len(frames) - len(prediction)
        prediction.notes.append(f"{len(chunks) - len(reached)} chunks do not join the others: {lost} frames left out")
    prediction.figures = {
        "chunks": len(chunks),
        "chunks_joined": len(reached),
        "loops_tried": len(tried),
        "loops_closed": used,
        "agreeing": [round(joint.agreeing, 3) for joint in joints],
    }
    return prediction


def _chunks(
    predict: Predict, frames: Frames, limit: int, folder: Path, notes: list[str]
) -> tuple[list[Chunk], list[np.ndarray]]:
    """Every chunk that could be reconstructed, and the rows of the frames that each was given."""
    from tqdm import tqdm

    while True:
        spans, fitted, reasons = split(len(frames), limit), limit, {}
        for number, span in enumerate(tqdm(spans, desc="chunks", leave=False, disable=None)):
            try:
                fitted = _one(predict, frames, span, folder / f"{limit}_{number:03d}", notes)
            except StageError as error:
                if not error.permanent:
                    raise
                reasons[number] = str(error)
            if fitted < len(span):
                break
        else:
            break
        limit = fitted
    chunks = {n: load(folder / f"{limit}_{n:03d}") for n in range(len(spans)) if n not in reasons}
    notes += [f"chunk {number + 1} of {len(spans)} left out: {reason}" for number, reason in reasons.items()]
    if not chunks:
        raise StageError(f"none of {len(spans)} chunks could be reconstructed; the first: {reasons[0]}")
    return list(chunks.values()), [spans[number] for number in chunks]


def _one(predict: Predict, frames: Frames, span: np.ndarray, folder: Path, notes: list[str]) -> int:
    """Reconstruct some frames into a folder, unless they are there; how many frames the pass took."""
    if load(folder) is not None:
        return len(span)
    prediction, used = predict(frames.select(span), notes)
    if len(used) == len(span):
        save(pack(prediction, span[prediction.view]), folder)
    return len(used)


def _overlapping(spans: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    return [(a, a + 1) for a in range(len(spans) - 1) if spans[a][-1] >= spans[a + 1][0]]


def _close_loops(
    predict: Predict,
    frames: Frames,
    candidates: Sequence[tuple[int, int, int, int]],
    chunks: Sequence[Chunk],
    spans: Sequence[np.ndarray],
    folder: Path,
) -> list[Joint]:
    """The joints of the candidates that hold."""
    from tqdm import tqdm

    joints = []
    for number, candidate in enumerate(tqdm(candidates, desc="loops", leave=False, disable=None)):
        rows, place = views_of_both(candidate, spans), folder / f"loop_{len(spans)}_{number:03d}"
        a, _, b, _ = candidate
        try:
            _one(predict, frames, rows, place, [])
        except StageError as error:
            if not error.permanent:
                raise
        visit = load(place)
        joint = close_loop(visit, chunks[a], chunks[b], a, b) if visit is not None else None
        joints += [joint] if joint is not None else []
    return joints


def _renamed(joint: Joint, number: dict[int, int]) -> Joint:
    return Joint(**{**vars(joint), "a": number[joint.a], "b": number[joint.b]})


def _centred(places: Sequence[Similarity]) -> list[Similarity]:
    """In the unit that the chunks have on average (geometric mean): what is metric stays so, no chunk is preferred."""
    scale = float(np.exp(np.mean([np.log(place.scale) for place in places])))
    whole = Similarity(1 / scale, np.eye(3), np.zeros(3))
    return [whole.after(place) for place in places]
