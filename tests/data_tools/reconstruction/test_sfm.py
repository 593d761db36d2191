"""The sfm backend on a scene with known depth: a slanted textured wall with a box in front of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from data_tools.reconstruction.base import Frames, Reconstructor, ReconstructSettings
from data_tools.reconstruction.depth_fusion import choose_sources, depth_range, fuse_depths
from data_tools.reconstruction.depth_sweep import DepthMap, View, _shifted, aggregate, best_half, estimate_depth
from data_tools.reconstruction.sfm import SfmReconstructor
from data_tools.reconstruction.sfm_poses import PosedFrames, PoseSettings, find_poses, match_pairs
from data_tools.stages.record import StageError

cv2 = pytest.importorskip("cv2")

PLANES = (  # normal, distance along it, patch limits in world x (None: endless)
    (np.array([0.25, 0.0, -1.0]), -3.0, None),
    (np.array([0.0, 0.0, -1.0]), -2.0, (-0.35, 0.35)),
)
NEAR, FAR = 1.5, 5.0


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.zeros((512, 512), np.float32)
    for size in (8, 32, 128):
        image += cv2.resize(rng.uniform(0, 80, (size, size)).astype(np.float32), (512, 512))
    return image


def render(pose: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Grey image (h, w) uint8 and depth (h, w) of the two planes."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(matrix).T @ pose[:3, :3].T
    depth, image = np.full(size, np.inf), np.zeros(size, np.float32)
    for number, (normal, distance, limits) in enumerate(PLANES):
        z = (distance - pose[:3, 3] @ normal) / (rays @ normal)
        point = pose[:3, 3] + rays * z[..., None]
        inside = (z > 0) & (z < depth)
        if limits:
            inside &= (np.abs(point[..., 0]) < limits[1]) & (np.abs(point[..., 1]) < limits[1])
        u, v = (((point[..., k] / 5 + 0.5) * 511).astype(np.float32) for k in (0, 1))
        colors = cv2.remap(texture(number), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        depth[inside], image[inside] = z[inside], colors[inside]
    return np.clip(image, 0, 255).astype(np.uint8), depth


def scene(size: tuple[int, int] = (120, 160), count: int = 8) -> tuple[Frames, PosedFrames, np.ndarray]:
    """Frames, their true poses with sparse points, and depths (count, h, w)."""
    height, width = size
    matrix = np.array([[width * 0.9, 0, width / 2 - 0.5], [0, width * 0.9, height / 2 - 0.5], [0, 0, 1.0]])
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = np.linspace(-0.5, 0.5, count)
    poses[:, 1, 3] = 0.1 * np.sin(np.arange(count))
    images, depths = zip(*(render(pose, matrix, size) for pose in poses), strict=True)
    frames = Frames(np.repeat(np.stack(images)[..., None], 3, -1), np.arange(count), np.arange(count) / 2.0, matrix)
    rng = np.random.default_rng(0)
    pixels = np.stack([rng.integers(10, width - 10, 150), rng.integers(10, height - 10, 150), np.ones(150, int)], 1)
    middle = count // 2
    points = (pixels @ np.linalg.inv(matrix).T) * depths[middle][pixels[:, 1], pixels[:, 0]][:, None]
    points = points + poses[middle, :3, 3]
    view, point = (part.ravel() for part in np.meshgrid(np.arange(count), np.arange(150), indexing="ij"))
    empty = np.zeros((len(view), 2))
    posed = PosedFrames(np.arange(count), poses, matrix, np.zeros(4), points, point, view, empty, 0.0)
    return frames, posed, np.stack(depths)


def views_of(frames: Frames, posed: PosedFrames) -> list[View]:
    return [
        View(image[..., 0], posed.matrix, np.linalg.inv(pose))
        for image, pose in zip(frames.images, posed.camera_to_world, strict=True)
    ]


def test_depth_of_a_known_scene():
    frames, posed, truth = scene()
    views, sources = views_of(frames, posed), choose_sources(posed, 4)
    found = estimate_depth(views[4], [views[k] for k in sources[4]], NEAR, FAR, 64)
    error = np.abs(found.depth - truth[4])[8:-8, 8:-8]
    assert np.median(error) < 0.015
    assert (error < 0.06).mean() > 0.85
    assert 0 <= found.score.min() <= found.score.max() <= 1


def test_aggregation_follows_the_formula_on_one_path_sum():
    """Against Hirschmüller's eq. 13 written pixel by pixel."""
    rng = np.random.default_rng(3)
    volume, gray = rng.integers(0, 101, (6, 5, 7)).astype(np.uint8), rng.integers(0, 255, (5, 7)).astype(np.uint8)
    p1, p2, height, width = 8, 60, 5, 7
    total = np.zeros(volume.shape, np.int64)
    for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        path = np.zeros(volume.shape, np.int64)
        for y in range(height)[:: dy or 1]:
            for x in range(width)[:: dx or 1]:
                path[:, y, x] = volume[:, y, x]
                py, px = y - dy, x - dx
                if not 0 <= py < height or (dy == 0 and not 0 <= px < width):
                    continue
                px = min(max(px, 0), width - 1) if 0 <= px < width else x
                before = path[:, py, px]
                jump = max(p2 * 6 // (6 + abs(int(gray[y, x]) - int(gray[py, px]))), 2 * p1)
                for plane in range(len(volume)):
                    options = [before[plane], before.min() + jump]
                    options += [before[k] + p1 for k in (plane - 1, plane + 1) if 0 <= k < len(before)]
                    path[plane, y, x] += min(options) - before.min()
        total += path
    np.testing.assert_array_equal(aggregate(volume, gray, p1, p2), total)


def test_shift_and_best_half():
    np.testing.assert_array_equal(_shifted(np.array([1, 2, 3]), 1), [1, 1, 2])
    np.testing.assert_array_equal(_shifted(np.array([1, 2, 3]), -1), [2, 3, 3])
    costs = np.random.default_rng(0).integers(0, 100, (5, 4, 4)).astype(np.uint8)
    wanted = np.sort(costs, 0)[:3].astype(int).sum(0) // 3
    np.testing.assert_array_equal(best_half(list(costs)), wanted)


def test_consistency_removes_planted_depths():
    frames, posed, truth = scene()
    views, sources = views_of(frames, posed), choose_sources(posed, 4)
    maps = [DepthMap(depth.astype(np.float32), np.ones(depth.shape, np.float32)) for depth in truth]
    planted = np.zeros(truth[4].shape, bool)
    planted[50:60, 20:40] = True
    maps[4].depth[planted] *= 0.9
    depth, count = fuse_depths(views, maps, sources, 4)
    assert (count[planted] < 2).all()
    inner = ~planted
    inner[:, :30] = inner[:, -30:] = False
    assert (count[inner] >= 2).mean() > 0.9
    kept = count >= 2
    assert np.abs(depth - truth[4])[kept].max() < 0.04


def test_sources_need_parallax_and_points():
    _, posed, _ = scene()
    assert [len(row) for row in choose_sources(posed, 3)] == [3] * 8
    near, far = depth_range(posed, 4)
    assert near < 2.0 < 3.0 < far
    posed.camera_to_world[:, :3, 3] = 0
    assert not any(choose_sources(posed, 3))
    posed.point_index, posed.view_index = posed.point_index[:5], posed.view_index[:5]
    assert depth_range(posed, 0) is None


def test_prediction_of_posed_frames_is_true_and_repeatable():
    frames, posed, truth = scene()
    backend = SfmReconstructor(ReconstructSettings(backend="sfm"))
    assert isinstance(backend, Reconstructor)
    first, second = backend.densify(frames, posed, 2), backend.densify(frames, posed, 1)
    for name in ("points", "valid", "confidence", "color"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    found = first.points[..., 2][first.valid]
    assert first.valid.mean() > 0.6
    assert np.median(np.abs(found - truth[first.valid])) < 0.012
    assert first.confidence[first.valid].min() > 0
    assert first.confidence.max() <= 1


def test_posing_errors_are_one_line():
    still = Frames(np.full((6, 60, 80, 3), 90, np.uint8), np.arange(6), np.arange(6.0))
    pytest.importorskip("pycolmap")
    with pytest.raises(StageError, match="needs 3"):
        find_poses(still.select(np.arange(2)), PoseSettings(), 0)
    with pytest.raises(StageError, match="no camera motion"):
        find_poses(still, PoseSettings(threads=1), 0)
    _, posed, _ = scene()
    posed.camera_to_world[:, :3, 3] = 0
    with pytest.raises(StageError, match="no parallax"):
        SfmReconstructor(ReconstructSettings(backend="sfm")).densify(scene()[0], posed)
    with pytest.raises(StageError, match="no option"):
        SfmReconstructor(ReconstructSettings(backend="sfm", options={"planes": 3}))


def test_frames_to_points_with_pycolmap():
    pytest.importorskip("pycolmap")
    frames, posed, _ = scene((240, 320), 8)
    settings = ReconstructSettings(backend="sfm", deterministic=True, options={"depth_side": 160})
    first = SfmReconstructor(settings).reconstruct(frames, 0)
    second = SfmReconstructor(settings).reconstruct(frames, 0)
    np.testing.assert_array_equal(first.camera_to_world, second.camera_to_world)
    np.testing.assert_array_equal(first.points, second.points)
    assert list(first.view) == list(range(8))
    assert first.figures["reprojection_error_px"] < 1
    moved = np.diff(first.camera_to_world[:, :3, 3], axis=0)
    true = np.diff(posed.camera_to_world[:, :3, 3], axis=0)
    ratio = np.linalg.norm(moved, axis=1) / np.linalg.norm(true, axis=1)
    assert ratio.std() / ratio.mean() < 0.05


def test_pairs():
    assert len(match_pairs(10, 3, 5)) == 45
    pairs = match_pairs(200, 8, 34)
    assert len(set(pairs)) == len(pairs) < 4000
    assert all(i < j for i, j in pairs)
    assert (0, 199) in pairs
    assert (0, 128) in pairs


@pytest.mark.slow
def test_office_frames():
    """The real frames, where SFM_TUM_FOLDER names their folder: `benchmarks/sfm_tum.py` holds the measures."""
    folder = os.environ.get("SFM_TUM_FOLDER")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SFM_TUM_FOLDER does not name the folder of the 17 office frames")
    from benchmarks.sfm_tum import measure

    figures = measure(Path(folder), 0)
    assert figures["posed_frames"] >= 16
    assert figures["reprojection_error_px"] < 1
    assert figures["points"] >= 200_000
    assert figures["desk_rms_over_length"] < 0.01
    assert figures["desk_share_within_1_percent"] > 0.85
