"""All steps in order: one cloud in any frame and unit to a scene in metres, z up, and a record of every factor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data_tools.clouds.io import Cloud, CloudError, check_bounds
from data_tools.clouds.normals import fit_normals, make_tree, nearest_distance
from data_tools.postprocessing.cameras import Cameras, orient
from data_tools.postprocessing.layout import Layout, find_layout
from data_tools.postprocessing.outliers import find_outliers
from data_tools.postprocessing.quality import Quality, measure, verdict_lines
from data_tools.postprocessing.sampling import Thinning, cap_points, thin_to_spacing
from data_tools.postprocessing.scale import Scale, choose_scale, scene_rng
from data_tools.postprocessing.settings import PostprocessSettings
from data_tools.postprocessing.upright import Upright, find_upright

FEWEST = 100  # points below this make no scene
FAR_SHARE = 0.001  # gross outliers beyond this share are no outliers


@dataclass
class Scene:
    """The result.

    Attributes:
        cloud: metres, z up, floor at z = 0, x and y centred; every point is one of the input's, moved.
        index: (N,) rows of the input's points.
        meta: every factor and count, JSON types.
    """

    cloud: Cloud
    index: np.ndarray
    cameras: Cameras | None
    meta: dict[str, Any]
    quality: Quality
    notes: list[str]


@dataclass
class _Thinned:
    """A cloud under work: the points left, their rows in the input, what was removed why."""

    cloud: Cloud
    index: np.ndarray
    removed: dict[str, int]

    def keep(self, rows: np.ndarray, why: str) -> None:
        """Keep a mask or rows; count the others under ``why``."""
        before = len(self.cloud)
        self.cloud, self.index = self.cloud.select(rows), self.index[rows]
        self.removed[why] = self.removed.get(why, 0) + before - len(self.cloud)


def _first_steps(cloud: Cloud, settings: PostprocessSettings, name: str) -> _Thinned:
    """Without points that are not finite, gross outliers, and what is over the cap."""
    work = _Thinned(cloud, np.arange(len(cloud)), {})
    finite = np.isfinite(cloud.coord).all(axis=1)
    if not finite.all():
        work.keep(finite, "not_finite")
    if len(work.cloud) < FEWEST:
        raise CloudError(f"{name}: {len(work.cloud)} finite points, a scene needs {FEWEST}; reconstruct it again")
    rng = scene_rng(name, settings.seed, "cap")
    confidence = work.cloud.confidence
    rows = cap_points(work.cloud.coord, settings.point_cap, settings.cap_rule, confidence, rng)
    if len(rows) < len(work.cloud):
        work.keep(rows, "over_cap")
    sample = work.cloud.coord[:: max(1, len(work.cloud) // 200_000)]
    low, high = np.quantile(sample, [0.05, 0.95], axis=0)
    spread = float((high - low).max())
    near = (np.abs(work.cloud.coord - ((low + high) / 2).astype(np.float32)) <= 20 * spread).all(axis=1)
    far = int(len(near) - near.sum())
    if spread > 0 and 0 < far <= max(1, FAR_SHARE * len(near)):
        work.keep(near, "gross_outliers")
    return work


def _drop_outliers(work: _Thinned, settings: PostprocessSettings, name: str, workers: int) -> dict[str, Any]:
    """Radius and statistical outliers; returns their record, with the spacing of the input."""
    coord = work.cloud.coord
    tree = make_tree(coord)
    spacing = nearest_distance(coord, tree, scene_rng(name, settings.seed, "spacing"), workers)
    if spacing <= 0:
        raise CloudError(f"{name}: nearly all points are equal; check the reconstruction")
    outlier, facts = find_outliers(coord, tree, settings, spacing, workers)
    work.keep(~outlier, "outliers")
    return {"input_spacing": spacing, **facts}


def _place(work: _Thinned, turn: Upright, layout: Layout, scale: float) -> np.ndarray:
    """Turn and scale the cloud in place to metres, floor at z = 0, x and y centred; returns the shift (3,)."""
    cloud = work.cloud
    linear = (scale * turn.rotation).astype(np.float32)
    coord = cloud.coord @ linear.T
    low, high = coord.min(axis=0).astype(np.float64), coord.max(axis=0).astype(np.float64)
    shift = -np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, layout.floor * scale])
    coord += shift.astype(np.float32)
    cloud.coord = coord
    if cloud.normal is not None:
        cloud.normal = cloud.normal @ turn.rotation.astype(np.float32).T
    return shift


def process(
    cloud: Cloud,
    cameras: Cameras | None,
    settings: PostprocessSettings,
    name: str = "scene",
    is_metric: bool = False,
    workers: int = 1,
) -> Scene:
    """Run every step.

    Args:
        cloud: any frame and unit; not changed.
        cameras: of the same frame, or None.
        name: of the scene; with the seed it decides every draw.
        is_metric: whether the backend says that its unit is the metre.
        workers: threads of the neighbour searches; the result does not depend on it.

    Returns:
        The scene; whether it is good enough is the caller's question (`quality.reject_reason`).

    Raises:
        CloudError: too few points, all points equal, or a scene larger than 2^16 grid cells.
    """
    work = _first_steps(cloud, settings, name)
    notes = list(cloud.notes)
    outliers = _drop_outliers(work, settings, name, workers)
    rng = scene_rng(name, settings.seed, "upright")
    turn = find_upright(work.cloud.coord, work.cloud.normal, cameras, settings.up, rng, outliers["input_spacing"])
    level = work.cloud.coord @ turn.rotation.astype(np.float32).T
    level_cameras = None if cameras is None else cameras.moved(turn.rotation, 1.0, np.zeros(3))
    layout = find_layout(level, level_cameras, scene_rng(name, settings.seed, "layout"))
    size = np.ptp(level, axis=0)
    del level
    scale = choose_scale(layout, settings, name, is_metric, size)
    notes += turn.notes + scale.notes
    shift = _place(work, turn, layout, scale.factor)
    check_bounds(work.cloud.coord, settings.grid)
    before = outliers["input_spacing"] * scale.factor
    thinning = thin_to_spacing(
        work.cloud.coord,
        before,
        settings.spacing,
        settings.min_points,
        scene_rng(name, settings.seed, "thin"),
        workers,
        settings.thin_limit,
    )
    work.keep(thinning.index, "thinned")
    linear = scale.factor * turn.rotation
    offset = shift - linear @ cloud.origin  # coordinates are relative to the reader's origin, cameras are not
    moved = None if cameras is None else cameras.moved(turn.rotation, scale.factor, offset)
    metres = layout.scaled(scale.factor)
    apart = max(thinning.after, 1e-9)
    tree = make_tree(work.cloud.coord)
    fitted = fit_normals(work.cloud.coord, tree, settings.neighbours, settings.normal_cell * apart, workers)
    work.cloud.normal, facing = orient(fitted.astype(np.float32), work.cloud.coord, work.cloud.normal, moved)
    quality = measure(work.cloud.coord, work.cloud.normal, metres, apart)
    meta = _describe(work, settings, turn, scale, metres, thinning, quality)
    meta["transform"] = np.block([[linear, offset[:, None]], [np.zeros(3), 1.0]]).tolist()
    meta.update(shift=shift.tolist(), outliers=outliers, notes=notes)
    meta["normals"] = {"neighbours": settings.neighbours, "facing": facing}
    meta["points"]["input"] = len(cloud)
    work.cloud.origin = np.zeros(3)
    return Scene(work.cloud, work.index, moved, meta, quality, notes)


def _describe(
    work: _Thinned,
    settings: PostprocessSettings,
    turn: Upright,
    scale: Scale,
    metres: Layout,
    thinning: Thinning,
    quality: Quality,
) -> dict[str, Any]:
    """Everything that was applied, for meta.json; lengths in metres."""
    return {
        "rotation": turn.rotation.tolist(),
        "scale": {"factor": scale.factor, "rule": scale.rule, "said": scale.said, **scale.details},
        "up": turn.evidence,
        "layout": {key: round(v, 4) if isinstance(v, float) else v for key, v in asdict(metres).items()},
        "spacing": {
            "wanted": settings.spacing,
            "before": round(thinning.before, 6),
            "after": round(thinning.after, 6),
            "voxel": round(thinning.cell, 6),
            "rule": thinning.rule,
        },
        "points": {"output": len(work.cloud), "removed": dict(sorted(work.removed.items()))},
        "cap": {"rule": settings.cap_rule, "most": settings.point_cap},
        "size": [round(float(v), 4) for v in np.ptp(work.cloud.coord, axis=0)],
        "quality": quality.as_dict(),
        "verdict": verdict_lines(quality.as_dict()),
        "settings": asdict(settings),
        "settings_hash": settings.digest(),
    }
