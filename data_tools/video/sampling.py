"""Video files: what they are, their frames by time, and writing one. PyAV (FFmpeg) does the work.

Times are seconds after the start of the video stream and come from the file's time stamps, so variable frame rates are
right. Pictures are RGB as shown: turned as a phone's file says, with square pixels. Frames come one by one: memory does
not grow with the video.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from data_tools.stages.files import replacing
from data_tools.video.decode import (
    DecodeReport,
    RawFrame,
    VideoError,
    frame_rate,
    import_av,
    open_video,
    packet_times,
    raw_frames,
    stated_duration,
)

__all__ = [
    "DecodeReport",
    "RawFrame",
    "Ticker",
    "VideoError",
    "VideoInfo",
    "probe_video",
    "raw_frames",
    "sample_raw",
    "write_video",
]

TIME_BASE = Fraction(1, 90000)


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video file.

    Attributes:
        path: the file.
        width, height: pixels as shown (after rotation, square pixels).
        rotation: degrees counter-clockwise from the stored to the shown picture: 0, 90, 180, 270.
        fps: average frames a second.
        duration: seconds of the video stream, as the file says (a truncated file says more than it holds).
        codec: FFmpeg's name of it.
    """

    path: Path
    width: int
    height: int
    rotation: int
    fps: float
    duration: float
    codec: str


class Ticker:
    """Picks frames at a rate from rising times, each frame once at most.

    Args:
        rate: frames a second; None picks every frame.
        start: first time wanted, seconds.
        tolerance: how much too early a frame may be, seconds (half a frame, to pick the nearest).
    """

    def __init__(self, rate: float | None, start: float = 0.0, tolerance: float = 0.0) -> None:
        if rate is not None and not rate > 0:
            raise ValueError(f"a rate of {rate} frames a second; it must be above 0")
        self.rate, self.start, self.tolerance, self.next = rate, start, tolerance, 0

    def is_due(self, time: float) -> bool:
        """Whether the frame at ``time`` is picked."""
        if self.rate is None:
            return True
        passed = int(np.floor((time - self.start + self.tolerance) * self.rate + 1e-6))
        if passed < self.next:
            return False
        self.next = passed + 1
        return True


def probe_video(path: Path | str) -> VideoInfo:
    """Facts of a video; decodes its first picture, so that an unreadable file is found out here.

    Raises:
        VideoError: missing, 0 bytes, not a video, no video stream, no picture that decodes.
    """
    path = Path(path)
    frames = raw_frames(path)
    first = next(frames)  # raises where nothing decodes
    frames.close()
    container, stream = open_video(path)
    with closing(container):
        fps, codec = frame_rate(stream), stream.codec_context.name
        duration = stated_duration(container, stream)
    if duration <= 0:
        times = packet_times(path)
        last = float(times[-1]) if times is not None else max(frame.time for frame in raw_frames(path))
        duration = last + 1 / fps
    geometry = first.geometry
    return VideoInfo(path, geometry.width, geometry.height, geometry.turns * 90, fps, duration, codec)


def sample_raw(
    path: Path | str,
    rate: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    report: DecodeReport | None = None,
    packets: np.ndarray | None = None,
) -> Iterator[RawFrame]:
    """Frames of ``start <= time <= end`` at a rate, in one decoding pass, with rising times.

    Args:
        rate: frames a second, picked by time stamp (the nearest frame, each once at most); None for every frame.
        start: seconds. Decoding begins at the key frame before it.
        end: seconds; None for the video's end.
        report: filled while frames come: damaged frames, last time.
        packets: as for `raw_frames`.

    Raises:
        VideoError: the file cannot be read, or nothing in it decodes.
    """
    path = Path(path)
    half = _half_frame(path)
    ticker = Ticker(rate, start, half)
    for raw in raw_frames(path, start, report, packets):
        if end is not None and raw.time > end + 1e-6:
            return
        if raw.time >= start - min(half, 1e-3) and ticker.is_due(raw.time):
            yield raw


def write_video(path: Path | str, frames: Iterable[np.ndarray], fps: float, crf: int = 18) -> int:
    """Write an H.264 video (MPEG-4 where FFmpeg has no x264); the same frames give the same bytes.

    Args:
        path: .mp4, .mkv, .mov …; written under a temporary name and renamed.
        frames: (H, W, 3) uint8 RGB each, of one size; an odd row or column is cut off.
        crf: quality, 0 (lossless) to 51; 18 is visually lossless.

    Raises:
        ValueError: no frame.
        OSError: the disk is full or not writable; nothing is left under the name.
    """
    av = import_av()
    path = Path(path)
    count, stream = 0, None
    with replacing(path) as partial, av.open(f"file:{partial}", "w") as container:
        for count, image in enumerate(frames, start=1):
            image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
            if stream is None:
                stream = _add_stream(av, container, image, fps, crf)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round((count - 1) / fps / TIME_BASE), TIME_BASE
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError(f"{path.name}: no frame to write")
        container.mux(stream.encode(None))
    return count


def _add_stream(av, container, image, fps, crf):  # noqa: ANN001, ANN202 (PyAV's own types)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(100000))
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = TIME_BASE
    stream.codec_context.thread_count = 1  # the bytes must not depend on the machine
    # cpu-independent: x264's float assembly gives other bytes from where its buffers happen to lie
    h264 = {"crf": str(crf), "preset": "veryfast", "x264-params": "cpu-independent=1"}
    stream.options = h264 if codec == "libx264" else {"qscale": "3"}
    return stream


def _half_frame(path: Path) -> float:
    container, stream = open_video(path)
    with closing(container):
        return 0.5 / frame_rate(stream)
