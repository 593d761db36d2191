"""Our transforms against the host's: equal where nothing is random, of the same statistics where something is.

Needs POINTCEPT_ROOT; reads the host's transform file alone, so that nothing of the host has to be installed.
"""

import copy
import random
import warnings

import numpy as np
import pytest
import torch

from benchmarks.host_transforms import load_host_transforms, missing_host
from lam3c_plugin.embedded import transforms as T
from lam3c_plugin.embedded.transforms import color as color_module
from tests.embedded.test_transforms_views import recipe
from tests.rooms import box_room, sample_of

pytestmark = pytest.mark.pointcept


@pytest.fixture(scope="module")
def theirs():
    """The host's transform module."""
    reason = missing_host()
    if reason:
        pytest.skip(reason)
    return load_host_transforms()


def room():
    cloud = box_room(12_000, (3.0, 2.5, 2.2), unlabelled=0.2)
    cloud.coord += np.random.default_rng(0).normal(0, 0.01, cloud.coord.shape).astype(np.float32)
    return sample_of(cloud, instance=np.arange(len(cloud), dtype=np.int32) % 9)


def both(theirs, cfg, scene=None):
    """Results of our and the host's transform on copies of one scene."""
    scene = room() if scene is None else scene
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return T.build_transform(cfg)(copy.deepcopy(scene)), theirs.TRANSFORMS.build(cfg)(copy.deepcopy(scene))


EXACT = [
    dict(type="CenterShift", apply_z=True),
    dict(type="CenterShift", apply_z=False),
    dict(type="NormalizeCoord"),
    dict(type="PointClip", point_cloud_range=(0, 0, 0, 1, 1, 1)),
    dict(type="RandomScale", scale=[1.07, 1.07]),
    dict(type="RandomFlip", p=1),
    dict(type="RandomRotate", angle=[0.3, 0.3], axis="x", p=1),
    dict(type="RandomRotate", angle=[0.3, 0.3], axis="y", p=1, center=[1, 2, 3]),
    dict(type="RandomRotateTargetAngle", angle=[0.7], axis="z", p=1),
    dict(type="NormalizeColor"),
    dict(type="ChromaticAutoContrast", p=1, blend_factor=0.4),
    dict(type="InstanceParser"),
    dict(type="RandomColorJitter", brightness=(1.3, 1.3), p=1),
    dict(type="RandomColorJitter", contrast=(0.7, 0.7), p=1),
    dict(type="RandomColorJitter", saturation=(1.4, 1.4), p=1),
    dict(type="RandomColorJitter", hue=(0.11, 0.11), p=1),
    dict(type="ToTensor"),
]


@pytest.mark.parametrize("cfg", EXACT, ids=str)
def test_equal_where_nothing_is_random(theirs, cfg, monkeypatch):
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # gone from numpy 2.4, still called by the host
    ours, reference = both(theirs, cfg)
    assert set(ours) == set(reference)
    for key, value in reference.items():
        if not isinstance(value, (np.ndarray, torch.Tensor)):
            # the default list grew by "superpoint" after v1.6.0
            assert ours[key] == value or (key == "index_valid_keys" and set(value) < set(ours[key]))
            continue
        assert np.allclose(np.asarray(ours[key]), np.asarray(value), rtol=1e-5, atol=2e-4), key
        if torch.is_tensor(value):
            assert ours[key].dtype == value.dtype


def test_hue_is_the_hosts(theirs):
    rgb = np.random.default_rng(0).random((1000, 3)).astype(np.float32) * 255
    for shift in (-0.3, 0.02, 0.5):
        reference = theirs.RandomColorJitter().adjust_hue(rgb, shift)
        ours = color_module.adjust_hue(np.ascontiguousarray(rgb.T), shift).T
        assert np.abs(ours - reference).max() < 1e-2


def rows(coord):
    return {tuple(row) for row in np.asarray(coord).tolist()}


def test_grid_sample_has_the_hosts_cells_and_parts(theirs):
    cfg = dict(type="GridSample", grid_size=0.07, return_grid_coord=True, return_min_coord=True, return_inverse=True)
    ours, reference = both(theirs, cfg)
    assert rows(ours["grid_coord"]) == rows(reference["grid_coord"])
    assert np.allclose(ours["min_coord"], reference["min_coord"])
    assert np.array_equal(ours["grid_coord"][ours["inverse"]], reference["grid_coord"][reference["inverse"]])
    ours, reference = both(theirs, {**cfg, "mode": "test"})
    assert len(ours) == len(reference)
    assert set(ours[0]) == set(reference[0])
    assert [len(part["index"]) for part in ours] == [len(part["index"]) for part in reference]


