"""ScanNet, ScanNet200, ScanNet++ and S3DIS folders as the host's preprocessing writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lam3c_plugin.errors import ConfigError, DataError
from lam3c_plugin.host import build_dataset
from tests.rooms import box_room, put_scene


def write(folder, **extra):
    put_scene(folder, box_room(12, seed=len(folder.name)), **{"segment": None, **extra})


@pytest.fixture
def scannet(tmp_path):
    for number in range(3):
        labels = dict(segment20=np.arange(12) % 20, segment200=np.arange(12) + 100, instance=np.arange(12))
        write(tmp_path / f"scannet/train/scene000{number}_00", **labels)
    write(tmp_path / "scannet/test/scene0707_00")
    return tmp_path / "scannet"


def dataset(kind, root, split="train", **options):
    return build_dataset(dict(type=kind, data_root=str(root), split=split, **options))


def test_scannet_label_sets(scannet):
    small, large = dataset("ScanNetDataset", scannet)[0], dataset("ScanNet200Dataset", scannet)[0]
    assert small["segment"].tolist() == list(range(12))
    assert large["segment"].tolist() == list(range(100, 112))
    for sample in (small, large):
        assert sample["segment"].dtype == np.int32
        assert not {"segment20", "segment200"} & set(sample)
    assert (dataset("ScanNetDataset", scannet, "test")[0]["segment"] == -1).all()


def test_few_scenes(scannet, tmp_path):
    (tmp_path / "5.txt").write_text("scene0002_00\nscene0000_00\n")
    data = dataset("ScanNetDataset", scannet, lr_file=str(tmp_path / "5.txt"))
    assert [data.get_data_name(index) for index in range(len(data))] == ["scene0002_00", "scene0000_00"]
    with pytest.raises(DataError, match=r"cannot read the list of scenes .*/6\.txt"):
        dataset("ScanNetDataset", scannet, lr_file=str(tmp_path / "6.txt"))


def test_few_points(scannet, tmp_path):
    points = {"scene0000_00": np.array([3, 7]), "scene0001_00": [1], "scene0002_00": torch.tensor([0])}
    torch.save(points, tmp_path / "points2")
    data = dataset("ScanNetDataset", scannet, la_file=str(tmp_path / "points2"))
    assert data[0]["segment"].tolist() == [-1, -1, -1, 3, -1, -1, -1, 7, -1, -1, -1, -1]
    assert np.flatnonzero(data[1]["segment"] != -1).tolist() == [1]
    assert data[2]["sampled_index"].tolist() == [0]
    torch.save({"scene0000_00": [1]}, tmp_path / "lacking")
    with pytest.raises(DataError, match="has no points for scene scene0001_00"):
        dataset("ScanNetDataset", scannet, la_file=str(tmp_path / "lacking"))[1]
    (tmp_path / "damaged").write_bytes(b"no torch file")
    with pytest.raises(DataError, match="cannot read the labelled points"):
        dataset("ScanNetDataset", scannet, la_file=str(tmp_path / "damaged"))


def test_scannetpp_takes_the_first_label(tmp_path):
    labels = np.stack([np.arange(12), np.full(12, -1), np.full(12, -1)], axis=1)
    write(tmp_path / "pp/val/aaa", segment=labels, instance=labels + 5)
    sample = dataset("ScanNetPPDataset", tmp_path / "pp", "val")[0]
    assert sample["segment"].tolist() == list(range(12))
    assert sample["instance"].tolist() == list(range(5, 17))
    with pytest.raises(ConfigError, match="multilabel"):
        dataset("ScanNetPPDataset", tmp_path / "pp", "val", multilabel=True)


def test_s3dis_rooms_of_two_areas(tmp_path):
    for area in ("Area_1", "Area_2"):
        write(tmp_path / area / "office_1", segment=np.zeros(12, dtype=np.int64))
    data = dataset("S3DISDataset", tmp_path, ("Area_1", "Area_2"))
    assert [data[index]["name"] for index in range(2)] == ["Area_1-office_1", "Area_2-office_1"]
