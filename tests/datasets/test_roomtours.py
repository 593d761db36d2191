"""RoomToursDataset: layouts, subsets, broken scenes, roots, mixing with labelled data, workers."""

import json
import logging
import os
import pickle

import numpy as np
import pytest
import torch

from lam3c_plugin import host
from lam3c_plugin.datasets import RoomToursDataset, read_scene
from lam3c_plugin.datasets.roomtours import choose_subset
from lam3c_plugin.errors import ConfigError, DataError
from tests.rooms import box_room, put_scene

COUNT = 60


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "room tours"  # paths may have spaces
    for number in (10, 9, 1):
        room = box_room(COUNT, seed=number)
        put_scene(root / "train" / f"video a_{number}", room, segment=None, normal=room.normal.astype(np.float16))
    return root


def names(dataset):
    return [os.path.basename(path) for path in dataset.data_list]


def test_a_scene_is_float32_whatever_the_files_hold(root):
    dataset = host.build_dataset(dict(type="RoomToursDataset", data_root=str(root)))
    assert isinstance(dataset, host.DefaultDataset)
    assert names(dataset) == ["video a_1", "video a_9", "video a_10"]
    sample = dataset[1]
    stored = {key: np.load(root / "train" / "video a_9" / f"{key}.npy") for key in ("coord", "color", "normal")}
    for key, value in stored.items():
        assert sample[key].dtype == np.float32
        assert np.array_equal(sample[key], value.astype(np.float32))
    assert (sample["segment"] == -1).all()
    assert (sample["instance"] == -1).all()
    assert (sample["name"], sample["split"]) == ("video a_9", "train")
    assert (len(RoomToursDataset(data_root=root, loop=3)), dataset.skipped) == (9, 0)


def test_missing_color_and_normal_are_zeros_and_labels_are_not_read(root):
    put_scene(root / "train" / "bare", color=None, normal=None, segment=np.zeros(7), instance=np.zeros(7))
    dataset = RoomToursDataset(data_root=root)
    sample = dataset[0]
    assert sample["name"] == "bare"
    assert not sample["color"].any()
    assert not sample["normal"].any()
    assert sample["color"].shape == sample["normal"].shape == (COUNT, 3)
    assert (sample["segment"] == -1).all()
    assert dataset.skipped == 0


def test_odd_values_in_color_and_normal_become_zero(root):
    normal = np.ones((COUNT, 3), np.float32)
    normal[3, 1] = np.nan
    scene = read_scene(put_scene(root / "odd", normal=normal, color=np.full((COUNT, 3), 0.5)), color_scale=255)
    assert not scene["normal"][3].any()
    assert scene["normal"].sum() == 3 * (COUNT - 1)
    assert np.allclose(scene["color"], 127.5)


def cloud(value=1.0, count=COUNT):
    coord = np.random.default_rng(0).random((count, 3)).astype(np.float32)
    if count:
        coord[-1, 2] = value
    return coord


BROKEN = {
    "no coord": (dict(coord=None), "has no coord.npy"),
    "nan": (dict(coord=cloud(np.nan)), "1 of 60 points have NaN or infinite"),
    "inf": (dict(coord=cloud(np.inf)), "1 of 60 points have NaN or infinite"),
    "long color": (dict(color=np.zeros((5, 3), np.uint8)), "color.npy has 5 rows, coord.npy 60"),
    "long normal": (dict(normal=np.zeros((61, 3))), "normal.npy has 61 rows, coord.npy 60"),
    "flat": (dict(coord=np.zeros(60)), r"expected numbers of the shape \(N, 3\)"),
    "rgba": (dict(color=np.zeros((60, 4), np.uint8)), r"uint8 \(60, 4\)"),
    "text": (dict(coord=np.array([["a"] * 3] * 60)), "expected numbers"),
    "no points": (dict(coord=cloud(count=0), color=None, normal=None), "no points"),
    "one point": (dict(coord=cloud(count=1), color=None, normal=None), "one point"),
    "all equal": (dict(coord=np.ones((60, 3))), "all 60 points are equal"),
}


