"""Readers, the PLY writer and the plain-cloud helpers."""

import importlib.util
import struct

import numpy as np
import pytest

from data_tools.clouds.io import (
    Cloud,
    CloudError,
    check_bounds,
    color_to_uint8,
    drop_far,
    drop_not_finite,
    drop_repeats,
    grid_subsample,
    read_cloud,
    write_ply,
)


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(50, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return Cloud(
        rng.uniform(-3, 3, (50, 3)).astype(np.float32),
        rng.integers(0, 256, (50, 3), dtype=np.uint8),
        normal.astype(np.float32),
        rng.random(50).astype(np.float32),
        rng.integers(0, 20, 50).astype(np.int32),
        rng.integers(0, 9, 50).astype(np.int32),
    )


def same(read, cloud, names=("coord", "color", "normal")):
    for name in names:
        np.testing.assert_allclose(getattr(read, name), getattr(cloud, name), atol=1e-6, err_msg=name)


def lzf_compress(data):
    """Matches of length 3..264 where the last 3 bytes were seen before, else literals: exercises both commands."""
    out, literals, seen, i = bytearray(), bytearray(), {}, 0

    def flush():
        for start in range(0, len(literals), 32):
            part = literals[start : start + 32]
            out.append(len(part) - 1)
            out.extend(part)
        literals.clear()

    while i < len(data):
        key = bytes(data[i : i + 3])
        back = seen.get(key)
        seen[key] = i
        if len(key) == 3 and back is not None and i - back <= 8192:
            length = 3
            while length < 264 and i + length < len(data) and data[back + length] == data[i + length]:
                length += 1
            flush()
            distance, short = i - back - 1, length - 2
            out.append((min(short, 7) << 5) | (distance >> 8))
            if short >= 7:
                out.append(short - 7)
            out.append(distance & 255)
            i += length
        else:
            literals.append(data[i])
            i += 1
    flush()
    return bytes(out)


def test_ply_round_trip(tmp_path, cloud):
    path = write_ply(tmp_path / "a b ü.ply", cloud)
    same(read_cloud(path), cloud, ("coord", "color", "normal", "confidence", "segment", "instance"))
    assert [p.name for p in tmp_path.iterdir()] == ["a b ü.ply"]


@pytest.mark.parametrize("order", ["little", "big"])
def test_ply_any_order_and_extra_elements(tmp_path, cloud, order):
    mark = "<" if order == "little" else ">"
    header = (
        f"ply\r\nformat binary_{order}_endian 1.0\r\ncomment x\r\nelement camera 2\r\nproperty list uchar int ids\r\n"
        "property float f\r\nelement vertex 50\r\nproperty uchar blue\r\nproperty double z\r\nproperty uchar red\r\n"
        "property double x\r\nproperty double y\r\nproperty uchar green\r\nelement face 1\r\n"
        "property list uchar int vertex_indices\r\nend_header\r\n"
    )
    body = struct.pack(mark + "BiifBf", 2, 7, 8, 1.5, 0, 2.5)
    for xyz, (r, g, b) in zip(cloud.coord.tolist(), cloud.color.tolist(), strict=True):
        body += struct.pack(mark + "BdBddB", b, xyz[2], r, xyz[0], xyz[1], g)
    body += struct.pack(mark + "Biii", 3, 0, 1, 2)
    (tmp_path / "a.ply").write_bytes(header.encode() + body)
    same(read_cloud(tmp_path / "a.ply"), cloud, ("coord", "color"))


def test_ply_ascii_with_float_colors_and_vertex_list(tmp_path):
    text = (
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty list uchar int tags\nproperty float y\n"
        "property float z\nproperty float red\nproperty float green\nproperty float blue\nend_header\n"
        "1 2 9 9 2 3 0 0.5 1\n4 0 5 6 1 1 1\n"
    )
    (tmp_path / "a.ply").write_text(text)
    read = read_cloud(tmp_path / "a.ply")
    assert read.coord.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read.color.tolist() == [[0, 128, 255], [255, 255, 255]]
    assert "0..1" in read.notes[0]


@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
def test_pcd(tmp_path, cloud, data):
    packed = cloud.color.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    table = np.zeros(50, dtype=[("xyz", "<f4", 3), ("rgb", "<u4"), ("n", "<f4", 3), ("pad", "<u1", 2)])
    table["xyz"], table["rgb"], table["n"] = cloud.coord, packed, cloud.normal
    kind = "F F F U F F F U" if data == "ascii" else "F F F F F F F U"
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb normal_x normal_y normal_z _\nSIZE 4 4 4 4 4 4 4 1\n"
        f"TYPE {kind}\nCOUNT 1 1 1 1 1 1 1 2\nWIDTH 50\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 50\nDATA {data}\n"
    )
    if data == "ascii":
        rows = zip(cloud.coord, packed, cloud.normal, strict=True)
        body = "\n".join(" ".join(map(str, [*c.tolist(), int(p), *n.tolist(), 0, 0])) for c, p, n in rows).encode()
    elif data == "binary":
        body = table.tobytes()
    else:
        columns = [table["xyz"][:, i] for i in range(3)] + [table["rgb"]] + [table["n"][:, i] for i in range(3)]
        raw = b"".join(np.ascontiguousarray(c).tobytes() for c in [*columns, table["pad"]])
        small = lzf_compress(raw)
        body = struct.pack("<II", len(small), len(raw)) + small
    (tmp_path / "a.pcd").write_bytes(header.encode() + body)
    same(read_cloud(tmp_path / "a.pcd"), cloud)


