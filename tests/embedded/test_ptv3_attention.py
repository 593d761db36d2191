"""Patches and attention: the plan's rule, fast against written out, gradients."""

import pytest
import torch

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.embedded.ptv3.attention import SerializedAttention, patch_attention
from lam3c_plugin.embedded.ptv3.patches import pack, patch_route, plan_patches, unpack

SIZES = [[5], [8], [9], [16], [21, 3], [1, 8, 40, 2, 2, 7, 23], [3, 3, 3], [30, 0, 5]]


def geometry(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, 16, (sum(sizes), 3), generator=generator)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return CloudGeometry.from_cells(cells, batch, sizes)


def sequences(sizes, patch):
    """The rule, written out: for each cloud the places of each of its sequences."""
    start, found = 0, []
    for size in sizes:
        places = list(range(start, start + size))
        for first in range(0, size, patch):
            own = places[first : first + patch]
            if size > patch and len(own) < patch:
                own += places[first - patch + len(own) : first]
            found.append(own)
        start += size
    return found


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("patch", [1, 4, 8])
def test_plan_follows_the_rule(sizes, patch):
    plan = plan_patches(sizes, patch)
    shown = []
    for block in plan.blocks:
        places = plan.place[block.start : block.start + block.count * block.length].view(block.count, block.length)
        valid = torch.ones_like(places, dtype=torch.bool) if block.valid is None else block.valid[:, 0, 0]
        shown += [row[keep].tolist() for row, keep in zip(places, valid, strict=True)]
    assert sorted(shown) == sorted(sequences(sizes, patch))
    assert plan.place[plan.slot].tolist() == list(range(sum(sizes)))
    copies = set(range(len(plan.place))) - set(plan.slot.tolist())
    invalid = {
        block.start + i
        for block in plan.blocks
        if block.valid is not None
        for i in (~block.valid.flatten()).nonzero().flatten().tolist()
    }
    assert set(plan.copy_slot.tolist()) == copies - invalid
    assert torch.equal(plan.place[plan.copy_slot], plan.copy_place)
    assert len(plan.copy_place.unique()) == len(plan.copy_place)


def patch_attention_plain(qkv, order, offset, patch_size, num_heads, scale):
    """`patch_attention` written out: cloud by cloud, patch by patch, head by head."""
    channels = qkv.shape[1] // 3
    q, k, v = (part.view(-1, num_heads, channels // num_heads) for part in qkv.split(channels, dim=1))
    out = [None] * len(qkv)
    start = 0
    for end in offset.tolist():
        for first in range(start, end, patch_size):
            own = order[first : min(first + patch_size, end)].tolist()
            patch = list(own)
            if end - start > patch_size and len(own) < patch_size:  # fill up with the points one patch earlier
                patch += order[first - patch_size + len(own) : first].tolist()
            for row in own:
                heads = []
                for head in range(num_heads):
                    weights = torch.softmax(scale * (k[patch, head] @ q[row, head]), dim=0)
                    heads.append(weights @ v[patch, head])
                out[row] = torch.cat(heads)
        start = end
    return torch.stack(out)


@pytest.mark.parametrize("sizes", SIZES)
def test_fast_equals_plain_in_values_and_gradients(sizes):
    clouds = geometry(sizes)
    _, order, _ = clouds.curve("hilbert")
    offset = torch.tensor(sizes).cumsum(0)
    generator = torch.Generator().manual_seed(1)
    qkv = torch.randn(sum(sizes), 36, dtype=torch.float64, generator=generator)
    cotangent = torch.randn(sum(sizes), 12, dtype=torch.float64, generator=generator)
    a, b = qkv.clone().requires_grad_(), qkv.clone().requires_grad_()
    fast = patch_attention(a, patch_route(clouds, 8, "hilbert"), 3, 0.5)
    plain = patch_attention_plain(b, order, offset, 8, 3, 0.5)
    torch.testing.assert_close(fast, plain)
    (grad_a,), (grad_b,) = torch.autograd.grad(fast, a, cotangent), torch.autograd.grad(plain, b, cotangent)
    torch.testing.assert_close(grad_a, grad_b)


def test_gradcheck():
    route = patch_route(geometry([11, 3]), 4, "z")
    qkv = torch.randn(14, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: patch_attention(x, route, 2, 0.7), qkv)
    assert torch.autograd.gradcheck(lambda x: unpack(pack(x, route), route), qkv)


def test_float32_stays_close_to_float64_on_full_patches():
    clouds = geometry([700, 90])
    route = patch_route(clouds, 256, "z-trans")
    qkv = torch.randn(790, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        patch_attention(qkv.float(), route, 2, 0.25).double(), patch_attention(qkv, route, 2, 0.25), atol=1e-5, rtol=0
    )


def test_upcast_computes_in_float32_under_autocast():
    route = patch_route(geometry([50]), 16, "z")
    qkv = torch.randn(50, 48, generator=torch.Generator().manual_seed(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            patch_attention(qkv, route, 2, 0.3, upcast=True), patch_attention(qkv, route, 2, 0.3, upcast=True)
        )
        upcast = patch_attention(qkv, route, 2, 0.3, upcast=True)
    torch.testing.assert_close(upcast, patch_attention(qkv, route, 2, 0.3))


def test_short_clouds_come_in_few_lengths():
    lengths = {block.length for size in range(1, 1024) for block in plan_patches([size], 1024).blocks}
    assert len(lengths) <= 50
    assert all(block.length <= 100 for size in range(1, 300) for block in plan_patches([size], 100).blocks)
    for size in range(64, 1024):
        (block,) = plan_patches([size], 1024).blocks
        assert size <= block.length <= 1.125 * size


def test_compiled_attention_is_the_same():
    route = patch_route(geometry([40, 9]), 16, "z")
    qkv = torch.randn(49, 48, generator=torch.Generator().manual_seed(5))
    compiled = torch.compile(lambda x: patch_attention(x, route, 2, 0.3), backend="eager")
    torch.testing.assert_close(compiled(qkv), patch_attention(qkv, route, 2, 0.3))


def test_clear_refusals():
    with pytest.raises(ValueError, match="enable_rpe=True is not supported"):
        SerializedAttention(16, 2, 8, enable_rpe=True)
    with pytest.raises(ValueError, match="3 heads do not divide 16 channels"):
        SerializedAttention(16, 3, 8)
    with pytest.raises(ValueError, match="patch_size must be at least 1"):
        SerializedAttention(16, 2, 0)
