"""What is known of a walk-through: poses, camera, depth, surface, boundaries; and which of it a camera sees."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_tools.clouds.io import Cloud, read_cloud, write_ply
from data_tools.stages.files import write_json, write_text
from data_tools.synthetic.walkthrough.trajectory import Walk

DEPTH_SCALE = 1000.0  # depth pictures are in millimetres
LABEL_EVERY = 0.1  # seconds between rows of labels.csv
GRAZING = 0.1  # cosine under which a surface is too steep to count as seen


class TruthError(ValueError):
    """A truth folder that cannot be used; the message is one line that names the file and the cure."""


@dataclass
class Truth:
    """The truth of a video.

    Attributes:
        surface: points of the true surface in metres, z up, with normals; ``instance`` is the zone.
        camera_to_world: (F, 4, 4) float64 of every frame, OpenCV axes; empty for a reference without cameras.
        time: (F,) float64 seconds.
        zone: (F,) int64 zone of every frame.
        intrinsics: (3, 3), pixel centres at whole coordinates.
        scenes: (label, start, end) of every visit of a room, in seconds.
        visible: (N,) bool, surface points that some frame sees.
        depth_files: frame number -> depth picture (uint16, millimetres).
    """

    surface: Cloud
    camera_to_world: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4)))
    time: np.ndarray = field(default_factory=lambda: np.zeros(0))
    zone: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    intrinsics: np.ndarray | None = None
    scenes: list[tuple[str, float, float]] = field(default_factory=list)
    visible: np.ndarray | None = None
    depth_files: dict[int, Path] = field(default_factory=dict)

    def seen_between(self, start: float, end: float) -> np.ndarray:
        """Mask (N,) of the surface points that the depth pictures of a time range show; ``visible`` without any."""
        seen = np.zeros(len(self.surface), bool)
        frames = [number for number in sorted(self.depth_files) if start <= self.time[number] <= end]
        if not frames or self.intrinsics is None or self.surface.normal is None:
            return self.visible if self.visible is not None else np.ones(len(self.surface), bool)
        for number in frames:
            depth = read_depth(self.depth_files[number])
            seen |= seen_by(
                self.surface.coord, self.surface.normal, depth, self.camera_to_world[number], self.intrinsics
            )
        return seen


def write_truth(
    folder: Path,
    walk: Walk,
    intrinsics: np.ndarray,
    points: dict[str, np.ndarray],
    depths: dict[int, np.ndarray],
    scenes: list[tuple[str, float, float]],
) -> None:
    """Write all that is known of a film into its folder.

    Args:
        intrinsics: (3, 3).
        points: of the surface: coord, normal (N, 3), segment, zone (N,).
        depths: frame number -> depth (H, W) metres.
        scenes: (label, start, end) of every visit of a room, in seconds, without gaps.
    """
    np.savez(
        folder / "truth.npz",
        camera_to_world=walk.camera_to_world,
        time=walk.time,
        intrinsics=intrinsics,
        zone=walk.zone,
    )
    surface = Cloud(points["coord"], normal=points["normal"], segment=points["segment"], instance=points["zone"])
    write_ply(folder / "surface.ply", surface)
    visible = np.zeros(len(surface), bool)
    (folder / "depth").mkdir()
    for number, depth in sorted(depths.items()):
        write_depth(folder / "depth" / f"{number:06d}.png", depth)
        visible |= seen_by(points["coord"], points["normal"], depth, walk.camera_to_world[number], intrinsics)
    np.save(folder / "visible.npy", visible)
    starts, rows = [start for _, start, _ in scenes], ["time,label"]
    for step in range(int(np.ceil(scenes[-1][2] / LABEL_EVERY - 1e-9))):
        scene = int(np.searchsorted(starts, step * LABEL_EVERY, side="right")) - 1
        rows.append(f"{step * LABEL_EVERY:.3f},{scenes[scene][0]}")
    write_text(folder / "labels.csv", "\n".join(rows) + "\n")
    listed = [{"label": label, "start": round(start, 4), "end": round(end, 4)} for label, start, end in scenes]
    write_json(folder / "scenes.json", {"scenes": listed})


def read_truth(folder: Path) -> Truth:
    """The truth that `write_truth` wrote.

    Raises:
        TruthError: a file is missing or damaged.
    """
    try:
        arrays = np.load(folder / "truth.npz")
        facts = json.loads((folder / "scenes.json").read_text(encoding="utf-8"))
        surface = read_cloud(folder / "surface.ply")
        visible = np.load(folder / "visible.npy")
    except (OSError, ValueError, KeyError) as error:
        raise TruthError(
            f"{folder}: no whole walk-through ({error}); run data_tools/synthetic/walkthrough/film.py"
        ) from error
    return Truth(
        surface,
        arrays["camera_to_world"],
        arrays["time"],
        arrays["zone"],
        arrays["intrinsics"],
        [(row["label"], row["start"], row["end"]) for row in facts["scenes"]],
        visible,
        {int(path.stem): path for path in sorted((folder / "depth").glob("*.png"))},
    )


def read_depth(path: Path) -> np.ndarray:
    """A depth picture (H, W) float32 in metres, 0 where nothing was measured."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise TruthError(f"{path}: no readable depth picture; make the walk-through again")
    return image.astype(np.float32) / DEPTH_SCALE


def write_depth(path: Path, depth: np.ndarray) -> None:
    """Write metres (H, W) as 16-bit millimetres; what is farther than 65 m becomes 0."""
    import cv2

    millimetres = np.rint(depth * DEPTH_SCALE)
    millimetres[millimetres > np.iinfo(np.uint16).max] = 0
    if not cv2.imwrite(str(path), millimetres.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise OSError(f"{path}: cannot be written; is the disk full?")


def seen_by(
    coord: np.ndarray, normal: np.ndarray, depth: np.ndarray, camera_to_world: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """Mask (N,) of the points that a depth picture shows: in the picture, facing it, at its depth (1 % + 1.5 cm)."""
    center, turn = camera_to_world[:3, 3], camera_to_world[:3, :3]
    way = coord - center.astype(np.float32)
    local_z = way @ turn[:, 2].astype(np.float32)
    near = np.flatnonzero((local_z > 0.05) & (np.einsum("ni,ni->n", way, normal) < 0))
    way, z = way[near], local_z[near]
    steep = -np.einsum("ni,ni->n", way, normal[near]) < GRAZING * np.linalg.norm(way, axis=1)
    x = way @ turn[:, 0].astype(np.float32) / z * intrinsics[0, 0] + intrinsics[0, 2]
    y = way @ turn[:, 1].astype(np.float32) / z * intrinsics[1, 1] + intrinsics[1, 2]
    height, width = depth.shape
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5) & ~steep
    column, row = np.rint(x[inside]).astype(int), np.rint(y[inside]).astype(int)
    near, z = near[inside], z[inside]
    measured = depth[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    mask = np.zeros(len(coord), bool)
    mask[near[np.abs(measured - z) < 0.015 + 0.01 * z]] = True
    return mask
