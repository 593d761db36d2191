"""Our PT-v3m2 with the reference's weights gives the reference's numbers (tensors made once)."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lam3c_plugin.embedded.ptv3 import PointTransformerV3

DATA = Path(__file__).parents[1] / "data"
TOLERANCE = dict(atol=1e-4, rtol=0)
SIZES = {
    "base": dict(enc_channels=(48, 96, 192, 384, 512), enc_num_head=(3, 6, 12, 24, 32)),
    "large": dict(enc_channels=(64, 128, 256, 512, 768), enc_num_head=(4, 8, 16, 32, 48)),
}


@cache
def golden(kind):
    with np.load(DATA / f"ptv3_golden_{kind}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    config = json.loads(str(arrays.pop("config.json")))
    return config, {key: torch.from_numpy(value) for key, value in arrays.items()}


@cache
def golden_model(kind):
    config, arrays = golden(kind)
    model = PointTransformerV3(**config).eval()
    model.load_state_dict({key.removeprefix("weight."): v for key, v in arrays.items() if key.startswith("weight.")})
    return model


def batch_of(kind, clouds, masked):
    """One batch of the golden clouds named."""
    _, arrays = golden(kind)
    names = ["coord", "feat", "grid_coord"] + (["mask"] if masked else [])
    batch = {name: torch.cat([arrays[f"cloud{i}.{name}"] for i in clouds]) for name in names}
    sizes = [len(arrays[f"cloud{i}.coord"]) for i in clouds]
    return {**batch, "offset": torch.tensor(sizes).cumsum(0)}


@torch.no_grad()
def forward(kind, clouds, masked):
    return golden_model(kind)(batch_of(kind, clouds, masked))


def stages(point):
    """The encoder's points, finest first."""
    found = [point]
    while "pooling_parent" in found[-1]:
        found.append(found[-1].pooling_parent)
    return found[::-1]


def up_cast(point, levels):
    """Coarse features beside each parent's, ``levels`` stages up, as the caller of the backbone does it."""
    feat = point.feat
    for _ in range(levels):
        feat = torch.cat([point.pooling_parent.feat, feat[point.pooling_inverse]], 1)
        point = point.pooling_parent
    return feat


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("cloud", [0, 1])
def test_encoder_features(cloud, masked):
    _, arrays = golden("encoder")
    point = forward("encoder", [cloud], masked)
    key = f"cloud{cloud}.{'masked' if masked else 'plain'}"
    for s, stage in enumerate(stages(point)):
        torch.testing.assert_close(stage.feat, arrays[f"{key}.stage{s}.feat"], **TOLERANCE)
    for levels in (2, 4):
        torch.testing.assert_close(up_cast(point, levels), arrays[f"{key}.up{levels}.feat"], **TOLERANCE)


@pytest.mark.parametrize("cloud", [0, 1])
def test_encoder_geometry(cloud):
    _, arrays = golden("encoder")
    for s, stage in enumerate(stages(forward("encoder", [cloud], False))):
        for name in ("grid_coord", "serialized_code", "serialized_order"):
            assert torch.equal(stage[name].long(), arrays[f"cloud{cloud}.stage{s}.{name}"].long()), (s, name)
        torch.testing.assert_close(stage.coord, arrays[f"cloud{cloud}.stage{s}.coord"], **TOLERANCE)
        if s > 0:
            assert torch.equal(stage.pooling_inverse, arrays[f"cloud{cloud}.stage{s}.pooling_inverse"])


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("clouds", [[0, 1], [1, 0, 1]])
def test_encoder_of_a_batch_gives_what_each_cloud_gives_alone(clouds, masked):
    _, arrays = golden("encoder")
    point = forward("encoder", clouds, masked)
    mode = "masked" if masked else "plain"
    for s, stage in enumerate(stages(point)):
        wanted = torch.cat([arrays[f"cloud{i}.{mode}.stage{s}.feat"] for i in clouds])
        torch.testing.assert_close(stage.feat, wanted, **TOLERANCE)
        cell_bits = (1 << 3 * stage.serialized_depth) - 1
        for row, i in enumerate(clouds):
            own = stage.batch == row
            codes = arrays[f"cloud{i}.stage{s}.serialized_code"]
            assert torch.equal(stage.serialized_code[:, own] & cell_bits, codes)
            assert (stage.serialized_code[:, own] >> 3 * stage.serialized_depth == row).all()
            start = int(stage.offset[row]) - len(codes[0])
            order = stage.serialized_order[:, start : start + len(codes[0])] - start
            assert torch.equal(order, arrays[f"cloud{i}.stage{s}.serialized_order"])
    for levels in (2, 4):
        wanted = torch.cat([arrays[f"cloud{i}.{mode}.up{levels}.feat"] for i in clouds])
        torch.testing.assert_close(up_cast(point, levels), wanted, **TOLERANCE)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("clouds", [[0], [1], [0, 1]])
def test_decoder_features(clouds, masked):
    _, arrays = golden("decoder")
    wanted = torch.cat([arrays[f"cloud{i}.{'masked' if masked else 'plain'}.feat"] for i in clouds])
    torch.testing.assert_close(forward("decoder", clouds, masked).feat, wanted, **TOLERANCE)


def test_batch_wide_depth_is_the_references_way_on_one_cloud():
    config, arrays = golden("encoder")
    model = PointTransformerV3(**config, grid_origin="batch").eval()
    model.load_state_dict(golden_model("encoder").state_dict())
    with torch.no_grad():
        point = model(batch_of("encoder", [0], False))
    torch.testing.assert_close(point.feat, arrays["cloud0.plain.stage4.feat"], **TOLERANCE)


@pytest.mark.parametrize("size", ["base", "large"])
def test_state_dict_has_the_references_keys_and_shapes(size):
    with torch.device("meta"):
        model = PointTransformerV3(
            in_channels=9,
            enc_depths=(3, 3, 3, 12, 3),
            enc_patch_size=(1024,) * 5,
            mask_token=True,
            enc_mode=True,
            **SIZES[size],
        )
    wanted = json.loads((DATA / f"ptv3_{size}_backbone_keys.json").read_text())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == wanted
