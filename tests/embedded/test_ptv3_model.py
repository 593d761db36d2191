"""PT-v3m2 as a whole: repeatable, each cloud by itself, trainable, and clear about bad input."""

import copy
from contextlib import nullcontext

import pytest
import torch

from lam3c_plugin.embedded.ptv3 import PointTransformerV3, rows
from lam3c_plugin.embedded.ptv3.blocks import DropPath
from lam3c_plugin.embedded.ptv3.levels import prepare_levels
from lam3c_plugin.embedded.ptv3.sparse_conv import kernel_map
from lam3c_plugin.embedded.registry import build_model
from lam3c_plugin.embedded.structure import Point
from lam3c_plugin.ops.device import pretend_gpu

SMALL = dict(
    in_channels=9,
    order=("z", "z-trans", "hilbert", "hilbert-trans"),
    stride=(2, 2),
    enc_depths=(2, 1, 2),
    enc_channels=(16, 24, 32),
    enc_num_head=(2, 3, 4),
    enc_patch_size=(64, 64, 64),
    dec_depths=(1, 1),
    dec_channels=(16, 24),
    dec_num_head=(2, 3),
    dec_patch_size=(64, 64),
    drop_path=0.0,
    mask_token=True,
    enc_mode=True,
)


def model(**changes):
    torch.manual_seed(0)
    net = PointTransformerV3(**{**SMALL, **changes})
    with torch.no_grad():  # a fresh network's branches are small; make every part count
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return net.eval()


def cloud(points, seed=0, extent=0.4):
    generator = torch.Generator().manual_seed(seed)
    coord = torch.rand(points, 3, generator=generator) * extent
    coord[:, 2] *= 0.2
    return dict(coord=coord, feat=torch.randn(points, 9, generator=generator))


def batch_of(*clouds, **more):
    sizes = torch.tensor([len(c["coord"]) for c in clouds])
    joined = {key: torch.cat([c[key] for c in clouds]) for key in clouds[0]}
    return dict(**joined, offset=sizes.cumsum(0), grid_size=0.02, **more)


def levels(point):
    while point is not None:
        yield point
        point = point.get("pooling_parent")


@torch.no_grad()
def test_eval_repeats_to_the_bit_even_with_shuffled_orders():
    net, batch = model(shuffle_orders=True), batch_of(cloud(500), cloud(120, 1))
    first, second = net(batch), net(batch)
    for a, b in zip(levels(first), levels(second), strict=True):
        assert torch.equal(a.feat, b.feat)
        assert torch.equal(a.serialized_order, b.serialized_order)
        assert a.curves == SMALL["order"]


