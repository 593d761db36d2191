"""Measure a reconstructed cloud against the truth of a walk-through.

    python benchmarks/sfm_walkthrough.py out/_work/clouds/walk_000 --truth data/walk
    python benchmarks/sfm_walkthrough.py out/_work/clouds/walk_000 --truth data/walk \\
        --clean out/train/walk_000 --scenes out/_work/segments/walk/scenes.json --json figures.json

CLOUD_FOLDER holds cloud.ply and cameras.npz (the chain keeps a cloud with --keep-clouds). The cloud is aligned by a
similarity: camera centres (Umeyama), then trimmed point-to-plane ICP with scale.
Exit code: 0 all well, 1 it cannot be measured, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.clouds.io import Cloud, CloudError, grid_subsample, read_cloud
from data_tools.reconstruction.alignment import Similarity, align_cameras, refine
from data_tools.stages.command_line import run_main
from data_tools.stages.files import write_json
from data_tools.synthetic.walkthrough.truth import Truth, TruthError, read_truth

NEAR_SURFACE = 0.05  # metres: a point this close to the true surface is right
COVERED = 0.10  # metres: a surface point this close to a cloud point was found
MOST_POINTS = 200_000
TIME_SLACK = 0.06  # seconds between a camera and its partner in the truth
ICP_CELL = 0.03  # metres


def evaluate_cloud(
    cloud: Cloud,
    camera_to_world: np.ndarray,
    truth: Truth,
    time: np.ndarray | None = None,
    refine_alignment: bool = True,
) -> tuple[dict[str, float], Similarity]:
    """Align a cloud to the truth and measure it.

    Args:
        cloud: the reconstruction, in any frame and unit.
        camera_to_world: (V, 4, 4) its cameras in the same frame.
        truth: the true surface and cameras.
        time: (V,) seconds of the cameras in the video; None if they are the truth's, one by one. The surface that
            counts as visible is what the true cameras saw between the first and the last of them.
        refine_alignment: whether ICP follows the camera centres.

    Returns:
        points: number of points in the cloud; median_error, mean_error, p90_error: of their distances to the true
        surface, in the truth's metres, after the alignment; near_surface: share of the points within 5 cm of it;
        coverage: share of the visible surface within 10 cm of a point; camera_error: median distance between camera
        centres; scale: true metres per unit of the cloud. And the alignment, cloud to truth.

    Raises:
        ValueError: no points, or too few cameras that match; one line.
    """
    if not len(cloud):
        raise ValueError("the cloud holds no point; there is nothing to measure")
    points = cloud.coord.astype(np.float64) + cloud.origin
    coord, normal = truth.surface.coord, truth.surface.normal
    own, partner = match_cameras(camera_to_world, truth, time)
    true_cameras = truth.camera_to_world[partner]
    found = align_cameras(camera_to_world[own], true_cameras)
    visible = truth.seen_between(float(truth.time[partner].min()) - 1e-6, float(truth.time[partner].max()) + 1e-6)
    if refine_alignment:
        target = grid_subsample(Cloud(coord[visible], normal=normal[visible].astype(np.float32)), ICP_CELL)
        found = refine(points, target.coord, target.normal, found)
    apart = np.linalg.norm(found.apply(camera_to_world[own][:, :3, 3]) - true_cameras[:, :3, 3], axis=1)
    error = surface_distance(found.apply(_some(points)), coord, normal)
    figures = {
        "points": len(cloud),
        "median_error": float(np.median(error)),
        "mean_error": float(error.mean()),
        "p90_error": float(np.quantile(error, 0.9)),
        "near_surface": float((error <= NEAR_SURFACE).mean()),
        "coverage": coverage(coord[visible], found.apply(points)),
        "camera_error": float(np.median(apart)),
        "scale": found.scale,
    }
    return figures, found


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
    if not len(surface):
        return float("nan")
    distance, _ = cKDTree(points).query(_some(surface), distance_upper_bound=within)
    return float(np.isfinite(distance).mean())


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


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="CLOUD_FOLDER", help="with cloud.ply and cameras.npz")
    parser.add_argument("--truth", type=Path, required=True, help="folder of a walk-through")
    parser.add_argument("--clean", type=Path, help="post-processing's folder: measures its vertical")
    parser.add_argument("--scenes", type=Path, help="scenes.json of segmentation: measures the room boundaries")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures that the command line asks for."""
    truth, cloud = read_truth(args.truth), read_cloud(args.folder / "cloud.ply")
    with np.load(args.folder / "cameras.npz") as cameras:
        accuracy, alignment = evaluate_cloud(cloud, cameras["camera_to_world"], truth, cameras.get("time"))
    figures: dict[str, Any] = {"accuracy": accuracy}
    if args.clean:
        meta = json.loads((args.clean / "meta.json").read_text(encoding="utf-8"))
        figures["up_error"] = up_error(alignment, np.array(meta["transform"]))
    if args.scenes:
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
