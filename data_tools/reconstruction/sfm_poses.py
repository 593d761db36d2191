"""Camera poses of a scene's frames with pycolmap: features, matches, incremental mapping (no weights, no GPU).

The pipeline is COLMAP's (Schönberger and Frahm, "Structure-from-Motion Revisited", CVPR 2016). What is decided here:
which pairs are matched, how strict each try is, and what is done with a scene that falls into several models.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.reconstruction.base import Frames
from data_tools.stages.record import StageError

EXHAUSTIVE = 40  # up to so many frames, every pair is matched
MIN_FRAMES = 3
LEAST_CONTRAST = 0.012  # of a feature, 1 from black to white: blurred and texture-poor frames keep some
LONG_FEATURES = 2600  # an image of a longer scene: matching goes with the square


@dataclass(frozen=True)
class PoseSettings:
    """How poses are searched for.

    Attributes:
        max_features: SIFT features an image, the strongest (fewer for long scenes: see `feature_count`).
        overlap: each frame is matched with so many frames after it, and with those 2^k after it.
        loop_images: so many frames, evenly spread, are matched with one another (loop closure).
        good_share: a try that poses this share of the frames is taken at once.
        threads: of COLMAP; 1 makes the result reproducible.
    """

    max_features: int = 4096
    overlap: int = 8
    loop_images: int = 34
    good_share: float = 0.9
    threads: int = 2


@dataclass
class PosedFrames:
    """Cameras and sparse points of the frames that were posed.

    Attributes:
        view: (V,) int64 rows of `Frames`, ascending.
        camera_to_world: (V, 4, 4) float64, OpenCV axes.
        matrix: (3, 3) float64 pinhole matrix; pixel (0, 0) has its centre at (0, 0).
        distortion: (4,) float64 k1, k2, p1, p2 of OpenCV's model.
        points: (P, 3) float64 sparse points.
        point_index: (O,) int64 rows of ``points``.
        view_index: (O,) int64 rows of the views that see them.
        pixel: (O, 2) float64 where, in the frames as given (with distortion).
        error: mean reprojection error, pixels.
        notes: for the record.
        figures: for the record.
    """

    view: np.ndarray
    camera_to_world: np.ndarray
    matrix: np.ndarray
    distortion: np.ndarray
    points: np.ndarray
    point_index: np.ndarray
    view_index: np.ndarray
    pixel: np.ndarray
    error: float
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Try:
    """One step of the ladder: name and the limits that are let down."""

    name: str
    init_angle: float
    init_inliers: int
    pose_inliers: int
    min_matches: int
    new_matches: bool = False


LADDER = (
    _Try("standard", 8.0, 60, 24, 15),
    _Try("relaxed", 3.0, 40, 15, 12),
    _Try("guided matches, all near pairs", 2.0, 25, 10, 10, new_matches=True),
)


def match_pairs(count: int, overlap: int, loop_images: int) -> list[tuple[int, int]]:
    """Pairs of frames to match: all of a short scene; neighbours, powers of two and a sparse grid of a long one.

    Returns:
        Pairs (i, j), i < j, sorted, none twice.
    """
    if count <= EXHAUSTIVE:
        return list(combinations(range(count), 2))
    steps = set(range(1, overlap + 1))
    step = 1
    while step < count:
        steps.add(step)
        step *= 2
    pairs = {(i, i + step) for step in steps for i in range(count - step)}
    spread = np.unique(np.linspace(0, count - 1, min(loop_images, count)).round().astype(int)).tolist()
    return sorted(pairs | set(combinations(spread, 2)))


def feature_count(frames: int, limit: int) -> int:
    """Features an image: the limit for few frames, at most `LONG_FEATURES` for a long scene."""
    return limit if frames <= EXHAUSTIVE else min(limit, LONG_FEATURES)


def find_poses(frames: Frames, settings: PoseSettings, seed: int) -> PosedFrames:
    """Pose the frames.

    Raises:
        StageError: pycolmap is missing, too few frames, or no two frames that see the same thing from two places.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise StageError("the sfm backend needs pycolmap: pip install pycolmap", permanent=False) from error
    if len(frames) < MIN_FRAMES:
        raise StageError(f"{len(frames)} frames: structure from motion needs {MIN_FRAMES}; take a longer scene")
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    with tempfile.TemporaryDirectory(prefix="sfm_") as name:
        return _Mapper(pycolmap, frames, settings, seed, Path(name)).run()


