"""The adapter of MapAnything against a package of its form and a network that knows the room."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from data_tools.reconstruction import Frames, ReconstructSettings, build_reconstructor
from data_tools.reconstruction.contract import check
from data_tools.stages.record import StageError
from tests.data_tools.box_room import camera_poses, lens, render, wall_distance

VIEWS, HEIGHT, WIDTH = 6, 112, 154
MODULE = """
from tests.data_tools.reconstruction.test_mapanything import PerfectMapAnything as MapAnything

def init_model_from_config(name, device):
    if name == "pi3":
        raise ImportError("Model 'pi3' requires module 'pi3' which is not installed")
    return MapAnything(name)
"""


class PerfectMapAnything(torch.nn.Module):
    """Gives per view what MapAnything's ``infer`` and the wrapped models' ``forward`` give."""

    asked: str = ""

    def __init__(self, name="mapanything"):
        super().__init__()
        self.name, self.seen = name, None

    @classmethod
    def from_pretrained(cls, name):
        cls.asked = name
        return cls()

    def infer(self, views, use_amp, amp_dtype, mask_edges):
        assert (use_amp, amp_dtype, mask_edges) == (False, "bf16", False)
        out = self(views)
        for view in out:
            mask = torch.ones(1, HEIGHT, WIDTH, 1, dtype=torch.bool)
            mask[:, :5] = False
            view.update(mask=mask, pts3d=view["pts3d"] * mask, pts3d_cam=view["pts3d_cam"] * mask)
        return out

    def forward(self, views):
        self.seen = views
        camera, out = lens(HEIGHT, WIDTH), []
        row, column = np.mgrid[:HEIGHT, :WIDTH]
        for pose in camera_poses(len(views)):
            z = render(pose, camera, HEIGHT, WIDTH)[0]
            local = np.stack([column - camera[0, 2], row - camera[1, 2], np.full_like(z, camera[0, 0])], -1)
            local *= (z / camera[0, 0])[..., None]
            values = {
                "pts3d_cam": local,
                "pts3d": local @ pose[:3, :3].T + pose[:3, 3],
                "cam_trans": pose[:3, 3],
                "cam_quats": Rotation.from_matrix(pose[:3, :3]).as_quat(),
                "conf": 1 + np.exp(-z),
            }
            out.append({name: torch.from_numpy(value).float()[None] for name, value in values.items()})
        return out


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "mapanything").mkdir()
    (tmp_path / "mapanything" / "__init__.py").touch()
    (tmp_path / "mapanything" / "models.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setenv("MAPANYTHING_ROOT", str(tmp_path))


def settings_for(model="mapanything", **more):
    return ReconstructSettings(backend="mapanything", device="cpu", options={"model": model, "longest": 154}, **more)


@pytest.mark.parametrize(("model", "is_metric"), [("mapanything", True), ("vggt", False), ("da3_nested", True)])
def test_a_perfect_network_gives_the_true_room(model, is_metric, package):
    settings = settings_for(model)
    backend = build_reconstructor("mapanything", settings)
    assert backend.frame_size(settings, 1540, 1120) == (WIDTH, HEIGHT)
    images = np.stack([render(pose, lens(HEIGHT, WIDTH), HEIGHT, WIDTH)[1] for pose in camera_poses(VIEWS)])
    camera = lens(HEIGHT, WIDTH)
    found = backend.reconstruct(Frames(images, np.arange(VIEWS), np.arange(VIEWS) / 2, camera), 0)
    assert wall_distance(found.points[found.valid]).max() < 1e-3
    np.testing.assert_allclose(found.camera_to_world, camera_poses(VIEWS), atol=1e-5)
    np.testing.assert_allclose(found.intrinsics, np.tile(camera, (VIEWS, 1, 1)), atol=0.1)
    assert (found.is_metric, found.edge) == (is_metric, "normal")
    assert check(found).state != "refused"
    view, given = backend.model.seen[2], images[2].transpose(2, 0, 1) / 255
    norm = view["data_norm_type"][0]
    assert norm == ("identity" if model == "vggt" else "dinov2")
    if norm == "dinov2":
        given = (given - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape([0.229, 0.224, 0.225], (3, 1, 1))
    np.testing.assert_allclose(view["img"][0].numpy(), given, atol=1e-5)
    if model == "mapanything":
        assert PerfectMapAnything.asked == "facebook/map-anything-apache"
        assert not found.valid[:, :5].any()
        np.testing.assert_allclose(view["intrinsics"][0].numpy(), camera, rtol=1e-6)
    else:
        assert found.valid.all()
        assert found.notes == [f"{model} takes no known intrinsics by way of mapanything: not used"]


def test_what_cannot_be_loaded_is_one_line(package, tmp_path, monkeypatch):
    for settings, message in (
        (settings_for("dust3r"), "model 'dust3r' is unknown: choose from mapanything, vggt"),
        (settings_for("vggt", weights="x"), "loads the weights of vggt itself; leave --weights out"),
        (settings_for("pi3"), r"pi3 could not be loaded \(Model 'pi3' requires module 'pi3'"),
    ):
        with pytest.raises(StageError, match=message) as caught:
            build_reconstructor("mapanything", settings)
        assert "\n" not in str(caught.value)
    (tmp_path / "w.pt").touch()
    with pytest.raises(StageError, match=r"w.pt: give the folder with its config.json"):
        build_reconstructor("mapanything", settings_for(weights=str(tmp_path / "w.pt")))