@pytest.mark.parametrize("kind", [*BROKEN, "bytes", "empty file", "pickle", "dangling link", "cut short"])
def test_broken_scenes_are_named_counted_and_replaced(root, kind, caplog):
    folder = root / "train" / "broken"
    message = "cannot be read"
    if kind in BROKEN:
        arrays, message = BROKEN[kind]
        put_scene(folder, **arrays)
    elif kind == "dangling link":
        folder.symlink_to(root / "gone")
        message = "is not a folder"
    else:
        path = put_scene(folder) / "coord.npy"
        if kind == "pickle":
            np.save(path, np.array([{}]), allow_pickle=True)
        else:
            path.write_bytes({"bytes": b"nonsense", "empty file": b"", "cut short": path.read_bytes()[:300]}[kind])
    dataset = RoomToursDataset(data_root=root)
    assert names(dataset)[0] == "broken"
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert dataset[0]["name"] == "video a_1"  # the next good one
    reports = [record.message for record in caplog.records if "skipped" in record.message]
    assert len(reports) == 1
    assert str(folder) in reports[0]
    assert "1 of 4 scenes" in reports[0]
    assert dataset.skipped == 1
    with pytest.raises(DataError, match=message):
        RoomToursDataset(data_root=root, on_error="raise")[0]
    with pytest.raises(DataError, match=message):
        dataset.get_data(0)


def test_a_scene_that_a_transform_refuses_is_skipped(root):
    far = cloud()
    far[0] = 1e7
    put_scene(root / "train" / "a stray point", coord=far)
    dataset = RoomToursDataset(data_root=root, transform=[dict(type="ElasticDistortion")])
    np.random.seed(0)
    assert dataset[0]["name"] == "video a_1"
    assert dataset.skipped == 1


def test_all_broken_is_an_error(root):
    for folder in (root / "train").iterdir():
        (folder / "coord.npy").unlink()
    dataset = RoomToursDataset(data_root=root)
    for _ in range(2):
        with pytest.raises(DataError, match=r"all 3 scenes of .*room tours are broken"):
            dataset[1]
    assert dataset.skipped == 3


def test_missing_or_empty_root_names_folder_layout_and_cure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "no scenes" / "train").mkdir(parents=True)
    for name, state in (("nowhere", "does not exist"), ("empty", "is empty"), ("file", "is not a folder")):
        with pytest.raises(DataError, match=state) as caught:
            RoomToursDataset(data_root=name)
        check_message(caught.value, tmp_path / name)
    with pytest.raises(DataError, match="no scenes in") as caught:
        RoomToursDataset(data_root="no scenes")
    check_message(caught.value, tmp_path / "no scenes" / "train")
    with pytest.raises(DataError, match=r"no split 'tran' in .*did you mean 'train'") as caught:
        RoomToursDataset(data_root="no scenes", split="tran")
    check_message(caught.value, tmp_path / "no scenes")
    with pytest.raises(DataError, match="data/roomtours does not exist"):
        RoomToursDataset()


def check_message(error, folder):
    text = str(error)
    assert str(folder) in text
    assert "<root>/<split>/<scene>/{coord,color,normal}.npy" in text
    assert "python data_tools/package.py CLOUDS... --out data/roomtours" in text
    assert "\n" not in text


def test_several_roots_splits_and_lists(root, tmp_path):
    put_scene(tmp_path / "more" / "train" / "video a_2")
    put_scene(tmp_path / "more" / "val" / "video b_1")
    put_scene(root / "val" / "video c_1")
    dataset = RoomToursDataset(data_root=[str(root), tmp_path / "more"], split=["train", "val"])
    assert names(dataset) == ["video a_1", "video a_9", "video a_10", "video c_1", "video a_2", "video b_1"]
    assert dataset[4]["name"] == "video a_2"
    (root / "few.json").write_text(json.dumps(["val/video c_1", "train/video a_9"]))
    listed = RoomToursDataset(data_root=root, split="few.json")
    assert names(listed) == ["video c_1", "video a_9"]
    assert listed[0]["split"] == "val"
    (root / "broken.json").write_text("[")
    with pytest.raises(DataError, match=r"broken\.json"):
        RoomToursDataset(data_root=root, split="broken.json")
    here = RoomToursDataset(data_root=root / "train", split=".")
    assert len(here) == 3


