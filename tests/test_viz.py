import struct
import zlib

import numpy as np
import pytest
import torch

from lam3c_plugin.viz import (
    contact_sheet,
    cut_ceiling,
    cut_front,
    pca_colors,
    render_points,
    save_png,
)
from tests.rooms import box_room


def room():
    """Floor (red), ceiling (white), four walls (blue) and a green block on the floor; 4 x 3 x 2.5 m."""
    cloud = box_room(24_000, (4.0, 3.0, 2.5))
    color = np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])[cloud.segment]
    color[cloud.normal[:, 2] < 0] = 1
    return cloud.coord, color


def read_png(path):
    """The pixels of an unfiltered 8-bit RGB PNG; checks every checksum."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, body = 8, b""
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        content = data[position + 8 : position + 8 + length]
        assert struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0] == zlib.crc32(
            kind + content
        )
        if kind == b"IHDR":
            width, height = struct.unpack(">II", content[:8])
        body += content if kind == b"IDAT" else b""
        position += 12 + length
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + 3 * width)
    return lines[:, 1:].reshape(height, width, 3)


def test_pca_colors_are_deterministic_and_robust():
    generator = torch.Generator().manual_seed(0)
    feat = torch.randn(500, 20, generator=generator) * torch.arange(20, 0, -1)
    colors = pca_colors(feat)
    assert colors.shape == (500, 3)
    assert colors.dtype == np.float32
    assert colors.min() == 0
    assert colors.max() == 1
    np.testing.assert_array_equal(colors, pca_colors(feat.numpy()))
    np.testing.assert_allclose(colors, pca_colors(feat * 7 + 3), atol=1e-5)
    outlier = feat.clone()
    outlier[0] = 1e4
    assert pca_colors(outlier)[1:].std() > 0.1
    order = torch.randperm(500, generator=generator)
    np.testing.assert_allclose(pca_colors(feat[order]), colors[order], atol=1e-5)


def test_pca_colors_of_poor_features():
    np.testing.assert_array_equal(pca_colors(np.ones((5, 4))), 0.5)
    np.testing.assert_array_equal(pca_colors(np.zeros((0, 4))), np.zeros((0, 3)))
    line = pca_colors(np.arange(10.0)[:, None])
    assert np.ptp(line[:, 0]) == 1
    np.testing.assert_array_equal(line[:, 1:], 0.5)
    broken = pca_colors(np.array([[0.0, 1], [np.nan, 1], [2, 3], [5, 1]]))
    np.testing.assert_array_equal(broken[1], 0.5)
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        pca_colors(np.ones(3))


def test_the_top_view_looks_through_the_ceiling_onto_floor_and_box():
    coord, color = room()
    image = render_points(coord, color, size=(160, 120), view="top", shading=0)
    assert image.shape == (120, 160, 3)
    assert image.dtype == np.uint8
    red, green, blue = (image.reshape(-1, 3).argmax(1) == channel for channel in range(3))
    coloured = image.reshape(-1, 3).min(1) < 100
    assert (coloured & red).mean() > 0.4
    assert 0.03 < (coloured & green).mean() < 0.15
    assert (coloured & blue).mean() < 0.25
    box = image[90 - 10 : 90, 35:50].reshape(-1, 3)  # x 0.5 to 1.5 of 4 m from the left, y 0.5 to 1.5 from the bottom
    assert (box.argmax(1) == 1).mean() > 0.9
    closed = render_points(coord, color, size=(160, 120), view="top", ceiling_cut=0, shading=0)
    assert (closed[30:90, 40:120].min(2) > 200).mean() > 0.7


def test_nearer_points_hide_farther_ones():
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 50), np.linspace(0, 1, 50)), -1).reshape(-1, 2)
    coord = np.concatenate([np.c_[grid, np.full(len(grid), z)] for z in (1.0, 0.0, 0.5)])
    color = np.repeat([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], len(grid), axis=0)
    image = render_points(coord, color, size=(60, 60), view="top", ceiling_cut=0, shading=0)
    assert (image[10:50, 10:50] == [255, 0, 0]).all()
    order = np.random.default_rng(0).permutation(len(coord))
    np.testing.assert_array_equal(
        image, render_points(coord[order], color[order], size=(60, 60), view="top", ceiling_cut=0, shading=0)
    )


def test_the_oblique_view_opens_the_near_walls():
    coord, color = room()
    images = [render_points(coord, color, size=(120, 90), open_front=choice, shading=0) for choice in (True, False)]
    red = [((image[..., 0] > 150) & (image[..., 2] < 100)).mean() for image in images]
    assert red[0] > 1.5 * red[1]


def test_front_cut_does_not_care_how_a_room_is_turned():
    coord, color = room()
    toward = np.array([0.0, -1.0, 0.5])
    kept = cut_front(coord, toward)
    walls = color[:, 2] == 1
    near = walls & (coord[:, 1] < 0.01) & (coord[:, 2] > 0.3) & (np.abs(coord[:, 0] - 2) < 1.4)
    far = walls & (coord[:, 1] > 2.99)
    assert not kept[near].any()
    assert kept[far].all()
    assert kept[coord[:, 2] == 0].mean() > 0.95
    angle = np.deg2rad(37)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned = cut_front(coord @ turn.T + [7, -3, 1], turn @ toward)
    assert not turned[near].any()
    assert turned[far].mean() > 0.98


def test_render_edge_cases():
    blank = render_points(np.zeros((0, 3)), np.zeros((0, 3)), size=(20, 10))
    assert (blank == 255).all()
    assert blank.shape == (10, 20, 3)
    assert (render_points([[np.nan, 0, 0]], [[0.0, 0, 0]], size=(20, 10)) == 255).all()
    one = render_points([[1.0, 2, 3]], np.zeros((1, 3)), size=(21, 11), view="top")
    assert (one[5, 10] == 0).all()
    assert (one == 255).mean() > 0.5
    same = render_points(np.ones((5, 3)), np.full((5, 3), 255, np.uint8), size=(20, 10))
    assert same.dtype == np.uint8
    tensor = render_points(torch.rand(50, 3), torch.rand(50, 3), size=(20, 10))
    assert (tensor < 255).any()
    with pytest.raises(ValueError, match="front"):
        render_points(np.zeros((2, 3)), np.zeros((2, 3)), view="front")
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 3\)"):
        render_points(np.zeros((2, 3)), np.zeros((3, 3)))


def test_cut_ceiling():
    z = np.linspace(0, 2.5, 1001)
    kept = cut_ceiling(np.stack([z, z, z], axis=1), share=0.2)
    assert z[kept].max() == pytest.approx(2.0, abs=0.05)
    assert cut_ceiling(np.ones((4, 3))).all()


def test_contact_sheet_and_png(tmp_path):
    a, b = np.zeros((4, 6, 3), np.uint8), np.full((2, 3, 3), 7, np.uint8)
    sheet = contact_sheet([a, b, a], columns=2, gap=1)
    assert sheet.shape == (2 * 4 + 3, 2 * 6 + 3, 3)
    assert (sheet[1:5, 1:7] == 0).all()
    assert (sheet == 7).all(2).sum() == 6
    np.testing.assert_array_equal(read_png(save_png(tmp_path / "new/sheet.png", sheet)), sheet)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ValueError, match="uint8"):
        save_png(tmp_path / "x.png", np.zeros((2, 2, 3)))
