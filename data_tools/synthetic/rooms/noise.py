"""Noise of video-generated point clouds (VGPCs), as documented, named levels.

What makes a VGPC different from a scan (arXiv 2512.23042, section 3): every frame's depth map
is placed by a slightly wrong pose, so surfaces come out doubled, wavy and bent; depth errs along the ray, more so far
away; depth edges smear into free space; parts are missing; colours are blurred and vary with exposure; density falls
with distance. Each of these is one number of `NoiseLevel`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.clouds.io import cell_means, grid_cells
from data_tools.synthetic.rooms.furniture import Rng
from data_tools.synthetic.rooms.scan import Scan


@dataclass(frozen=True)
class NoiseLevel:
    """How far a cloud is from the true surfaces; lengths in metres unless said.

    Attributes:
        view_shift: std per axis of every view's position error.
        view_turn: std in degrees of every view's heading error (and half of it in pitch and roll).
        double_share: share of the views that are misplaced as a whole: they draw second walls.
        double_shift: length of the misplaced views' extra shift.
        depth_floor: std of the depth error along the ray is depth_floor + depth_square * depth^2.
        depth_square: see ``depth_floor``.
        depth_wave: amplitude of each view's smooth depth error, as a share of the depth.
        drift: amplitude of the smooth bending of the whole cloud (wave lengths 4 to 10 m).
        holes: missing patches per 10 m^2 of floor.
        hole_radius: largest radius of a patch.
        floaters: share of the points at depth edges that float in the gap behind.
        density_fall: points are kept with probability (1 m / depth)^density_fall at most 1.
        blur: edge of the cells over which colours mix.
        blur_mix: how much of the mixture is taken.
        color_noise: std of a point's colour (0..1).
        exposure: std of a view's brightness factor.
    """

    view_shift: float
    view_turn: float
    double_share: float
    double_shift: float
    depth_floor: float
    depth_square: float
    depth_wave: float
    drift: float
    holes: float
    hole_radius: float
    floaters: float
    density_fall: float
    blur: float
    blur_mix: float
    color_noise: float
    exposure: float


_LEVELS = {
    # clean, mild, pi3, worse
    "view_shift": (0.0, 0.004, 0.01, 0.02),
    "view_turn": (0.0, 0.12, 0.3, 0.6),
    "double_share": (0.0, 0.08, 0.17, 0.33),
    "double_shift": (0.0, 0.03, 0.07, 0.14),
    "depth_floor": (0.0, 0.002, 0.004, 0.008),
    "depth_square": (0.0, 0.0007, 0.0015, 0.003),
    "depth_wave": (0.0, 0.0025, 0.006, 0.012),
    "drift": (0.0, 0.01, 0.03, 0.06),
    "holes": (0.0, 0.8, 2.0, 4.0),
    "hole_radius": (0.0, 0.2, 0.35, 0.5),
    "floaters": (0.0, 0.05, 0.15, 0.3),
    "density_fall": (0.0, 0.2, 0.4, 0.6),
    "blur": (0.0, 0.03, 0.05, 0.08),
    "blur_mix": (0.0, 0.4, 0.65, 0.85),
    "color_noise": (0.0, 0.01, 0.02, 0.03),
    "exposure": (0.0, 0.02, 0.05, 0.1),
}
NOISE_LEVELS: dict[str, NoiseLevel] = {
    name: NoiseLevel(**{key: row[place] for key, row in _LEVELS.items()})
    for place, name in enumerate(("clean", "mild", "pi3", "worse"))
}


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ni,ni->n", vectors, vectors))


def thin_out(scan: Scan, level: NoiseLevel, floor_area: float, rng: Rng) -> Scan:
    """Holes, and fewer points far from their camera."""
    coord = scan.points.coord
    keep = np.ones(len(coord), dtype=bool)
    if level.density_fall > 0:
        depth = _lengths(coord - scan.cameras[scan.view])
        keep &= rng.random(len(coord)) < np.minimum(1.0 / np.maximum(depth, 1e-3), 1.0) ** level.density_fall
    count = int(rng.poisson(level.holes * floor_area / 10.0)) if level.holes > 0 else 0
    if count:
        middle = coord[rng.integers(len(coord), size=count)]
        radius = rng.uniform(0.3, 1.0, count) * level.hole_radius
        # a ragged rim: the radius a point meets differs from point to point
        for center, reach in zip(middle, radius, strict=True):
            near = np.flatnonzero((np.abs(coord[:, 0] - center[0]) < reach) & (np.abs(coord[:, 1] - center[1]) < reach))
            distance = _lengths(coord[near] - center)
            keep[near[distance < reach * rng.uniform(0.8, 1.0, len(near))]] = False
    return scan.select(keep)


def disturb(scan: Scan, level: NoiseLevel, rng: Rng) -> np.ndarray:
    """Coordinates (N, 3) after depth errors, floating edge points, view misplacement and bending."""
    camera = scan.cameras[scan.view]
    ray = scan.points.coord - camera
    depth = _lengths(ray)
    ray = ray / np.maximum(depth, 1e-9)[:, None]
    error = rng.normal(size=len(depth)) * (level.depth_floor + level.depth_square * depth**2)
    error += level.depth_wave * depth * _view_waves(scan, ray, rng)
    floats = (scan.edge_gap > 0) & (rng.random(len(depth)) < level.floaters)
    error += np.where(floats, np.minimum(scan.edge_gap, 1.0) * rng.beta(1.0, 2.5, len(depth)), 0.0)
    coord = camera + ray * (depth + error)[:, None]
    coord = _misplace_views(coord, camera, scan, level, rng)
    return coord + level.drift * _bending(coord, rng)


def _view_waves(scan: Scan, ray: np.ndarray, rng: Rng) -> np.ndarray:
    """A smooth function of the viewing direction, another one for every view, about -1..1."""
    views = len(scan.cameras)
    frequency, phase = rng.normal(0, 2.5, (3, views, 3)), rng.uniform(0, 2 * np.pi, (3, views))
    total = sum(
        np.sin(np.einsum("ni,ni->n", ray, f[scan.view]) + p[scan.view]) for f, p in zip(frequency, phase, strict=True)
    )
    return np.asarray(total) / np.sqrt(1.5)


def _misplace_views(coord: np.ndarray, camera: np.ndarray, scan: Scan, level: NoiseLevel, rng: Rng) -> np.ndarray:
    """Turn and shift each view's points about its camera; some views are off by ``double_shift`` more."""
    views = len(scan.cameras)
    turn = np.deg2rad(level.view_turn) * rng.normal(size=(views, 3)) * np.array([0.5, 0.5, 1.0])
    shift = level.view_shift * rng.normal(size=(views, 3))
    heading = rng.normal(size=(views, 3)) * np.array([1.0, 1.0, 0.3])
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    if level.double_share > 0:
        lost = rng.random(views) < level.double_share
        lost[int(rng.integers(views))] |= views > 2  # no seed without a second layer
        lost &= np.arange(views) != int(rng.integers(views))
        shift = shift + level.double_shift * heading * lost[:, None]
        turn = turn + np.deg2rad(2 * level.view_turn) * rng.normal(size=(views, 3)) * lost[:, None]
    # small angles: R p = p + w x p is exact to 1e-4 rad^2
    w, r = turn[scan.view], coord - camera
    turned = [w[:, i - 2] * r[:, i - 1] - w[:, i - 1] * r[:, i - 2] for i in range(3)]
    return coord + np.stack(turned, axis=1) + shift[scan.view]


