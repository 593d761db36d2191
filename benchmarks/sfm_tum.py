"""The sfm backend on the 17 office frames of TUM fr3/long_office_household (one a second, wide baselines).

    python benchmarks/sfm_tum.py FOLDER [--seed 0] [--intrinsics 535.4,539.2,320.1,247.6] [--ply cloud.ply]

FOLDER holds the frames as .png, named by their time in seconds. Prints frames posed, mean reprojection error, points,
and how far the points of the largest horizontal (desk) plane lie from it, as a share of its length.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_tools.clouds.io import Cloud, write_ply
from data_tools.reconstruction.assemble import build_cloud
from data_tools.reconstruction.base import Frames, Prediction, ReconstructSettings
from data_tools.reconstruction.masks import keep_masks
from data_tools.reconstruction.sfm import SfmReconstructor

DRAWS = 2000
SLAB = 0.03  # points within so much of the plane's length are the plane's
FACING = 0.9  # cosine between their normals and the plane's


def read_folder(folder: Path, intrinsics: np.ndarray | None) -> Frames:
    """The folder's .png files in the order of their times."""
    import cv2

    paths = sorted(folder.glob("*.png"), key=lambda path: float(path.stem))
    if not paths:
        raise SystemExit(f"{folder}: holds no .png frames")
    images = np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])
    return Frames(images, np.arange(len(paths)), np.array([float(path.stem) for path in paths]), intrinsics)


def desk_plane(points: np.ndarray, normals: np.ndarray, up: np.ndarray, seed: int, size: float) -> dict[str, float]:
    """The level plane with most points (RANSAC, then least squares) and its points' distances.

    Args:
        points: (N, 3) of the cloud.
        normals: (N, 3) theirs; things on the desk and its edges face elsewhere and are not its plane's points.
        up: (3,) the cameras' mean y axis; a desk is tilted less than 45 degrees from it.
        seed: of the draws.
        size: length of the scene; the draws count points within 0.3 % of it.

    Returns:
        length of the plane's points (95 % of them, along their longest axis), and over the points within `SLAB` of that
        length of the plane: their number, and the median, rms and 90th percentile of their distance over the length.
    """
    rng = np.random.default_rng(seed)
    level = np.abs(normals @ up) > 0.6
    points, normals = points[level], normals[level]
    some = points[rng.choice(len(points), min(len(points), 20_000), replace=False)]
    best, most = (some[0], np.array([0.0, 0.0, 1.0])), 0
    for _ in range(DRAWS):
        a, b, c = some[rng.choice(len(some), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length < 1e-9 or abs(normal @ up) < 0.707 * length:
            continue
        if (count := int((np.abs((some - a) @ (normal / length)) < 0.003 * size).sum())) > most:
            best, most = (a, normal / length), count
    centre, normal = best
    spread = 0.003 * size
    for _ in range(3):
        near = points[np.abs((points - centre) @ normal) < 2 * spread]
        centre = near.mean(0)
        _, _, axes = np.linalg.svd((near - centre)[:: max(1, len(near) // 50_000)], full_matrices=False)
        normal = axes[2]
    along = (near - centre) @ axes[0]
    length = float(np.subtract(*np.quantile(along, [0.975, 0.025])))
    distance = np.abs((points - centre) @ normal)
    distance = distance[(distance < SLAB * length) & (np.abs(normals @ normal) > FACING)] / length
    return {
        "desk_length": round(length, 4),
        "desk_points": len(distance),
        "desk_median_over_length": round(float(np.median(distance)), 5),
        "desk_rms_over_length": round(float(np.sqrt((distance**2).mean())), 5),
        "desk_p90_over_length": round(float(np.quantile(distance, 0.9)), 5),
        "desk_share_within_1_percent": round(float((distance < 0.01).mean()), 4),
    }


def in_front(prediction: Prediction, keep: np.ndarray) -> np.ndarray:
    """``keep`` without what is farther than its view's median depth: the desk is in front, floor and hall behind it."""
    near = keep.copy()
    for view, pose in enumerate(prediction.camera_to_world):
        depth = (prediction.points[view] - pose[:3, 3]) @ pose[:3, 2]
        if keep[view].any():
            near[view] &= depth <= np.median(depth[keep[view]])
    return near


def measure(folder: Path, seed: int, intrinsics: np.ndarray | None = None, ply: Path | None = None) -> dict[str, Any]:
    """Run the backend on a folder of frames and measure it."""
    frames = read_folder(folder, intrinsics)
    settings = ReconstructSettings(backend="sfm")
    begin, cpu = time.perf_counter(), time.process_time()
    prediction = SfmReconstructor(settings).reconstruct(frames, seed)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    keep, _ = keep_masks(prediction, frames, settings)
    near = build_cloud(prediction, in_front(prediction, keep), 0, seed)
    points, up = prediction.points[keep], prediction.camera_to_world[:, :3, 1].mean(0)
    size = float(np.median(np.ptp(points, axis=0))) / 2
    if ply is not None:
        write_ply(ply, Cloud(points, prediction.color[keep], None, prediction.confidence[keep]))
    return {
        **prediction.figures,
        "frames": len(frames),
        "points": len(points),
        **desk_plane(near.coord, near.normal, up / np.linalg.norm(up), seed, size),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--intrinsics", help="fx,fy,cx,cy (default: estimated from the frames)")
    parser.add_argument("--ply", type=Path, help="write the cloud there")
    args = parser.parse_args()
    matrix = None
    if args.intrinsics:
        fx, fy, cx, cy = map(float, args.intrinsics.split(","))
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    print(json.dumps(measure(args.folder, args.seed, matrix, args.ply), indent=1))


if __name__ == "__main__":
    main()
