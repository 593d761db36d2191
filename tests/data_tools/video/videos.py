"""Made-up videos for tests: rooms that a camera pans over, and every kind of faulty file."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from data_tools.video.sampling import sample_raw, write_video

SIZE = (240, 320)
FPS = 15.0
SKY = -1  # seed of the picture that shows no room


def panorama(seed: int, height: int = 240, width: int = 1280) -> np.ndarray:
    """(H, W, 3) uint8: a wall with furniture-like boxes in a tint of its own; for ``SKY`` sky over grass."""
    rng = np.random.default_rng(abs(seed))
    if seed == SKY:
        image = np.empty((height, width, 3))
        image[: height // 2], image[height // 2 :] = (120, 170, 230), (70, 140, 60)
        boxes, tint = 25, np.array((60, 150, 50))
    else:
        tint = rng.integers(90, 220, 3)
        image = np.broadcast_to(tint, (height, width, 3)).astype(float)
        image[int(height * 0.75) :] = tint[::-1] * 0.6
        boxes = 70
    for _ in range(boxes):
        y, x = rng.integers(0, height - 20), rng.integers(0, width - 20)
        h, w = rng.integers(15, height // 2), rng.integers(10, 90)
        low = height // 2 if seed == SKY else 0
        image[max(low, y) : y + h, x : x + w] = np.clip(tint * rng.uniform(0.2, 1.3) + rng.integers(-50, 50, 3), 0, 255)
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def pan(seed: int, seconds: float, fps: float = FPS, size: tuple[int, int] = SIZE, speed: float = 20.0) -> Iterator:
    """Frames (H, W, 3) of a camera that pans to and fro over a panorama, ``speed`` pixels a second."""
    wide = panorama(seed, size[0], 4 * size[1])
    room = wide.shape[1] - size[1]
    for i in range(round(seconds * fps)):
        x = int(i / fps * speed) % (2 * room)
        x = x if x < room else 2 * room - x
        yield wide[:, x : x + size[1]].copy()


def tour(plan: list[tuple[int, float]], fps: float = FPS, size: tuple[int, int] = SIZE) -> Iterator:
    """Frames of several places with hard cuts: rows (seed, seconds)."""
    for seed, seconds in plan:
        yield from pan(seed, seconds, fps, size)


def walk(plan: list[tuple[int, float]], fps: float = FPS, size: tuple[int, int] = SIZE) -> Iterator:
    """Frames of one camera that pans from one place to the next without a cut; each place fills its seconds."""
    height, width = size
    parts = [panorama(seed, height, 2 * width) for seed, _ in plan]
    wide = np.concatenate([parts[0][:, :width], *parts, parts[-1][:, -width:]], axis=1)
    for number, (_, seconds) in enumerate(plan):
        count = round(seconds * fps)
        for i in range(count):
            middle = round(width + 2 * width * (number + i / count))
            yield wide[:, middle - width // 2 : middle - width // 2 + width].copy()


def sample_frames(path: Path, *args: object, size: int | tuple[int, int] | None = None, **options: object) -> Iterator:
    """Index, time and image of each frame that `sample_raw` picks."""
    for raw in sample_raw(path, *args, **options):
        yield SimpleNamespace(index=raw.index, time=raw.time, image=raw.pixels(size))


def write_tour(path: Path, plan: list[tuple[int, float]], fps: float = FPS) -> Path:
    """A small video with hard cuts between places."""
    write_video(path, tour(plan, fps), fps)
    return path


def write_empty(path: Path) -> Path:
    """0 bytes."""
    path.write_bytes(b"")
    return path


def write_text(path: Path) -> Path:
    """A web page under a video's name."""
    path.write_text("<html>not a video</html>\n" * 50)
    return path


def write_one_frame(path: Path) -> Path:
    """A video of one frame."""
    write_video(path, pan(1, 1 / FPS), FPS)
    return path


def write_truncated(path: Path, seconds: float = 30.0, keep: float = 0.6, seed: int = 1) -> Path:
    """A file whose end is missing; for .mkv the header still states the whole length, an .mp4 has lost its index."""
    write_video(path, pan(seed, seconds), FPS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def write_damaged(path: Path) -> Path:
    """20 s with garbage in the middle."""
    write_video(path, pan(1, 20), FPS)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 800] = np.random.default_rng(0).integers(0, 256, 800, dtype=np.uint8).tobytes()
    path.write_bytes(content)
    return path


def write_audio_only(path: Path, seconds: float = 2.0) -> Path:
    """A sound track without pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for i in range(int(seconds * 16000 / 1024)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_variable_rate(path: Path, seconds: float = 24.0, change_at: float = 12.0) -> tuple[Path, list[float]]:
    """A video whose frames come at 10 and at 30 a second in turns, with a cut; returns the frames' times too."""
    times, now = [], 0.0
    while now < seconds:
        times.append(now)
        now += 1 / 10 if int(now / 3) % 2 else 1 / 30
    places = {seed: panorama(seed, SIZE[0], 4 * SIZE[1]) for seed in (1, 2)}
    frames = [places[1 if t < change_at else 2][:, (x := int(t * 20)) : x + SIZE[1]].copy() for t in times]
    return write_with(path, frames, times=times), times


def write_4k(path: Path, seconds: float = 12.0, fps: float = 1.0) -> Path:
    """3840 x 2160."""
    wide = np.kron(panorama(3, 135, 260), np.ones((16, 16, 1), np.uint8))
    write_video(path, (wide[:, 8 * i : 8 * i + 3840] for i in range(round(seconds * fps))), fps, crf=35)
    return path


