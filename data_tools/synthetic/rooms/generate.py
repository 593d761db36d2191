"""Write seeded furnished rooms as scene folders: clean, or as noisy as clouds made from video.

python -m data_tools.synthetic.rooms.generate --out data/roomtours --num 16 --seed 0 --noise pi3
python data_tools/synthetic/rooms/generate.py --out data/rooms_clean --num 50 --noise clean --split val --seed 9000
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from data_tools.clouds.io import Cloud, estimate_normals
from data_tools.packaging.card import write_summary
from data_tools.stages.command_line import count, run_main, usage_errors
from data_tools.stages.files import clean_partial
from data_tools.stages.scene_folder import is_done, settings_hash, write_scene
from data_tools.stages.splits import check_split
from data_tools.synthetic.rooms.build import build_room
from data_tools.synthetic.rooms.furniture import Rng
from data_tools.synthetic.rooms.noise import NOISE_LEVELS, NoiseLevel, blur_colors, disturb, thin_out
from data_tools.synthetic.rooms.palette import CLASSES
from data_tools.synthetic.rooms.rooms import ROOM_KINDS, Room
from data_tools.synthetic.rooms.scan import Scan, sample_room, scan_room, walk

VERSION = 1  # part of every scene's settings hash: raise it when the same seed gives other rooms


@dataclass(frozen=True)
class SyntheticSettings:
    """What decides a room's bytes, with its number.

    Attributes:
        seed: of the whole set; room i draws from (seed, i).
        noise: a name in `NOISE_LEVELS`.
        points: most points of a cloud; the density follows from it.
        density: points a square metre of surface instead (2,500 fills a 2 cm grid), or None.
        views: cameras on the walk.
        kind: one of `ROOM_KINDS`, or None for a mixture.
        visible_only: leave out what no camera sees.
        normals: "true" (the surface's), "estimate" (from the points, as of a video), "auto" (true only if clean).
    """

    seed: int = 0
    noise: str = "pi3"
    points: int = 80_000
    density: float | None = None
    views: int = 8
    kind: str | None = None
    visible_only: bool = True
    normals: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what would fail later: a ValueError of one line."""
        choices = {"noise": tuple(NOISE_LEVELS), "kind": (None, *ROOM_KINDS), "normals": ("auto", "true", "estimate")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                words = ", ".join(filter(None, known))
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose from {words}")
        if self.points < 100 or self.views < 1 or (self.density is not None and self.density <= 0):
            raise ValueError("points >= 100, views >= 1 and density > 0 are needed")


def make_scan(settings: SyntheticSettings, index: int) -> tuple[Room, Scan]:
    """Room ``index`` of a set and its points on the true surfaces, before any noise."""
    rng = np.random.default_rng([settings.seed, index, 0])
    kind = settings.kind or ROOM_KINDS[index % len(ROOM_KINDS)]
    room = build_room(rng, kind)
    cameras = walk(room, settings.views, rng)
    density = settings.density or 1.9 * settings.points / room.shape.area()
    points = sample_room(room, density, rng)
    points.color = light(room, points.coord, points.normal, points.color)
    if settings.visible_only:
        scan = scan_room(room, points, cameras, rng)
    else:
        nearest = np.linalg.norm(points.coord[:, None] - cameras[None], axis=2).argmin(axis=1)
        scan = Scan(points, cameras, nearest, np.zeros(len(points)))
    if len(scan.points) == 0:
        raise ValueError(f"room {index} of seed {settings.seed} has no visible point; give more points or views")
    return room, scan


def light(room: Room, coord: np.ndarray, normal: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Shade colours (N, 3) by a lamp below the middle of the ceiling and a soft light from everywhere."""
    lamp = np.array([room.width / 2, room.depth / 2, 0.9 * room.height])
    way = lamp - coord
    lambert = np.einsum("ni,ni->n", way, normal) / (np.sqrt(np.einsum("ni,ni->n", way, way)) + 1e-9)
    lambert = np.clip(lambert, 0, 1).astype(np.float32)
    return np.clip(color * (0.68 + 0.32 * lambert[:, None]), 0, 1)


def reconstruct(settings: SyntheticSettings, room: Room, scan: Scan, rng: Rng) -> Cloud:
    """A scan as a cloud of ``settings``: noise, most points and normals; another ``rng``, another reconstruction."""
    level: NoiseLevel = NOISE_LEVELS[settings.noise]
    scan = thin_out(scan, level, room.width * room.depth, rng)
    if settings.density is None and len(scan.points) > settings.points:
        keep = np.sort(rng.permutation(len(scan.points))[: settings.points])
        scan = scan.select(keep)
    points = scan.points
    coord = points.coord if settings.noise == "clean" else disturb(scan, level, rng)
    color = blur_colors(coord, points.color, scan, level, rng)
    estimate = settings.normals == "estimate" or (settings.normals == "auto" and settings.noise != "clean")
    normal = points.normal.astype(np.float32)
    if estimate:
        # a plane per 8 cm cell, no wider than what 32 neighbours span here: RoomTours' normals at a third of the cost
        normal = estimate_normals(coord, 32, scan.cameras[scan.view], cell=0.08)
    return Cloud(
        coord.astype(np.float32),
        np.rint(color * 255).astype(np.uint8),
        normal,
        segment=points.segment,
        instance=points.instance,
    )


def make_room(settings: SyntheticSettings, index: int) -> tuple[Cloud, dict[str, object]]:
    """One room as a cloud in metres, z up, and what its meta.json says.

    The same settings and index give the same bytes, whatever the number of workers.
    """
    room, scan = make_scan(settings, index)
    cloud = reconstruct(settings, room, scan, np.random.default_rng([settings.seed, index, 1]))
    extra: dict[str, object] = {
        "generator": {**asdict(settings), "version": VERSION, "index": index, "kind": room.kind},
        "room_size": [round(v, 4) for v in (room.width, room.depth, room.height)],
        "classes": list(CLASSES),
        "cameras": [[round(float(v), 4) for v in camera] for camera in scan.cameras],
    }
    return cloud, extra


def scene_name(settings: SyntheticSettings, index: int) -> str:
    """Folder name of a room: seed, number, noise."""
    return f"synthetic_{settings.seed:05d}_{index:05d}_{settings.noise}"


def generate_one(
    settings: SyntheticSettings, index: int, split_dir: Path, labels: bool, overwrite: bool
) -> tuple[str, int, bool]:
    """Write one room unless it is there already: name, number of points (0 if skipped), whether it was written."""
    name = scene_name(settings, index)
    digest = settings_hash({"version": VERSION, "index": index, "labels": labels, **asdict(settings)})
    folder = split_dir / name
    if not overwrite and is_done(folder, digest):
        return name, 0, False
    cloud, extra = make_room(settings, index)
    if not labels:
        cloud.segment = cloud.instance = None
    write_scene(folder, cloud, {**extra, "settings_hash": digest})
    return name, len(cloud), True


def generate(
    out: Path,
    num: int,
    settings: SyntheticSettings,
    split: str = "train",
    workers: int = 1,
    labels: bool = True,
    overwrite: bool = False,
    first: int = 0,
    show_progress: bool = False,
) -> list[str]:
    """Write rooms ``first`` .. ``first + num - 1`` to ``out/split``; what is there already is kept."""
    from tqdm import tqdm

    split_dir = Path(out) / split
    split_dir.mkdir(parents=True, exist_ok=True)
    clean_partial(split_dir.parent)
    indices = range(first, first + num)
    arguments = (repeat(settings), indices, repeat(split_dir), repeat(labels), repeat(overwrite))
    with ProcessPoolExecutor(workers, get_context("spawn")) if workers > 1 else nullcontext() as pool:
        made = pool.map(generate_one, *arguments) if pool else map(generate_one, *arguments)
        done = list(tqdm(made, total=num, desc="rooms", unit="room", disable=not show_progress))
    write_summary(Path(out), license_note="Synthetic rooms made by data_tools.synthetic: free to use (MIT).")
    return [name for name, _, _ in done]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="root folder; scenes go to OUT/SPLIT/NAME")
    parser.add_argument("--num", type=count, default=16, help="number of rooms (default 16)")
    parser.add_argument("--first", type=count, default=0, help="number of the first room, to extend a set")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--noise", choices=list(NOISE_LEVELS), default="pi3")
    parser.add_argument("--points", type=int, default=80_000, help="most points a room (default 80000)")
    parser.add_argument(
        "--density", type=float, default=None, help="points a square metre instead; 2500 fills 2 cm cells"
    )
    parser.add_argument("--views", type=int, default=8, help="cameras on the walk (default 8)")
    parser.add_argument("--kind", choices=ROOM_KINDS, default=None, help="only this kind of room")
    parser.add_argument("--normals", choices=["auto", "true", "estimate"], default="auto")
    parser.add_argument("--all-surfaces", action="store_true", help="keep what no camera sees")
    parser.add_argument("--split", default="train")
    parser.add_argument("--no-labels", action="store_true", help="write no segment.npy and instance.npy")
    parser.add_argument("--workers", type=count, default=1)
    parser.add_argument("--overwrite", action="store_true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    return run_main(lambda: _run(args), "generate", out=args.out)


def _run(args: argparse.Namespace) -> int:
    with usage_errors():
        check_split(args.split)
        settings = SyntheticSettings(
            args.seed, args.noise, args.points, args.density, args.views, args.kind, not args.all_surfaces, args.normals
        )
    names = generate(
        args.out, args.num, settings, args.split, args.workers, not args.no_labels, args.overwrite, args.first, True
    )
    print(f"{len(names)} rooms in {args.out / args.split}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
