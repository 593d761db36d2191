"""Measure a reconstructed cloud against the truth of a walk-through, or against a depth camera's cloud of a real room.

    python benchmarks/sfm_walkthrough.py out/_work/clouds/walk_000 --truth data/walk
    python benchmarks/sfm_walkthrough.py out/_work/clouds/walk_000 --truth data/walk \\
        --clean out/train/walk_000 --scenes out/_work/segments/walk/scenes.json --json figures.json
    python benchmarks/sfm_walkthrough.py clouds/office --reference depth_camera.ply --reference-cameras track.txt

CLOUD_FOLDER holds cloud.ply and cameras.npz (the chain keeps a cloud with --keep-clouds). The cloud is aligned by a
similarity: camera centres (Umeyama), then trimmed point-to-plane ICP with scale. A reference's cameras are an .npz
(camera_to_world, time) or a TUM track (time tx ty tz qx qy qz qw); without them the ICP starts from where the cloud is,
turned about z and scaled to fit.
Exit code: 0 all well, 1 it cannot be measured, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.clouds.io import Cloud, CloudError, estimate_normals, grid_subsample, read_cloud
from data_tools.reconstruction.alignment import IDENTITY, Similarity, align_cameras, refine
from data_tools.stages.command_line import run_main
from data_tools.stages.files import write_json
from data_tools.synthetic.walkthrough.truth import Truth, TruthError, read_truth

NEAR_SURFACE = 0.05  # metres: a point this close to the true surface is right
COVERED = 0.10  # metres: a surface point this close to a cloud point was found
MOST_POINTS = 200_000
TIME_SLACK = 0.06  # seconds between a camera and its partner in the truth
ICP_CELL = 0.03  # metres


@dataclass(frozen=True)
class Accuracy:
    """How good a cloud is, after the similarity alignment; lengths in the truth's metres.

    Attributes:
        points: number of points in the cloud.
        median_error: median distance of the points to the true surface.
        mean_error: the mean of it.
        p90_error: its 90th percentile.
        near_surface: share of the points within 5 cm of it.
        coverage: share of the visible surface within 10 cm of a point.
        camera_error: median distance between camera centres; NaN without cameras.
        scale: true metres per unit of the cloud.
        transform: (4, 4) rows, cloud to truth, scale included.
    """

    points: int
    median_error: float
    mean_error: float
    p90_error: float
    near_surface: float
    coverage: float
    camera_error: float
    scale: float
    transform: list[list[float]]

    def similarity(self) -> Similarity:
        """The alignment."""
        matrix = np.array(self.transform)
        return Similarity(self.scale, matrix[:3, :3] / self.scale, matrix[:3, 3])


def evaluate_cloud(
    cloud: Cloud,
    camera_to_world: np.ndarray | None,
    truth: Truth,
    time: np.ndarray | None = None,
    refine_alignment: bool = True,
) -> Accuracy:
    """Align a cloud to the truth and measure it.

    Args:
        cloud: the reconstruction, in any frame and unit.
        camera_to_world: (V, 4, 4) its cameras in the same frame; None without.
        truth: the true surface, and the true cameras unless ``camera_to_world`` is None.
        time: (V,) seconds of the cameras in the video; None if they are the truth's, one by one. The surface that
            counts as visible is what the true cameras saw between the first and the last of them.
        refine_alignment: whether ICP follows the camera centres.

    Raises:
        ValueError: no points, or too few cameras that match; one line.
    """
    if not len(cloud):
        raise ValueError("the cloud holds no point; there is nothing to measure")
    points = cloud.coord.astype(np.float64) + cloud.origin
    surface = truth.surface
    camera_error, start = float("nan"), None
    if camera_to_world is not None and len(truth.camera_to_world):
        own, partner = match_cameras(camera_to_world, truth, time)
        start = align_cameras(camera_to_world[own], truth.camera_to_world[partner])
        seen_from = truth.time[partner] if len(truth.time) else np.array([0.0])
        visible = truth.seen_between(float(seen_from.min()) - 1e-6, float(seen_from.max()) + 1e-6)
    else:
        visible = truth.visible if truth.visible is not None else np.ones(len(surface), bool)
    coord, normal = surface.coord, surface.normal
    if normal is None:
        normal = estimate_normals(coord, 16, coord.mean(0)[None])
    target = grid_subsample(Cloud(coord[visible], normal=normal[visible].astype(np.float32)), ICP_CELL)
    assert target.normal is not None
    if start is None:
        start = _search_start(points, target.coord, target.normal)
    found = refine(points, target.coord, target.normal, start) if refine_alignment else start
    if camera_to_world is not None and len(truth.camera_to_world):
        moved = found.apply(camera_to_world[own][:, :3, 3])
        camera_error = float(np.median(np.linalg.norm(moved - truth.camera_to_world[partner][:, :3, 3], axis=1)))
    error = surface_distance(found.apply(_some(points)), coord, normal)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = found.scale * found.rotation, found.translation
    return Accuracy(
        len(cloud),
        float(np.median(error)),
        float(error.mean()),
        float(np.quantile(error, 0.9)),
        float((error <= NEAR_SURFACE).mean()),
        coverage(coord[visible], found.apply(points)),
        camera_error,
        found.scale,
        matrix.tolist(),
    )


def _some(points: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """At most ``most`` rows, drawn evenly with a fixed seed."""
    if len(points) <= most:
        return points
    return points[np.sort(np.random.default_rng(0).permutation(len(points))[:most])]


def match_cameras(camera_to_world: np.ndarray, truth: Truth, time: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs of the cameras and their partners in the truth, by time (or by number without).

    Raises:
        ValueError: fewer than three pairs.
    """
    if time is None:
        if len(camera_to_world) != len(truth.camera_to_world):
            raise ValueError(
                f"{len(camera_to_world)} cameras, {len(truth.camera_to_world)} in the truth: give their times"
            )
        return np.arange(len(camera_to_world)), np.arange(len(camera_to_world))
    order = np.argsort(truth.time, kind="stable")
    place = np.clip(np.searchsorted(truth.time[order], time), 1, len(order) - 1)
    before, after = order[place - 1], order[place]
    partner = np.where(np.abs(truth.time[before] - time) <= np.abs(truth.time[after] - time), before, after)
    own = np.flatnonzero(np.abs(truth.time[partner] - time) <= TIME_SLACK)
    if len(own) < 3:
        raise ValueError(f"{len(own)} of {len(time)} cameras have a partner in the truth; are both of one video?")
    return own, partner[own]


