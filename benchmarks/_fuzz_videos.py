"""Damaged videos through our one decoding pass, judged by PyAV's own headers, packets and pictures read plainly.

What decodes and what is reported missing must make up the length that the file still states: its header's, or its
packets' where the header says nothing or less. Where neither is left, one clear line.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np

from benchmarks._fuzz import NOTED, SAME, SILENT, Tally
from data_tools.segmentation.run import seconds_missing
from data_tools.segmentation.scan import Scan, scan_video
from data_tools.stages.record import StageError
from data_tools.video.sampling import probe_video, sample_raw

FPS, SECONDS, SIZE = 10, 12, (96, 128)
FORMATS = ("mkv", "mp4", "mp4 faststart", "ts", "webm", "avi")
DAMAGES = ("none", "cut", "cut", "zero", "zero", "noise", "flips", "drop", "header", "duration", "suffix", "no video")
SUFFIXES = (".mp4", ".mkv", ".avi", ".ts", ".jpg", ".txt", ".part", "")
HEADER = 600  # bytes; where the containers keep what describes the streams


# -------------------------------------------------------------------------------------------------------------- making
@cache
def whole(kind: str) -> bytes:
    """A pan over noise with a sound track, `SECONDS` long, as the format has it."""
    container, _, option = kind.partition(" ")
    codec = {"webm": ("libvpx-vp9", "libopus"), "avi": ("mpeg4", "mp3")}.get(container, ("libx264", "aac"))
    wide = np.random.default_rng(7).integers(0, 256, (SIZE[0] // 8, 4 * SIZE[1] // 8, 3), np.uint8)
    wide = wide.repeat(8, axis=0).repeat(8, axis=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"whole.{container}")
        with av.open(str(path), "w", options={"movflags": "faststart"} if option else {}) as output:
            pictures = output.add_stream(codec[0], rate=FPS, options={"deadline": "realtime", "cpu-used": "8"})
            pictures.height, pictures.width, pictures.pix_fmt, pictures.gop_size = *SIZE, "yuv420p", 2 * FPS
            sound = output.add_stream(codec[1], rate=48000)
            for number in range(FPS * SECONDS):
                x = 2 * number
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, x : x + SIZE[1]]), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                output.mux(pictures.encode(frame))
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, 48000 // FPS), np.int16), format="s16", layout="mono")
                quiet.sample_rate, quiet.pts, quiet.time_base = 48000, number * (48000 // FPS), Fraction(1, 48000)
                output.mux(sound.encode(quiet))
            output.mux(pictures.encode(None))
            output.mux(sound.encode(None))
        return path.read_bytes()


@cache
def sound_only() -> bytes:
    """Two seconds of sound in an MP4."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sound.mp4")
        with av.open(str(path), "w") as output:
            sound = output.add_stream("aac", rate=16000)
            for number in range(30):
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                quiet.sample_rate, quiet.pts = 16000, 1024 * number
                output.mux(sound.encode(quiet))
            output.mux(sound.encode(None))
        return path.read_bytes()


def damaged(kind: str, damage: str, rng: np.random.Generator) -> bytes:
    """The bytes of a video of this format with one fault."""
    data = bytearray(whole(kind))
    at, size = int(rng.integers(0, len(data))), int(10 ** rng.uniform(1, 4.5))
    if damage == "cut":
        del data[at:]
    elif damage == "zero":
        data[at : at + size] = bytes(len(data[at : at + size]))
    elif damage == "noise":
        data[at : at + size] = rng.bytes(len(data[at : at + size]))
    elif damage == "drop":
        del data[at : at + size]
    elif damage == "flips":
        for place in rng.integers(0, len(data), int(rng.integers(1, 30))):
            data[place] ^= 1 << int(rng.integers(0, 8))
    elif damage == "header":
        data = of_header(data, rng)
    elif damage == "duration":
        change_duration(data, float(rng.choice([0.0, 0.4, 0.9, 1.1, 3.0])))
    elif damage == "no video":
        return (b"", b"\0" * 5000, b"<html>not a video</html>\n" * 50, sound_only())[int(rng.integers(0, 4))]
    return bytes(data)


def of_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A fault in what describes the streams: at the start, or in an MP4's index wherever it is."""
    first = max(0, data.find(b"moov"))
    place = first + int(rng.integers(0, HEADER))
    choice = rng.random()
    if choice < 0.2:
        return data[:place]
    if choice < 0.6:
        for place in first + rng.integers(0, HEADER, int(rng.integers(1, 4))):
            data[place] ^= 1 << int(rng.integers(0, 8))
    else:
        length = int(rng.integers(1, 20))
        data[place : place + length] = bytes(length) if choice < 0.8 else rng.bytes(length)
    return data


def change_duration(data: bytearray, factor: float) -> None:
    """Multiply the length that the header states; a transport stream states none."""
    for name in (b"mvhd", b"mdhd"):  # version 0: flags, created, changed, ticks a second, ticks
        at = -1
        while (at := data.find(name, at + 1)) >= 0:
            (ticks,) = struct.unpack_from(">I", data, at + 20)
            struct.pack_into(">I", data, at + 20, int(ticks * factor))
    at = data.find(b"\x44\x89\x88")  # Matroska: Duration, 8 bytes
    if at >= 0:
        struct.pack_into(">d", data, at + 3, struct.unpack_from(">d", data, at + 3)[0] * factor)
    at = -1
    while (at := data.find(b"00:00:1", at + 1)) >= 0:  # its DURATION tags
        data[at : at + 8] = f"00:00:{int(SECONDS * factor):02d}".encode()
    for name, offset in ((b"avih", 24), (b"strh", 40)):
        at = data.find(name)
        if at >= 0:
            (frames,) = struct.unpack_from("<I", data, at + offset)
            struct.pack_into("<I", data, at + offset, int(frames * factor))


