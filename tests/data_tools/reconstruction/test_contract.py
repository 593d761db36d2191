"""The contract of poses and points: wrong conventions are refused, right scenes pass, the rest is left open."""

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks._tours import Errors, TourReconstructor
from data_tools.reconstruction.base import Prediction
from data_tools.reconstruction.contract import check, keep_contract
from data_tools.reconstruction.geometry import invert_poses, unproject
from data_tools.stages.record import StageError
from tests.data_tools.box_room import camera_poses, lens, render

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def predict(tour, rows, seed=0, errors=None):
    return TourReconstructor(tour, errors or Errors(noise=0.02, pose=0.01), seed).reconstruct(
        tour.frames.select(rows), 0
    )


def with_poses(prediction, poses, from_depth):
    """A prediction with other poses: points unprojected with them, as an adapter does, or left as they are."""
    if not from_depth:
        return replace(prediction, camera_to_world=poses)
    local = np.einsum(
        "vij,vhwi->vhwj",
        prediction.camera_to_world[:, :3, :3],
        prediction.points - prediction.camera_to_world[:, None, None, :3, 3],
    )
    points = np.einsum("vij,vhwj->vhwi", poses[:, :3, :3], local) + poses[:, None, None, :3, 3]
    return replace(prediction, camera_to_world=poses, points=points.astype(np.float32))


def stretched(poses, factor):
    out = poses.copy()
    out[:, :3, 3] *= factor
    return out


def turned(poses):
    out = poses.copy()
    out[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    return out


WRONG = {
    "world-to-camera": invert_poses,
    "OpenGL": lambda poses: poses @ FLIP,
    "its rotations": turned,
    "another unit than its depth .* too small": lambda poses: stretched(poses, 0.4),
    "another unit than its depth .* too large": lambda poses: stretched(poses, 2.5),
    "another unit than its depth .*10": lambda poses: stretched(poses, 0.1),
}


#: of points and shifts that are of one world, the unit is one
CASES = [(words, True) for words in WRONG] + [(words, False) for words in WRONG if "unit" not in words]


@pytest.mark.parametrize(("words", "from_depth"), CASES)
def test_wrong_conventions_are_refused(words, from_depth, tour):
    right = predict(tour, np.arange(4, 44))
    found = check(with_poses(right, WRONG[words](right.camera_to_world), from_depth))
    assert found.state == "refused", found
    assert re.search(words, found.reason), found


def test_points_in_camera_axes_are_refused(tour):
    right = predict(tour, np.arange(4, 44))
    local = np.einsum(
        "vij,vhwi->vhwj", right.camera_to_world[:, :3, :3], right.points - right.camera_to_world[:, None, None, :3, 3]
    )
    found = check(replace(right, points=local.astype(np.float32)))
    assert found.state == "refused"
    assert "in camera axes" in found.reason


def box_scene(seed):
    poses = camera_poses(24, seed)
    depth, color = zip(*(render(pose, lens(36, 48), 36, 48) for pose in poses), strict=True)
    camera = np.tile(lens(36, 48), (24, 1, 1))
    shape = (24, 36, 48)
    return Prediction(
        unproject(np.stack(depth), camera, poses), np.ones(shape, bool), np.ones(shape, np.float32), np.stack(color),
        poses, camera, np.arange(24),
    )  # fmt: skip


def test_ten_right_scenes_pass(tour):
    """Noise, outliers, drift, other rooms, few frames: none of them looks like a wrong convention."""
    scenes = [predict(tour, np.arange(low, low + 30), seed=low) for low in (0, 10, 20, 30)]
    scenes += [predict(tour, np.arange(0, 60, 2), errors=Errors(noise=0.05, outliers=0.3, pose=0.02))]
    scenes += [predict(tour, np.arange(40), errors=Errors(bend=0.1)), predict(tour, np.arange(30, 42))]
    scenes += [box_scene(seed) for seed in range(3)]
    states = [check(scene).state for scene in scenes]
    assert len(states) == 10
    assert "refused" not in states
    assert states.count("held") >= 8


def test_what_decides_nothing_is_left_open(tour):
    still = predict(tour, np.full(20, 7))
    poor = predict(tour, np.arange(40), errors=Errors(noise=0.6, outliers=0.9))
    assert [check(scene).state for scene in (still, poor)] == ["undecided"] * 2


class Backend:
    name = "networks"


def test_a_backend_is_looked_at_until_it_held(tour):
    backend, notes = Backend(), []
    still, right = predict(tour, np.full(20, 7)), predict(tour, np.arange(4, 44))
    wrong = with_poses(right, invert_poses(right.camera_to_world), True)
    keep_contract(backend, still, notes)
    assert len(notes) == 1
    assert notes[0].startswith("conventions of networks not confirmed here: a still camera")
    with pytest.raises(StageError, match=r"^networks: its poses are world-to-camera, not camera-to-world \(") as caught:
        keep_contract(backend, wrong, notes)
    assert not caught.value.permanent
    keep_contract(backend, right, notes)
    keep_contract(backend, wrong, notes)  # it held before: a scene that looks wrong is the scene's fault
    assert len(notes) == 1
    with pytest.raises(StageError):
        keep_contract(backend, wrong, notes, always=True)
