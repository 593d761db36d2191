"""Render a seeded furnished apartment as a hand-held walk-through video, with everything that is true about it.

    python data_tools/synthetic/walkthrough/film.py --out data/walk --seed 0 --rooms 2 --seconds 60
    python data_tools/synthetic/walkthrough/film.py --out data/quick --seconds 6 --size 160x120 --fps 10

OUT is whole or not there: walkthrough.mp4, truth.npz (camera_to_world, time, intrinsics, zone), depth/ (16-bit
millimetres, twice a second), labels.csv (time,label), boundaries.json, surface.ply (the true surface with normals,
classes, zones), visible.npy (which of its points the camera saw). Equal settings give equal frames with any --jobs.
Exit code: 0 all well, 1 it failed, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from data_tools.clouds.io import Cloud, write_ply
from data_tools.stages.files import write_json
from data_tools.stages.record import StageError, StageRecord, run_stage
from data_tools.stages.scene_folder import settings_hash
from data_tools.synthetic.walkthrough.apartment import Apartment, build_apartment
from data_tools.synthetic.walkthrough.bake import bake, build_scene, sample_surface
from data_tools.synthetic.walkthrough.camera import PhoneCamera, exposure_gains
from data_tools.synthetic.walkthrough.raster import Atlas, Mesh, Portal, Renderer, pinhole
from data_tools.synthetic.walkthrough.trajectory import Walk, plan_walk
from data_tools.synthetic.walkthrough.truth import seen_by, write_depth
from data_tools.video.sampling import write_video

VERSION = 1  # part of the settings hash: raise it when the same seed gives another video
CHUNK = 8  # frames a task
DEPTH_EVERY = 0.5  # seconds between depth pictures
LABEL_EVERY = 0.1  # seconds between rows of labels.csv


@dataclass(frozen=True)
class WalkSettings:
    """What decides the bytes of a walk-through.

    Attributes:
        seed: of the apartment, its textures, the walk and the noise.
        rooms: number of rooms, 1 to 8.
        seconds: length of the video.
        fps: frames a second.
        width, height: of the picture.
        fov: horizontal field of view in degrees.
        shutter: exposure as a share of the frame interval (motion blur); 0: none.
        noise: of the sensor, standard deviation in 0..255.
        crf: quality of the H.264 stream, 0 to 51.
        spacing: of the true surface's points in metres (indoors; three times that outdoors).
    """

    seed: int = 0
    rooms: int = 2
    seconds: float = 60.0
    fps: float = 30.0
    width: int = 640
    height: int = 480
    fov: float = 65.0
    shutter: float = 0.3
    noise: float = 1.6
    crf: int = 19
    spacing: float = 0.015

    def __post_init__(self) -> None:
        """Refuse what would fail later.

        Raises:
            ValueError: a number out of range; one line.
        """
        if not 1 <= self.rooms <= 8 or self.seconds < 1 or self.fps < 1:
            raise ValueError("1 to 8 rooms, seconds >= 1 and fps >= 1 are needed")
        if min(self.width, self.height) < 32 or self.width % 2 or self.height % 2:
            raise ValueError(f"size {self.width}x{self.height}: even numbers of at least 32 are needed")
        if not 20 <= self.fov <= 120 or not 0 <= self.shutter <= 1 or self.noise < 0 or self.spacing <= 0:
            raise ValueError("fov of 20 to 120 degrees, shutter of 0 to 1, noise >= 0 and spacing > 0 are needed")

    def digest(self) -> str:
        """Changes when a setting does."""
        return settings_hash({"version": VERSION, **{name: float(value) for name, value in asdict(self).items()}})


class Studio:
    """Renders and exposes frames of a walk; one a process."""

    def __init__(self, settings: WalkSettings, mesh: Mesh, atlas: Atlas, portals: list[Portal], walk: Walk) -> None:
        size = (settings.width, settings.height)
        intrinsics = pinhole(*size, settings.fov)
        self.renderer = Renderer(mesh, atlas, intrinsics, size, portals)
        self.camera = PhoneCamera(intrinsics, size, settings.shutter, settings.noise, settings.seed)
        self.walk = walk

    def frames(self, numbers: range, gains: np.ndarray, with_depth: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Pictures of some frames, and the depth of every ``with_depth``-th."""
        done = []
        for number in numbers:
            poses = self.walk.camera_to_world
            render = self.renderer.render(poses[number])
            later = min(number + 1, len(poses) - 1)
            motion = np.linalg.inv(poses[later - 1]) @ poses[later]
            image = self.camera.expose(render.color, render.depth, motion, float(gains[number]), number)
            done.append((image, render.depth if number % with_depth == 0 else None))
        return done


