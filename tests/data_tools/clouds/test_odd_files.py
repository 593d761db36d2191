"""Files from anywhere: what is read, what is said, what is refused."""

import struct

import numpy as np
import pytest

from data_tools.clouds.io import Cloud, CloudError, check_shape, color_to_uint8, read_cloud, usable_cloud, write_ply
from data_tools.clouds.notes import grouped_notes
from data_tools.clouds.predictions import share_ranks
from data_tools.packaging.clouds import PackageSettings, package_cloud
from data_tools.packaging.run import print_table
from data_tools.synthetic.rooms.generate import SyntheticSettings, make_room

RNG = np.random.default_rng(7)
XYZ = RNG.uniform(-3, 3, (100, 3))
RGB = RNG.integers(0, 256, (100, 3))
LABEL = RNG.integers(0, 9, 100)


def write_binary(path, order="<", **columns):
    """A binary PLY of columns in the types that they have."""
    words = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort", "i4": "int", "u4": "uint", "i1": "char"}
    table = np.empty(len(next(iter(columns.values()))), [(n, order + v.dtype.str[1:]) for n, v in columns.items()])
    for name, value in columns.items():
        table[name] = value
    header = ["ply", f"format binary_{'little' if order == '<' else 'big'}_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property {words[v.dtype.str[1:]]} {name}" for name, v in columns.items()] + ["end_header", ""]
    path.write_bytes("\n".join(header).encode() + table.tobytes())
    return path


def axes(xyz, kind=np.float32):
    return dict(zip("xyz", xyz.T.astype(kind), strict=True))


def channels(rgb):
    return dict(zip(("red", "green", "blue"), rgb.T, strict=True))


def said(cloud):
    return "; ".join(cloud.notes)


def write_text(path, rows, header=""):
    path.write_text(header + "\n".join(" ".join(map(str, row)) for row in rows) + "\n")
    return path


def write_las(path, xyz, rgb=None, **fields):
    laspy = pytest.importorskip("laspy")
    las = laspy.create(point_format=2, file_version="1.2")
    las.header.scales = [1e-4] * 3
    las.x, las.y, las.z = xyz.T
    if rgb is not None:
        las.red, las.green, las.blue = rgb.T.astype(np.uint16)
    for name, value in fields.items():
        if name != "classification":
            las.add_extra_dim(laspy.ExtraBytesParams(name, value.dtype))
        las[name] = value
    las.write(str(path))
    return path


# ------------------------------------------------------------------------------------------------------ colour ranges
STRAY_255 = np.where(np.arange(300).reshape(100, 3) == 5, 256.0, RGB)
STRAY_1 = np.where(np.arange(300).reshape(100, 3) == 5, 1.004, RGB / 255)


@pytest.mark.parametrize(
    ("values", "wanted", "clipped"),
    [
        (STRAY_255, np.clip(STRAY_255, 0, 255), 1),
        (np.where(STRAY_255 > 255, 255.02, RGB), np.clip(STRAY_255, 0, 255), 1),
        (np.where(STRAY_255 > 255, 1e6, RGB).astype(np.float32), np.clip(STRAY_255, 0, 255), 1),
        (STRAY_1, np.where(STRAY_1 > 1, 255, RGB), 1),
        (np.where(STRAY_1 > 1, 200.0, RGB / 255), np.where(STRAY_1 > 1, 255, RGB), 1),
        (STRAY_255.astype(np.uint16), np.clip(STRAY_255, 0, 255), 1),
        (RGB.astype(np.uint16), RGB, 0),
        (RGB.astype(np.int64), RGB, 0),
        (RGB.astype(np.float16), RGB, 0),
        ((RGB * 257).astype(np.uint16), RGB, 0),
        ((RGB * 257.0), RGB, 0),
        ((RGB / 127.5 - 1.0), RGB, 0),
        ((RGB / 255).astype(np.float16), RGB, 0),
        (
            np.where(np.arange(300).reshape(100, 3) % 5, RGB / 255, 3.5),
            np.where(np.arange(300).reshape(100, 3) % 5, RGB, 255),
            60,
        ),
        (np.minimum(RGB, 1).astype(np.uint16), np.minimum(RGB, 1), 0),
        (RGB.astype(np.uint8).view(np.int8), RGB, 0),
        ((RGB * 257).astype(np.uint16).view(np.int16), RGB, 0),
    ],
)
def test_the_colour_range_is_where_the_values_lie(values, wanted, clipped):
    color, notes = color_to_uint8(values)
    assert np.abs(color.astype(int) - np.rint(wanted)).max() <= (values.dtype == np.float16)
    assert [note for note in notes if "clipped" in note] == (
        [] if not clipped else [next(n for n in notes if n.startswith(f"{clipped} colour values beyond"))]
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((RGB * 4).astype(np.uint16), "colour all but black"),  # 10 bit, as some scanners write
        (np.minimum(RGB, 1).astype(np.uint8), "colour all but black"),
        (RGB * [1, 1, 1 / 255], "blue all but black"),  # columns of two ranges
        (RGB.astype(np.uint8), ""),
    ],
)
def test_a_cloud_never_turns_black_in_silence(values, words):
    notes = color_to_uint8(values)[1]
    assert any(note.startswith(words) for note in notes) if words else notes == []