class _Mapper:
    """The steps of one scene in a temporary folder."""

    def __init__(self, pycolmap: Any, frames: Frames, settings: PoseSettings, seed: int, folder: Path) -> None:
        self.colmap, self.frames, self.settings, self.seed, self.folder = pycolmap, frames, settings, seed, folder
        self.database = folder / "database.db"
        self.images = folder / "images"
        self.notes: list[str] = []

    def run(self) -> PosedFrames:
        self.colmap.set_random_seed(self.seed)
        self._write_images()
        self._extract()
        best = None
        for step in LADDER:
            if step is LADDER[0] or step.new_matches:
                self._match(step)
            for model in self._map(step):
                if best is None or _worth(model) > _worth(best):
                    best = model
            if best is not None and best.num_reg_images() >= self.settings.good_share * len(self.frames):
                break
            posed = 0 if best is None else best.num_reg_images()
            self.notes.append(f"poses: {posed} of {len(self.frames)} frames after the {step.name} try")
        if best is None or best.num_reg_images() < MIN_FRAMES:
            raise StageError(
                "no camera motion found: the frames share too few features or see them from one place "
                "(structure from motion needs sharp frames and a camera that moves sideways)"
            )
        return self._read(best)

    def _write_images(self) -> None:
        import cv2

        self.images.mkdir()
        for row, image in enumerate(self.frames.images):  # COLMAP reads their sizes
            cv2.imwrite(str(self.images / _name(row)), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])

    def _extract(self) -> None:
        """SIFT by OpenCV, four times as fast as COLMAP's on the CPU, with COLMAP's root of the L1-normalised histogram
        (Arandjelović and Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012)."""
        import cv2

        reader = self.colmap.ImageReaderOptions()
        matrix = self.frames.intrinsics
        if matrix is None:
            reader.camera_model = "SIMPLE_RADIAL"
        else:
            reader.camera_model = "OPENCV"
            values = [matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5, 0, 0, 0, 0]
            reader.camera_params = ",".join(f"{value:.9g}" for value in values)
        self.colmap.Database.open(self.database).close()
        self.colmap.import_images(self.database, self.images, self.colmap.CameraMode.SINGLE, [], reader)
        count = feature_count(len(self.frames), self.settings.max_features)
        sift = cv2.SIFT_create(count, contrastThreshold=LEAST_CONTRAST, enable_precise_upscale=True)
        kind = self.colmap.FeatureExtractorType.SIFT
        with self.colmap.Database.open(self.database) as database:
            for entry in database.read_all_images():
                image = self.frames.images[int(Path(entry.name).stem)]
                points, found = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
                found = np.zeros((0, 128), np.float32) if found is None else found
                share = found / np.maximum(found.sum(1, keepdims=True), 1e-6)
                rows = [(p.pt[0] + 0.5, p.pt[1] + 0.5, p.size / 2, np.deg2rad(p.angle)) for p in points]
                database.write_keypoints(entry.image_id, np.array(rows, np.float32).reshape(-1, 4))
                whole = np.rint(512 * np.sqrt(share)).clip(0, 255).astype(np.uint8)
                database.write_descriptors(entry.image_id, self.colmap.FeatureDescriptors(kind, whole))

    def _match(self, step: _Try) -> None:
        options = self.colmap.FeatureMatchingOptions()
        options.use_gpu, options.num_threads = False, self.settings.threads
        options.guided_matching = step.new_matches
        if step.new_matches:
            options.sift.max_ratio = 0.85
        verify = self.colmap.TwoViewGeometryOptions()
        verify.min_num_inliers = step.min_matches
        verify.ransac.random_seed = self.seed
        overlap = self.settings.overlap * (2 if step.new_matches else 1)
        pairs = match_pairs(len(self.frames), overlap, self.settings.loop_images)
        listing = self.folder / "pairs.txt"
        listing.write_text("".join(f"{_name(i)} {_name(j)}\n" for i, j in pairs))
        if step.new_matches:
            with self.colmap.Database.open(self.database) as database:
                database.clear_two_view_geometries()
                database.clear_matches()
        pairing = self.colmap.ImportedPairingOptions()
        pairing.match_list_path = listing
        self.colmap.match_image_pairs(
            self.database, matching_options=options, pairing_options=pairing, verification_options=verify
        )

    def _map(self, step: _Try) -> list[Any]:
        options = self.colmap.IncrementalPipelineOptions()
        options.min_num_matches = step.min_matches
        options.min_model_size = MIN_FRAMES
        options.max_num_models = 5
        options.extract_colors = False
        options.num_threads = self.settings.threads
        options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = self.seed
        options.ba_refine_focal_length = self.frames.intrinsics is None
        options.mapper.init_min_tri_angle = step.init_angle
        options.mapper.init_min_num_inliers = step.init_inliers
        options.mapper.abs_pose_min_num_inliers = step.pose_inliers
        output = self.folder / step.name.replace(" ", "_").replace(",", "")
        output.mkdir()
        return list(self.colmap.incremental_mapping(self.database, self.images, output, options).values())

    def _read(self, model: Any) -> PosedFrames:
        images = sorted(
            (image for image in model.images.values() if image.has_pose), key=lambda image: Path(image.name).stem
        )
        view = np.array([int(Path(image.name).stem) for image in images], dtype=np.int64)
        poses = np.tile(np.eye(4), (len(images), 1, 1))
        row_of = {}
        for row, image in enumerate(images):
            poses[row, :3] = image.cam_from_world().inverse().matrix()
            row_of[image.image_id] = row
        camera = next(iter(model.cameras.values()))
        matrix, distortion = _camera_of(camera)
        points, observations = _tracks(model, row_of)
        error = float(model.compute_mean_reprojection_error())
        figures = {
            "posed_frames": len(images),
            "sparse_points": len(points),
            "reprojection_error_px": round(error, 4),
            "focal_px": round(float(matrix[0, 0]), 2),
            "focal_known": self.frames.intrinsics is not None,
        }
        index = observations[:, :2].astype(np.int64)
        return PosedFrames(
            view, poses, matrix, distortion, points, index[:, 0], index[:, 1], observations[:, 2:], error,
            self.notes, figures,
        )  # fmt: skip