@torch.no_grad()
@pytest.mark.parametrize("pre_norm", [True, False])
def test_rows_in_pieces_are_the_same(monkeypatch, pre_norm):
    net, batch = model(pre_norm=pre_norm), batch_of(cloud(500), cloud(30, 1), cloud(50, 2))
    whole, calls = net(batch).feat, []
    net.enc.enc0.block0.attn.qkv.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(rows, "_PIECE_ROWS", -(-128 // torch.get_num_threads()))
    torch.testing.assert_close(net(batch).feat, whole, atol=1e-5, rtol=1e-5)
    assert len(calls) > 2


def test_orders_are_shuffled_in_training_only_where_asked_for():
    batch = batch_of(cloud(300))
    for shuffle in (True, False):
        net = model(shuffle_orders=shuffle).train()
        torch.manual_seed(0)
        seen = [{point.curves for point in levels(net(batch))} for _ in range(4)]
        assert (set.union(*seen) != {SMALL["order"]}) == shuffle


@torch.no_grad()
@pytest.mark.parametrize("enc_mode", [True, False], ids=["encoder", "decoder"])
def test_a_clouds_features_do_not_depend_on_the_batch(enc_mode):
    net = model(enc_mode=enc_mode)
    clouds = [cloud(700), cloud(1, 1), cloud(64, 2), cloud(63, 3, 3.0), cloud(20, 4), cloud(64, 5)]
    together = net(batch_of(*clouds))
    for i, one in enumerate(clouds):
        for joint, alone in zip(levels(together), levels(net(batch_of(one))), strict=True):
            # rounding only: matrix products and padded attention of other sizes add in another order
            torch.testing.assert_close(joint.feat[joint.batch == i], alone.feat, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("known", ["grid_size", "grid_coord", "cells alone"])
@pytest.mark.parametrize("way", [nullcontext, pretend_gpu], ids=["cpu", "as a gpu"])
def test_the_order_of_points_does_not_matter(known, way):
    """Most of the points share their cell with others, and 300 are there twice."""
    one, net = cloud(900, extent=0.6), model(enc_mode=False)
    one = {key: torch.cat([value, value[:300]]) for key, value in one.items()}
    if known != "grid_size":
        one["grid_coord"] = (one["coord"] / 0.02).int()
    shuffle = torch.randperm(1200, generator=torch.Generator().manual_seed(5))
    batches = [batch_of(one), batch_of({key: value[shuffle] for key, value in one.items()})]
    if known == "cells alone":
        batches = [{key: value for key, value in batch.items() if key != "coord"} for batch in batches]
    with way():
        wanted, found = net(batches[0]).feat, net(batches[1]).feat[shuffle.argsort()]
    close = dict(atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found[300:900], wanted[300:900], **close)
    # of two equal rows either may come first: at a patch's end they differ, and change places
    torch.testing.assert_close(found[:300] + found[900:], wanted[:300] + wanted[900:], **close)
    torch.testing.assert_close((found[:300] - found[900:]).abs(), (wanted[:300] - wanted[900:]).abs(), **close)


def test_the_point_nearest_to_the_centre_represents_its_cell():
    corner, far, near, twin = [0.0, 0, 0], [0.02, 0.06, 0.06], [0.05, 0.06, 0.06], [0.07, 0.06, 0.06]
    coord = torch.tensor([corner, far, twin, near])  # cells of 4 cm: the last two are 1 cm from the centre (6, 6, 6)
    geometry = Point(coord=coord, offset=torch.tensor([4]), grid_size=0.04).locate()
    assert kernel_map(geometry).points.first.tolist() == [0, 1, 3]
    with pretend_gpu():
        geometry = Point(coord=coord, offset=torch.tensor([4]), grid_size=0.04).locate()
        assert kernel_map(geometry).points.first.tolist() == [0, 1, 3]


def test_cells_of_one_point_need_no_order():
    coord = cloud(400)["coord"]
    geometry = Point(coord=coord, offset=torch.tensor([400]), grid_size=1e-4).locate()
    assert geometry.within() is None
    with pretend_gpu():
        geometry = Point(coord=coord, offset=torch.tensor([400]), grid_size=1e-4).locate()
        prepare_levels(geometry, (2, 2), (1, 1, 1))
        assert geometry.within() is None


@torch.no_grad()
def test_batch_origin_is_the_references_way():
    clouds = [cloud(200), {**cloud(150, 1), "coord": cloud(150, 1)["coord"] + 3.0}]
    own, joint = model()(batch_of(*clouds)), model(grid_origin="batch")(batch_of(*clouds))
    finest_own, finest_joint = list(levels(own))[-1], list(levels(joint))[-1]
    coord = torch.cat([c["coord"] for c in clouds])
    assert torch.equal(finest_joint.grid_coord, torch.div(coord - coord.amin(0), 0.02, rounding_mode="trunc").int())
    assert finest_own.grid_coord[200:].amin() == 0
    assert finest_joint.grid_coord[200:].amin() > 0


@torch.no_grad()
def test_masked_points_show_the_token_only():
    net, one = model(), cloud(200)
    mask = torch.arange(200) < 60
    other = {**one, "feat": torch.where(mask[:, None], 7.0, one["feat"])}
    a, b = net(batch_of(one, mask=mask)), net(batch_of(other, mask=mask))
    assert torch.equal(a.feat, b.feat)
    assert not torch.equal(a.feat, net(batch_of(one)).feat)


@pytest.mark.parametrize("enc_mode", [True, False], ids=["encoder", "decoder"])
def test_all_parameters_learn(enc_mode):
    net = model(enc_mode=enc_mode, layer_scale=0.1, drop_path=0.2, pre_norm=enc_mode).train()
    batch = batch_of(cloud(300), cloud(40, 1), mask=torch.arange(340) % 3 == 0)
    net(batch)["feat"].square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert name.endswith("qkv.bias") or parameter.grad.abs().sum() > 0, name


def test_training_repeats_to_the_bit():
    batch, gradients = batch_of(cloud(400), cloud(90, 1)), []
    for _ in range(2):
        net = model(drop_path=0.3, enc_mode=False).train()
        torch.manual_seed(3)
        net(batch)["feat"].square().mean().backward()
        gradients.append([parameter.grad for parameter in net.parameters() if parameter.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("upcast", [False, True])
def test_bfloat16_autocast_trains(upcast):
    net = model(enc_mode=False, upcast_attention=upcast).train()
    batch = batch_of(cloud(300), cloud(30, 1), mask=torch.arange(330) < 50)
    wanted = net(batch).feat
    with torch.autocast("cpu", dtype=torch.bfloat16):
        feat = net(batch).feat
    assert (feat.float() - wanted).abs().mean() < 0.05 * wanted.abs().mean() + 0.05
    feat.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@torch.no_grad()
def test_pooled_points():
    batch = batch_of(
        cloud(300), cloud(200, 1), origin_coord=torch.rand(500, 3), color=torch.rand(500, 3), name=["a", "b"]
    )
    point = model()(batch)
    parent = point.pooling_parent
    keys = torch.cat([point.batch[:, None], point.grid_coord.long()], 1).tolist()
    assert keys == sorted(keys)
    assert torch.equal(parent.grid_coord[:, :] // 2, point.grid_coord[point.pooling_inverse])
    for key in ("coord", "origin_coord", "color"):
        wanted = torch.stack([parent[key][point.pooling_inverse == i].mean(0) for i in range(len(point.feat))])
        torch.testing.assert_close(point[key], wanted)
    assert point.offset.tolist() == point.batch.bincount().cumsum(0).tolist()
    assert point.grid_size == pytest.approx(0.08)
    assert point.name == ["a", "b"]
    assert set(batch) == {"coord", "feat", "offset", "grid_size", "origin_coord", "color", "name"}


@torch.no_grad()
def test_decoder_keeps_coarse_stages_when_traceable():
    point = model(enc_mode=False, traceable=True)(batch_of(cloud(300)))
    assert point.feat.shape == (300, 16)
    assert point.unpooling_parent.feat.shape[1] == 24
    assert point.unpooling_parent.unpooling_parent.feat.shape[1] == 32


@torch.no_grad()
def test_geometry_is_shared_between_networks():
    student, teacher, batch = model(), model(), batch_of(cloud(300))
    with torch.inference_mode():
        point = list(levels(teacher(batch)))[-1]
    with torch.enable_grad():
        shared = student({**batch, "geometry": point.geometry})
        assert torch.equal(shared.feat, student(batch).feat)
        shared.feat.sum().backward()
    assert list(levels(shared))[-1].geometry is point.geometry
    assert shared.geometry is teacher(dict(batch, geometry=point.geometry)).geometry


def test_frozen_encoder():
    net = model(enc_mode=False, freeze_encoder=True)
    trained = {name.split(".")[0] for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained == {"dec"}


def test_fresh_weights_are_the_hosts():
    net = PointTransformerV3(**SMALL)
    for name, parameter in net.named_parameters():
        if "norm" in name or "cpe.2" in name:
            assert (parameter == (1.0 if name.endswith("weight") else 0.0)).all()
        elif name.endswith("bias") or name.endswith("mask_token"):
            assert (parameter == 0).all(), name
        else:
            assert 0.015 < parameter.std() < 0.025, name


def test_registered_and_copied():
    net = build_model(dict(type="PT-v3m2", **SMALL))
    assert isinstance(net, PointTransformerV3)
    assert copy.deepcopy(net).state_dict().keys() == net.state_dict().keys()


def test_drop_path_keeps_the_mean():
    layer = DropPath(0.25).train()
    torch.manual_seed(0)
    out = layer(torch.ones(20000, 2))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(layer.eval()(out), out)


@torch.no_grad()
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(coord=torch.full((10, 3), float("nan"))), "NaN or infinite values"),
        (dict(offset=torch.tensor([9])), r"offset \[9\] does not fit 10 points"),
        (dict(offset=torch.tensor([12, 10])), "running sum"),
        (dict(offset=torch.tensor([], dtype=torch.long)), "no points"),
        (dict(feat=torch.zeros(9, 9)), "feat has 9 rows"),
        (dict(grid_size=None), "needs grid_coord, or coord and grid_size"),
        (dict(grid_size=1e-6), "cells, and the curves number 65535"),
        (dict(grid_coord=-torch.ones(10, 3).int()), "grid_coord must lie in"),
    ],
)
def test_unusable_batches_are_refused_in_one_line(changes, message):
    batch = {key: value for key, value in {**batch_of(cloud(10)), **changes}.items() if value is not None}
    if "offset" in changes:
        batch["batch"] = torch.zeros(10).long()
    with pytest.raises(ValueError, match=message) as caught:
        model()(batch)
    assert "\n" not in str(caught.value)


def test_unusable_arguments_are_refused():
    with pytest.raises(ValueError, match="enable_rpe=True is not supported"):
        model(enable_rpe=True)
    with pytest.raises(ValueError, match="enc_channels has 2 entries"):
        model(enc_channels=(16, 24))
    with pytest.raises(ValueError, match="dec_depths has 3 entries"):
        model(dec_depths=(1, 1, 1), enc_mode=False)
    with pytest.raises(ValueError, match="curves are"):
        model(order=("z", "peano"))
    with pytest.raises(ValueError, match="grid_origin='scene'"):
        model(grid_origin="scene")
    with pytest.raises(ValueError, match="mask_token=True"):
        model(mask_token=False)(batch_of(cloud(10), mask=torch.ones(10).bool()))


@torch.no_grad()
def test_one_point_and_equal_points():
    net = model(enc_mode=False)
    assert net(batch_of(cloud(1))).feat.isfinite().all()
    same = {key: value[:1].repeat(80, 1) for key, value in cloud(1).items()}
    point = net(batch_of(same, cloud(1, 1)))
    assert point.feat.isfinite().all()
    torch.testing.assert_close(point.feat[:80], point.feat[:1].expand(80, -1))