def test_a_colour_that_is_no_number_is_counted():
    color, notes = color_to_uint8(np.array([[0.5, np.nan, 1.0], [0.1, 0.2, np.inf]]))
    assert color.tolist() == [[128, 0, 255], [26, 51, 0]]
    assert "2 colour values are not finite" in notes[0]


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".npz", ".npy", ".xyz", ".las"])
def test_a_stray_colour_does_not_turn_a_cloud_black(tmp_path, suffix):
    """Every reader decides the range alike."""
    path, rgb = tmp_path / f"a{suffix}", STRAY_255
    if suffix == ".ply":
        write_binary(path, **axes(XYZ), **channels(rgb.astype(np.float32)))
    elif suffix == ".pcd":
        head = "FIELDS x y z red green blue\nSIZE 4 4 4 4 4 4\nTYPE F F F F F F\nPOINTS 100\nDATA ascii\n"
        write_text(path, np.hstack([XYZ, rgb]), head)
    elif suffix == ".npz":
        np.savez(path, points=XYZ, colors=rgb)
    elif suffix == ".npy":
        np.save(path, np.hstack([XYZ, rgb]))
    elif suffix == ".xyz":
        write_text(path, np.hstack([XYZ, rgb]))
    else:
        write_las(path, XYZ, rgb)
    cloud = read_cloud(path)
    assert (cloud.color == np.clip(rgb, 0, 255)).all()
    assert "1 colour values beyond 0..255 clipped" in said(cloud)


# ------------------------------------------------------------------------------------------------------------- labels
@pytest.mark.parametrize(
    "name",
    ["scalar_Classification", "classification", "Label", "labels", "segment", "semantic", "class", "scalar_label",
     "scalar_Class_ID", "scalar_semantic"],
)  # fmt: skip
def test_label_columns_of_any_name(tmp_path, name):
    ply = read_cloud(write_binary(tmp_path / "a.ply", **axes(XYZ), **{name: LABEL.astype(np.float32)}))
    text = read_cloud(write_text(tmp_path / "a.txt", np.column_stack([XYZ, LABEL]), f"//X Y Z {name}\n"))
    np.savez(tmp_path / "a.npz", xyz=XYZ, **{name: LABEL[:, None]})
    fields = np.empty(100, [("x", "f8"), ("y", "f8"), ("z", "f8"), (name, "u1")])
    for field, value in (*axes(XYZ, np.float64).items(), (name, LABEL)):
        fields[field] = value
    np.save(tmp_path / "a.npy", fields)
    for cloud in (ply, text, read_cloud(tmp_path / "a.npz"), read_cloud(tmp_path / "a.npy")):
        assert (cloud.segment == LABEL).all()
        assert cloud.segment.dtype == np.int32


