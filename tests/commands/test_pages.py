import base64
import json
import re

import numpy as np

from data_tools.reporting.viewer import thin_rows
from lam3c_plugin.analysis import similarity as core
from lam3c_plugin.commands.shared.pages import layer, layers_page, opening_normals, similarity_page
from lam3c_plugin.encode.upright import upright
from tests.analysis.test_similarity import unit_features
from tests.rooms import box_room


def test_normals_that_would_hide_the_room_are_left_out():
    cloud = box_room()
    cloud = cloud.select(cloud.normal @ (0.4, -0.6, 0.7) > 0)  # the floor, the block and the two walls at the back
    assert opening_normals(cloud) is cloud.normal
    cloud.normal = -cloud.normal
    assert opening_normals(cloud) is None
    cloud.normal = None
    assert opening_normals(cloud) is None


def test_the_page_holds_the_packed_features_of_the_points_shown():
    cloud = box_room()
    cells = np.arange(len(cloud)) // 2
    packed = core.pack(unit_features(len(cloud) // 2))
    layers = [("similarity", cloud.color, cloud.coord[:, 2])]
    html = similarity_page(upright(cloud, keep=True), layers, packed, cells, "a corner", "", max_points=200)
    data = json.loads(re.search(r'id="packed-features">(.*?)</script>', html, re.S).group(1))
    code = np.frombuffer(base64.b64decode(data["code"]), np.int8).reshape(200, -1)
    assert (code == packed.code[cells[thin_rows(len(cloud), 200)]]).all()
    assert np.allclose(data["weight"], packed.weight)
    spec = json.loads(re.search(r'class="pv-data"[^>]*>(.*?)</script>', html, re.S).group(1))
    assert spec["clouds"][0]["count"] == 200
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg", "", html)  # nothing is fetched
    assert html.index("PointViewer.prototype.report = ") > html.index("class PointViewer")  # similarity.js adds to it


def test_values_of_a_layer_reach_the_page():
    cloud = box_room()
    values = np.linspace(0, 1, len(cloud))
    html = layers_page(
        upright(cloud, keep=True), [layer(cloud, "height", cloud.color, values=values)], "a corner", "", 10_000
    )
    spec = json.loads(re.search(r'class="pv-data"[^>]*>(.*?)</script>', html, re.S).group(1))
    shown = np.frombuffer(base64.b64decode(spec["layers"][0]["values"]), "<f4")
    assert np.allclose(shown, values)
