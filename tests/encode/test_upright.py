"""Clouds that lie on their side give what they would give upright, at their own coordinates and in their own order."""

import json
import re

import numpy as np
import pytest

from data_tools.clouds.gravity import rotation_to_z
from data_tools.clouds.io import Cloud, read_cloud, write_ply
from lam3c_plugin.encode.files import full_coord
from lam3c_plugin.encode.upright import upright
from tests.commands.run import run
from tests.encode.rooms import room, tiny

Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z of the room is y of the file


def turned(cloud, matrix, shift=(0, 0, 0)):
    coord = cloud.coord.astype(np.float64) @ matrix.T
    return Cloud(
        coord.astype(np.float32), cloud.color, (cloud.normal @ matrix.T).astype(np.float32), origin=np.array(shift)
    )


@pytest.mark.parametrize("up", [(0, 1, 0), (0, 0, -1), (0.3, -0.2, 0.7)])
def test_a_tilted_cloud_is_turned_and_said(up):
    flat = room(20_000, 0)
    cloud = turned(flat, rotation_to_z(np.array(up, dtype=float)).T, np.array([1e5, 0, 0]))
    item = upright(cloud)
    assert re.match(r"tilted: turned by \d+ degrees to z-up", cloud.notes[0])
    assert item.cloud is cloud
    assert np.allclose(cloud.coord @ item.turn.T, item.level.coord, atol=1e-4)
    assert np.ptp(item.level.coord[:, 2]) == pytest.approx(np.ptp(flat.coord[:, 2]), abs=0.05)
    assert full_coord(item.level).dtype == np.float32
    assert upright(cloud, keep=True).level is cloud


def test_what_is_level_or_unclear_stays():
    flat = room(20_000, 0)
    assert upright(flat).level is flat
    assert not [note for note in flat.notes if "turned" in note]
    leaning = turned(flat, rotation_to_z(np.array([0.05, 0, 1.0])))  # 3 degrees
    assert upright(leaning).level is leaning
    ball = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    cloud = Cloud(ball / np.linalg.norm(ball, axis=1, keepdims=True))
    assert upright(cloud).level is cloud
    assert cloud.notes[0].startswith("which way is up is not clear")


def test_commands_level_a_cloud_and_write_its_own_coordinates(tmp_path, monkeypatch, capsys):
    encoder = tiny()  # one that looks at things
    monkeypatch.setattr("lam3c_plugin.encode.Encoder.random", lambda *_, **__: encoder)
    flat = room(6000, 0)
    files = {name: write_ply(tmp_path / f"{name}.ply", turned(flat, m)) for name, m in (("z", np.eye(3)), ("y", Y_UP))}
    words = ("--random", "tiny", "--grid-size", "0.1", "--size", "80x60", "--out", tmp_path)

    def similarity(name, *more):
        pick = ",".join(f"{v:.4f}" for v in read_cloud(files[name]).coord[77])
        assert run("similarity", files[name], "--pick", pick, *words, *more) == 0
        with np.load(tmp_path / f"{name}_similarity.npz") as stored:
            assert np.array_equal(stored["coord"], read_cloud(files[name]).coord)
            return stored["similarity"][0]

    right = similarity("z")
    assert "turned" not in capsys.readouterr().err
    level = similarity("y", "--view", "--no-open")
    shown = capsys.readouterr()
    assert "note: y: tilted: turned by 90 degrees" in shown.err
    assert shown.out.splitlines()[-2].startswith("made: ")
    assert shown.out.splitlines()[-1].startswith("next: ")
    page = (tmp_path / "y_similarity.html").read_text()
    turn = json.loads(re.search(r'class="pv-data"[^>]*>(.*?)</script>', page, re.S)[1])["turn"]
    assert np.allclose(np.reshape(turn, (3, 3)) @ [0, 1, 0], [0, 0, 1], atol=0.02)
    kept = similarity("y", "--no-level")
    # the grid lies otherwise in it, so that single cells differ
    assert np.median(np.abs(level - right)) < 0.5 * np.median(np.abs(kept - right))


def test_what_stands_upright_is_turned_by_nobody():
    """Rooms; and furniture, which is no room and would be turned by a room's rules."""
    for index in range(4):
        cloud = room(20_000, index)
        parts = [np.ones(len(cloud), dtype=bool), *(cloud.instance == n for n in np.unique(cloud.instance)[:6])]
        for part in parts:
            piece = cloud.select(part)
            assert upright(piece).level is piece
    assert piece.notes[-1].startswith("which way is up is not clear (it is smaller than a room)")