def test_labels_of_las(tmp_path):
    cloud = read_cloud(write_las(tmp_path / "a.las", XYZ, RGB * 257, classification=LABEL.astype(np.uint8)))
    assert (cloud.segment == LABEL).all()
    assert (cloud.color == RGB).all()
    both = write_las(tmp_path / "b.las", XYZ, classification=LABEL.astype(np.uint8), label=LABEL[::-1].astype(np.int32))
    cloud = read_cloud(both)
    assert (cloud.segment == LABEL[::-1]).all()
    assert "'classification' left out" in said(cloud)
    assert read_cloud(write_las(tmp_path / "c.las", XYZ)).segment is None  # a field that nobody filled


def test_a_second_label_column_and_odd_labels_are_noted(tmp_path):
    two = write_binary(tmp_path / "a.ply", **axes(XYZ), label=LABEL.astype("i4"), scalar_Class=LABEL.astype("f4"))
    assert "segment taken from 'label'; 'scalar_Class' left out" in said(read_cloud(two))
    odd = LABEL.astype(np.float64)
    odd[:3] = np.nan, 4294967295, -100
    cloud = read_cloud(write_binary(tmp_path / "b.ply", **axes(XYZ), label=odd))
    assert cloud.segment[:3].tolist() == [-1, -1, -1]
    assert "3 values of 'label' are no labels" in said(cloud)
    cloud = read_cloud(write_binary(tmp_path / "c.ply", **axes(XYZ), label=LABEL + 0.5))
    assert cloud.segment is None
    assert "holds fractions" in said(cloud)
    ids = read_cloud(write_binary(tmp_path / "d.ply", **axes(XYZ), scalar_Instance_ID=LABEL.astype("f4")))
    assert (ids.instance == LABEL).all()


def test_package_says_that_labels_are_there(tmp_path, capsys):
    room = make_room(SyntheticSettings(seed=3, noise="mild", points=5000), 0)[0]
    columns = {**axes(room.coord), "scalar_Classification": room.segment.astype(np.float32)}
    path = write_binary(tmp_path / "room.ply", **columns)
    plain = package_cloud(path, tmp_path / "a" / "train", PackageSettings(up="z"))
    assert any("labels are there (segment): --labels writes them" in note for note in plain.notes)
    assert not (tmp_path / "a" / "train" / "room" / "segment.npy").exists()
    print_table([plain])
    assert "note: room: labels are there" in capsys.readouterr().out
    package_cloud(path, tmp_path / "b" / "train", PackageSettings(up="z", labels=True))
    assert (np.load(tmp_path / "b" / "train" / "room" / "segment.npy") == room.segment).all()


# -------------------------------------------------------------------------------------------------------- NumPy layouts
def test_vggt_predictions(tmp_path):
    points = RNG.normal(size=(3, 8, 10, 3)).astype(np.float32)
    images = RNG.random((3, 3, 8, 10)).astype(np.float32)
    sure = 1 + RNG.exponential(size=(3, 8, 10)).astype(np.float32)
    np.savez(tmp_path / "a.npz", world_points=points, images=images, world_points_conf=sure, depth_conf=sure[::-1])
    cloud = read_cloud(tmp_path / "a.npz")
    keep = share_ranks(sure) > 0.25
    assert len(cloud) == keep.sum() == 180
    np.testing.assert_array_equal(cloud.coord, points[keep])
    np.testing.assert_array_equal(cloud.color, np.rint(255 * images.transpose(0, 2, 3, 1)[keep]).astype(np.uint8))
    assert "dropped 60 of 240 points: the 25% VGGT is least sure of" in said(cloud)
    np.savez(tmp_path / "b.npz", world_points=points[None], images=images[None], depth_conf=sure[None, ..., None])
    np.testing.assert_array_equal(read_cloud(tmp_path / "b.npz").color, cloud.color)
    np.savez(tmp_path / "c.npz", world_points=0 * points, world_points_from_depth=points, depth_conf=sure)
    np.testing.assert_array_equal(read_cloud(tmp_path / "c.npz").coord, cloud.coord)


