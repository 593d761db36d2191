"""Similarity transforms: of point pairs, of camera centres, refined on a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COLLINEAR = 0.03  # second over first spread of camera centres under which they do not fix the rotation


@dataclass(frozen=True)
class Similarity:
    """``x -> scale * rotation @ x + translation``; rotation (3, 3), translation (3,) float64."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Move points (N, 3)."""
        return self.scale * points @ self.rotation.T + self.translation

    def after(self, first: Similarity) -> Similarity:
        """This one after another."""
        return Similarity(
            self.scale * first.scale,
            self.rotation @ first.rotation,
            self.scale * self.rotation @ first.translation + self.translation,
        )

    def inverse(self) -> Similarity:
        """The way back."""
        scale, rotation = 1 / self.scale, self.rotation.T
        return Similarity(scale, rotation, -scale * rotation @ self.translation)

    def poses(self, camera_to_world: np.ndarray) -> np.ndarray:
        """Move cameras (V, 4, 4); they stay rigid."""
        out = camera_to_world.copy()
        out[:, :3, :3] = self.rotation @ camera_to_world[:, :3, :3]
        out[:, :3, 3] = self.apply(camera_to_world[:, :3, 3])
        return out


IDENTITY = Similarity(1.0, np.eye(3), np.zeros(3))


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) nearest to a matrix, in the Frobenius norm."""
    u, _, vt = np.linalg.svd(matrix)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt


def umeyama(source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> Similarity:
    """The least-squares similarity of point pairs (N, 3) (Umeyama 1991, eq. 40 to 43).

    Args:
        source: (N, 3).
        target: (N, 3).
        weight: (N,) of the pairs, >= 0. With weights both sides count as noisy: the scale is the ratio of their spreads
            (Horn 1987, section 2.E), which noise does not shrink.

    Raises:
        ValueError: fewer than three pairs, or all in one place.
    """
    if len(source) < 3:
        raise ValueError(f"{len(source)} pairs of points; an alignment needs three")
    share = np.full(len(source), 1 / len(source)) if weight is None else weight / max(weight.sum(), 1e-300)
    source_mean, target_mean = share @ source, share @ target
    a, b = source - source_mean, target - target_mean
    variance = float(share @ (a**2).sum(1))
    if variance < 1e-18:
        raise ValueError("all points to align lie in one place")
    u, singular, vt = np.linalg.svd((b * share[:, None]).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    if weight is None:
        scale = float((singular * sign).sum() / variance)
    else:
        scale = float(np.sqrt(share @ (b**2).sum(1) / variance))
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def align_cameras(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity between two tracks of the same cameras (F, 4, 4).

    Centres alone decide (`umeyama`), robustly: the worst fifth is left out once. Where the centres lie on a line, the
    cameras' orientations give the rotation.

    Raises:
        ValueError: fewer than three cameras, or all in one place.
    """
    a, b = source[:, :3, 3], target[:, :3, 3]
    spread = np.linalg.svd(a - a.mean(0), compute_uv=False)
    if spread[1] < COLLINEAR * spread[0]:
        rotation = nearest_rotation(np.einsum("fij,fkj->ik", target[:, :3, :3], source[:, :3, :3]))
        moved = (a - a.mean(0)) @ rotation.T
        variance = float((moved**2).sum())
        if len(a) < 3 or variance < 1e-18:
            raise ValueError("the cameras stand in one place; an alignment needs three that moved")
        scale = float(((b - b.mean(0)) * moved).sum() / variance)
        return Similarity(scale, rotation, b.mean(0) - scale * rotation @ a.mean(0))
    first = umeyama(a, b)
    error = np.linalg.norm(first.apply(a) - b, axis=1)
    kept = error <= np.quantile(error, 0.8)
    return umeyama(a[kept], b[kept]) if kept.sum() >= 5 else first


def refine(
    points: np.ndarray,
    surface: np.ndarray,
    normal: np.ndarray,
    start: Similarity,
    with_scale: bool = True,
    rounds: int = 30,
    trim: float = 0.75,
    most: int = 20_000,
) -> Similarity:
    """Trimmed point-to-plane ICP with scale.

    Every round pairs the points with their nearest surface points, keeps the ``trim`` nearest pairs, and solves the
    linearised least squares ``n . ((1 + s) p + w x p + t - q) = 0`` for s, w, t about the points' middle.

    Args:
        points: (N, 3) of the reconstruction; at most ``most`` of them, evenly by index, are used.
        surface: (M, 3) true surface, with unit ``normal`` (M, 3).
        start: first guess.
        with_scale: whether the scale may change.
        rounds: most rounds; it stops when nothing moves.
        trim: share of the pairs that count.
        most: cap on the points used.
    """
    from scipy.spatial import cKDTree

    points = points[:: max(1, len(points) // most)].astype(np.float64)
    tree, now = cKDTree(surface), start
    for _ in range(rounds):
        moved = now.apply(points)
        distance, index = tree.query(moved)
        keep = distance <= np.quantile(distance, trim)
        p, q, n = moved[keep], surface[index[keep]].astype(np.float64), normal[index[keep]].astype(np.float64)
        middle = p.mean(0)
        p = p - middle
        columns = [np.cross(p, n), n] + ([np.einsum("ni,ni->n", p, n)[:, None]] if with_scale else [])
        matrix, right = np.hstack(columns), np.einsum("ni,ni->n", q - middle - p, n)
        weight = 1.0 / (1.0 + (right / (1.5 * np.median(np.abs(right)) + 1e-9)) ** 2)  # Cauchy: outliers count less
        solved = np.linalg.lstsq(matrix * np.sqrt(weight)[:, None], right * np.sqrt(weight), rcond=1e-6)[0]
        turn = rotation_about(solved[:3])
        scale = 1.0 + float(np.clip(solved[6], -0.1, 0.1)) if with_scale else 1.0
        step = Similarity(scale, turn, middle + solved[3:6] - scale * turn @ middle)
        now = step.after(now)
        if max(np.abs(solved[:3]).max(), np.abs(solved[3:6]).max(), abs(scale - 1)) < 1e-6:
            break
    return now


def rotation_about(vector: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) about a vector by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