def test_collect_is_the_hosts(theirs):
    sample = T.ToTensor()(room())
    cfg = dict(type="Collect", keys=("coord", "segment", "name"), feat_keys=("coord", "color", "normal"))
    ours, reference = both(theirs, cfg, sample)
    assert set(ours) == set(reference)
    assert torch.equal(ours["feat"], reference["feat"])
    assert ours["offset"].tolist() == reference["offset"].tolist()


def statistics(sample):
    """Numbers of one pre-training sample whose averages two implementations must share."""
    result = {}
    for prefix in ("global", "local"):
        offset = sample[f"{prefix}_offset"]
        size = torch.diff(offset, prepend=torch.zeros(1, dtype=offset.dtype)).double()
        result[f"{prefix} size"], result[f"{prefix} size spread"] = size.mean(), size.std()
        feat = sample[f"{prefix}_feat"].double()
        for name, channels in (("coord", slice(0, 3)), ("color", slice(3, 6)), ("normal", slice(6, 9))):
            for channel, values in zip("012", feat[:, channels].T, strict=True):
                result[f"{prefix} {name} {channel} mean"] = values.mean()
                result[f"{prefix} {name} {channel} spread"] = values.std()
        origin = torch.tensor_split(sample[f"{prefix}_origin_coord"], offset[:-1])
        moved = torch.tensor_split(sample[f"{prefix}_coord"], offset[:-1])
        result[f"{prefix} radius"] = torch.stack([(view - view.mean(0)).norm(dim=1).max() for view in origin]).mean()
        result[f"{prefix} stretch"] = torch.stack(
            [b.double().std(0).norm() / a.double().std(0).norm() for a, b in zip(origin, moved, strict=True)]
        ).mean()
    first, second = (
        rows(view) for view in torch.tensor_split(sample["global_origin_coord"], sample["global_offset"][:-1])
    )
    local = [rows(view) for view in torch.tensor_split(sample["local_origin_coord"], sample["local_offset"][:-1])]
    result["global overlap"] = len(first & second) / len(first | second)
    result["local in principal"] = len(set.union(*local) & first) / len(first)
    result["local overlap"] = len(local[0] & local[1]) / min(len(local[0]), len(local[1]))
    return {key: float(value) for key, value in result.items()}


def test_the_pretraining_recipe_has_the_hosts_statistics(theirs):
    draws = 60
    results = []
    for build in (T.Compose, theirs.Compose):
        np.random.seed(0)
        random.seed(0)
        torch.manual_seed(0)
        pipeline = build(recipe(max_size=3000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.append([statistics(pipeline(copy.deepcopy(room()))) for _ in range(draws)])
    far = []
    for key in results[0][0]:
        ours, reference = (np.array([draw[key] for draw in result]) for result in results)
        error = np.sqrt((ours.var() + reference.var()) / draws) + 1e-6
        distance = abs(ours.mean() - reference.mean()) / error
        if distance > 4:
            far.append(f"{key}: {ours.mean():.4f} ours, {reference.mean():.4f} the host's, {distance:.1f} errors apart")
    assert not far, far


def test_elastic_distortion_has_the_hosts_statistics(theirs):
    coord = room()["coord"]
    near = coord + np.float32([0.05, 0, 0])
    shifts = {}
    for name in ("ours", "host"):
        np.random.seed(1)
        moved = []
        for _ in range(60):
            cloud = np.concatenate([coord, near])
            if name == "ours":
                result = T.geometry.elastic_distortion(cloud, 0.2, 0.4)
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    result = theirs.ElasticDistortion.elastic_distortion(cloud.astype(np.float64), 0.2, 0.4)
            moved.append(result - np.concatenate([coord, near]))
        moved = np.array(moved)
        half = len(coord)
        shifts[name] = (moved.std(), np.abs(moved).mean(), np.abs(moved[:, :half] - moved[:, half:]).mean())
    assert np.allclose(shifts["ours"], shifts["host"], rtol=0.05)
