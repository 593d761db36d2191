"""Opening and decoding of video files through PyAV, one pass, frame by frame; ``video/sampling.py`` is the face."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.stages.record import PASSING_ERRNO, StageError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_THREADS = 4  # every decoding thread holds pictures: 12 MB each at 4K
HD_HEIGHT = 720  # from here on pictures without a tag are BT.709, as players take them
USUAL_FPS = 25.0


class VideoError(StageError):
    """A video that cannot be read; the message names the file and the cure."""


@dataclass
class DecodeReport:
    """What a decoding pass met; filled while it runs.

    Attributes:
        frames: pictures that were decoded.
        errors: packets or pictures that were damaged and left out.
        last_time: time of the last picture, seconds.
        is_complete: whether the pass came to the end of the file.
    """

    frames: int = 0
    errors: int = 0
    last_time: float = 0.0
    is_complete: bool = False


@dataclass(frozen=True)
class Geometry:
    """Size of the pictures as they are shown.

    Attributes:
        width, height: as shown: square pixels, turned.
        turns: quarter turns counter-clockwise from the stored to the shown picture, 0..3.
    """

    width: int
    height: int
    turns: int

    def shown(self, max_side: int | None) -> tuple[int, int]:
        """(width, height) as shown, with the longer side at most ``max_side`` pixels."""
        scale = 1.0 if max_side is None else min(1.0, max_side / max(self.width, self.height))
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))


@dataclass
class RawFrame:
    """A decoded picture before colour conversion; let go of it before many more are decoded.

    Attributes:
        index: number of the frame in the video.
        time: seconds after the video's start.
        picture: PyAV's frame.
        geometry: size and turn.
    """

    index: int
    time: float
    picture: VideoFrame
    geometry: Geometry

    def pixels(self, max_side: int | None = None, form: str = "rgb24", fast: bool = False) -> np.ndarray:
        """The picture as shown: (H, W, 3) uint8 RGB, or (H, W) for ``form`` "gray".

        Args:
            max_side: longer side in pixels, at most; never enlarges.
            form: FFmpeg's name of the pixel format.
            fast: bilinear instead of area averaging, for pictures that only statistics are taken of.
        """
        width, height = self.geometry.shown(max_side)
        if self.geometry.turns % 2:
            width, height = height, width
        image = _convert(self.picture, width, height, form, "FAST_BILINEAR" if fast else "AREA")
        return np.ascontiguousarray(np.rot90(image, self.geometry.turns)) if self.geometry.turns else image


def import_av() -> Any:
    """PyAV.

    Raises:
        VideoError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise VideoError("reading video needs PyAV: pip install 'av>=17'", permanent=False) from error
    return av


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a video file and its first real video stream (a cover picture of a song is none).

    Raises:
        VideoError: missing, empty, not a video, no video stream.
    """
    av = import_av()
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path.name}: 0 bytes; fetch it again")
        # `file:` keeps names such as "a:b.mp4" and "-x.mp4" file names, and playlists from reaching out
        container = av.open(f"file:{path}", metadata_errors="replace", container_options={"protocol_whitelist": "file"})
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise VideoError(f"{path}: no such file", permanent=False) from error
        raise VideoError(f"{path.name}: {error.strerror or error}", permanent=False) from error
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{path.name}: not a video, or cut off at its index; fetch it again") from error
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams or streams[0].codec_context is None:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no streams"
        container.close()
        raise VideoError(f"{path.name}: no video that can be decoded in it ({kinds}); take another file")
    stream = streams[0]
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = MAX_THREADS
    return container, stream


def geometry_of(stream: VideoStream, picture: VideoFrame) -> Geometry:
    """Size as shown: the pixel aspect and the rotation of phone videos applied."""
    width, height = picture.width, picture.height
    aspect = stream.sample_aspect_ratio
    if aspect and Fraction(1, 4) <= aspect <= 4:
        width = max(1, round(width * aspect))
    turns = round(getattr(picture, "rotation", 0) / 90) % 4
    return Geometry(*((height, width) if turns % 2 else (width, height)), turns)


def frame_rate(stream: VideoStream) -> float:
    """Average frames a second; a usual one where the file says none."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0.01 < rate <= 1000:
            return float(rate)
    return USUAL_FPS


