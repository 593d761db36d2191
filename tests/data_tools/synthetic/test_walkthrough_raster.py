"""The rasteriser against plain ray casting; textures, edges, a room without cracks."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from data_tools.synthetic.walkthrough.bake import bake, build_scene, sample_surface
from data_tools.synthetic.walkthrough.flat import build_flat
from data_tools.synthetic.walkthrough.raster import Atlas, Mesh, Renderer, build_atlas, pinhole
from data_tools.synthetic.walkthrough.trajectory import look_poses


def pose(center, yaw, pitch=0.0, roll=0.0):
    return look_poses(np.array([center], float), *(np.array([float(v)]) for v in (yaw, pitch, roll)))[0]


def quads_to_mesh(quads):
    """A mesh of parallelograms (origin, edge u, edge v); texels at 1 cm from each one's origin."""
    corner, normal, texel = [], [], []
    for origin, u, v in (map(np.asarray, quad) for quad in quads):
        corner.append([origin, origin + u, origin + u + v, origin + v])
        n = np.cross(u, v)
        normal.append(n / np.linalg.norm(n))
        rows = [np.append(e, -e @ origin) * 100 / np.linalg.norm(e) for e in (u, v)]
        texel.append(rows)
    count = len(corner)
    zeros = np.zeros(count, int)
    return Mesh(np.array(corner, float), np.array(normal), np.array(texel), np.ones(count, np.float32), zeros, zeros)