def test_pi3_predictions(tmp_path):
    points, images = RNG.normal(size=(2, 6, 7, 3)), RNG.random((2, 6, 7, 3))
    logit = RNG.normal(scale=4, size=(2, 6, 7, 1))
    keep = 1 / (1 + np.exp(-logit[..., 0])) > 0.1
    np.savez(tmp_path / "a.npz", points=points, images=images, conf=logit, camera_poses=np.eye(4))
    cloud = read_cloud(tmp_path / "a.npz")
    assert 0 < keep.sum() < keep.size
    np.testing.assert_allclose(cloud.coord, points[keep], atol=1e-6)
    assert (cloud.color == np.rint(255 * images[keep])).all()
    assert cloud.confidence.min() > 0.1
    assert "pi3's threshold" in said(cloud)
    logit[0, 0, 0] = np.nan
    np.savez(tmp_path / "c.npz", points=points, images=images, conf=logit)
    assert len(read_cloud(tmp_path / "c.npz")) == keep.sum() - keep[0, 0, 0]
    logit[0, 0, 0] = 9 if keep[0, 0, 0] else -9
    np.savez(tmp_path / "b.npz", points=points[None], images=images[None], conf=1 / (1 + np.exp(-logit[None])))
    np.testing.assert_allclose(read_cloud(tmp_path / "b.npz").coord, cloud.coord)


def test_transposed_arrays_and_alpha(tmp_path):
    rgba = np.column_stack([RGB, np.full(100, 255)]).astype(np.uint8)
    np.savez(tmp_path / "a.npz", points=XYZ.T, colors=RGB.T.astype(np.uint8))
    np.savez(tmp_path / "b.npz", points=XYZ.T.astype(np.float16), colors=rgba)
    np.savez(tmp_path / "c.npz", points=XYZ, colors=rgba.T, normals=XYZ.T)
    for name, words in (("a", "'points' of shape (3, 100) transposed"), ("b", "alpha of 'colors' left out"), ("c", "")):
        cloud = read_cloud(tmp_path / f"{name}.npz")
        np.testing.assert_allclose(cloud.coord, XYZ, atol=2e-3)
        assert (cloud.color == RGB).all()
        assert words in said(cloud)
    np.save(tmp_path / "d.npy", np.hstack([XYZ, RGB]).T)
    assert (read_cloud(tmp_path / "d.npy").color == RGB).all()
    np.savez(tmp_path / "e.npz", points=np.hstack([XYZ, RGB]))  # was flattened in threes, once
    assert (read_cloud(tmp_path / "e.npz").color == RGB).all()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"points": np.eye(3)}, "may be the points"),
        ({"points": np.zeros((3, 6))}, "may be the points"),
        ({"points": np.zeros((3, 8, 3))}, "may be the points"),
        ({"points": RNG.random((4, 3)), "colors": np.zeros((4, 4))}, "may be the points"),
        ({"points": np.zeros((100, 4))}, r"\(100, 4\)"),
        ({"points": XYZ, "colors": np.zeros((50, 3))}, "does not fit"),
        ({"points": np.zeros(9)}, r"\(9,\)"),
        ({"points": XYZ, "label": np.zeros((100, 2))}, "segment has shape"),
        ({"points": XYZ.astype(str)}, "of type"),
        ({"points": XYZ.astype(complex)}, "of type"),
        ({"points": XYZ.astype("V8")}, "of type"),
    ],
)
def test_shapes_that_may_be_read_in_two_ways_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(CloudError, match=words) as error:
        read_cloud(tmp_path / "a.npz")
    assert "\n" not in str(error.value)
    assert "a.npz" in str(error.value)


def test_objects_are_never_unpickled_and_fields_of_three_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", points=np.array([[1, 2, {}]], dtype=object))
    with pytest.raises(CloudError, match="'points' is unreadable"):
        read_cloud(tmp_path / "a.npz")
    table = np.empty(100, [("position", "f4", 3), ("rgb", "u1", 3), ("label", "i2")])
    table["position"], table["rgb"], table["label"] = XYZ, RGB, LABEL
    np.save(tmp_path / "b.npy", table)
    cloud = read_cloud(tmp_path / "b.npy")
    np.testing.assert_allclose(cloud.coord, XYZ, atol=1e-6)
    assert (cloud.color == RGB).all()
    assert (cloud.segment == LABEL).all()