def _name(row: int) -> str:
    return f"{row:06d}.png"


def _worth(model: Any) -> tuple[int, int]:
    return model.num_reg_images(), model.num_points3D()


def _camera_of(camera: Any) -> tuple[np.ndarray, np.ndarray]:
    """COLMAP's camera -> pinhole matrix (pixel centres at whole numbers) and OpenCV's k1, k2, p1, p2."""
    values = np.asarray(camera.params, dtype=np.float64)
    if camera.model.name == "SIMPLE_RADIAL":
        fx, cx, cy, k1 = values
        fy, rest = fx, [k1, 0.0, 0.0, 0.0]
    else:
        fx, fy, cx, cy, *rest = values
    matrix = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1.0]])
    return matrix, np.array(rest, dtype=np.float64)


def _tracks(model: Any, row_of: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Sparse points (P, 3), and observations (O, 4): point row, view row, x, y."""
    points, rows = [], []
    for point in model.points3D.values():
        for element in point.track.elements:
            xy = model.images[element.image_id].points2D[element.point2D_idx].xy
            rows.append((len(points), row_of[element.image_id], xy[0] - 0.5, xy[1] - 0.5))
        points.append(point.xyz)
    return np.array(points).reshape(-1, 3), np.array(rows, dtype=np.float64).reshape(-1, 4)