def test_links_hidden_and_stray_files_and_read_only_roots(root, tmp_path):
    put_scene(tmp_path / "elsewhere" / "linked")
    (root / "train" / "video a_4").symlink_to(tmp_path / "elsewhere" / "linked")
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "readme.md").write_text("stray")
    link = tmp_path / "link to root"
    link.symlink_to(root)
    folders = [root, root / "train", *(root / "train").glob("video*")]
    for folder in folders:
        folder.chmod(0o555)
    try:
        dataset = RoomToursDataset(data_root=link)
        assert names(dataset) == ["video a_1", "video a_4", "video a_9", "video a_10"]
        assert [dataset[index]["name"] for index in range(4)] == names(dataset)
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_subsets_are_nested_deterministic_and_in_order():
    scenes = [(f"/here/train/s{number}", f"train/s{number}") for number in range(200)]
    elsewhere = [(f"/there/train/s{number}", f"train/s{number}") for number in range(200)]
    small, large = choose_subset(scenes, 20, 0), choose_subset(scenes, 0.5, 0)
    assert len(small) == 20
    assert len(large) == 100
    assert set(small) < set(large)
    assert small == sorted(small, key=[path for path, _ in scenes].index)
    assert [path.replace("/there", "/here") for path in choose_subset(elsewhere[::-1], 20, 0)][::-1] == small
    assert set(choose_subset(scenes, 20, 1)) != set(small)
    assert choose_subset(scenes, 1.0, 0) == choose_subset(scenes, None, 0) == [path for path, _ in scenes]
    assert len(choose_subset(scenes, 1, 0)) == 1
    assert len(choose_subset(scenes[:3], 0.01, 0)) == 1
    assert len(choose_subset(scenes[:3], 16000, 0)) == 3
    for wrong in (0, -1, 1.5, 0.0, True, "half"):
        with pytest.raises(ConfigError, match="subset"):
            choose_subset(scenes, wrong, 0)


def test_subset_of_a_dataset(root):
    assert len(RoomToursDataset(data_root=root, subset=2)) == 2
    assert names(RoomToursDataset(data_root=root, subset=1))[0] in names(RoomToursDataset(data_root=root, subset=2))


def test_wrong_arguments(root):
    for wrong in (dict(on_error="ignore"), dict(test_mode=True), dict(cache=True), dict(split=[]), dict(data_root=[])):
        with pytest.raises(ConfigError):
            RoomToursDataset(**{"data_root": str(root), **wrong})
    with pytest.raises(ConfigError, match="did you mean 'subset'"):
        host.build_dataset(dict(type="RoomToursDataset", data_root=str(root), subsett=3))


def test_colors_that_look_like_0_to_1_are_reported_once(root, caplog):
    for folder in (root / "train").iterdir():
        np.save(folder / "color.npy", np.random.default_rng(0).random((COUNT, 3)).astype(np.float32))
    dataset = RoomToursDataset(data_root=root)
    with caplog.at_level(logging.WARNING):
        for index in range(3):
            dataset[index]
    assert sum("color_scale=255" in record.message for record in caplog.records) == 1
    assert RoomToursDataset(data_root=root, color_scale=255)[0]["color"].max() > 200


def test_it_mixes_with_labelled_scenes(root, tmp_path):
    real = tmp_path / "real"
    put_scene(real / "train" / "scan", segment=np.zeros(COUNT, int), instance=np.zeros(COUNT, int))
    transform = [dict(type="ToTensor"), dict(type="Collect", keys=("coord", "segment", "name"), feat_keys=("color",))]
    dataset = host.build_dataset(
        dict(
            type="ConcatDataset",
            datasets=[
                dict(type="RoomToursDataset", data_root=str(root), transform=transform),
                dict(type="DefaultDataset", data_root=str(real), transform=transform),
            ],
        )
    )
    batch = host.point_collate_fn([dataset[index] for index in range(4)])
    assert batch["name"] == ["video a_1", "video a_9", "video a_10", "scan"]
    assert batch["offset"].tolist() == [COUNT, 2 * COUNT, 3 * COUNT, 4 * COUNT]
    assert batch["segment"].unique().tolist() == [-1, 0]


def test_workers_share_the_count(root):
    (root / "train" / "video a_1" / "coord.npy").unlink()
    dataset = RoomToursDataset(
        data_root=root, transform=[dict(type="ToTensor"), dict(type="Collect", keys=("name",), feat_keys=("coord",))]
    )
    loader = torch.utils.data.DataLoader(dataset, 3, num_workers=1, collate_fn=host.point_collate_fn)
    assert next(iter(loader))["name"] == ["video a_9", "video a_9", "video a_10"]
    assert dataset.skipped == 1


def test_it_can_be_pickled(root):
    copy = pickle.loads(pickle.dumps(RoomToursDataset(data_root=root)))
    assert copy[2]["name"] == "video a_10"
