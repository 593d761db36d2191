"""Point and the modules that pass it on."""

import copy
import pickle
from collections import OrderedDict

import pytest
import torch
from torch import nn

from lam3c_plugin.embedded.hooks.default import HookBase
from lam3c_plugin.embedded.structure import Point, PointModel, PointModule, PointSequential


class Double(PointModule):
    def forward(self, point):
        point.feat = point.feat * 2
        return point


def test_entries_are_attributes():
    point = Point(feat=torch.ones(3, 2))
    point.coord = torch.zeros(3, 3)
    assert point["coord"] is point.coord
    assert "coord" in point
    del point.coord
    assert "coord" not in point
    with pytest.raises(AttributeError, match=r"no 'coord'; it holds feat"):
        _ = point.coord
    with pytest.raises(AttributeError, match="no 'coord'"):
        del point.coord
    with pytest.raises(KeyError):
        point["coord"]
    assert getattr(point, "mask", None) is None


def test_batch_and_offset_make_each_other():
    assert Point(offset=torch.tensor([2, 2, 5])).batch.tolist() == [0, 0, 2, 2, 2]
    assert Point(batch=torch.tensor([0, 0, 2, 2, 2])).offset.tolist() == [2, 2, 5]
    assert set(Point(feat=torch.ones(1, 1))) == {"feat"}


def test_copies_and_pickles():
    point = Point(feat=torch.ones(3, 2), offset=torch.tensor([3]))
    for other in (point.copy(), copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert isinstance(other, Point)
        assert torch.equal(other.feat, point.feat)
    changed = point.copy()
    changed.feat = None
    assert point.feat is not None


def test_serialization_sorts_points():
    cells = torch.randint(0, 9, (50, 3), generator=torch.Generator().manual_seed(0))
    point = Point(grid_coord=cells, offset=torch.tensor([20, 50]))
    point.serialization(order=("z", "hilbert"))
    for code, order, inverse in zip(
        point.serialized_code, point.serialized_order, point.serialized_inverse, strict=True
    ):
        assert (code[order].diff() >= 0).all()
        assert torch.equal(order[inverse], torch.arange(50))
        assert set(order[:20].tolist()) == set(range(20))
    assert point.serialized_depth == 4


def test_sequential_feeds_points_and_tensors():
    layers = PointSequential(nn.Linear(2, 3), Double())
    layers.add(nn.ReLU(), name="act")
    layers.add(nn.Identity())
    assert list(layers._modules) == ["0", "1", "act", "3"]
    assert len(layers) == 4
    assert layers[-2] is layers.act
    x = torch.randn(5, 2)
    point = layers(Point(feat=x))
    torch.testing.assert_close(point.feat, (2 * layers[0](x)).relu())
    plain = PointSequential(OrderedDict(a=nn.Linear(2, 3)), b=nn.ReLU())
    torch.testing.assert_close(plain(x), plain[0](x).relu())
    with pytest.raises(KeyError, match="'b' is there already"):
        plain.add(nn.ReLU(), name="b")


def test_point_model_is_module_and_hook():
    model = PointModel()
    assert isinstance(model, PointModule)
    assert isinstance(model, HookBase)
    assert model.trainer is None
    model.before_train()
