"""Depth for flat-coloured surfaces: planes carried in from what lies around them, kept where the views agree.

Matching says nothing inside a white door or a grey floor; their edges and specks do get depth. Each evenly coloured
patch of a view takes the planes that explain the sure depths in and around it (piecewise planar stereo after Sinha et
al., "Piecewise Planar Stereo for Image-based Rendering", ICCV 2009, section 4, without its labelling step). A filled
pixel is a guess: it counts only where other views arrive at the same surface and none looks through it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_tools.reconstruction.depth_fusion import fuse_depths
from data_tools.reconstruction.depth_sweep import DepthMap, View, relative_pose

FLAT_GRADIENT = 7.0  # grey levels a pixel, of the slightly blurred image: more is an edge
BORDER = 3  # pixels around a patch whose sure depths speak for it
LIKE = 24  # levels of any channel around the patch's median colour: others' edges do not speak for it
MIN_PATCH = 80  # pixels
MIN_SUPPORT = 30  # sure pixels on a plane
MIN_SHARE = 0.15  # of the patch's sure pixels
MAX_PLANES = 4  # a faint edge joins walls: patches may have several
TOLERANCE = 0.012  # of the depth, of a pixel to its plane
DRAWS = 96
SAMPLE = 600  # sure pixels of a patch that the draws are judged by
REACH = 0.2  # of the longer side: farther from the plane's nearest sure pixel nothing is filled
AGREE_RELATIVE = 0.02
SEE_THROUGH = 0.04  # a sure depth so much behind a filled point says that there is nothing


def fill_planes(color: np.ndarray, depth: np.ndarray, sure: np.ndarray, seed: int = 0) -> np.ndarray:
    """Plane depths for the unsure pixels of evenly coloured patches.

    Args:
        color: (h, w, 3) uint8.
        depth: (h, w) float32.
        sure: (h, w) bool, where it is to be trusted.
        seed: of the draws.

    Returns:
        (h, w) float32: depth where a plane gives one and ``sure`` does not hold, else 0.
    """
    import cv2

    filled = np.zeros(depth.shape, np.float32)
    if sure.sum() < MIN_SUPPORT:
        return filled
    low, high = 0.5 * depth[sure].min(), 2.0 * depth[sure].max()
    blurred = cv2.GaussianBlur(color, (0, 0), 1.0).astype(np.float32)
    slopes = np.hypot(cv2.Scharr(blurred, cv2.CV_32F, 1, 0), cv2.Scharr(blurred, cv2.CV_32F, 0, 1)) / 32
    slope = slopes.max(2)
    count, patches, stats, _ = cv2.connectedComponentsWithStats(
        (slope < FLAT_GRADIENT).astype(np.uint8), connectivity=4
    )
    rng = np.random.default_rng(seed)
    for patch in range(1, count):
        left, top, width, height, area = stats[patch]
        if area < MIN_PATCH:
            continue
        box = (
            slice(max(top - BORDER, 0), top + height + BORDER),
            slice(max(left - BORDER, 0), left + width + BORDER),
        )
        inside = patches[box] == patch
        if (inside & ~sure[box]).sum() < MIN_PATCH // 4:
            continue
        around = cv2.dilate(inside.astype(np.uint8), np.ones((2 * BORDER + 1,) * 2, np.uint8)) > 0
        like = (np.abs(blurred[box] - np.median(blurred[box][inside], axis=0)) < LIKE).all(2)
        found = _fill_patch(depth[box], around & sure[box] & like, REACH * max(depth.shape), rng)
        take = inside & ~sure[box] & (found > low) & (found < high)
        filled[box][take] = found[take]
    return filled


def _fill_patch(depth: np.ndarray, support: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Every pixel of the box by the plane of its nearest supporting pixel; 0 beyond ``reach`` or without a plane."""
    import cv2

    rows, columns = np.nonzero(support)
    if len(rows) < MIN_SUPPORT:
        return np.zeros_like(depth)
    position = np.stack([columns, rows, np.ones_like(rows)], 1).astype(np.float64)
    planes, owner = _find_planes(position, 1 / depth[rows, columns].astype(np.float64), rng)
    if not planes:
        return np.zeros_like(depth)
    free = np.ones(depth.shape, np.uint8)
    free[rows[owner >= 0], columns[owner >= 0]] = 0
    away, label = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    plane_of = np.zeros(label.max() + 1, np.int64)
    plane_of[label[rows[owner >= 0], columns[owner >= 0]]] = owner[owner >= 0]
    y, x = np.mgrid[: depth.shape[0], : depth.shape[1]]
    a, b, c = np.array(planes)[plane_of[label]].transpose(2, 0, 1)
    inverse = a * x + b * y + c
    return np.where((away <= reach) & (inverse > 1e-9), 1 / np.maximum(inverse, 1e-9), 0).astype(np.float32)


