"""Up direction of turned, scaled and upside-down rooms."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_tools.clouds.gravity import find_up, rotation_to_z
from tests.rooms import synthetic_room

SMALL_ROOMS = (2, 3)  # kitchen and bathroom: nearly cubes with things on every wall, where "cannot tell" is allowed


def angle(a, b):
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


@pytest.fixture(scope="module")
def rooms():
    return {
        noise: [synthetic_room(i, seed=3, noise=noise, points=25_000, normals="true")[0].coord for i in range(6)]
        for noise in ("clean", "pi3")
    }


@pytest.mark.parametrize("noise", ["clean", "pi3"])
def test_random_turns_and_scales(rooms, noise):
    for number, coord in enumerate(rooms[noise]):
        turn = Rotation.random(random_state=number).as_matrix()
        scale = (0.3, 1.0, 100.0, 1000.0, 0.01, 7.0)[number]
        guess = find_up((coord @ turn.T * scale).astype(np.float32))
        assert guess.found or number in SMALL_ROOMS
        if guess.found:
            assert angle(guess.up, turn[:, 2]) < 3


def test_upside_down_and_lying_rooms(rooms):
    for flip in (
        np.diag([1.0, -1.0, -1.0]),
        np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
        np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]),
    ):
        for number, coord in enumerate(rooms["clean"]):
            guess = find_up((coord @ flip.T).astype(np.float32))
            assert guess.found or number in SMALL_ROOMS
            if guess.found:
                assert angle(guess.up, flip[:, 2]) < 3


def test_level_room_stays(rooms):
    for coord in rooms["pi3"]:
        guess = find_up(coord)
        assert angle(guess.up, [0, 0, 1]) < 3


def test_same_seed_same_answer(rooms):
    assert (find_up(rooms["pi3"][0]).up == find_up(rooms["pi3"][0]).up).all()


def test_says_when_it_cannot_tell():
    rng = np.random.default_rng(0)
    plane = np.column_stack([rng.random((5000, 2)) * 3, rng.normal(0, 0.002, 5000)])
    assert not find_up(plane).found
    assert "one plane" in find_up(plane).reason
    ball = rng.normal(size=(5000, 3))
    guess = find_up(ball)
    assert not guess.found
    assert guess.up.tolist() == [0, 0, 1]
    assert not find_up(np.zeros((500, 3))).found
    assert not find_up(rng.random((20, 3))).found


def test_one_wall_in_a_camera_frame():
    rng = np.random.default_rng(0)
    wall = np.column_stack([rng.random(5000) * 2, rng.random(5000) * 2, rng.normal(0, 0.002, 5000)])
    turn = Rotation.from_euler("yx", [26, 7], degrees=True).as_matrix()
    facing = np.tile(turn @ [0, 0, -1.0], (5000, 1))
    guess = find_up(wall @ turn.T, facing)
    assert guess.found
    assert "guess" in guess.reason
    assert guess.up[1] < -0.95
    assert abs(guess.up @ turn[:, 2]) < 0.02


def test_rotation_to_z():
    for up in (*np.eye(3), *-np.eye(3), *np.random.default_rng(0).normal(size=(20, 3))):
        up = up / np.linalg.norm(up)
        turn = rotation_to_z(up)
        np.testing.assert_allclose(turn @ up, [0, 0, 1], atol=1e-9)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) > 0