def cast(mesh, quads, camera, intrinsics, size):
    """Depth by intersecting the ray of every pixel with every parallelogram: the plain way."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    ray = np.stack(
        [(x - intrinsics[0, 2]) / intrinsics[0, 0], (y - intrinsics[1, 2]) / intrinsics[1, 1], x * 0 + 1], -1
    )
    way = ray @ camera[:3, :3].T
    depth = np.full(x.shape, np.inf)
    for (origin, u, v), normal in zip(quads, mesh.normal, strict=True):
        facing = way @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            t = ((np.asarray(origin) - camera[:3, 3]) @ normal) / facing
        hit = camera[:3, 3] + t[..., None] * way - origin
        a, b = hit @ np.asarray(u) / np.dot(u, u), hit @ np.asarray(v) / np.dot(v, v)
        inside = (facing < 0) & (t > 0.04) & (a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)
        depth = np.where(inside & (t < depth), t, depth)
    return np.where(np.isfinite(depth), depth, 0.0)


def rectangles(rng, count=25):
    quads = []
    for _ in range(count):
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        size = rng.uniform(0.3, 2.5, 2)
        quads.append((np.array([3.0, 0, 0]) + rng.uniform(-2, 2, 3), turn[0] * size[0], turn[1] * size[1]))
    return quads


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_depth_is_that_of_ray_casting(seed):
    rng = np.random.default_rng(seed)
    quads, size = rectangles(rng), (96, 72)
    mesh, intrinsics = quads_to_mesh(quads), pinhole(96, 72, 70)
    atlas = build_atlas(np.full((64, 64, 3), 128, np.uint8))
    # in the middle of the rectangles too, so that some are cut by the near plane
    for camera in (pose((-1, 0, 0), 0.1, 0.1, 0.2), pose((3.0, 0.2, 0.1), 2.0, -0.3)):
        found = Renderer(mesh, atlas, intrinsics, size).render(camera).depth
        true = cast(mesh, quads, camera, intrinsics, size)
        same = np.abs(found - true) < 1e-3 * np.maximum(true, 1)
        assert same.mean() > 0.97  # the others lie on outlines, where a pixel belongs to either side


def test_texture_lands_where_it_belongs():
    """A wall whose texture is its own coordinate: colours at pixels give back the place that the ray hits."""
    side = 256
    sheet = np.zeros((side, side, 3), np.uint8)
    sheet[..., 0], sheet[..., 1] = np.arange(side)[None], np.arange(side)[:, None]
    quad = ((2.0, 1.28, -1.28), (0.0, -2.56, 0.0), (0.0, 0.0, 2.56))  # a texel is 1 cm, so is one step of colour
    mesh, intrinsics = quads_to_mesh([quad]), pinhole(160, 120, 60)
    camera = pose((0.3, 0.1, -0.05), 0.2, -0.1, 0.05)
    render = Renderer(mesh, build_atlas(sheet), intrinsics, (160, 120)).render(camera)
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    local = np.stack(
        [(x - intrinsics[0, 2]) / intrinsics[0, 0], (y - intrinsics[1, 2]) / intrinsics[1, 1], x * 0 + 1], -1
    )
    world = (local * render.depth[..., None]) @ camera[:3, :3].T + camera[:3, 3]
    u, v = (1.28 - world[..., 1]) * 100, (world[..., 2] + 1.28) * 100
    inside = (u > 8) & (u < 247) & (v > 8) & (v < 247) & (render.depth > 0)
    assert inside.mean() > 0.3
    assert np.abs(render.color[..., 0] - u)[inside].max() < 1.5
    assert np.abs(render.color[..., 1] - v)[inside].max() < 1.5


def test_edges_are_smoothed():
    quad = ((2.0, 0.5, -0.5), (0.0, -1.0, 0.1), (0.0, 0.1, 1.0))
    mesh, intrinsics = quads_to_mesh([quad]), pinhole(64, 48, 60)
    atlas = Atlas(*vars(build_atlas(np.full((128, 128, 3), 200, np.uint8))).values())
    camera = pose((0, 0, 0), 0.03)
    sharp = Renderer(mesh, atlas, intrinsics, (64, 48), supersample=1).render(camera).color[..., 0]
    smooth = Renderer(mesh, atlas, intrinsics, (64, 48), supersample=2).render(camera).color[..., 0]
    assert not ((sharp > 1) & (sharp < 160)).any()
    assert ((smooth > 1) & (smooth < 160)).sum() > 40  # the outline is about a hundred pixels long
    assert abs(float(smooth.mean()) - float(sharp.mean())) < 3


@pytest.fixture(scope="module")
def baked():
    flat = build_flat(1)
    return flat, *bake(build_scene(flat, 0.03), 1)


def test_the_other_room_is_seen_through_the_doorway_only(baked):
    """Depths of a look at the wall between the rooms: through the opening they go on, beside it they end there."""
    flat, mesh, atlas = baked
    camera, intrinsics, door = pose((flat.door.x0 - 2.0, flat.door.y, 1.5), 0.0), pinhole(96, 72, 65), flat.door
    depth = Renderer(mesh, atlas, intrinsics, (96, 72)).render(camera).depth
    x = (np.arange(96) - intrinsics[0, 2]) / intrinsics[0, 0]
    row = depth[36]  # at the camera's height
    inside = np.abs(x) * 2.3 < (door.y1 - door.y0) / 2
    assert inside.sum() > 10
    assert (row[inside] > 2.2).all()
    assert row[inside].max() > 3.5
    assert (row[np.abs(x) * 1.9 > (door.y1 - door.y0) / 2 + 0.1] < 2.01).all()


def test_a_room_has_no_cracks(baked):
    flat, mesh, atlas = baked
    renderer = Renderer(mesh, atlas, pinhole(96, 72, 65), (96, 72))
    for placed in flat.rooms:
        x0, y0, x1, y1 = placed.bounds()
        for yaw in np.arange(6):
            depth = renderer.render(pose(((x0 + x1) / 2, (y0 + y1) / 2, 1.9), float(yaw), -0.1)).depth
            assert (depth > 0).all()
            assert depth.max() < 12


def test_surface_samples_lie_on_their_faces(baked):
    flat, mesh, _ = baked
    points = sample_surface(mesh, 0.1, np.random.default_rng(0))
    assert set(np.unique(points["zone"])) == {0, 1}
    assert (points["segment"] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(points["normal"], axis=1), 1, atol=1e-4)
    for zone, placed in enumerate(flat.rooms):
        x0, y0, x1, y1 = placed.bounds()
        coord = points["coord"][points["zone"] == zone]
        assert (coord > (x0 - 0.05, y0 - 0.05, -0.05)).all()
        assert (coord < (x1 + 0.25, y1 + 0.05, placed.room.height + 0.05)).all()  # the doorway's reveal is zone 0's
    walls = points["segment"] == 0
    opening = (np.abs(points["coord"][:, 1] - flat.door.y) < 0.4) & (points["coord"][:, 2] < 1.9)
    between = np.abs(points["coord"][:, 0] - flat.door.x) < 0.1
    assert not (walls & opening & between).any()
    assert (walls & between).sum() > 500