# --------------------------------------------------------------------------------------------------- float32 and double
MAP = np.array([682244.0, 3444317.0, 852.0])


@pytest.mark.parametrize("suffix", [".ply", ".npy", ".npz", ".xyz"])
def test_map_coordinates_in_float32_are_told_and_turn_nothing(tmp_path, suffix):
    room = make_room(SyntheticSettings(seed=1, noise="clean", points=6000), 0)[0]
    coarse, path = (room.coord + MAP).astype(np.float32), tmp_path / f"room{suffix}"
    if suffix == ".ply":
        write_binary(path, **axes(coarse))
    elif suffix == ".xyz":
        write_text(path, coarse.astype(np.float64))
    else:
        np.savez(path, points=coarse) if suffix == ".npz" else np.save(path, coarse.astype(np.float64))
    cloud = read_cloud(path)
    assert cloud.step == 0.25
    assert "keeps steps of 0.25 there (250 mm if metres)" in said(cloud)
    record = package_cloud(path, tmp_path / "out" / "train")
    assert record.status == "done"
    assert record.result["up"] == "kept"
    assert record.result["dropped"]["repeated"] > 0
    assert any("up cannot be told (coordinates too coarse to tell)" in note for note in record.notes)


def test_coordinates_in_half_precision_are_told(tmp_path):
    np.savez(tmp_path / "a.npz", points=XYZ.astype(np.float16))
    cloud = read_cloud(tmp_path / "a.npz")
    assert cloud.step == 2**-9
    assert "in float16, which keeps steps of 0.00195312" in said(cloud)


def test_coarse_steps_of_las_are_told(tmp_path):
    laspy = pytest.importorskip("laspy")
    las = laspy.create(point_format=2, file_version="1.2")
    las.header.scales = [0.1] * 3
    las.x, las.y, las.z = XYZ.T
    las.write(str(tmp_path / "a.las"))
    cloud = read_cloud(tmp_path / "a.las")
    assert cloud.step == 0.1
    assert "steps of 0.1" in said(cloud)
    assert not read_cloud(write_las(tmp_path / "b.las", XYZ)).step


@pytest.mark.parametrize("text", [True, False])
def test_line_ends_of_windows_are_no_damage(tmp_path, text):
    rows = b"".join(b"%d %d %d\r\n" % tuple(row) for row in RGB) if text else RGB.astype("<f4").tobytes()
    kind = "ascii" if text else "binary_little_endian"
    head = ["ply", f"format {kind} 1.0", "element vertex 100", *(f"property float {n}" for n in "xyz"), "end_header"]
    (tmp_path / "a.ply").write_bytes("\r\n".join([*head, ""]).encode() + rows)
    cloud = read_cloud(tmp_path / "a.ply")
    assert (cloud.coord == RGB).all()
    assert cloud.notes == []


def test_map_coordinates_in_double_keep_their_millimetres(tmp_path):
    cloud = read_cloud(write_binary(tmp_path / "a.ply", **axes(XYZ + MAP, np.float64)))
    assert np.abs(cloud.coord + cloud.origin - XYZ - MAP).max() < 1e-6
    assert cloud.step == 0
    whole = np.round(XYZ * 1000) + 500_000  # millimetres in whole numbers lose nothing
    assert read_cloud(write_binary(tmp_path / "b.ply", **axes(whole))).step == 0


# ------------------------------------------------------------------------------------------------------------ text rows
HEAD_PLY = (
    "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
)
HEAD_PCD = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nPOINTS {}\nDATA ascii\n"
HEADS = {".ply": HEAD_PLY, ".pcd": HEAD_PCD, ".xyz": "", ".txt": "x y z\n"}