@pytest.mark.parametrize("columns", [3, 6, 9])
@pytest.mark.parametrize("suffix", [".npy", ".xyz", ".txt", ".csv"])
def test_matrix_formats(tmp_path, cloud, columns, suffix):
    matrix = np.concatenate([cloud.coord, cloud.color, cloud.normal], axis=1)[:, :columns]
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, matrix)
    else:
        np.savetxt(path, matrix, fmt="%.7f", delimiter="," if suffix == ".csv" else " ")
    read = read_cloud(path)
    same(read, cloud, ("coord", "color", "normal")[: columns // 3])
    assert (read.normal is None) == (columns < 9)


def test_six_columns_of_normals_and_named_columns(tmp_path, cloud):
    np.savetxt(tmp_path / "n.xyz", np.concatenate([cloud.coord, cloud.normal], axis=1))
    read = read_cloud(tmp_path / "n.xyz")
    assert read.color is None
    same(read, cloud, ("coord", "normal"))
    np.savetxt(
        tmp_path / "named.txt",
        np.concatenate([cloud.coord[:, ::-1], cloud.segment[:, None]], axis=1),
        header="Z Y X label",
        comments="//",
    )
    same(read_cloud(tmp_path / "named.txt"), cloud, ("coord", "segment"))


def test_npz_image_shaped_and_scene_folder(tmp_path, cloud):
    np.savez(tmp_path / "a.npz", points=cloud.coord.reshape(5, 10, 3), rgb=cloud.color / 255, conf=cloud.confidence)
    same(read_cloud(tmp_path / "a.npz"), cloud, ("coord", "color", "confidence"))
    folder = tmp_path / "scene"
    folder.mkdir()
    for name in ("coord", "color", "segment"):
        np.save(folder / f"{name}.npy", getattr(cloud, name))
    same(read_cloud(folder), cloud, ("coord", "color", "segment"))


def test_map_coordinates_keep_their_millimetres(tmp_path):
    far = np.array([5e5, 4.6e6, 300.0]) + np.random.default_rng(0).random((100, 3))
    np.save(tmp_path / "far.npy", far)
    read = read_cloud(tmp_path / "far.npy")
    assert np.abs(read.coord + read.origin - far).max() < 1e-4
    again = read_cloud(write_ply(tmp_path / "far.ply", read))
    assert np.abs(again.coord + again.origin - far).max() < 1e-4


@pytest.mark.skipif(importlib.util.find_spec("laspy") is not None, reason="laspy is there")
def test_las_without_laspy_names_the_command(tmp_path):
    (tmp_path / "a.laz").write_bytes(b"LASF")
    with pytest.raises(CloudError, match=r"pip install 'laspy"):
        read_cloud(tmp_path / "a.laz")


@pytest.mark.skipif(importlib.util.find_spec("laspy") is None, reason="needs laspy")
def test_las(tmp_path, cloud):
    import laspy

    las = laspy.create(point_format=2, file_version="1.2")
    las.header.scales = [1e-4] * 3
    las.x, las.y, las.z = cloud.coord.T.astype(np.float64)
    las.red, las.green, las.blue = cloud.color.T.astype(np.uint16) * 257
    las.write(str(tmp_path / "a.las"))
    read = read_cloud(tmp_path / "a.las")
    assert np.abs(read.coord - cloud.coord).max() < 2e-4
    assert (read.color == cloud.color).all()


def bad_files(folder, cloud):
    good = write_ply(folder / "good.ply", cloud).read_bytes()
    head = good.index(b"end_header") + 11
    header = (
        b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    pcd = b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 9\nHEIGHT 1\nPOINTS 9\nDATA "
    return {
        "cut.ply": (good[:-40], "cut off"),
        "header_cut.ply": (good[: head - 12], "end_header"),
        "text.ply": (b"hello, I am no cloud\n", "not a PLY"),
        "short.ply": (header + b"1 2 3\n4 5 6\n", "2 of 3 lines"),
        "words.ply": (header + b"1 2 3\n4 5 6\n7 8 nine\n", "vertex 3: 'nine' is no number"),
        "empty.ply": (b"", "empty"),
        "none.ply": (good[:head].replace(b"vertex 50", b"vertex 0"), "no vertex"),
        "nocoord.ply": (header.replace(b"float z", b"float w") + b"1 2 3\n" * 3, "no columns x, y, z"),
        "cut.pcd": (pcd + b"binary\n1234", "cut off"),
        "lzf.pcd": (pcd + b"binary_compressed\n" + struct.pack("<II", 3, 108) + b"\x20\x50\x01", "damaged"),
        "ascii.pcd": (pcd + b"ascii\n" + b"1 2 x\n" * 9, "point 1: 'x' is no number"),
        "other.pcd": (b"what", "not a PCD"),
        "bad.npz": (b"PK\x03\x04 broken", "NumPy cannot read"),
        "bad.npy": (b"\x93NUMPY", "NumPy cannot read"),
        "ragged.xyz": (b"1 2 3\n4 5\n", "row 2 holds 2 numbers instead of 3"),
        "four.xyz": (b"1 2 3 4\n4 5 6 7\n", "shape"),
        "prose.txt": (b"x y z\nno numbers here\n", "no line of numbers"),
        "binary.txt": (b"\xff\xfe\x00\x81", "not a text file"),
        "odd.foo": (b"1 2 3", "unknown"),
    }


def test_bad_files_give_one_line_with_the_name(tmp_path, cloud):
    for name, (content, words) in bad_files(tmp_path, cloud).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CloudError) as error:
            read_cloud(tmp_path / name)
        message = str(error.value)
        assert name in message, message
        assert words in message, f"{name}: {message}"
        assert "\n" not in message


def test_missing_file_and_object_arrays(tmp_path):
    with pytest.raises(CloudError, match="does not exist"):
        read_cloud(tmp_path / "no.ply")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CloudError, match="NumPy cannot read"):
        read_cloud(tmp_path / "o.npy")
    np.savez(tmp_path / "n.npz", a=np.zeros(3))
    with pytest.raises(CloudError, match="rename"):
        read_cloud(tmp_path / "n.npz")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 128.0, 255.0]]), [0, 128, 255]),
        (np.array([[0, 32896, 65535]], dtype=np.uint16), [0, 128, 255]),
        (np.array([[-1.0, 0.0, 1.0]]), [0, 128, 255]),
        (np.array([[0, 1, 1]], dtype=np.int64), [0, 1, 1]),
    ],
)
def test_color_ranges(values, wanted):
    assert color_to_uint8(values)[0][0].tolist() == wanted