def write_rotated(path: Path, seconds: float = 12.0, rotation: int = 90) -> Path:
    """A phone's file: stored on its side, with the turn in its metadata."""
    return write_with(path, list(pan(4, seconds)), rotation=rotation)


def write_no_room(path: Path, seconds: float = 15.0) -> Path:
    """Sky and grass only."""
    write_video(path, pan(SKY, seconds), FPS)
    return path


def write_noise(path: Path, seconds: float = 12.0) -> Path:
    """Noise, new in every frame."""
    rng = np.random.default_rng(0)
    write_video(path, (rng.integers(0, 256, (120, 160, 3), np.uint8) for _ in range(round(seconds * FPS))), FPS)
    return path


class TintClassifier:
    """Labels a frame by the tint of the nearest panorama: "right" labels without CLIP.

    Args:
        places: seed -> label.
    """

    def __init__(self, places: dict[int, str]) -> None:
        self.names = sorted(set(places.values()))
        self.calls = 0
        self.labels = list(places.values())
        self.means = np.array([panorama(seed).reshape(-1, 3).mean(0) for seed in places])

    def classify(self, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(n, names): 0.9 for the nearest tint; (n, E): coarse grids of the pictures, of length 1."""
        self.calls += len(images)
        rows = np.full((len(images), len(self.names)), 0.1 / max(1, len(self.names) - 1), np.float32)
        for row, image in zip(rows, images, strict=True):
            nearest = int(np.abs(self.means - image.reshape(-1, 3).mean(0)).sum(1).argmin())
            row[self.names.index(self.labels[nearest])] = 0.9
        return rows / rows.sum(1, keepdims=True), np.stack([_grid(image) for image in images])


def _grid(image: np.ndarray, cells: int = 8) -> np.ndarray:
    """(8 * 8 * 3,) mean colours of cells less their mean, of length 1: alike where pictures are, whatever the codec."""
    height, width = (side // cells * cells for side in image.shape[:2])
    parts = image[:height, :width].reshape(cells, height // cells, cells, width // cells, 3).mean((1, 3))
    parts = (parts - parts.mean((0, 1))).ravel()
    return (parts / np.linalg.norm(parts)).astype(np.float32)


def write_zeroed(path: Path, seconds: float = 40.0, size: int = 65536, at: float = 0.5) -> Path:
    """64 KiB of zeros in the middle, as a bad sector leaves."""
    write_video(path, pan(1, seconds), FPS)
    content = bytearray(path.read_bytes())
    middle = int(len(content) * at)
    content[middle : middle + size] = bytes(len(content[middle : middle + size]))
    path.write_bytes(content)
    return path


def write_hdr(
    path: Path,
    planes: np.ndarray,
    curve: int,
    frames: int = 3,
    codec: str = "libx265",
    primaries: int = 9,
    matrix: int = 9,
    rotation: int = 0,
) -> Path:
    """A 10-bit video of one picture, of BT.2020 unless told otherwise.

    Args:
        planes: (3, H, W) uint16 Y, Cb, Cr at full resolution; chroma is taken at every second pixel.
        curve: FFmpeg's number of the transfer curve: 16 is PQ, 18 HLG, 2 none told.
        primaries, matrix: FFmpeg's numbers; 9 is BT.2020, 1 BT.709, 2 none told.
        rotation: degrees counter-clockwise that players turn the pictures by.
    """
    import av

    options = {"crf": "4", "x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=15, options=options)
        stream.width, stream.height, stream.pix_fmt = planes.shape[2], planes.shape[1], "yuv420p10le"
        if rotation:
            stream.set_display_rotation(rotation)
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = (
            curve, primaries, matrix, 1,
        )  # fmt: skip
        flat = np.concatenate([planes[0].ravel(), planes[1, ::2, ::2].ravel(), planes[2, ::2, ::2].ravel()])
        for i in range(frames):
            frame = av.VideoFrame(planes.shape[2], planes.shape[1], "yuv420p10le")
            sizes = [(planes.shape[1], planes.shape[2]), *[(planes.shape[1] // 2, planes.shape[2] // 2)] * 2]
            start = 0
            for plane, (height, width) in zip(frame.planes, sizes, strict=True):
                rows = np.zeros((height, plane.line_size // 2), np.uint16)
                rows[:, :width] = flat[start : start + height * width].reshape(height, width)
                start += height * width
                plane.update(rows.tobytes())
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_with(
    path: Path,
    images: list[np.ndarray],
    codec: str = "libx264",
    form: str = "yuv420p",
    late: float = 0.0,
    times: list[float] | None = None,
    rotation: int = 0,
    **context: object,
) -> Path:
    """A video of any codec and pixel format.

    Args:
        images: (H, W, 3) or, with alpha, (H, W, 4) uint8.
        late: seconds after the start of a sound track at which the pictures begin; it ends with them.
        times: seconds of every picture; None: 15 a second.
        rotation: degrees counter-clockwise that players turn the pictures by.
        context: of the codec context, or, where it has no such attribute, an option of the encoder.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=15)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = form, Fraction(1, 90000) if times else Fraction(1, 15)
        if rotation:
            stream.set_display_rotation(rotation)
        own = {name for name in context if hasattr(stream.codec_context, name)}
        for name in own:
            setattr(stream.codec_context, name, context[name])
        stream.options = {name.replace("_", "-"): str(value) for name, value in context.items() if name not in own}
        if late:
            sound = container.add_stream("aac", rate=16000)
            for i in range(int((late + len(images) / 15) * 16000 / 1024)):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16000, i * 1024
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
            frame.pts, frame.time_base = i + round(15 * late), Fraction(1, 15)
            if times:
                frame.pts, frame.time_base = round(90000 * times[i]), Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