def packet_times(path: Path) -> np.ndarray | None:
    """Sorted times (seconds) of all packets, by reading the file without decoding; None where packets have none."""
    container, stream = open_video(path)
    with closing(container):
        pts = []
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    pts.append(packet.pts)
        except (import_av().FFmpegError, OSError) as error:
            _raise_if_passing(path, error)  # else: what is readable counts
        if not pts or None in pts or stream.time_base is None or container.format.name == "avi":
            return None
        origin = stream.start_time if stream.start_time is not None else min(pts)
        return np.sort((np.array(pts, np.int64) - origin) * float(stream.time_base))


def raw_frames(path: Path, start: float = 0.0, report: DecodeReport | None = None) -> Iterator[RawFrame]:
    """All frames in the order they are shown, from the last key frame at or before ``start`` on.

    Args:
        path: video file.
        start: seconds; where it is positive and the file can be searched, decoding begins near it.
        report: filled while frames come.

    Yields:
        Frames with rising times. Damaged pictures are left out.

    Raises:
        VideoError: the file cannot be opened, or nothing in it decodes.
    """
    report = report if report is not None else DecodeReport()
    table = packet_times(path) if start > 0 else None
    if table is not None:
        frames = _decode(path, report, start, table)
        first = next(frames, None)
        if first is not None and first.time <= start:
            yield first
            yield from frames
            return
        frames.close()  # sought too far: formats without a good index
        report.frames = report.errors = 0
    yield from _decode(path, report)
    if report.frames == 0:
        raise VideoError(f"{path.name}: no picture of it decodes; fetch it again")


def _decode(
    path: Path, report: DecodeReport, start: float = 0.0, table: np.ndarray | None = None
) -> Iterator[RawFrame]:
    container, stream = open_video(path)
    with closing(container):
        base = float(stream.time_base or 0) or None
        origin, step = stream.start_time, 1 / frame_rate(stream)
        if table is not None and base:
            try:
                container.seek(int(start / base) + (origin or 0), stream=stream, backward=True)
            except import_av().FFmpegError:
                table = None
        is_avi = container.format.name == "avi"  # it stores no order of showing, and guesses of it are wrong
        origin = None if is_avi else origin
        geometry, time, index = None, -step, -1
        for picture in _pictures(path, container, stream, report):
            stamp = picture.dts if picture.pts is None or is_avi else picture.pts
            if stamp is None or base is None:
                time += step
            else:
                origin = stamp if origin is None else origin
                now = (stamp - origin) * base
                time = now if now > time else time + step / 10  # repeated or falling stamps: damaged headers
            geometry = geometry or geometry_of(stream, picture)
            index = index + 1 if table is None else int(np.searchsorted(table, time - step / 8))
            report.frames, report.last_time = report.frames + 1, time
            yield RawFrame(index, max(0.0, time), picture, geometry)
        report.is_complete = True


def _pictures(path: Path, container: InputContainer, stream: VideoStream, report: DecodeReport) -> Iterator[VideoFrame]:
    """Decoded pictures; a damaged packet is counted and the next ones are tried."""
    failure = import_av().FFmpegError
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (failure, OSError) as error:
            _raise_if_passing(path, error)
            report.errors += 1
            return
        try:
            pictures = packet.decode()
        except (failure, OSError) as error:
            _raise_if_passing(path, error)
            report.errors += 1
            continue
        for picture in pictures:
            if picture.is_corrupt:
                report.errors += 1
            else:
                yield picture


def _raise_if_passing(path: Path, error: Exception) -> None:
    """Disk trouble is not the video's fault."""
    if getattr(error, "errno", None) in (*PASSING_ERRNO, errno.ENOMEM):
        raise VideoError(f"{path.name}: {error.strerror}; try again", permanent=False) from error


def _convert(picture: VideoFrame, width: int, height: int, form: str, scaling: str) -> np.ndarray:
    """Scale and convert in one pass."""
    unknown = int(picture.colorspace) not in (1, 4, 5, 6, 7, 9)
    space = "ITU709" if unknown and picture.height >= HD_HEIGHT and picture.format.name.startswith("yuv") else None
    try:
        return picture.to_ndarray(
            width=width, height=height, format=form, src_colorspace=space, interpolation=scaling, threads=1
        )
    except (ValueError, TypeError, import_av().FFmpegError) as error:
        raise VideoError(f"pixel format {picture.format.name} cannot be converted: re-encode the video") from error