# ------------------------------------------------------------------------------------------------------------- judging
@dataclass
class Judged:
    """What PyAV says of a file, read plainly.

    Attributes:
        stated: lengths in the header, seconds: of the stream, of its tag, of the file.
        step: usual seconds between two packets.
        span: seconds from the first to the last packet, and one step more.
        pictures: that decode, corrupt ones left out.
    """

    stated: list[float] = field(default_factory=list)
    step: float = 1 / FPS
    span: float = 0.0
    pictures: int = 0


def judge(path: Path) -> Judged:
    """Header, packets and pictures of a file; what cannot be read is left out."""
    found, stamps = Judged(), []
    with (
        suppress(av.FFmpegError, OSError, ValueError, IndexError),
        av.open(str(path), metadata_errors="replace") as file,
    ):
        stream = file.streams.video[0]
        if stream.duration and stream.time_base:
            found.stated.append(float(stream.duration * stream.time_base))
        # these two are ends: pictures that begin after the sound do not last from the start
        late = float((stream.start_time or 0) * stream.time_base) - (file.start_time or 0) / 1e6
        with suppress(ValueError):
            hours, minutes, seconds = (float(part) for part in stream.metadata.get("DURATION", "").split(":"))
            found.stated.append(3600 * hours + 60 * minutes + seconds - late)
        if file.duration:
            found.stated.append(file.duration / 1e6 - late)
        for packet in file.demux(stream):
            stamp = packet.dts if packet.pts is None else packet.pts
            if packet.size and stamp is not None:
                stamps.append(float(stamp * stream.time_base))
            with suppress(av.FFmpegError):
                found.pictures += sum(not picture.is_corrupt for picture in packet.decode())
    if len(stamps) > 2:
        found.step = float(np.median(np.diff(np.sort(stamps))))
    found.span = max(stamps) - min(stamps) + found.step if stamps else 0.0
    return found


def allowed(judged: Judged) -> list[float]:
    """Lengths that the file can be said to have: its header's, its packets' where they come to more.

    Where damaged stamps of packets contradict a header that survives, both are right.
    """
    longer = [length for length in judged.stated if length >= judged.span - slack(judged.span)]
    whole = [length for length in judged.stated if abs(length - SECONDS) <= slack(SECONDS)]
    return longer if len(longer) == len(judged.stated) > 0 else [*longer, *whole, judged.span]


def slack(length: float) -> float:
    """How far two lengths may lie apart, seconds."""
    return max(0.5, 0.01 * length)


def judge_case(path: Path, row: str, tally: Tally, words: str, read: Callable[[Path], Scan]) -> None:
    """Decode one file with ours and theirs, and count the outcome."""
    judged, scan = judge(path), tally.attempt(row, words, lambda: read(path), StageError, [path.name])
    if scan is None:
        if judged.pictures > 1:
            tally.disputes[f"{row}: refused, PyAV decodes pictures of it"] += 1
        return None
    missing, wanted = seconds_missing(scan), allowed(judged)
    decoded = scan.frames * judged.step
    total = decoded + missing
    if abs(scan.frames - judged.pictures) > FPS / 2:
        return tally.add(row, SILENT, f"{words}: {scan.frames} pictures, PyAV decodes {judged.pictures}")
    if not any(abs(total - length) <= slack(length) for length in wanted):
        lengths = ", ".join(f"{length:.2f}" for length in [*judged.stated, judged.span])
        holes = " ".join(f"{start:.1f}-{end:.1f}" for start, end in scan.holes[:5])
        text = f"{decoded:.2f} s decode, {missing:.2f} s missing ({holes}); the file says {lengths}"
        return tally.add(row, SILENT, f"{words}: {text}")
    return tally.add(row, NOTED if missing > slack(total) or scan.report.errors else SAME)


def read(path: Path) -> Scan:
    """The pass of the segment stage, and that of a scene from the middle on."""
    info = probe_video(path)
    scan = scan_video(path, info, 1.0, None)
    for frame in sample_raw(path, 1.0, start=scan.report.last_time / 2, packets=scan.report.packets):
        assert frame.pixels().shape == (info.height, info.width, 3)
    return scan


def cases(folder: Path, count: int, seed: int) -> Iterator[tuple[Path, str, str]]:
    """(file, row of the table, words) of each case; one depends on its number and the seed alone."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind, damage = FORMATS[number % len(FORMATS)], DAMAGES[int(rng.integers(0, len(DAMAGES)))]
        suffix = str(rng.choice(SUFFIXES)) if damage == "suffix" else f".{kind.split()[0]}"
        path = folder / f"case{suffix}"
        path.write_bytes(damaged(kind, damage, rng))
        yield path, "no video" if damage == "no video" else kind, f"case {number} {damage}"
        path.unlink()


def run(count: int, seed: int) -> Tally:
    """Make, damage and decode ``count`` videos."""
    tally = Tally("videos")
    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as folder:
        for path, row, words in cases(Path(folder), count, seed):
            judge_case(path, row, tally, words, read)
    return tally
