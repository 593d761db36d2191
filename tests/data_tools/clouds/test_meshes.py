"""Meshes as clouds: points on the surface with its colours and normals; what is said where Open3D is not there."""

from __future__ import annotations

import builtins
import json
import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from data_tools.clouds.io import CLOUD_SUFFIXES, CloudError, read_cloud
from data_tools.clouds.meshes import MESH_SUFFIXES, read_mesh
from data_tools.packaging.clouds import PackageSettings, package_cloud

SIZE = np.array([4.0, 5.0, 2.5])
CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * SIZE
QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
FACES = np.array([(a, b, c) for q in QUADS for a, b, c in ((q[0], q[1], q[2]), (q[0], q[2], q[3]))])


def rows(values):
    return "\n".join(" ".join(str(v) for v in row) for row in values) + "\n"


def write_box(path, extra="", columns=None):
    """A box room in the format of the suffix."""
    if path.suffix == ".obj":
        path.write_text("".join("v " + line + "\n" for line in rows(CORNERS).splitlines())
                        + "".join("f " + line + "\n" for line in rows(FACES + 1).splitlines()))  # fmt: skip
    elif path.suffix == ".off":
        path.write_text(f"OFF\n8 12 0\n{rows(CORNERS)}{rows([(3, *f) for f in FACES])}")
    elif path.suffix == ".stl":
        table = np.zeros(12, dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
        table["corners"] = CORNERS[FACES]
        path.write_bytes(b"\0" * 80 + struct.pack("<I", 12) + table.tobytes())
    else:
        head = f"ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n{extra}"
        values = (
            CORNERS.tolist()
            if columns is None
            else [[*a, *np.atleast_1d(b)] for a, b in zip(CORNERS, columns, strict=True)]
        )
        lists = "element face 12\nproperty list uchar int vertex_indices\nend_header\n"
        path.write_text(head + lists + rows(values) + rows([(3, *f) for f in FACES]))
    return path


def picture():
    """Left red, right blue, a green band at the top."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32], image[:, 32:], image[:8] = (200, 10, 10), (10, 10, 200), (0, 255, 0)
    return image


def write_glb(path, factor=None):
    """A square of one metre at z = 5, with the picture, or of one colour."""
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    uvs = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    blob = square.tobytes() + uvs.tobytes() + np.array([0, 1, 2, 0, 2, 3], np.uint16).tobytes()
    stream = BytesIO()
    Image.fromarray(picture()).save(stream, "PNG")
    png = stream.getvalue()
    views = [(0, 48), (48, 32), (80, 12), (92, len(png))]
    surface = {"baseColorTexture": {"index": 0}} if factor is None else {"baseColorFactor": factor}
    scene = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [0, 0, 5]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": surface}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 3, "mimeType": "image/png"}],
        "buffers": [{"byteLength": 92 + len(png)}],
        "bufferViews": [{"buffer": 0, "byteOffset": at, "byteLength": size} for at, size in views],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0]},
            {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5123, "count": 6, "type": "SCALAR"},
        ],
    }
    text = json.dumps(scene).encode()
    chunks = b""
    for kind, data, fill in ((0x4E4F534A, text, b" "), (0x004E4942, blob + png, b"\0")):
        data += fill * (-len(data) % 4)
        chunks += struct.pack("<II", len(data), kind) + data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


@pytest.fixture
def without_open3d(monkeypatch):
    def refuse(reason):
        real = builtins.__import__

        def fake(name, *rest):
            if name == "open3d":
                raise reason
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", fake)

    return refuse


@pytest.mark.parametrize("suffix", [*MESH_SUFFIXES, ".ply"])
def test_a_missing_open3d_is_one_line_with_the_command(tmp_path, without_open3d, suffix):
    assert suffix in CLOUD_SUFFIXES
    path = write_glb(tmp_path / "a.glb") if suffix == ".glb" else write_box(tmp_path / f"a{suffix}")
    without_open3d(ModuleNotFoundError("No module named 'open3d'", name="open3d"))
    with pytest.raises(
        CloudError, match=r'^[^\n]*: reading a mesh needs Open3D: pip install "lam3c-plugin\[open3d\]"$'
    ):
        read_cloud(path)
    without_open3d(ImportError("libusb-1.0.so.0: cannot open shared object file"))
    with pytest.raises(
        CloudError, match=r"libusb-1\.0\.so\.0.*; apt-get install libusb-1\.0-0 libgl1 libegl1 libgomp1$"
    ):
        read_cloud(path)


def test_vertices_that_carry_labels_or_are_many_need_no_open3d(tmp_path, without_open3d):
    without_open3d(ModuleNotFoundError("No module named 'open3d'", name="open3d"))
    path = write_box(tmp_path / "l.ply", "property int label\n", np.arange(8))
    cloud = read_cloud(path)
    assert cloud.segment.tolist() == list(range(8))
    assert cloud.notes == ["12 faces not used: the vertices carry labels"]
    coord = np.random.default_rng(0).random((10_000, 3)).astype(np.float32)
    head = "ply\nformat ascii 1.0\nelement vertex 10000\nproperty float x\nproperty float y\nproperty float z\n"
    for faces, note in (
        (5000, "5000 faces not used, only the vertices; pip install"),
        (1, "1 faces not used: they are"),
    ):
        lists = f"element face {faces}\nproperty list uchar int vertex_indices\nend_header\n"
        (tmp_path / "scan.ply").write_text(head + lists + rows(coord.tolist()) + "3 0 1 2\n" * faces)
        cloud = read_cloud(tmp_path / "scan.ply")
        assert len(cloud) == 10_000
        assert cloud.notes[0].startswith(note)
    (tmp_path / "points.ply").write_text(head.replace("10000", "3") + "end_header\n" + rows(coord[:3].tolist()))
    assert read_cloud(tmp_path / "points.ply").notes == []


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".off", ".ply"])
def test_points_lie_evenly_on_the_surface(tmp_path, suffix):
    pytest.importorskip("open3d")
    path = write_box(tmp_path / f"a{suffix}")
    cloud = read_mesh(path, 0.05)
    area = 2 * (4 * 5 + 4 * 2.5 + 5 * 2.5)
    assert len(cloud) == pytest.approx(area / 0.05**2, rel=0.001)
    distance = np.minimum(np.abs(cloud.coord), np.abs(SIZE - cloud.coord))
    assert distance.min(axis=1).max() < 1e-5
    assert ((cloud.coord > -1e-5) & (cloud.coord < SIZE + 1e-5)).all()
    axis = distance.argmin(axis=1)
    assert np.abs(cloud.normal[np.arange(len(cloud)), axis]) == pytest.approx(1, abs=1e-5)
    floor = cloud.coord[np.abs(cloud.coord[:, 2]) < 1e-6]
    counts = np.histogram2d(floor[:, 0], floor[:, 1], (8, 10), ((0, 4), (0, 5)))[0]  # 100 points a cell
    assert counts.min() > 88
    assert counts.max() < 112
    assert cloud.color is None
    assert cloud.notes[0].endswith("points drawn from 12 triangles, 0.05 apart (the file's unit)")
    again = read_cloud(path)
    assert np.array_equal(again.coord, read_cloud(path).coord)
    assert len(again) == pytest.approx(area / 0.01**2, rel=0.001)  # a 500th of 5 m


def test_colours_of_corners_textures_and_materials(tmp_path):
    pytest.importorskip("open3d")
    colors = np.array([[10, 20, 30]] * 4 + [[210, 120, 30]] * 4)  # by x
    path = write_box(tmp_path / "c.ply", "".join(f"property uchar {c}\n" for c in ("red", "green", "blue")), colors)
    cloud = read_mesh(path, 0.1)
    wanted = colors[0] + cloud.coord[:, :1] / 4 * (colors[4] - colors[0])
    side = (cloud.coord[:, 0] > 0.01) & (cloud.coord[:, 0] < 3.99)
    assert np.abs(cloud.color[side] - wanted[side]).max() <= 1
    textured = [read_mesh(write_glb(tmp_path / "t.glb"), 0.01)]
    Image.fromarray(picture()).save(tmp_path / "t.png")
    (tmp_path / "t.mtl").write_text("newmtl a\nmap_Kd t.png\nnewmtl b\nKd 0.5 0.25 0.1\n")
    (tmp_path / "t.obj").write_text(
        "mtllib t.mtl\nv 0 0 5\nv 1 0 5\nv 1 1 5\nv 0 1 5\nv 0 0 9\nv 1 0 9\nv 1 1 9\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "usemtl a\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\nusemtl b\nf 5 6 7\n"
    )
    textured.append(read_mesh(tmp_path / "t.obj", 0.01))
    for cloud in textured:
        square = np.abs(cloud.coord[:, 2] - 5) < 1e-5
        x, y = cloud.coord[square, 0], cloud.coord[square, 1]
        wanted = np.where(
            (y > 56 / 64)[:, None], (0, 255, 0), np.where((x < 0.5)[:, None], (200, 10, 10), (10, 10, 200))
        )
        assert (cloud.color[square] == wanted).all(axis=1).mean() > 0.99
    other = textured[1].coord[:, 2] > 8
    assert (textured[1].color[other] == (128, 64, 26)).all()
    plain = read_mesh(write_glb(tmp_path / "p.glb", [0.5, 0.25, 1, 1]), 0.1)
    assert np.abs(plain.color.astype(int) - (186, 136, 255)).max() <= 1  # glTF's factors are linear
    assert "glTF files are y-up" in plain.notes


def test_a_mesh_becomes_a_scene(tmp_path):
    pytest.importorskip("open3d")
    record = package_cloud(write_box(tmp_path / "room.obj"), tmp_path / "out", PackageSettings(grid=0.05, up="z"))
    assert record.status == "written", record.reason
    assert record.size == pytest.approx([4, 5, 2.5], abs=0.06)
    assert any("points drawn from 12 triangles" in note for note in record.notes)


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".glb", ".off"])
def test_what_holds_no_triangle_is_refused_in_one_line(tmp_path, suffix):
    pytest.importorskip("open3d")
    path = tmp_path / f"bad{suffix}"
    path.write_text("solid nothing\nendsolid nothing\n" if suffix == ".stl" else "nothing\n")
    with pytest.raises(CloudError, match=r"^[^\n]*bad\.\w+: Open3D reads no triangle from it"):
        read_cloud(path)
