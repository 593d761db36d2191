"""A software rasteriser of textured planar faces: NumPy and OpenCV, no GPU.

Faces go through a z-buffer at twice the picture's resolution (inverse depth is linear in the picture, so a face is one
plane equation over its bounding box); shading is deferred: once a pixel inside a face, per sub-sample at edges.
Textures come from one atlas that holds all mip levels side by side, read by two ``cv2.remap`` calls and blended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR = 0.04  # metres before the camera that are cut off
SHIFT = 4  # fractional bits of polygon corners
LEVELS = 5
INVALID = -1


@dataclass
class Mesh:
    """Planar faces with texture coordinates.

    Attributes:
        corner: (F, 4, 3) float64 metres, counter-clockwise as seen from the front; corners may coincide.
        normal: (F, 3) float64 unit, towards the side that is seen.
        texel: (F, 2, 4) float64; ``texel @ (x, y, z, 1)`` is the place in the atlas' level 0, in texels.
        bright: (F,) float32 factor on the texture's colour (windows are brighter than the room).
        zone: (F,) int room that the face belongs to.
        segment: (F,) int class.
    """

    corner: np.ndarray
    normal: np.ndarray
    texel: np.ndarray
    bright: np.ndarray
    zone: np.ndarray
    segment: np.ndarray

    def __len__(self) -> int:
        return len(self.corner)


@dataclass(frozen=True)
class Atlas:
    """All textures in one picture, mip level 0 on the left, the others stacked to its right.

    Attributes:
        image: (H, W, 3) uint8.
        origin: (LEVELS, 2) float32 x, y of every level in ``image``.
    """

    image: np.ndarray
    origin: np.ndarray


@dataclass(frozen=True)
class Render:
    """One rendered picture: color (H, W, 3) float32 0..255 and above, depth (H, W) float32 metres along z (0: none)."""

    color: np.ndarray
    depth: np.ndarray


def build_atlas(level0: np.ndarray) -> Atlas:
    """Stack the mip levels of a texture sheet (H, W, 3) uint8 whose sides divide by 2 ** (LEVELS - 1)."""
    import cv2

    height, width = level0.shape[:2]
    image = np.zeros((height, width + width // 2, 3), np.uint8)
    image[:, :width] = level0
    origin, level, y = [(0.0, 0.0)], level0, 0
    for _ in range(1, LEVELS):
        level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
        image[y : y + level.shape[0], width : width + level.shape[1]] = level
        origin.append((float(width), float(y)))
        y += level.shape[0]
    return Atlas(image, np.array(origin, np.float32))


def pinhole(width: int, height: int, horizontal_fov: float) -> np.ndarray:
    """Camera matrix (3, 3); pixel centres have whole coordinates (OpenCV), ``horizontal_fov`` in degrees."""
    focal = width / 2 / np.tan(np.deg2rad(horizontal_fov) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


class Renderer:
    """Renders a mesh from any pose.

    Args:
        intrinsics: (3, 3), square pixels, centres at whole coordinates.
        supersample: z-buffer samples a pixel, per axis.
    """

    def __init__(
        self, mesh: Mesh, atlas: Atlas, intrinsics: np.ndarray, size: tuple[int, int], supersample: int = 2
    ) -> None:
        self.mesh, self.atlas, self.supersample = mesh, atlas, supersample
        self.focal, self.cx, self.cy = float(intrinsics[0, 0]), float(intrinsics[0, 2]), float(intrinsics[1, 2])
        self.width, self.height = size
        x, y = np.meshgrid(np.arange(self.width, dtype=np.float32), np.arange(self.height, dtype=np.float32))
        self.ray_x, self.ray_y = (x - self.cx) / self.focal, (y - self.cy) / self.focal
        self.ray_x, self.ray_y = self.ray_x.astype(np.float32), self.ray_y.astype(np.float32)
        fine = (self.height * supersample, self.width * supersample)
        self.inverse, self.face = np.empty(fine, np.float32), np.empty(fine, np.int32)
        self.mask = np.zeros(fine, np.uint8)
        self.plane_distance = np.einsum("fi,fi->f", mesh.normal, mesh.corner[:, 0])

    def render(self, camera_to_world: np.ndarray) -> Render:
        """The picture and depth seen from a pose (4, 4), OpenCV axes."""
        center, turn = camera_to_world[:3, 3], camera_to_world[:3, :3]
        self._rasterise(center, turn)
        table = self._shading_table(center, turn)
        s = self.supersample
        blocks = [self.face[i::s, j::s] for i in range(s) for j in range(s)]
        main = np.ascontiguousarray(blocks[0])
        color, depth = self._shade(main, self.ray_x, self.ray_y, table)
        if s > 1:
            edge = np.zeros(main.shape, bool)
            for other in blocks[1:]:
                edge |= other != main
            self._smooth_edges(color, edge, table)
        return Render(color, depth)

    def _visible_faces(self, center: np.ndarray, local: np.ndarray) -> np.ndarray:
        """Numbers of the faces that are turned to the camera and not all beside the picture."""
        front = self.mesh.normal @ center - self.plane_distance > 1e-6
        x, y, z = local[..., 0], local[..., 1], local[..., 2]
        wide, high = (self.width / 2 + 1) / self.focal, (self.height / 2 + 1) / self.focal
        front &= (z > NEAR).any(1) & (x < wide * z).any(1) & (x > -wide * z).any(1)
        front &= (y < high * z).any(1) & (y > -high * z).any(1)
        return np.flatnonzero(front)

    def _rasterise(self, center: np.ndarray, turn: np.ndarray) -> None:
        import cv2

        mesh, s = self.mesh, self.supersample
        local = (mesh.corner - center) @ turn
        faces = self._visible_faces(center, local)
        normal = mesh.normal[faces] @ turn
        plane = normal / (self.plane_distance[faces] - mesh.normal[faces] @ center)[:, None]  # 1/z = plane . ray
        # over fine pixel indices (column, row): ray = ((i + 0.5) / s - 0.5 - c) / f
        step = plane[:, :2] / (self.focal * s)
        start = np.array([(0.5 / s - 0.5 - self.cx) / self.focal, (0.5 / s - 0.5 - self.cy) / self.focal])
        constant = plane[:, 2] + plane[:, :2] @ start
        columns = np.arange(self.width * s, dtype=np.float32)
        rows = np.arange(self.height * s, dtype=np.float32)
        self.inverse.fill(0)
        self.face.fill(INVALID)
        for number, face in enumerate(faces):
            corners = local[face]
            if corners[:, 2].min() <= NEAR:
                corners = _clip_near(corners)
                if len(corners) < 3:
                    continue
            at = (corners[:, :2] / corners[:, 2:] * self.focal + (self.cx + 0.5, self.cy + 0.5)) * s - 0.5
            x0, y0 = np.maximum(np.floor(at.min(0)).astype(int), 0).tolist()
            x1, y1 = np.minimum(np.ceil(at.max(0)).astype(int) + 1, (len(columns), len(rows))).tolist()
            if x1 <= x0 or y1 <= y0:
                continue
            mask = self.mask[: y1 - y0, : x1 - x0]
            mask.fill(0)
            points = np.rint((at - (x0, y0)) * (1 << SHIFT)).astype(np.int32)
            cv2.fillConvexPoly(mask, points, 1, cv2.LINE_8, SHIFT)
            a, b, c = np.float32(step[number, 0]), np.float32(step[number, 1]), np.float32(constant[number])
            inverse = np.add.outer(b * rows[y0:y1] + c, a * columns[x0:x1])
            # the polygon is filled half a sample too wide; a face seen edge-on must not reach nearer than it is
            np.minimum(inverse, np.float32(1.00001 / corners[:, 2].min()), out=inverse)
            target = self.inverse[y0:y1, x0:x1]
            nearer = inverse > target
            nearer &= mask.view(bool)
            np.copyto(target, inverse, where=nearer)
            np.copyto(self.face[y0:y1, x0:x1], face, where=nearer)

    def _shading_table(self, center: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """(12, F + 1) float32: plane (3), texel u (3 + 1), texel v (3 + 1), brightness; the last column is nothing."""
        mesh = self.mesh
        distance = self.plane_distance - mesh.normal @ center
        distance = np.where(np.abs(distance) < 1e-9, 1e-9, distance)
        table = np.zeros((12, len(mesh) + 1), np.float32)
        table[:3, :-1] = ((mesh.normal @ turn) / distance[:, None]).T
        linear = mesh.texel[:, :, :3] @ turn
        shift = mesh.texel[:, :, :3] @ center + mesh.texel[:, :, 3]
        table[3:6, :-1], table[6, :-1] = linear[:, 0].T, shift[:, 0]
        table[7:10, :-1], table[10, :-1] = linear[:, 1].T, shift[:, 1]
        table[11, :-1] = mesh.bright
        table[2, -1] = 1e-6
        return table

    def _shade(
        self, face: np.ndarray, ray_x: np.ndarray, ray_y: np.ndarray, table: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colour and depth of samples (h, w) of given faces along given rays."""
        import cv2

        nx, ny, nz, ux, uy, uz, u0, vx, vy, vz, v0, bright = (np.take(row, face, mode="wrap") for row in table)
        depth = 1.0 / np.maximum(nx * ray_x + ny * ray_y + nz, 1e-6)
        u = (ux * ray_x + uy * ray_y + uz) * depth
        v = (vx * ray_x + vy * ray_y + vz) * depth
        scale = depth / np.float32(self.focal)  # texels a pixel: quotient rule on (linear / linear)
        ux -= u * nx
        uy -= u * ny
        vx -= v * nx
        vy -= v * ny
        size = ux * ux + vx * vx + uy * uy + vy * vy
        area = np.abs(ux * vy - uy * vx)
        # between the ellipse's mean radius and its long one: sharp floors without much aliasing
        squared = np.maximum(area, 0.12 * size) * (scale * scale)
        level = np.clip(0.5 * np.log2(np.maximum(squared, 1e-9)), 0, LEVELS - 1.001)
        u += u0
        v += v0
        low = level.astype(np.int32)
        mix = (level - low)[..., None]
        shrink = np.exp2(-low.astype(np.float32))
        color = cv2.remap(self.atlas.image, *self._address(u, v, shrink, low), cv2.INTER_LINEAR).astype(np.float32)
        higher = cv2.remap(self.atlas.image, *self._address(u, v, shrink * 0.5, low + 1), cv2.INTER_LINEAR)
        color += (higher - color) * mix
        color *= bright[..., None]
        return color, np.where(face == INVALID, np.float32(0), depth)

    def _address(
        self, u: np.ndarray, v: np.ndarray, shrink: np.ndarray, level: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        half = np.float32(0.5)
        x = (u + half) * shrink - half + self.atlas.origin[:, 0][level]
        y = (v + half) * shrink - half + self.atlas.origin[:, 1][level]
        return x, y

    def _smooth_edges(self, color: np.ndarray, edge: np.ndarray, table: np.ndarray) -> None:
        """Where a pixel's samples lie on several faces, its colour is the mean of theirs."""
        row, column = np.nonzero(edge)
        if not len(row):
            return
        s, width = self.supersample, 256
        padded = -(-len(row) // width) * width
        index = np.minimum(np.arange(padded), len(row) - 1)
        row, column = row[index].reshape(-1, width), column[index].reshape(-1, width)
        total = np.zeros((*row.shape, 3), np.float32)
        for i in range(s):
            for j in range(s):
                ray_x = self.ray_x[0][column] + np.float32(((j + 0.5) / s - 0.5) / self.focal)
                ray_y = self.ray_y[:, 0][row] + np.float32(((i + 0.5) / s - 0.5) / self.focal)
                total += self._shade(self.face[row * s + i, column * s + j], ray_x, ray_y, table)[0]
        color[row, column] = total / (s * s)


def _clip_near(corners: np.ndarray) -> np.ndarray:
    """The part of a polygon (K, 3) that lies before the camera."""
    kept = []
    for i in range(len(corners)):
        a, b = corners[i], corners[(i + 1) % len(corners)]
        if a[2] > NEAR:
            kept.append(a)
        if (a[2] > NEAR) != (b[2] > NEAR):
            kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
    return np.array(kept).reshape(-1, 3)
