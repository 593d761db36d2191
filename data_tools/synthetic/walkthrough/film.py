"""Render a seeded furnished flat as a hand-held walk-through video, with everything that is true about it.

    python data_tools/synthetic/walkthrough/film.py --out data/walk --seed 0 --seconds 60
    python data_tools/synthetic/walkthrough/film.py --out data/quick --seconds 6 --size 160x120 --fps 10

The camera spends about 30 seconds in a room: 60 show the flat's two rooms, 90 come back to the first. OUT is whole or
not there: walkthrough.mp4, truth.npz (camera_to_world, time, intrinsics, zone), depth/ (16-bit millimetres, twice a
second), labels.csv (time,label), scenes.json, surface.ply (the true surface with normals, classes, zones), visible.npy
(which of its points the camera saw). Equal settings give equal frames with any --jobs.
Exit code: 0 all well, 1 it failed, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from data_tools.stages.command_line import count, run_main, usage_errors
from data_tools.stages.record import StageRecord, run_stage
from data_tools.stages.scene_folder import settings_hash
from data_tools.synthetic.walkthrough.bake import bake, build_scene, sample_surface
from data_tools.synthetic.walkthrough.camera import PhoneCamera
from data_tools.synthetic.walkthrough.flat import build_flat
from data_tools.synthetic.walkthrough.raster import Renderer, pinhole
from data_tools.synthetic.walkthrough.trajectory import plan_walk
from data_tools.synthetic.walkthrough.truth import write_truth
from data_tools.video.sampling import write_video

VERSION = 2  # part of the settings hash: raise it when the same seed gives another video
CHUNK = 8  # frames a task
FOV = 65.0  # degrees, horizontal
TEXEL = 0.003  # metres a texel at 640 pixels
CRF = 19  # quality of the H.264 stream

Shot = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class WalkSettings:
    """What decides the bytes of a walk-through.

    Attributes:
        seed: of the flat, its textures, the walk and the noise.
        seconds: length of the video.
        fps: frames a second.
        width: of the picture, pixels.
        height: of the picture, pixels.
        spacing: of the true surface's points in metres.
        depth_every: seconds between depth pictures; 0: one a frame.
    """

    seed: int = 0
    seconds: float = 60.0
    fps: float = 30.0
    width: int = 640
    height: int = 480
    spacing: float = 0.015
    depth_every: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what would fail later: a ValueError of one line."""
        if self.seed < 0 or self.seconds < 1 or self.fps < 1 or self.spacing <= 0 or self.depth_every < 0:
            raise ValueError("seed >= 0, seconds >= 1, fps >= 1, spacing > 0 and depth_every >= 0 are needed")
        if min(self.width, self.height) < 32 or self.width % 2 or self.height % 2:
            raise ValueError(f"size {self.width}x{self.height}: even numbers of at least 32 are needed")

    def digest(self) -> str:
        """Changes when a setting does."""
        return settings_hash({"version": VERSION, **{name: float(value) for name, value in asdict(self).items()}})


class Studio:
    """The flat, the walk through it and the camera of some settings: all that a process needs to shoot frames."""

    def __init__(self, settings: WalkSettings) -> None:
        size = (settings.width, settings.height)
        self.intrinsics = pinhole(*size, FOV)
        self.flat = build_flat(settings.seed)
        self.walk = plan_walk(self.flat, settings.seconds, settings.fps, settings.seed)
        self.mesh, atlas = bake(build_scene(self.flat, TEXEL * 640 / settings.width), settings.seed)
        self.renderer = Renderer(self.mesh, atlas, self.intrinsics, size)
        self.camera = PhoneCamera(self.intrinsics, size, settings.seed)
        self.depth_step = max(1, round(settings.depth_every * settings.fps))

    def shoot(self, number: int) -> Shot:
        """The picture of a frame, and its depth where a depth picture is due."""
        poses = self.walk.camera_to_world
        render = self.renderer.render(poses[number])
        later = min(number + 1, len(poses) - 1)
        motion = np.linalg.inv(poses[later - 1]) @ poses[later]
        image = self.camera.expose(render.color, render.depth, motion, number)
        return image, render.depth if number % self.depth_step == 0 else None


_STUDIO: dict[str, Studio] = {}


def _open_studio(settings: WalkSettings) -> None:
    import cv2

    cv2.setNumThreads(1)
    _STUDIO["open"] = Studio(settings)


def _shoot(number: int) -> Shot:
    return _STUDIO["open"].shoot(number)


def shoot_all(settings: WalkSettings, studio: Studio, jobs: int) -> Iterator[Shot]:
    """All frames in order, by ``studio`` or by ``jobs`` processes with a studio each; the bytes are the same."""
    numbers = range(len(studio.walk.time))
    if jobs <= 1:
        yield from map(studio.shoot, numbers)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _open_studio, (settings,)) as pool:
        yield from pool.map(_shoot, numbers, chunksize=CHUNK)


def make_walkthrough(folder: Path, settings: WalkSettings, jobs: int = 1, show_progress: bool = False) -> StageRecord:
    """Make the folder of a walk-through, or skip it when it is there; its bytes do not depend on ``jobs``."""

    def work(partial: Path, record: StageRecord) -> None:
        _make(partial, record, settings, jobs, show_progress)

    return run_stage("walkthrough", folder, settings.digest(), "", work)


def _make(partial: Path, record: StageRecord, settings: WalkSettings, jobs: int, show_progress: bool) -> None:
    from tqdm import tqdm

    studio = Studio(settings)
    walk, labels = studio.walk, studio.flat.labels()
    depths: dict[int, np.ndarray] = {}
    with closing(shoot_all(settings, studio, jobs)) as shots:
        bar = tqdm(shots, total=len(walk.time), desc="walkthrough", unit="frame", disable=not show_progress)

        def images() -> Iterator[np.ndarray]:
            for number, (image, depth) in enumerate(bar):
                if depth is not None:
                    depths[number] = depth
                yield image

        write_video(partial / "walkthrough.mp4", images(), settings.fps, crf=CRF)
    points = sample_surface(studio.mesh, settings.spacing, np.random.default_rng([settings.seed, 31]))
    edges = [0.0, *walk.crossings, len(walk.time) / settings.fps]
    # a walk changes rooms at every crossing: the flat has two
    scenes = [(labels[number % 2], start, end) for number, (start, end) in enumerate(pairwise(edges))]
    write_truth(partial, walk, studio.intrinsics, points, depths, scenes)
    record.result.update(frames=len(walk.time), speed=round(walk.speed, 3), scenes=len(scenes), faces=len(studio.mesh))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of this walk-through; replaced when it is made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="length (default 60; about 30 a room)")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT (default 640x480)")
    parser.add_argument("--jobs", type=count, default=1, help="processes (default 1)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    return run_main(lambda: _run(args), "walkthrough", out=args.out)


def _run(args: argparse.Namespace) -> int:
    with usage_errors():
        width, height = (int(part) for part in args.size.lower().split("x"))
        settings = WalkSettings(args.seed, args.seconds, args.fps, width, height)
    record = make_walkthrough(args.out, settings, args.jobs, show_progress=True)
    if record.status != "done":
        print(f"walkthrough: {record.reason}", file=sys.stderr)
        return 1
    state = "there already" if record.skipped else "made"
    print(f"{args.out}: {state}; {record.result['frames']} frames, {record.result['scenes']} visits of rooms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