_STUDIO: dict[str, Studio] = {}


def _open_studio(
    settings: WalkSettings, mesh: Mesh, atlas_file: str, origin: np.ndarray, portals: list[Portal], walk: Walk
) -> None:
    import cv2

    cv2.setNumThreads(1)
    atlas = Atlas(np.load(atlas_file, mmap_mode="r"), origin)
    _STUDIO["open"] = Studio(settings, mesh, atlas, portals, walk)


def _in_studio(numbers: range, gains: np.ndarray, with_depth: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    return _STUDIO["open"].frames(numbers, gains, with_depth)


def make_walkthrough(
    folder: Path, settings: WalkSettings, jobs: int = 1, overwrite: bool = False, show_progress: bool = False
) -> StageRecord:
    """Make the folder of a walk-through, or skip it when it is there with these settings.

    Args:
        folder: the walk-through's own folder.
        settings: what decides its bytes.
        jobs: processes that render; the bytes do not depend on it.
        overwrite: make it again.
        show_progress: a progress bar on stderr.

    Returns:
        The stage's record; nothing is raised for a failure that it can describe.
    """

    def work(partial: Path, record: StageRecord) -> None:
        _make(partial, record, settings, jobs, show_progress)

    return run_stage("walkthrough", folder, settings.digest(), "", work, overwrite)


def _make(partial: Path, record: StageRecord, settings: WalkSettings, jobs: int, show_progress: bool) -> None:
    from tqdm import tqdm

    try:
        apartment = build_apartment(settings.seed, settings.rooms)
        walk = plan_walk(apartment, settings.seconds, settings.fps, settings.seed)
    except ValueError as error:
        raise StageError(f"seed {settings.seed}: {error}") from error
    scene = build_scene(apartment, 0.003 * 640 / settings.width)
    mesh, atlas = bake(scene, settings.seed)
    portals = [Portal(doorway.x, doorway.corners()) for doorway in apartment.doorways]
    gains = _gains(settings, mesh, atlas, portals, walk)
    depths: dict[int, np.ndarray] = {}
    with_depth = max(1, round(DEPTH_EVERY * settings.fps))
    frames = render_frames(partial, settings, mesh, atlas, portals, walk, gains, with_depth, jobs)
    bar = tqdm(frames, total=len(walk.time), desc="walkthrough", unit="frame", disable=not show_progress)

    def images() -> Iterator[np.ndarray]:
        for number, (image, depth) in enumerate(bar):
            if depth is not None:
                depths[number] = depth
            yield image

    write_video(partial / "walkthrough.mp4", images(), settings.fps, crf=settings.crf)
    _write_truth(partial, settings, apartment, walk, mesh, depths)
    record.result.update(
        frames=len(walk.time),
        speed=round(walk.speed, 3),
        labels=apartment.labels(),
        crossings=[round(time, 3) for time in walk.crossings],
        faces=len(mesh),
    )


def _gains(settings: WalkSettings, mesh: Mesh, atlas: Atlas, portals: list[Portal], walk: Walk) -> np.ndarray:
    """Exposure of every frame, from small pictures twice a second."""
    size = (80, max(32, round(80 * settings.height / settings.width)))
    meter = Renderer(mesh, atlas, pinhole(*size, settings.fov), size, portals, supersample=1)
    numbers = np.unique(np.append(np.arange(0, len(walk.time), max(1, round(settings.fps / 2))), len(walk.time) - 1))
    brightness = [float(np.minimum(meter.render(walk.camera_to_world[n]).color, 255).mean()) for n in numbers]
    return exposure_gains(np.array(brightness), walk.time[numbers], walk.time)


def render_frames(
    partial: Path,
    settings: WalkSettings,
    mesh: Mesh,
    atlas: Atlas,
    portals: list[Portal],
    walk: Walk,
    gains: np.ndarray,
    with_depth: int,
    jobs: int,
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Frames in order; with several processes, a few tasks ahead of the encoder."""
    count = len(walk.time)
    tasks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    if jobs <= 1:
        studio = Studio(settings, mesh, atlas, portals, walk)
        for numbers in tasks:
            yield from studio.frames(numbers, gains, with_depth)
        return
    file = partial / "atlas.npy"
    np.save(file, atlas.image)
    arguments = (settings, mesh, str(file), atlas.origin, portals, walk)
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _open_studio, arguments) as pool:
            running: deque[Future] = deque()
            for numbers in tasks:
                running.append(pool.submit(_in_studio, numbers, gains, with_depth))
                if len(running) > jobs + 2:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
    finally:
        file.unlink(missing_ok=True)


def _write_truth(
    partial: Path,
    settings: WalkSettings,
    apartment: Apartment,
    walk: Walk,
    mesh: Mesh,
    depths: dict[int, np.ndarray],
) -> None:
    intrinsics = pinhole(settings.width, settings.height, settings.fov)
    np.savez(
        partial / "truth.npz",
        camera_to_world=walk.camera_to_world,
        time=walk.time,
        intrinsics=intrinsics,
        zone=walk.zone,
    )
    rng = np.random.default_rng([settings.seed, 31])
    points = sample_surface(mesh, settings.spacing, 3 * settings.spacing, rng)
    surface = Cloud(points["coord"], normal=points["normal"], segment=points["segment"], instance=points["zone"])
    write_ply(partial / "surface.ply", surface)
    visible = np.zeros(len(surface), bool)
    (partial / "depth").mkdir()
    for number, depth in sorted(depths.items()):
        write_depth(partial / "depth" / f"{number:06d}.png", depth)
        visible |= seen_by(points["coord"], points["normal"], depth, walk.camera_to_world[number], intrinsics)
    np.save(partial / "visible.npy", visible)
    labels, last = apartment.labels(), float(walk.time[-1] + 1 / settings.fps)
    crossings = [time for time in walk.crossings if np.isfinite(time)]
    rows = ["time,label"]
    for step in range(int(np.ceil(last / LABEL_EVERY - 1e-9))):
        zone = int(np.searchsorted(crossings, step * LABEL_EVERY, side="right"))
        rows.append(f"{step * LABEL_EVERY:.3f},{labels[zone]}")
    (partial / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    edges = [0.0, *crossings, last]
    facts = {
        "labels": labels,
        "duration": round(last, 6),
        "fps": settings.fps,
        "boundaries": [
            {"time": round(time, 4), "before": labels[zone], "after": labels[zone + 1]}
            for zone, time in enumerate(crossings)
        ],
        "scenes": [
            {"label": labels[zone], "start": round(edges[zone], 4), "end": round(edges[zone + 1], 4)}
            for zone in range(len(crossings) + 1)
        ],
    }
    write_json(partial / "boundaries.json", facts)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of this walk-through; replaced when it is made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", type=int, default=2, help="1 to 8 (default 2)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length (default 60; about 30 a room)")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT (default 640x480)")
    parser.add_argument("--fov", type=float, default=65.0, help="horizontal field of view in degrees (default 65)")
    parser.add_argument("--shutter", type=float, default=0.3, help="exposure, share of a frame: motion blur; 0: none")
    parser.add_argument("--noise", type=float, default=1.6, help="of the sensor, in 0..255 (default 1.6)")
    parser.add_argument("--crf", type=int, default=19, help="H.264 quality, 0 lossless to 51 (default 19)")
    parser.add_argument("--spacing", type=float, default=0.015, help="of the true surface's points in metres")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--overwrite", action="store_true", help="make it again")
    parser.add_argument(
        "--deterministic", action="store_true", help="one process, one thread (the bytes are the same without)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    try:
        width, height = (int(part) for part in args.size.lower().split("x"))
        settings = WalkSettings(
            args.seed, args.rooms, args.seconds, args.fps, width, height, args.fov, args.shutter, args.noise, args.crf,
            args.spacing,
        )  # fmt: skip
    except ValueError as error:
        print(f"walkthrough: {error}", file=sys.stderr)
        return 2
    if args.deterministic:
        import cv2

        cv2.setNumThreads(1)
    try:
        record = make_walkthrough(args.out, settings, 1 if args.deterministic else args.jobs, args.overwrite, True)
    except KeyboardInterrupt:
        return 130
    if record.status != "done":
        print(f"walkthrough: {record.reason}", file=sys.stderr)
        return 1
    state = "there already" if record.skipped else "made"
    print(f"{args.out}: {state}; {record.result['frames']} frames, zones {', '.join(record.result['labels'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
