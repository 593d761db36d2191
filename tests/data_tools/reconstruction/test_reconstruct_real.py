"""The real packages with random weights on small inputs; skipped where they are not.

Their repositories are taken from PI3_ROOT and VGGT_ROOT (or installed), Depth Anything 3 from PyPI. Random weights give
no room, so what is checked is the contract: shapes, conventions of the poses, ranges, and that the same seed gives the
same prediction. The point maps the packages make themselves are the reference for ours.
"""

from functools import partial

import numpy as np
import pytest
import torch

from data_tools.reconstruction import Frames, ReconstructSettings
from data_tools.reconstruction.pi3 import Pi3Reconstructor
from data_tools.reconstruction.torch_tools import import_package
from data_tools.reconstruction.vggt import VggtReconstructor, decode_poses
from data_tools.stages.record import StageError
from tests.data_tools.box_room import camera_poses, lens, render

HEIGHT, WIDTH, VIEWS = 84, 112, 3


def take(module, root_variable):
    """A real package's module, or a skip; its folder stays off the path of the other tests."""
    try:
        return import_package(module, root_variable, "")
    except StageError as error:
        pytest.skip(f"{module}: {error} (set {root_variable})")


@pytest.fixture
def frames():
    poses = camera_poses(VIEWS)
    images = np.stack([render(pose, lens(HEIGHT, WIDTH), HEIGHT, WIDTH)[1] for pose in poses])
    return Frames(images, np.arange(VIEWS) * 10, np.arange(VIEWS) / 3)


def check_contract(prediction, height, width):
    assert prediction.points.shape == (VIEWS, height, width, 3)
    assert prediction.points.dtype == np.float32
    assert np.isfinite(prediction.points[prediction.valid]).all()
    assert prediction.valid.mean() > 0.9
    assert 0 <= prediction.confidence.min() <= prediction.confidence.max() <= 1
    rotation = prediction.camera_to_world[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (VIEWS, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-9)
    assert (prediction.intrinsics[:, 0, 0] > 0).all()


def seeded(make):
    """A network of random weights, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def shuffle_zeros(network):
    """Fill what an untrained network keeps at zero, so that views differ and poses are not all the same."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for value in network.parameters():
            if value.abs().max() == 0:
                value.normal_(std=0.02)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pi3", "pi3x"])
def test_pi3(kind, frames, monkeypatch):
    module = take(f"pi3.models.{kind}", "PI3_ROOT")
    if kind == "pi3":  # the small decoder fits the small encoder; Pi3X has one size
        backbones = take("pi3.models.dinov2.hub.backbones", "PI3_ROOT")
        monkeypatch.setattr(module, "dinov2_vitl14_reg", backbones.dinov2_vits14_reg)
        network = seeded(partial(module.Pi3, decoder_size="small"))
    else:
        network = seeded(partial(module.Pi3X, use_multimodal=False))
    settings = ReconstructSettings(device="cpu", options={"model": kind, "pixels": HEIGHT * WIDTH})
    adapter = Pi3Reconstructor(settings, shuffle_zeros(network))
    prediction = adapter.reconstruct(frames, seed=3)
    check_contract(prediction, HEIGHT, WIDTH)
    images = torch.from_numpy(frames.images).permute(0, 3, 1, 2)[None].float() / 255
    with torch.inference_mode():
        out = network(images)
    local, pose = out["local_points"][0].double().numpy(), out["camera_poses"][0].double().numpy()
    assert (local[..., 2] > 0).all()
    np.testing.assert_allclose(prediction.points, out["points"][0].numpy(), rtol=1e-4, atol=1e-4)
    through = np.einsum("vij,vhwj->vhwi", prediction.camera_to_world[:, :3, :3], local)
    through += prediction.camera_to_world[:, None, None, :3, 3]  # camera-to-world takes camera points to the world
    np.testing.assert_allclose(through, prediction.points, rtol=1e-3, atol=1e-3 * np.abs(through).max())
    np.testing.assert_allclose(prediction.camera_to_world[:, :3, 3], pose[:, :3, 3], atol=1e-5)
    again = adapter.reconstruct(frames, seed=3)
    np.testing.assert_array_equal(again.points, prediction.points)


def test_vggt(frames, monkeypatch):
    module = take("vggt.models.vggt", "VGGT_ROOT")
    geometry = take("vggt.utils.geometry", "VGGT_ROOT")
    codes = take("vggt.utils.pose_enc", "VGGT_ROOT")
    small = partial(module.Aggregator, patch_embed="conv", num_heads=4)
    monkeypatch.setattr(module, "Aggregator", small)
    monkeypatch.setattr(module, "CameraHead", partial(module.CameraHead, num_heads=4))
    network = shuffle_zeros(seeded(partial(module.VGGT, embed_dim=64, enable_track=False, enable_point=False)))
    adapter = VggtReconstructor(ReconstructSettings(backend="vggt", device="cpu", options={"longest": WIDTH}), network)
    prediction = adapter.reconstruct(frames, seed=3)
    check_contract(prediction, HEIGHT, WIDTH)
    images = torch.from_numpy(frames.images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        out = network(images)
    world_to_camera, camera = codes.pose_encoding_to_extri_intri(out["pose_enc"], (HEIGHT, WIDTH))
    ours = decode_poses(out["pose_enc"][0].double().numpy(), HEIGHT, WIDTH)
    np.testing.assert_allclose(ours[0][:, :3], world_to_camera[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(ours[1], camera[0].numpy(), rtol=1e-4)
    theirs = geometry.unproject_depth_map_to_point_map(out["depth"][0], world_to_camera[0], camera[0])
    np.testing.assert_allclose(prediction.points, theirs, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(prediction.camera_to_world, geometry.closed_form_inverse_se3(ours[0][:, :3]), atol=1e-6)
    assert (out["depth_conf"] >= 1).all()
    again = adapter.reconstruct(frames, seed=3)
    np.testing.assert_array_equal(again.points, prediction.points)


@pytest.mark.slow
def test_depth_anything(frames):
    api = pytest.importorskip("depth_anything_3.api")
    geometry = pytest.importorskip("depth_anything_3.utils.geometry")
    from data_tools.reconstruction.depth_anything import DepthAnythingReconstructor

    network = shuffle_zeros(seeded(partial(api.DepthAnything3, model_name="da3-small")))
    settings = ReconstructSettings(backend="depth_anything", device="cpu", options={"process_res": WIDTH})
    adapter = DepthAnythingReconstructor(settings, network)
    prediction = adapter.reconstruct(frames, seed=3)
    check_contract(prediction, HEIGHT, WIDTH)
    out = network.inference(list(frames.images), process_res=WIDTH)
    assert out.depth.shape == (VIEWS, HEIGHT, WIDTH)
    assert out.extrinsics.shape[1:] in ((3, 4), (4, 4))
    full = np.tile(np.eye(4), (VIEWS, 1, 1))
    full[:, :3] = out.extrinsics[:, :3]
    product = full @ prediction.camera_to_world  # world-to-camera after camera-to-world is nothing
    np.testing.assert_allclose(product, np.tile(np.eye(4), (VIEWS, 1, 1)), atol=1e-3)
    theirs = geometry.unproject_depth(
        torch.from_numpy(out.depth)[None, ..., None].double(),
        torch.from_numpy(out.intrinsics)[None].double(),
        torch.from_numpy(prediction.camera_to_world)[None],
    )
    np.testing.assert_allclose(prediction.points, theirs[0].numpy(), rtol=1e-2, atol=1e-2)