@pytest.mark.parametrize("suffix", HEADS)
def test_rows_of_another_length_are_refused_by_number(tmp_path, suffix):
    for rows in ("0 0 0 9\n1 1\n", "0 0 0\n1 1\n", "0 0 0\n1 1 1 1\n", "0 0 0\n1 1 1x\n"):
        (tmp_path / f"a{suffix}").write_text(HEADS[suffix].format(2) + rows)
        with pytest.raises(CloudError, match=r"(vertex|point|row) [12]"):
            read_cloud(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", HEADS)
def test_numbers_that_are_none_are_dropped_and_counted(tmp_path, suffix):
    odd = ["-nan(ind)", "-1.#IND", "1.#INF", "nan", "inf", "-1.#QNAN", "1.#INF00", "-nan", "nan(snan)", "Infinity"]
    rows = [["0.5", word, "1"] if i % 2 else [word, "2", "1"] for i, word in enumerate(odd)]
    rows += [[f"{v:.6f}" for v in row] for row in XYZ]
    write_text(tmp_path / f"a{suffix}", rows, HEADS[suffix].format(len(rows)))
    cloud = usable_cloud(read_cloud(tmp_path / f"a{suffix}"))
    np.testing.assert_allclose(cloud.coord, XYZ, atol=1e-6)
    assert f"dropped {len(odd)} points that are not finite" in said(cloud)


def test_text_in_a_type_that_cannot_hold_it(tmp_path):
    head = HEAD_PLY.format(3).replace(
        "end_header", "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header"
    )
    write_text(tmp_path / "a.ply", [[0, 0, 0, 0.5, 0.25, 1], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1]], head)
    assert read_cloud(tmp_path / "a.ply").color[0].tolist() == [128, 64, 255]  # not cut to whole numbers
    write_text(tmp_path / "b.ply", [[0, 0, 0, 256, 9, 9], *([[1, 0, 0, 9, 9, 9]] * 40)], head.replace(" 3", " 41", 1))
    cloud = read_cloud(tmp_path / "b.ply")
    assert cloud.color[0].tolist() == [255, 9, 9]  # not wrapped to 0
    assert "1 values of 'red' do not fit its type uint8: read as written" in said(cloud)


def test_lines_and_columns_left_out_are_said(tmp_path):
    write_text(tmp_path / "a.ply", XYZ, HEAD_PLY.format(90))
    assert "10 lines more than the header promises" in said(read_cloud(tmp_path / "a.ply"))
    write_text(tmp_path / "a.xyz", XYZ, "my room\n")
    assert "line 1 ('my room') is no row of numbers: left out" in said(read_cloud(tmp_path / "a.xyz"))
    write_text(tmp_path / "b.xyz", XYZ, "100\n")
    assert not read_cloud(tmp_path / "b.xyz").notes
    (tmp_path / "c.xyz").write_text("1 2 three\n" + "1 2 3\n" * 4)
    with pytest.raises(CloudError, match="line 1: 'three' is no number"):
        read_cloud(tmp_path / "c.xyz")
    twice = write_binary(tmp_path / "b.ply", **axes(XYZ), X=np.zeros(100, "f4"))
    assert "column 'X' is there twice" in said(read_cloud(twice))
    assert read_cloud(twice).coord[:, 0].any()


# ------------------------------------------------------------------------------------------------- clouds that are none
LINE = np.linspace(0, 5, 500)[:, None] * [1.0, 2.0, 0.5]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (LINE, "one line"),
        (LINE + RNG.normal(scale=1e-4, size=LINE.shape), "one line"),
        (LINE * 1e-9 + 4, "one line|are equal"),
        (XYZ[:2], r"2 point\(s\)"),
        (XYZ[:1], r"1 point\(s\)"),
        (np.ones((50, 3)), "50 points are equal"),
        (np.full((50, 3), np.nan), "finite"),
    ],
)
def test_what_is_no_surface_is_said_in_one_line(tmp_path, points, words):
    from lam3c_plugin.encode.files import read_input
    from lam3c_plugin.errors import DataError

    np.save(tmp_path / "a.npy", points)
    record = package_cloud(tmp_path / "a.npy", tmp_path / "out" / "train")
    assert record.status == "failed"
    with pytest.raises(DataError, match=words) as error:
        read_input(tmp_path / "a.npy")
    for line in (record.reason, str(error.value)):
        assert "a.npy" in line
        assert "\n" not in line
        assert "cell" not in line