def _find_planes(
    position: np.ndarray, inverse: np.ndarray, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Planes of pixels (N, 3) [x, y, 1] and inverse depths (N,), which are linear on a plane, most supported first.

    Returns:
        the planes' (3,) coefficients, and (N,) the plane that each pixel lies on, -1 for none.
    """
    owner = np.full(len(inverse), -1)
    planes: list[np.ndarray] = []
    least = max(MIN_SUPPORT, MIN_SHARE * len(inverse))
    while len(planes) < MAX_PLANES:
        left = np.flatnonzero(owner < 0)
        if len(left) < least:
            break
        sample = rng.choice(left, min(SAMPLE, len(left)), replace=False)
        corners = rng.choice(sample, (DRAWS, 3))
        systems = position[corners]
        fine = np.abs(np.linalg.det(systems)) > 20  # twice the triangle's area in pixels
        if not fine.any():
            break
        drawn = np.linalg.solve(systems[fine], inverse[corners[fine]][..., None])[..., 0]
        near = np.abs(drawn @ position[sample].T - inverse[sample]) < TOLERANCE * inverse[sample]
        plane = drawn[near.sum(1).argmax()]
        for _ in range(2):
            on = left[np.abs(position[left] @ plane - inverse[left]) < TOLERANCE * inverse[left]]
            if len(on) < least:
                return planes, owner
            plane = np.linalg.lstsq(position[on], inverse[on], rcond=None)[0]
        owner[on] = len(planes)
        planes.append(plane)
    return planes, owner


def confirm_filled(
    views: Sequence[View],
    whole: Sequence[DepthMap],
    sure: Sequence[np.ndarray],
    sources: Sequence[Sequence[int]],
    view: int,
    least: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Filled pixels of a view that others arrive at too and that none looks through.

    Args:
        views: as in `fuse_depths`.
        sources: as there.
        whole: sure and filled depths of all views, 0 where there is none.
        sure: (h, w) bool of all views.
        least: views that have to agree.

    Returns:
        depth (h, w) float32, averaged with the agreeing views', and (h, w) bool where it is confirmed.
    """
    depth, count = fuse_depths(views, whole, sources, view, max_relative=AGREE_RELATIVE)
    good = (whole[view].depth > 0) & ~sure[view] & (count >= least)
    if good.any():
        good[good] = ~_looked_through(views, whole, sure, sources[view], view, good)
    return depth, good


def _looked_through(
    views: Sequence[View],
    whole: Sequence[DepthMap],
    sure: Sequence[np.ndarray],
    others: Sequence[int],
    view: int,
    rows: np.ndarray,
) -> np.ndarray:
    """For the pixels ``rows`` of a view: whether another view is sure of something behind them on the same ray."""
    y, x = np.nonzero(rows)
    point = (
        np.stack([x, y, np.ones_like(x)], 1) @ np.linalg.inv(views[view].matrix).T * whole[view].depth[rows][:, None]
    )
    through = np.zeros(len(point), bool)
    for other in others:
        rotation, shift = relative_pose(views[view], views[other])
        there = point @ rotation.T + shift
        z = np.maximum(there[:, 2], 1e-6)
        pixel = np.rint(there @ views[other].matrix.T / z[:, None])[:, :2].astype(np.int64)
        height, width = sure[other].shape
        inside = (there[:, 2] > 0) & (pixel >= 0).all(1) & (pixel[:, 0] < width) & (pixel[:, 1] < height)
        u, v = pixel[inside].T
        through[inside] |= sure[other][v, u] & (whole[other].depth[v, u] > (1 + SEE_THROUGH) * z[inside])
    return through