def test_drops(cloud):
    bad = cloud.coord.copy()
    bad[3] = np.nan
    bad[7] = np.inf
    bad[10] = bad[11]
    bad[12] = 5000
    messy, count = drop_not_finite(Cloud(bad, cloud.color))
    assert count == 2
    messy, count = drop_repeats(messy)
    assert count == 1
    assert (messy.coord[0] == cloud.coord[0]).all()
    messy, count = drop_far(messy)
    assert (count, len(messy)) == (1, 46)


def test_grid_subsample_keeps_one_point_a_cell(cloud):
    dense = Cloud(np.repeat(cloud.coord, 4, axis=0) + np.float32(1e-5), np.repeat(cloud.color, 4, axis=0))
    thin = grid_subsample(dense, 0.001)
    assert len(thin) <= 2 * len(cloud)
    assert np.abs(thin.color.astype(int)[0] - cloud.color[0]).max() <= 1
    with pytest.raises(CloudError, match="positive"):
        grid_subsample(cloud, 0.0)


def test_bounds():
    check_bounds(np.eye(3, dtype=np.float32))
    cases = [([[0, 0, 0]], "1 point"), ([[0, 0, 0], [1, 1, 1]], "2 point"), ([[1, 1, 1]] * 5, "equal")]
    cases += [([[0, 0, 0], [1, 1, 1], [3, 3, 3]], "one line"), ([[0, 0, 0], [2000, 0, 0], [0, 900, 0]], "2\\^16")]
    cases += [(np.eye(3) * 1e-3, "less than one cell")]
    for points, words in cases:
        with pytest.raises(CloudError, match=words):
            check_bounds(np.array(points, dtype=np.float32))
