"""The frames of a scene: evenly spread, sharp, from a video in one decoding pass or from a folder of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np

from data_tools.reconstruction.base import Frames, Reconstructor, ReconstructSettings, backend_class
from data_tools.reconstruction.geometry import scale_intrinsics
from data_tools.stages.record import RejectedError, StageError
from data_tools.video.images import folder_files, image_size, list_images, read_image

BLURRED = 0.8  # a frame under this share of its neighbourhood's best sharpness gives way to the best
MEASURED_SIDE = 320
Intervals = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Still:
    """One frame, before it is converted: most are only measured.

    Attributes:
        index: its number.
        time: seconds.
        sharpness: of `sharpness`; 0 for every frame where blurred ones are kept.
        image: gives (H, W, 3) uint8.
    """

    index: int
    time: float
    sharpness: float
    image: Callable[[], np.ndarray]


@dataclass(frozen=True)
class SceneFrames:
    """What `read_frames` found.

    Attributes:
        frames: the frames chosen.
        size: (width, height) of the source in pixels, as shown.
        replaced: how many blurred frames a sharper neighbour stands for.
        seen: how many frames were looked at.
        notes: what was done to the pictures, in words.
    """

    frames: Frames
    size: tuple[int, int]
    replaced: int
    seen: int
    notes: list[str]


def sharpness(image: np.ndarray) -> float:
    """How sharp an image is, whatever its exposure.

    Variance of the Laplacian over the squared mean, of an image of at most 320 pixels (which averages sensor noise
    away). The mean, not the contrast: blur lowers contrast as well, and on what is left of it noise would pass for
    detail. Only images of about the same view compare.

    Args:
        image: (H, W) uint8 brightness.

    Returns:
        A number >= 0; 0 for an image of one colour.
    """
    step = max(1, -(-max(image.shape) // MEASURED_SIDE))
    height, width = (side // step * step for side in image.shape)
    parts = (image[row:height:step, column:width:step] for row in range(step) for column in range(step))
    grey = sum(part.astype(np.float32) for part in parts) / (step * step)
    if min(grey.shape) < 3:
        return 0.0
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return float(laplacian.var() / (middle.mean() ** 2 + 1.0))


def count_frames(settings: ReconstructSettings, length: float, limit: int | None) -> int:
    """How many frames a scene of ``length`` seconds gives, before it runs out of frames."""
    most = settings.max_frames if limit is None else min(limit, settings.max_frames)
    return max(1, min(max(round(length * settings.frame_rate), settings.min_frames), most))


def choose(stream: Iterable[Still], start: float, end: float, count: int) -> Iterator[tuple[Still, bool]]:
    """One frame from each of ``count`` equal parts of the time from ``start`` to ``end``.

    The one nearest to the part's middle, or, where that is blurred (see `BLURRED`), the part's sharpest. Parts without
    a frame give none. Holds two frames at a time.

    Args:
        stream: frames with rising times.
        start, end: seconds.
        count: of the parts.

    Yields:
        A frame and whether it stands for a blurred one.
    """
    gap = max(end - start, 1e-9) / count
    part, near, best = -1, None, None
    for still in stream:
        here = min(max(int((still.time - start) / gap), 0), count - 1)
        if here != part:
            if near is not None:
                yield _decide(near, best)
            part, near, best = here, still, still
        middle = start + (part + 0.5) * gap
        if abs(still.time - middle) < abs(near.time - middle):
            near = still
        if still.sharpness > best.sharpness:
            best = still
    if near is not None:
        yield _decide(near, best)


def _decide(near: Still, best: Still) -> tuple[Still, bool]:
    blurred = near.sharpness < BLURRED * best.sharpness
    return (best, True) if blurred else (near, False)


FrameSize = Callable[[ReconstructSettings, int, int], tuple[int, int]]


def frames_for(
    source: Path,
    intervals: Intervals,
    settings: ReconstructSettings,
    packets: Path | None = None,
    backend: Reconstructor | type[Reconstructor] | None = None,
) -> SceneFrames:
    """The frames of a scene as its backend wants them: how many at most, and at what size, resized once.

    Decoding and choosing only: no PyTorch and no GPU, so that it can run in another thread or process than the network.
    What comes back holds arrays and pickles.

    Args:
        source: as for `read_frames`.
        intervals: as for `read_frames`.
        settings: as for `read_frames`.
        packets: ``packets.npy`` of the segment stage, which saves reading the whole file for its packets' times.
        backend: instead of that of the settings.

    Raises:
        StageError: as `read_frames`.
        ValueError: unknown backend.
    """
    found = backend or backend_class(settings.backend)
    try:
        known = None if packets is None else np.load(packets)
    except (OSError, ValueError):
        known = None  # another version's folder, or none: the times are read from the video
    limit = None if settings.chunk_frames else found.max_frames
    return read_frames(source, intervals, settings, limit, found.frame_size, known)


def read_frames(
    source: Path,
    intervals: Intervals,
    settings: ReconstructSettings,
    limit: int | None,
    size: FrameSize,
    packets: np.ndarray | None = None,
) -> SceneFrames:
    """The frames of a scene.

    Args:
        source: a video, or a folder of images. Images are taken in the order of their names, numbers in them as
            numbers (frame_2 before frame_10); where all names are numbers, these are the times in seconds (else the
            position is), and the intervals count from the first. What is no image, cannot be read or has another size
            than most is left out with a note.
        intervals: (start, end) seconds in order of time; an end of None is the source's. Each gives its share.
        settings: how many, whether blurred ones give way, known intrinsics of the full resolution.
        limit: most frames the backend takes, or None.
        size: the settings and the source's (width, height) -> (width, height) of the frames.
        packets: times of a video's packets, where they are known.

    Raises:
        StageError: missing, unreadable, or fewer than 2 frames between the times; one line.
    """
    for start, end in intervals:
        if end is not None and not end > start:
            raise StageError(f"{source.name}: a scene from {start} s to {end} s holds nothing; the end comes after it")
    intervals = _after_start(source, intervals, settings.skip_start)
    if source.is_dir():
        found, full, seen, notes = _from_folder(source, intervals, settings, limit, size)
    else:
        found, full, seen, notes = _from_video(source, intervals, settings, limit, size, packets)
    if len(found) < 2:
        reason = f"{source.name}: {len(found)} frame(s) from {intervals[0][0]} s on; a cloud needs at least 2 views"
        raise StageError("; ".join([reason, *notes]))
    images = np.stack([chosen.image for chosen in found])
    camera = None
    if settings.intrinsics is not None:
        fx, fy, cx, cy = settings.intrinsics
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)
        camera = scale_intrinsics(matrix, (full[1], full[0]), images.shape[1:3])
    index = np.array([chosen.index for chosen in found], dtype=np.int64)
    time = np.array([chosen.time for chosen in found], dtype=np.float64)
    return SceneFrames(Frames(images, index, time, camera), full, sum(c.replaced for c in found), seen, notes)


def _after_start(source: Path, intervals: Intervals, seconds: float) -> Intervals:
    """What is left of a scene's intervals without its first seconds.

    Raises:
        RejectedError: nothing.
    """
    kept: list[tuple[float, float | None]] = []
    left = seconds
    for start, end in intervals:
        if end is None or end - start > left:
            kept.append((start + left, end))
        left = 0.0 if kept else left - (end - start)
    if not kept:
        reason = f"its first {seconds:g} s are skipped, and it has {seconds - left:.1f} s"
        raise RejectedError(f"{source.name}: nothing is left of the scene from {intervals[0][0]} s on: {reason}")
    return kept


@dataclass(frozen=True)
class Chosen:
    """A frame that was chosen: number, time, (H, W, 3) uint8, whether it stands for a blurred one."""

    index: int
    time: float
    image: np.ndarray
    replaced: bool


Found = tuple[list[Chosen], tuple[int, int], int, list[str]]


def _from_video(
    source: Path,
    intervals: Intervals,
    settings: ReconstructSettings,
    limit: int | None,
    size: FrameSize,
    packets: np.ndarray | None,
) -> Found:
    from data_tools.video.sampling import DecodeReport, probe_video, sample_raw

    info = probe_video(source)
    spans = [(start, info.duration if end is None else min(end, info.duration)) for start, end in intervals]
    lengths = [max(last - start, 0.0) for start, last in spans]
    count, seen = count_frames(settings, sum(lengths), limit), 0
    wanted, report = size(settings, info.width, info.height), DecodeReport()

    def stills(start: float, last: float) -> Iterator[Still]:
        nonlocal seen
        for raw in sample_raw(source, None, start, last, report, packets):
            seen += 1
            value = sharpness(raw.luma(MEASURED_SIDE)) if settings.replace_blurred else 0.0
            yield Still(raw.index, raw.time, value, partial(raw.pixels, wanted, settings.resize.upper()))

    found: list[Chosen] = []
    for (start, last), share in zip(spans, _shares(count, lengths), strict=True):
        if share:
            # converted at once: a picture that waits holds the decoder's memory
            chosen = choose(stills(start, last), start, last, share)
            found += [Chosen(s.index, s.time, s.image(), flag) for s, flag in chosen]
    notes = [f"{report.hdr} video: colours brought to ordinary ones (BT.709)"] if report.hdr else []
    if report.errors:
        notes.append(f"{report.errors} damaged packets or frames left out")
    return found, (info.width, info.height), seen, notes


def _shares(count: int, lengths: list[float]) -> list[int]:
    """How many of ``count`` frames each stretch gives, by its length; their sum is ``count``."""
    ends = np.round(np.cumsum(lengths) * count / max(sum(lengths), 1e-9)).astype(int)
    return [int(share) for share in np.diff(ends, prepend=0)] if sum(lengths) > 0 else [count, *[0] * len(lengths[1:])]


def _from_folder(
    folder: Path, intervals: Intervals, settings: ReconstructSettings, limit: int | None, size: FrameSize
) -> Found:
    entries = list_images(folder)
    first = entries[0][1]
    inside = [
        (index, path, time, image_size(path))
        for index, (path, time) in enumerate(entries)
        if any(start <= time - first and (end is None or time - first <= end) for start, end in intervals)
    ]
    sizes = Counter(full for *_, full in inside if full is not None)
    usual = sizes.most_common(1)[0][0] if sizes else (0, 0)
    wanted = size(settings, *usual) if sizes else usual
    good, bad = [row for row in inside if row[3] == usual], [row[1] for row in inside if row[3] is None]
    most = settings.max_frames if limit is None else min(limit, settings.max_frames)
    count = max(1, min(len(good), most))
    measures = settings.replace_blurred and len(good) > count

    def stills() -> Iterator[Still]:  # a place in line stands for the time: images may come unevenly
        for place, (_, path, _, full) in enumerate(good):
            image = read_image(path, wanted, full, settings.resize)
            if image is None:
                bad.append(path)
            else:
                value = sharpness(image[..., 1]) if measures else 0.0  # green: most of the brightness
                yield Still(place, place + 0.5, value, partial(np.ascontiguousarray, image))

    chosen = choose(stills(), 0.0, float(len(good)), count)
    found = [Chosen(good[s.index][0], good[s.index][2], s.image(), flag) for s, flag in chosen]
    images, odd = {path for path, _ in entries}, [row[1] for row in inside if row[3] not in (usual, None)]
    left_out = [
        ("no image by its name", [path for path in folder_files(folder) if path not in images]),
        (f"of another size than {usual[0]}x{usual[1]}", odd),
        ("cannot be read as an image", bad),
    ]
    notes = [f"{len(paths)} left out, {reason}: {_names(paths)}" for reason, paths in left_out if paths]
    return found, usual, len(inside), notes


def _names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(path.name for path in paths[:3]) + more


class FramesAhead:
    """Frames of scenes in their order, those of the next one decoded in a thread while the last one is in the network.

    Never more than one scene ahead: 400 frames of 672 x 378 pixels are 300 MB.

    Args:
        loads: a function a scene, `frames_for` with its arguments; None where the scene is not needed.
    """

    def __init__(self, loads: Sequence[Callable[[], SceneFrames] | None]) -> None:
        self._loads = list(loads)
        self._ahead: tuple[int, Future[SceneFrames]] | None = None

    def take(self, number: int) -> SceneFrames:
        """The frames of a scene; those after it are begun.

        Raises:
            StageError: as `frames_for`.
        """
        if self._ahead is None or self._ahead[0] != number:
            self._begin(number)
        _, future = self._ahead
        found = future.result()
        self._ahead = None
        following = next((i for i in range(number + 1, len(self._loads)) if self._loads[i] is not None), None)
        if following is not None:
            self._begin(following)
        return found

    def _begin(self, number: int) -> None:
        future: Future[SceneFrames] = Future()
        self._ahead = (number, future)
        # a daemon: an interrupted run does not wait for an hour of video
        Thread(target=_fulfil, args=(future, self._loads[number]), daemon=True, name="frames").start()


def _fulfil(future: Future[SceneFrames], load: Callable[[], SceneFrames]) -> None:
    try:
        future.set_result(load())
    except BaseException as error:  # it is raised where the frames are taken
        future.set_exception(error)
