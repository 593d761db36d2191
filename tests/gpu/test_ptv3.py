"""PTv3 on a device in float32 and bfloat16 against float64 on the CPU: features and gradients."""

import pytest
import torch

from benchmarks.ptv3_forward import BASE, room_cloud
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.recipes.ptv3 import ENCODERS
from tests.gpu.conftest import on, relative_error

DECODER = dict(
    dec_depths=(1, 1, 1, 1), dec_channels=(24, 48, 64, 96), dec_num_head=(2, 4, 4, 6), dec_patch_size=[256] * 4
)
NETWORKS = {
    "encoder": dict(ENCODERS["tiny"], enc_mode=True),
    "decoder": dict(ENCODERS["tiny"], enc_mode=False, **DECODER),
}
# relative to the norm: of the features, of all gradients together
BARS = {torch.float32: (1e-4, 1e-3), torch.bfloat16: (0.08, 0.3)}


def network(kind, device):
    """On a GPU the encoder is Base, as it is trained."""
    size = {} if device == "cuda" and kind == "encoder" else NETWORKS[kind]
    torch.manual_seed(0)
    net = PointTransformerV3(**{**BASE, "drop_path": 0.0, "shuffle_orders": False, **size})
    with torch.no_grad():  # a fresh network's branches are small; make every part count
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return net


def batch(dtype=torch.float32):
    """A cloud of several patches, one of a single point and a short one; a third of the points masked."""
    clouds = [room_cloud(size, "crop", seed) for seed, size in enumerate((1500, 1, 300))]
    joined = {key: torch.cat([cloud[key] for cloud in clouds]) for key in ("coord", "feat", "grid_coord")}
    joined["mask"] = torch.arange(len(joined["coord"])) % 3 == 0
    joined["offset"] = torch.tensor([len(cloud["coord"]) for cloud in clouds]).cumsum(0)
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in joined.items()}


def run(net, data, device, amp=False):
    """Features, and the gradients as one vector."""
    net = net.to(device).train()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=amp):
        feat = net(on(device, data)).feat
    feat.float().square().mean().backward() if feat.dtype != torch.float64 else feat.square().mean().backward()
    grads = torch.cat([p.grad.flatten().double().cpu() for p in net.parameters() if p.grad is not None])
    net.zero_grad(set_to_none=True)
    return feat, grads


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_features_and_gradients(device, kind):
    net = network(kind, device)
    wanted = run(net.double(), batch(torch.float64), "cpu")
    net.float()
    for dtype, (feat_bar, grad_bar) in BARS.items():
        found = run(net, batch(), device, amp=dtype == torch.bfloat16)
        assert relative_error(found[0], wanted[0]) < feat_bar, dtype
        assert relative_error(found[1], wanted[1]) < grad_bar, dtype


def test_eval_repeats_to_the_bit(device):
    net = network("decoder", device).to(device).eval()
    with torch.no_grad():
        first, second = (net(on(device, batch())).feat for _ in range(2))
    assert torch.equal(first, second)
