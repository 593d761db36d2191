"""The point viewer: what is put into a page is what was given, and the page stands alone."""

import base64
import json
import re

import numpy as np
import pytest

from data_tools.reporting.viewer import (
    AZIMUTH,
    PointLayer,
    camera_lines,
    opening_azimuth,
    thin_rows,
    viewer_blob,
    viewer_html,
)
from tests.data_tools.reporting.report_tree import room


def spec_of(html):
    return json.loads(re.search(r'class="pv-data"[^>]*>(.*?)</script>', html, re.S).group(1))


def decoded(cloud, name="position"):
    steps = np.frombuffer(base64.b64decode(cloud[name]), dtype="<u2").reshape(-1, 3)
    return np.array(cloud["low"]) + steps / 65535 * np.array(cloud["size"])


def test_coordinates_and_colours_come_back():
    cloud = room(0, 500)
    spec = spec_of(viewer_html([PointLayer("rgb", cloud.coord, cloud.color, cloud.normal)], "a room"))
    assert np.abs(decoded(spec["clouds"][0]) - cloud.coord).max() < 2e-4
    color = np.frombuffer(base64.b64decode(spec["layers"][0]["color"]), dtype=np.uint8).reshape(-1, 3)
    assert (color == cloud.color).all()
    normal = np.frombuffer(base64.b64decode(spec["clouds"][0]["normal"]), dtype=np.int8).reshape(-1, 3) / 127
    assert np.abs(normal - cloud.normal).max() < 0.01


def test_layers_on_the_same_array_share_its_points_and_stay_aligned_when_thinned():
    cloud = room(0, 1000)
    values = cloud.coord[:, 2]
    gray = np.repeat((values / 2.5)[:, None], 3, axis=1)
    layers = [PointLayer("rgb", cloud.coord, cloud.color), PointLayer("z", cloud.coord, gray, values=values)]
    spec = spec_of(viewer_html(layers, "a room", max_points=300))
    assert [layer["cloud"] for layer in spec["layers"]] == [0, 0]
    assert spec["clouds"][0]["count"] == 300
    stored = np.frombuffer(base64.b64decode(spec["layers"][1]["values"]), dtype="<f4")
    assert np.abs(stored - decoded(spec["clouds"][0])[:, 2]).max() < 2e-4


def test_layers_of_other_points_have_their_own():
    layers = [PointLayer("a", room(0).coord), PointLayer("b", room(1).coord)]
    assert [layer["cloud"] for layer in spec_of(viewer_html(layers, "two"))["layers"]] == [0, 1]


def test_the_blob_holds_the_same_arrays():
    cloud = room(3, 301)
    blob = viewer_blob([PointLayer("rgb", cloud.coord, cloud.color, cloud.normal)], "x", 10_000, np.zeros((2, 2, 3)))
    length = int.from_bytes(blob[:4], "little")
    spec, data = json.loads(blob[4 : 4 + length]), blob[4 + length :]
    start, size = spec["layers"][0]["color"]
    assert start % 4 == 0
    assert data[start : start + size] == cloud.color.tobytes()
    assert len(spec["lines"]) == 12


def test_points_that_are_not_finite_are_left_out():
    coord = room(0, 50).coord.copy()
    coord[7] = np.nan
    assert spec_of(viewer_html([PointLayer("z", coord)], "x"))["clouds"][0]["count"] == 49


def test_text_cannot_end_the_script():
    bad = "</script><script>alert(1)</script>"
    html = viewer_html([PointLayer(bad, room().coord, legend=[(bad, (255, 0, 16))])], bad, caption=bad)
    assert bad not in html
    assert spec_of(html)["layers"][0]["legend"] == [[bad, "#ff0010"]]


def test_the_same_input_gives_the_same_page():
    cloud = room(0, 900)
    make = lambda: viewer_html([PointLayer("rgb", cloud.coord, cloud.color)], "x", max_points=400)  # noqa: E731
    assert make() == make()


def test_thinning_keeps_order_and_repeats():
    rows = thin_rows(1000, 100)
    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    assert (rows == thin_rows(1000, 100)).all()


def test_camera_frames_look_forward():
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    lines = camera_lines(np.stack([pose, pose]), size=0.5)
    assert lines.shape == (2 * 8 + 1, 2, 3)
    assert np.allclose(lines[0, 0], [1, 2, 3])
    assert np.isclose(lines[..., 2].max(), 3.5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (PointLayer("a", np.zeros((0, 3))), "N > 0"),
        (PointLayer("a", np.zeros((4, 2))), r"\(4, 2\)"),
        (PointLayer("a", np.zeros((4, 3)), "blue"), "unknown"),
        (PointLayer("a", np.zeros((4, 3)), "normal"), "give normal="),
        (PointLayer("a", np.zeros((4, 3)), np.zeros((3, 3))), r"\(4, 3\) is needed"),
        (PointLayer("a", np.zeros((4, 3)), values=np.zeros(3)), "3 rows of values"),
        (PointLayer("a", np.full((4, 3), np.nan)), "no finite point"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(layer, message):
    with pytest.raises(ValueError, match=message) as error:
        viewer_html([layer], "x")
    assert "\n" not in str(error.value)


def test_a_page_opens_facing_the_room():
    cloud = room(0, 4000)
    low, high = cloud.coord.min(axis=0), cloud.coord.max(axis=0)
    for axis, side in ((0, 1), (1, -1)):
        near = cloud.coord[:, axis] * side > (high if side > 0 else -low)[axis] - 0.3
        coord = cloud.coord[~near]  # the wall on one side is missing: from there one sees in
        azimuth = spec_of(viewer_html([PointLayer("rgb", coord)], "a room"))["clouds"][0]["azimuth"]
        assert side * (np.cos(azimuth), np.sin(azimuth))[axis] > 0.6
    only_floor = np.tile([0.0, 0.0, 1.0], (len(cloud), 1)).astype(np.float32)
    assert opening_azimuth(cloud.coord, only_floor) == AZIMUTH  # all sides are alike
    facing = np.tile([-1.0, 0.0, 0.0], (len(cloud), 1)).astype(np.float32)
    assert np.cos(opening_azimuth(cloud.coord, facing)) < 0