def test_a_plane_is_noted_and_a_stray_does_not_make_a_line():
    flat = np.column_stack([XYZ[:, :2], XYZ[:, :2].sum(axis=1)])
    assert "one plane" in check_shape(flat)
    assert check_shape(np.vstack([np.repeat(XYZ, 3, axis=0), [[1e6, 0, 0]]])) == ""


# -------------------------------------------------------------------------------------------------------------- splats
@pytest.mark.parametrize("order", ["<", ">"])
def test_gaussian_splats(tmp_path, order):
    harmonic = RNG.normal(size=(100, 3)).astype(np.float32)
    logit = RNG.normal(scale=4, size=100).astype(np.float32)
    parts = dict(zip(("f_dc_0", "f_dc_1", "f_dc_2"), harmonic.T, strict=True))
    zero = dict.fromkeys(("nx", "ny", "nz"), np.zeros(100, "f4"))
    cloud = read_cloud(write_binary(tmp_path / "a.ply", order, **axes(XYZ), **zero, **parts, opacity=logit))
    solid = 1 / (1 + np.exp(-logit)) >= 0.1
    wanted = np.clip(np.rint(255 * (0.5 + 0.28209479177387814 * harmonic)), 0, 255)[solid]
    assert (cloud.color == wanted).all()
    np.testing.assert_allclose(cloud.coord, XYZ[solid], atol=1e-6)
    assert f"dropped {(~solid).sum()} splats fainter than opacity 0.1" in said(cloud)
    assert cloud.normal is None
    assert "normals are all zero" in said(cloud)
    with pytest.raises(CloudError, match="all 100 splats"):
        read_cloud(write_binary(tmp_path / "b.ply", **axes(XYZ), **parts, opacity=np.full(100, -9, "f4")))


def test_packed_colours_of_pcd_in_any_type(tmp_path):
    packed = RGB[:, 0] << 16 | RGB[:, 1] << 8 | RGB[:, 2]
    for kind, number in (("U", packed), ("I", packed - (1 << 24)), ("F", packed.astype("<u4").view("<f4"))):
        head = f"FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F {kind}\nCOUNT 1 1 1 1\nPOINTS 100\nDATA binary\n"
        code = "<3f" + {"U": "I", "I": "i", "F": "f"}[kind]
        rows = b"".join(struct.pack(code, *point, value) for point, value in zip(XYZ, number, strict=True))
        (tmp_path / "a.pcd").write_bytes(head.encode() + rows)
        assert (read_cloud(tmp_path / "a.pcd").color == RGB).all(), kind


def test_notes_are_grouped_by_kind():
    lines = grouped_notes([("a", ["dropped 3 repeated"]), ("b", ["dropped 12 repeated", "no colour"]), ("c", [])])
    assert lines == ["2 clouds: dropped 3 repeated (a; numbers differ)", "b: no colour"]


def test_encode_says_what_the_readers_noted(tmp_path, capsys):
    from lam3c_plugin.cli import main
    from lam3c_plugin.encode.files import read_record

    room = make_room(SyntheticSettings(seed=2, noise="mild", points=3000), 0)[0]
    rgb = np.vstack([room.color[:-1], [[1, 2, 3]]]).astype(np.float32)
    rgb[0, 0] = 256
    for name in ("a", "b"):
        write_binary(tmp_path / f"{name}.ply", **axes(room.coord), **channels(rgb))
    words = ["encode", str(tmp_path), "--random", "tiny", "--grid-size", "0.2", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "note: 2 clouds: 1 colour values beyond 0..255 clipped" in capsys.readouterr().err
    assert "clipped" in read_record(tmp_path / "out")["a.npz"]["notes"][0]
    write_ply(tmp_path / "line.ply", Cloud(LINE.astype(np.float32)))
    assert main([*words[:1], str(tmp_path / "line.ply"), *words[2:]]) == 1
    assert "one line" in capsys.readouterr().err
