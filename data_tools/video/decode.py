"""Opening and decoding of video files through PyAV, one pass, frame by frame; ``video/sampling.py`` is the face."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.stages.record import PASSING_ERRNO, StageError
from data_tools.video import hdr

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_THREADS = 4  # every decoding thread holds pictures: 12 MB each at 4K
HD_HEIGHT = 720  # from here on pictures without a tag are BT.709, as players take them
USUAL_FPS = 25.0
LATE = 500_000  # microseconds


class VideoError(StageError):
    """A video that cannot be read; the message names the file and the cure."""


@dataclass
class DecodeReport:
    """What a decoding pass met; filled while it runs.

    Attributes:
        times: seconds of the pictures that were decoded.
        shown: seconds each of them is shown as the file says; 0 where it does not.
        packets: seconds of all packets, decoded or not, sorted; None before the end, and where the file says none.
        errors: packets or pictures that were damaged and left out.
        hdr: "PQ", "HLG", "BT.2020" where pictures were tone-mapped, else "".
        is_complete: whether the pass came to the end of the file.
    """

    times: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    packets: np.ndarray | None = None
    errors: int = 0
    hdr: str = ""
    is_complete: bool = False

    @property
    def frames(self) -> int:
        """Pictures that were decoded."""
        return len(self.times)

    @property
    def last_time(self) -> float:
        """Time of the last picture, seconds."""
        return self.times[-1] if self.times else 0.0


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
    """

    index: int
    time: float
    picture: VideoFrame
    geometry: Geometry

    def pixels(self, size: int | tuple[int, int] | None = None, scaling: str = "AREA") -> np.ndarray:
        """The picture as shown, (H, W, 3) uint8 RGB: HDR tone-mapped, of an interlaced picture one field.

        Args:
            size: longer side in pixels, at most (never enlarges), or (width, height) exactly.
            scaling: "AREA" (bicubic where it enlarges), "LANCZOS", or "FAST_BILINEAR" for pictures that only statistics
                are taken of.
        """
        kind = hdr.kind_of(self.picture)
        image = self._converted(size, "rgb48le" if kind else "rgb24", scaling)
        return hdr.to_sdr(image, kind) if kind else image

    def luma(self, size: int) -> np.ndarray:
        """(H, W) uint8: brightness as coded, with the longer side at most ``size``; HDR is not tone-mapped."""
        return self._converted(size, "gray")

    def _converted(self, size: int | tuple[int, int] | None, form: str, scaling: str = "AREA") -> np.ndarray:
        width, height = size if isinstance(size, tuple) else self.geometry.shown(size)
        grows = width * height > self.geometry.width * self.geometry.height
        if self.geometry.turns % 2:
            width, height = height, width
        if self.picture.interlaced_frame:
            image = _one_field(self.picture, width, height, form)
        else:
            scaling = "BICUBIC" if grows and scaling == "AREA" else scaling
            image = _convert(self.picture, width, height, form, scaling)
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


def start_stamp(container: InputContainer, stream: VideoStream) -> int | None:
    """The stamp that is time 0: the first picture's, which may come after the sound's.

    Of a Matroska file that begins late as a whole and states its length it is 0, where muxers begin: the start is lost.
    """
    is_late = (container.start_time or 0) > LATE and container.duration and "matroska" in container.format.name
    return 0 if is_late else stream.start_time


def stated_duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds of the video stream as the file's header says, 0 where it says nothing."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")  # Matroska: the container's counts sound, too
    minutes, _, seconds = rest.partition(":")
    try:
        end = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return container.duration / import_av().time_base if container.duration else 0.0
    return end - float((start_stamp(container, stream) or 0) * stream.time_base)


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
        stamps = []
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    stamps.append(packet.pts)
        except (import_av().FFmpegError, OSError, IndexError) as error:
            _raise_if_passing(path, error)  # else: what is readable counts
        return _in_seconds(stamps, container, stream)


def _in_seconds(stamps: list[int | None], container: InputContainer, stream: VideoStream) -> np.ndarray | None:
    if not stamps or None in stamps or stream.time_base is None or container.format.name == "avi":
        return None
    origin = start_stamp(container, stream)
    origin = min(stamps) if origin is None else origin
    return np.sort((np.array(stamps, np.int64) - origin) * float(stream.time_base))