def _bending(coord: np.ndarray, rng: Rng) -> np.ndarray:
    """A smooth displacement field (N, 3) of about unit amplitude."""
    length = rng.uniform(4.0, 10.0, 3)
    direction = rng.normal(size=(3, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    way = rng.normal(size=(3, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    phase = rng.uniform(0, 2 * np.pi, 3)
    field = np.zeros_like(coord)
    for i in range(3):
        along = np.einsum("ni,i->n", coord, direction[i])
        field += np.sin(2 * np.pi * along / length[i] + phase[i])[:, None] * way[i]
    return field / np.sqrt(1.5)


def blur_colors(coord: np.ndarray, color: np.ndarray, scan: Scan, level: NoiseLevel, rng: Rng) -> np.ndarray:
    """Colours (N, 3) in 0..1 after exposure changes, bleeding between neighbours and grain."""
    out = color
    if level.exposure > 0:
        gain = 1.0 + level.exposure * rng.normal(size=(len(scan.cameras), 1))
        out = out * gain[scan.view] * (1.0 + 0.3 * level.exposure * rng.normal(size=(len(scan.cameras), 3)))[scan.view]
    if level.blur > 0:
        mixed = np.zeros_like(out)
        for shift in (0.0, 0.5):  # two grids, half a cell apart, hide each other's borders
            moved = np.concatenate([coord, coord.min(axis=0, keepdims=True) - shift * level.blur])
            _, inverse, counts = grid_cells(moved, level.blur)
            mixed += cell_means(np.concatenate([out, out[:1]]), inverse, counts)[inverse[:-1]] / 2
        out = out * (1 - level.blur_mix) + mixed * level.blur_mix
    if level.color_noise > 0:
        out = out + level.color_noise * rng.normal(size=out.shape)
    return np.clip(out, 0, 1)
