import numpy as np
import pytest
import torch

from lam3c_plugin import LAM3CBackbone
from lam3c_plugin.embedded.geometry import PointCloudError
from lam3c_plugin.encode import Encoder
from tests.encode.rooms import GRID, inputs, room


def tensors(cloud):
    return [torch.from_numpy(value.copy()) for value in inputs(cloud)]


@pytest.mark.parametrize("level", ["full", 0, 2])
def test_it_gives_the_encoders_features(level):
    model = LAM3CBackbone("random:tiny", level=level, grid_size=GRID).eval()
    encoder = Encoder.random("tiny", 0, "cpu")
    with torch.no_grad():
        out = model(*tensors(room()))
    assert out.shape[1] == model.out_channels == encoder.channels(level)
    assert np.allclose(out.numpy(), encoder.encode(*inputs(room()), grid_size=GRID, level=level), atol=1e-5)


def test_batches_in_any_order_and_mappings():
    model = LAM3CBackbone("random:tiny", grid_size=GRID).eval()
    clouds = [tensors(room(2000, 0)), tensors(room(1500, 1))]
    with torch.no_grad():
        alone = [model(*cloud) for cloud in clouds]
        sizes = torch.tensor([len(cloud[0]) for cloud in clouds])
        coord, color, normal = (torch.cat(values) for values in zip(*clouds, strict=True))
        together = model(dict(coord=coord, color=color, normal=normal, offset=sizes.cumsum(0), extra=1))
        # each cloud keeps its own order, the clouds alternate
        order = torch.cat([torch.arange(s) for s in sizes]).argsort(stable=True)
        batch = torch.repeat_interleave(torch.arange(2), sizes)[order]
        mixed = model(coord[order], color[order], normal[order], batch=batch)
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    assert torch.allclose(mixed, together[order], atol=1e-4)


def test_it_trains_and_freezes():
    model = LAM3CBackbone("random:tiny", grid_size=GRID, level=1, drop_path=0.1)
    head = torch.nn.Linear(model.out_channels, 3)
    head(model(*tensors(room(1500)))).square().mean().backward()
    used = [p for name, p in model.named_parameters() if "mask_token" not in name]
    assert all(p.grad is not None for p in used)
    frozen = LAM3CBackbone("random:tiny", grid_size=GRID, freeze=True).train()
    assert not frozen.backbone.training
    assert not frozen(*tensors(room(1500))).requires_grad


def test_a_wrong_level_is_told():
    with pytest.raises(PointCloudError, match="give 'full' or a number from 0 to 4"):
        LAM3CBackbone("random:tiny", level=7)
    with pytest.raises(PointCloudError, match="level='x'"):
        LAM3CBackbone("random:tiny", level="x")
    with pytest.raises(PointCloudError, match=r"has no coord \(keys: color\)"):
        LAM3CBackbone("random:tiny")({"color": torch.zeros(1, 3)})