def raw_frames(
    path: Path, start: float = 0.0, report: DecodeReport | None = None, packets: np.ndarray | None = None
) -> Iterator[RawFrame]:
    """All frames in the order they are shown, from the last key frame at or before ``start`` on.

    Args:
        path: video file.
        start: seconds; where it is positive and the file can be searched, decoding begins near it.
        report: filled while frames come.
        packets: ``DecodeReport.packets`` of an earlier pass over the whole file; without it, a late start reads the
            file once more for them.

    Yields:
        Frames with rising times. Damaged pictures are left out.

    Raises:
        VideoError: the file cannot be opened, or nothing in it decodes.
    """
    report = report if report is not None else DecodeReport()
    if start > 0 and packets is None:
        packets = packet_times(path)
    if start > 0 and packets is not None:
        frames = _decode(path, report, start, packets)
        first = next(frames, None)
        if first is not None and first.time <= start:
            yield first
            yield from frames
            return
        frames.close()  # sought too far: formats without a good index
        report.times, report.shown, report.errors = [], [], 0
    yield from _decode(path, report)
    if report.frames == 0:
        raise VideoError(f"{path.name}: no picture of it decodes; fetch it again")


def _decode(
    path: Path, report: DecodeReport, start: float = 0.0, table: np.ndarray | None = None
) -> Iterator[RawFrame]:
    container, stream = open_video(path)
    with closing(container):
        base = float(stream.time_base or 0) or None
        origin, step = start_stamp(container, stream), 1 / frame_rate(stream)
        if table is not None and base:
            try:
                container.seek(int(start / base) + (origin or 0), stream=stream, backward=True)
            except import_av().FFmpegError:
                table = None
        is_avi = container.format.name == "avi"  # it stores no order of showing, and guesses of it are wrong
        origin = None if is_avi else origin
        geometry, time, index = None, -step, -1
        stamps: list[int | None] = []
        for picture in _pictures(path, container, stream, report, stamps):
            stamp = picture.dts if picture.pts is None or is_avi else picture.pts
            if stamp is None or base is None:
                time += step
            else:
                origin = stamp if origin is None else origin
                now = (stamp - origin) * base
                time = now if now > time else time + step / 10  # repeated or falling stamps: damaged headers
            if geometry is None:
                geometry, report.hdr = geometry_of(stream, picture), hdr.kind_of(picture)
            index = index + 1 if table is None else int(np.searchsorted(table, time - step / 8))
            report.times.append(time)
            report.shown.append((picture.duration or 0) * base if base and not is_avi else 0.0)
            yield RawFrame(index, max(0.0, time), picture, geometry)
        report.is_complete = True
        report.packets = _in_seconds(stamps, container, stream) if table is None else table


def _pictures(
    path: Path, container: InputContainer, stream: VideoStream, report: DecodeReport, stamps: list[int | None]
) -> Iterator[VideoFrame]:
    """Decoded pictures, and the stamps of their packets; a damaged packet is counted and the next ones are tried."""
    failure = import_av().FFmpegError
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (failure, OSError, IndexError) as error:  # IndexError: PyAV's, of a header with damaged stream numbers
            _raise_if_passing(path, error)
            report.errors += 1
            return
        if packet.size and not packet.is_discard:
            stamps.append(packet.pts)
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
    space = None
    if int(picture.colorspace) not in (1, 4, 5, 6, 7, 9) and picture.format.name.startswith("yuv"):  # no tag
        space = "BT2020" if hdr.kind_of(picture) else "ITU709" if picture.height >= HD_HEIGHT else None
    try:
        return picture.to_ndarray(
            width=width, height=height, format=form, src_colorspace=space, interpolation=scaling, threads=1
        )
    except (ValueError, TypeError, import_av().FFmpegError) as error:
        raise VideoError(f"pixel format {picture.format.name} cannot be converted: re-encode the video") from error


def _one_field(picture: VideoFrame, width: int, height: int, form: str) -> np.ndarray:
    """Every second row, at the size wanted: the rows between are of another moment."""
    import cv2

    field = np.ascontiguousarray(_convert(picture, picture.width, picture.height, form, "AREA")[::2])
    shrinks = width <= field.shape[1] and height <= field.shape[0]
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
