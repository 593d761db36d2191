"""Estimated normals against surfaces whose normals are known."""

import numpy as np
import pytest

from data_tools.clouds.io import CloudError, estimate_normals, inner_viewpoints


@pytest.fixture(scope="module")
def sphere():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(6000, 3))
    return direction / np.linalg.norm(direction, axis=1, keepdims=True)


@pytest.mark.parametrize("cell", [0.0, 0.05])
def test_sphere_seen_from_its_middle(sphere, cell):
    normal = estimate_normals(sphere, 32, np.zeros(3), cell=cell)
    cosine = (normal * -sphere).sum(axis=1)
    assert np.abs(np.linalg.norm(normal, axis=1) - 1).max() < 1e-5
    assert cosine.min() > 0.98


def test_viewpoint_per_point_and_nearest_viewpoint(sphere):
    outside = estimate_normals(sphere, 16, 3 * sphere)
    assert (outside * sphere).sum(axis=1).min() > 0.9
    poles = np.array([[0, 0, 5.0], [0, 0, -5.0]])
    near = estimate_normals(sphere, 16, poles)
    top = np.abs(sphere[:, 2]) > 0.5
    assert (near * sphere).sum(axis=1)[top].min() > 0.9


def test_room_is_seen_from_inside():
    rng = np.random.default_rng(1)
    size, faces = np.array([4.0, 5.0, 2.6]), []
    for axis in range(3):
        for side in (0.0, 1.0):
            face = rng.random((3000, 3)) * size
            face[:, axis] = side * size[axis]
            normal = np.zeros((3000, 3))
            normal[:, axis] = 1 - 2 * side
            faces.append((face, normal))
    # a table top in the middle: its upper side must look up
    top = np.column_stack([rng.uniform(1.5, 2.5, 1500), rng.uniform(2, 3, 1500), np.full(1500, 0.7)])
    faces.append((top, np.tile([0, 0, 1.0], (1500, 1))))
    coord, truth = (np.concatenate(part) for part in zip(*faces, strict=True))
    cosine = (estimate_normals(coord) * truth).sum(axis=1)
    assert (cosine > 0.9).mean() > 0.93
    assert (cosine < -0.5).mean() < 0.01
    places = inner_viewpoints(coord)
    assert ((places > 0) & (places < size)).all()


def test_few_points_and_bad_input():
    assert estimate_normals(np.zeros((2, 3))).tolist() == [[0, 0, 1], [0, 0, 1]]
    assert np.isfinite(estimate_normals(np.ones((40, 3)))).all()
    with pytest.raises(CloudError, match="finite"):
        estimate_normals(np.array([[np.nan, 0, 0]] * 5))


def test_threads_change_nothing(sphere):
    assert (estimate_normals(sphere, workers=1) == estimate_normals(sphere, workers=2)).all()
