"""Devices and types of the GPU paths, on fake CUDA tensors: nothing lands on the CPU, nothing meets another type."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from lam3c_plugin.embedded.ptv3 import patch_attention, submanifold_conv3d
from lam3c_plugin.embedded.ptv3.blocks import BranchNorm
from lam3c_plugin.embedded.ptv3.patches import PatchRoute, SequenceBlock
from lam3c_plugin.embedded.ptv3.rows import Groups, expand_rows, group_max, group_mean, take_rows
from lam3c_plugin.embedded.ptv3.sparse_conv import KernelMap, Tap
from lam3c_plugin.losses import clustering_loss, clustering_loss_from_embeddings, noise_consistency_loss
from lam3c_plugin.ops import sinkhorn


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def feat(request):
    with FakeTensorMode(), torch.no_grad():
        yield torch.empty(100, 32, device="cuda", dtype=request.param)


def rows(*shape, dtype=torch.int64):
    return torch.zeros(*shape, dtype=dtype, device="cuda")


@pytest.mark.parametrize("in_range", [True, False])
def test_losses_stay_on_the_gpu_in_float32(feat, in_range, monkeypatch):
    monkeypatch.setattr(sinkhorn, "_read_back", lambda flag: in_range)  # a fake tensor has no value
    prototypes = torch.empty(64, 32, device="cuda")
    losses = [
        clustering_loss_from_embeddings(feat, feat, prototypes, prototypes, rows(100), 0.1, 0.07, num_clouds=4),
        clustering_loss(feat, feat, rows(100), 0.1, 0.07, num_clouds=4),
        noise_consistency_loss(feat, feat, rows(50, 2), rows(100), num_clouds=4),
    ]
    for loss in losses:
        assert loss.device.type == "cuda"
        assert loss.dtype == torch.float32


def test_rows_and_convolution_keep_device_and_type(feat):
    groups = Groups(rows(100), rows(100), rows(11))
    tap = Tap(14, rows(20, dtype=torch.int32), rows(20, dtype=torch.int32))
    weight = torch.empty(48, 3, 3, 3, 32, device="cuda", dtype=feat.dtype)
    bias = torch.empty(48, device="cuda")
    results = {
        (10, 32): [group_max(feat, groups), group_mean(feat, groups)],
        (100, 32): [expand_rows(feat[:10], groups)],
        (7, 32): [take_rows(feat, rows(7))],
        (100, 48): [submanifold_conv3d(feat, weight, bias, KernelMap(100, None, (tap,)))],
    }
    for shape, values in results.items():
        for value in values:
            assert (tuple(value.shape), value.device.type, value.dtype) == (shape, "cuda", feat.dtype)


def test_a_branch_ends_in_its_type_and_the_sum_in_float32(feat):
    norm = BranchNorm(32, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        out = norm(feat)
        assert (out.dtype, (feat.float() + out).dtype) == (feat.dtype, torch.float32)


@pytest.mark.parametrize("upcast", [False, True])
def test_attention_never_allows_cudnn(feat, upcast, monkeypatch):
    kernels = ("flash", "mem_efficient", "math", "cudnn")
    attend, seen = F.scaled_dot_product_attention, []

    def allowed():
        return {name for name in kernels if getattr(torch.backends.cuda, f"{name}_sdp_enabled")()}

    def spy(*args, **kwargs):
        seen.append(allowed())
        return attend(*args, **kwargs)

    before = allowed()
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    valid = torch.ones(1, 1, 1, 24, dtype=torch.bool, device="cuda")
    blocks = (SequenceBlock(0, 2, 32, None), SequenceBlock(64, 1, 24, valid))
    route = PatchRoute(blocks, rows(88), rows(80), rows(0), rows(0))
    patch_attention(torch.cat([feat, feat, feat], 1), route, num_heads=2, scale=0.25, upcast=upcast)
    assert seen == [{"flash", "mem_efficient", "math"}] * 2
    assert allowed() == before  # the rest of the program chooses as it did


@pytest.mark.parametrize("upcast", [False, True])
def test_attention_keeps_device_and_type(feat, upcast):
    valid = torch.ones(2, 1, 1, 24, dtype=torch.bool, device="cuda")
    blocks = (SequenceBlock(0, 2, 32, None), SequenceBlock(64, 2, 24, valid))
    route = PatchRoute(blocks, rows(112), rows(100), rows(0), rows(0))
    qkv = torch.cat([feat, feat, feat], 1)
    out = patch_attention(qkv, route, num_heads=2, scale=0.25, upcast=upcast)
    assert (tuple(out.shape), out.device.type, out.dtype) == ((100, 32), "cuda", feat.dtype)
