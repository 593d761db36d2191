"""DefaultDataset, ConcatDataset, folder lists, collating and mixing."""

import json

import numpy as np
import pytest
import torch

from lam3c_plugin.embedded.datasets import (
    ConcatDataset,
    DefaultDataset,
    collate_fn,
    list_split,
    natural_key,
    point_collate_fn,
)
from lam3c_plugin.embedded.registry import build_dataset
from lam3c_plugin.errors import ConfigError, DataError
from tests.rooms import box_room, put_scene


@pytest.fixture
def root(tmp_path):
    for number in (10, 2, 1):
        room = box_room(200, seed=number)
        put_scene(tmp_path / "train" / f"room{number}", room, segment=None, normal=room.normal.astype(np.float16))
    labels = np.arange(200).reshape(-1, 1) % 4
    extra = dict(segment=labels, instance=labels.astype(np.int64), other=np.zeros(5))
    put_scene(tmp_path / "val" / "room3", box_room(200), **extra)
    (tmp_path / "train" / "notes.txt").write_text("stray")
    (tmp_path / "train" / ".cache").mkdir()
    return tmp_path


def test_natural_order():
    names = ["b", "a10", "a2", "2", "10", "a2b1"]
    assert sorted(names, key=natural_key) == ["2", "10", "a2", "a2b1", "a10", "b"]


def test_default_dataset_reads_what_is_there(root):
    dataset = DefaultDataset(split=["train", "val"], data_root=str(root), loop=2)
    assert len(dataset) == 8
    assert [dataset.get_data_name(index) for index in range(4)] == ["room1", "room2", "room10", "room3"]
    first, last = dataset[4], dataset[3]
    assert first["name"] == "room1"
    assert first["split"] == "train"
    assert {key: first[key].dtype.name for key in ("coord", "color", "normal", "segment", "instance")} == {
        **dict.fromkeys(("coord", "color", "normal"), "float32"),
        **dict.fromkeys(("segment", "instance"), "int32"),
    }
    assert (first["segment"] == -1).all()
    assert last["segment"].shape == (200,)
    assert last["segment"].max() == 3
    assert "other" not in last