def surface_distance(points: np.ndarray, surface: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Distance (N,) in metres to a surface given as dense points: along the normal, between the sampled points.

    Beside a sampled point, up to the samples' own spacing, the surface goes on flat; farther out (beyond an edge of the
    surface) the plain distance to the nearest sample counts.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(surface)
    sample = surface[:: max(1, len(surface) // 2000)]
    spacing = float(np.median(tree.query(sample, k=2)[0][:, 1]))
    distance, index = tree.query(points)
    away = points - surface[index]
    along = np.abs(np.einsum("ni,ni->n", away, normal[index]))
    beside = np.sqrt(np.maximum(distance**2 - along**2, 0.0))
    return np.where(beside <= 1.5 * spacing, along, distance)


def coverage(surface: np.ndarray, points: np.ndarray, within: float = COVERED) -> float:
    """Share of surface points with a cloud point within ``within`` metres."""
    from scipy.spatial import cKDTree

    if not len(surface):
        return float("nan")
    distance, _ = cKDTree(points).query(_some(surface), distance_upper_bound=within)
    return float(np.isfinite(distance).mean())


def _search_start(points: np.ndarray, surface: np.ndarray, normal: np.ndarray) -> Similarity:
    """A first guess without cameras: middles and sizes matched, the best of 24 turns about z."""
    from scipy.spatial import cKDTree

    tree, few = cKDTree(surface), _some(points, 1500)
    middle, goal = np.median(few, 0), np.median(surface, 0)
    size = [np.median(np.linalg.norm(p - m, axis=1)) for p, m in ((few, middle), (surface, goal))]
    scale, best = float(size[1] / max(size[0], 1e-12)), (np.inf, IDENTITY)
    for angle in np.arange(24) * np.pi / 12:
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        guess = refine(
            few, surface, normal, Similarity(scale, turn, goal - scale * turn @ middle), rounds=5, trim=0.8, most=1500
        )
        error = float(np.quantile(tree.query(guess.apply(few))[0], 0.75))
        if error < best[0]:
            best = (error, guess)
    return best[1]


def up_error(alignment: Similarity, transform: np.ndarray) -> float:
    """Angle in degrees between a cleaned cloud's z axis and the true vertical.

    Args:
        alignment: reconstruction to truth.
        transform: (4, 4) or (3, 3), reconstruction to cleaned cloud (post-processing's meta.json).
    """
    linear = np.asarray(transform, np.float64)[:3, :3]
    up = alignment.rotation.T @ np.array([0.0, 0.0, 1.0])  # the true vertical in the reconstruction's frame
    turned = linear @ up
    return float(np.degrees(np.arccos(np.clip(turned[2] / np.linalg.norm(turned), -1, 1))))


def boundary_errors(
    scenes: list[dict[str, Any]], truth: Truth, dropped: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """For every true visit of a room: the found scene that overlaps it most, and by how many seconds its ends are off.

    What was cut off on purpose as a margin (``dropped`` spans of the reason "margin" beside a scene) counts as the
    scene's: its boundary was found there.

    Returns:
        Rows of label, start, end (true), found (the scene's name or None), label_found, start_error, end_error, share
        of the visit's time that the scene covers.
    """
    rows = []
    for label, start, end in truth.scenes:
        shared = [max(0.0, min(end, float(s["end"])) - max(start, float(s["start"]))) for s in scenes]
        row: dict[str, Any] = {"label": label, "start": start, "end": end, "found": None}
        if shared and max(shared) > 0:
            scene = _with_margins(scenes[int(np.argmax(shared))], dropped or [])
            row.update(
                found=scene.get("scene_id", ""),
                label_found=scene.get("label"),
                start_error=float(scene["start"]) - start,
                end_error=float(scene["end"]) - end,
                share=max(shared) / (end - start),
            )
        rows.append(row)
    return rows


def _with_margins(scene: dict[str, Any], dropped: list[dict[str, Any]]) -> dict[str, Any]:
    start, end = float(scene["start"]), float(scene["end"])
    for span in (span for span in dropped if span.get("reason") == "margin"):
        if abs(float(span["end"]) - start) < 1e-3:
            start = float(span["start"])
        elif abs(float(span["start"]) - end) < 1e-3:
            end = float(span["end"])
    return {**scene, "start": start, "end": end}


def read_cameras(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Poses (V, 4, 4) and times (V,) of an .npz, or of a TUM track (time tx ty tz qx qy qz qw a line).

    Raises:
        TruthError: not readable as either.
    """
    try:
        if path.suffix == ".npz":
            arrays = np.load(path)
            return arrays["camera_to_world"], arrays.get("time")
        rows = np.loadtxt(path, comments="#", ndmin=2)
        x, y, z, w = (rows[:, 4:8] / np.linalg.norm(rows[:, 4:8], axis=1, keepdims=True)).T
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise TruthError(f"{path}: neither an .npz with camera_to_world nor a TUM track ({error})") from error
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, 0, :3] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], 1)
    poses[:, 1, :3] = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], 1)
    poses[:, 2, :3] = np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], 1)
    poses[:, :3, 3] = rows[:, 1:4]
    return poses, rows[:, 0]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cloud", type=Path, metavar="CLOUD_FOLDER", help="with cloud.ply and cameras.npz; or a cloud")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--truth", type=Path, help="folder of a walk-through")
    which.add_argument("--reference", type=Path, help="cloud of a depth camera, in metres")
    parser.add_argument("--reference-cameras", type=Path, help=".npz or TUM track in the reference's frame")
    parser.add_argument("--time-shift", type=float, default=0.0, help="seconds to add to the cloud's camera times")
    parser.add_argument("--clean", type=Path, help="post-processing's folder: measures its vertical")
    parser.add_argument("--scenes", type=Path, help="scenes.json of segmentation: measures the room boundaries")
    parser.add_argument("--no-icp", action="store_true", help="align by the cameras only")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures that the command line asks for."""
    truth = read_truth(args.truth) if args.truth else Truth(read_cloud(args.reference))
    if args.reference_cameras:
        truth.camera_to_world, times = read_cameras(args.reference_cameras)
        truth.time = np.arange(len(truth.camera_to_world), dtype=float) if times is None else times
    folder = args.cloud
    cloud = read_cloud(folder / "cloud.ply" if folder.is_dir() else folder)
    poses, times = None, None
    if folder.is_dir() and (folder / "cameras.npz").is_file() and len(truth.camera_to_world):
        poses, times = read_cameras(folder / "cameras.npz")
        times = None if times is None else times + args.time_shift
    accuracy = evaluate_cloud(cloud, poses, truth, times, not args.no_icp)
    figures: dict[str, Any] = {"accuracy": asdict(accuracy)}
    if args.clean:
        meta = json.loads((args.clean / "meta.json").read_text(encoding="utf-8"))
        figures["up_error"] = up_error(accuracy.similarity(), np.array(meta["transform"]))
    if args.scenes and args.truth:
        table = json.loads(args.scenes.read_text(encoding="utf-8"))
        times = [{"start": s["intervals"][0][0], "end": s["intervals"][-1][1]} for s in table["scenes"]]
        scenes = [{**scene, **both} for scene, both in zip(table["scenes"], times, strict=True)]
        figures["boundaries"] = boundary_errors(scenes, truth, table.get("dropped"))
    return figures


def print_figures(figures: dict[str, Any]) -> None:
    """The figures as a short table."""
    row = figures["accuracy"]
    print(f"points                {row['points']:,}")
    print(f"median error          {100 * row['median_error']:.2f} cm (90 %: {100 * row['p90_error']:.1f} cm)")
    print(f"within 5 cm           {100 * row['near_surface']:.1f} % of the points")
    print(f"found within 10 cm    {100 * row['coverage']:.1f} % of the visible surface")
    print(f"camera error          {100 * row['camera_error']:.2f} cm (median)")
    print(f"scale                 {row['scale']:.4f} true metres a unit")
    if "up_error" in figures:
        print(f"vertical              {figures['up_error']:.2f} degrees off")
    for room in figures.get("boundaries", []):
        if room["found"] is None:
            print(f"{room['label']:<22}not found ({room['start']:.1f} to {room['end']:.1f} s)")
            continue
        print(
            f"{room['label']:<22}{room['start']:.2f} to {room['end']:.2f} s, "
            f"start {room['start_error']:+.2f} s, end {room['end_error']:+.2f} s ({room['found']})"
        )


def main(argv: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    args = parse_args(argv)
    return run_main(lambda: _run(args), "sfm_walkthrough", (TruthError, CloudError, ValueError, OSError, KeyError))


def _run(args: argparse.Namespace) -> int:
    figures = measure(args)
    print_figures(figures)
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