def test_split_errors(root):
    with pytest.raises(DataError, match=r"no split 'trian' in .*did you mean 'train'"):
        DefaultDataset(split="trian", data_root=str(root))
    with pytest.raises(DataError, match="the folder itself is missing"):
        DefaultDataset(data_root=str(root / "nowhere"))
    for content in ("{", '{"a": 1}', "[1]"):
        (root / "list.json").write_text(content)
        with pytest.raises(DataError, match=r"list\.json"):
            list_split(str(root), "list.json")
    (root / "train" / "room1" / "coord.npy").unlink()
    with pytest.raises(DataError, match="room1 has no coord"):
        DefaultDataset(data_root=str(root))[0]
    (root / "train" / "room1" / "coord.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="room1 cannot be read"):
        DefaultDataset(data_root=str(root))[0]
    with pytest.raises(ConfigError, match="cache"):
        DefaultDataset(data_root=str(root), cache=True)
    with pytest.raises(ConfigError, match="test_cfg"):
        DefaultDataset(data_root=str(root), test_mode=True)


def test_json_list_keeps_its_order(root):
    (root / "few.json").write_text(json.dumps(["train/room10", "val/room3"]))
    dataset = build_dataset(dict(type="DefaultDataset", split="few.json", data_root=str(root)))
    assert [dataset.get_data_name(index) for index in range(2)] == ["room10", "room3"]
    assert dataset.get_split_name(0) == "train"


def test_test_mode_gives_labels_and_fragments_that_cover_the_scene(root):
    test_cfg = dict(
        voxelize=dict(type="GridSample", grid_size=0.5, mode="test", return_grid_coord=True),
        crop=None,
        post_transform=[
            dict(type="CenterShift", apply_z=False),
            dict(type="ToTensor"),
            dict(type="Collect", keys=("coord", "grid_coord", "index"), feat_keys=("coord", "color", "normal")),
        ],
        aug_transform=[
            [dict(type="RandomRotateTargetAngle", angle=[0], axis="z", center=[0, 0, 0], p=1)],
            [dict(type="RandomFlip", p=1)],
        ],
    )
    dataset = DefaultDataset(
        split="val",
        data_root=str(root),
        transform=[
            dict(type="Copy", keys_dict={"segment": "origin_segment"}),
            dict(type="GridSample", grid_size=0.2, return_inverse=True),
            dict(type="NormalizeColor"),
        ],
        test_mode=True,
        test_cfg=test_cfg,
        loop=5,
    )
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample["name"] == "room3"
    assert sample["origin_segment"].shape == sample["inverse"].shape == (200,)
    points = len(sample["segment"])
    seen = torch.cat([fragment["index"] for fragment in sample["fragment_list"]])
    assert torch.equal(torch.bincount(seen) > 0, torch.ones(points, dtype=torch.bool))
    for fragment in sample["fragment_list"]:
        assert fragment["feat"].shape == (len(fragment["index"]), 9)
        assert fragment["offset"].tolist() == [len(fragment["index"])]
        assert fragment["grid_coord"].dtype == torch.int64


def test_concat_dataset(root):
    parts = [dict(type="DefaultDataset", split=split, data_root=str(root)) for split in ("train", "val")]
    dataset = ConcatDataset(parts, loop=2)
    assert len(dataset) == 8
    assert [dataset.get_data_name(index) for index in (0, 3, 4)] == ["room1", "room3", "room1"]
    assert dataset[7]["name"] == "room3"


def sample(count, instances=1, **extra):
    return {
        "coord": torch.rand(count, 3),
        "instance": torch.arange(count) % instances,
        "offset": torch.tensor([count]),
        "grid_size": 0.5,
        "name": f"s{count}",
        **extra,
    }


def test_collate_joins_points_and_sums_offsets():
    batch = collate_fn([sample(3), sample(4), sample(2)])
    assert batch["offset"].tolist() == [3, 7, 9]
    assert batch["offset"].dtype == torch.int64
    assert batch["coord"].shape == (9, 3)
    assert batch["grid_size"].tolist() == [0.5] * 3
    assert batch["name"] == ["s3", "s4", "s2"]
    views = collate_fn([{"global_offset": torch.tensor([2, 5])}, {"global_offset": torch.tensor([1, 9])}])
    assert views["global_offset"].tolist() == [2, 5, 6, 14]
    assert collate_fn([[1, 2], [3]]).tolist() == [1, 2, 3]
    assert collate_fn([1.5, 2.5]).tolist() == [1.5, 2.5]


def test_collate_names_the_sample_that_differs():
    with pytest.raises(DataError, match="s3 has 'extra', s4 has not"):
        collate_fn([sample(3, extra=torch.zeros(3)), sample(4)])
    with pytest.raises(TypeError):
        collate_fn({"a": 1})
    with pytest.raises(TypeError):
        point_collate_fn([torch.zeros(3)])


@pytest.mark.parametrize("scenes", [1, 2, 3, 4])
def test_mix_joins_neighbouring_scenes(scenes):
    samples = [sample(3 + number, instances=2) for number in range(scenes)]
    samples[0]["instance"][0] = -1
    for item in samples:
        item["grid_coord"] = (item["coord"] / 0.5).long()
    plain, mixed = point_collate_fn(samples), point_collate_fn(samples, mix_prob=1)
    assert mixed["offset"].tolist() == plain["offset"].tolist()[1::2] + plain["offset"].tolist()[-1:] * (scenes % 2)
    assert torch.equal(mixed["coord"], plain["coord"])
    assert mixed["instance"][0] == -1
    if scenes > 1:
        assert sorted(mixed["instance"][: mixed["offset"][0]].unique().tolist()) == [-1, 0, 1, 2, 3]
    for coord, grid in zip(
        *(torch.tensor_split(mixed[key], mixed["offset"][:-1]) for key in ("coord", "grid_coord")), strict=True
    ):
        cell = torch.floor(coord / 0.5).long()
        assert torch.equal(grid, cell - cell.amin(0))


def test_mix_joins_view_by_view():
    samples = []
    for number in range(3):
        size = torch.tensor([2, 3]) + number
        points = torch.arange(int(size.sum())) + 100 * number
        samples.append({"global_coord": points, "global_offset": size.cumsum(0), "name": f"s{number}"})
    mixed = point_collate_fn(samples, mix_prob=1)
    assert mixed["global_offset"].tolist() == [2 + 3, 5 + 3 + 4, 12 + 4, 16 + 5]
    expected = [0, 1, 100, 101, 102, 2, 3, 4, 103, 104, 105, 106, *range(200, 209)]
    assert mixed["global_coord"].tolist() == expected


def test_mix_probability():
    np.random.seed(0)
    mixed = [len(point_collate_fn([sample(2), sample(2)], mix_prob=0.3)["offset"]) == 1 for _ in range(500)]
    assert abs(np.mean(mixed) - 0.3) < 0.07
