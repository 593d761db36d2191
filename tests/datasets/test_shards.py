"""Scenes in tar files: the samples of the folders, to the bit, on lists, subsets, workers, and what is damaged."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from data_tools.packaging.shards import list_scenes, run_shards
from lam3c_plugin import host
from lam3c_plugin.datasets import RoomToursDataset, scene
from lam3c_plugin.errors import DataError
from tests.rooms import box_room, put_scene

TRANSFORM = [
    dict(type="ToTensor"),
    dict(type="Collect", keys=("coord", "color", "normal", "name"), feat_keys=("coord",)),
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The same scenes as folders and in tar files, some of them odd."""
    root = tmp_path_factory.mktemp("room tours") / "folders"
    for number in range(12):
        room = box_room(300 + number, seed=number)
        put_scene(root / "train" / f"tour ü_{number}", room, normal=room.normal.astype(np.float16))
    put_scene(root / "train" / "bare", color=None, normal=None)
    coord = box_room(80).coord
    put_scene(root / "val" / "turned", coord=np.asfortranarray(coord), color=None, normal=coord[:, ::-1].astype(">f8"))
    (root / "few.json").write_text(json.dumps(["val/turned", "./train/tour ü_11", "train/bare"]))
    tars = root.with_name("tars")
    assert all(record.status == "done" for record in run_shards(root, tars, list_scenes(root), 40_000))
    assert len(list((tars / "train").glob("*.tar"))) > 2
    return root, tars


def same(first, second):
    assert len(first) == len(second) > 0
    for index in range(len(first)):
        for key, value in first[index].items():
            found = second[index][key]
            assert np.array_equal(value, found), (index, key)
            assert not isinstance(value, np.ndarray) or value.dtype == found.dtype


@pytest.mark.parametrize(
    "settings",
    [dict(), dict(split=["val", "train"]), dict(split="few.json"), dict(subset=0.4, subset_seed=3), dict(loop=2)],
)
def test_tar_files_give_the_samples_of_the_folders(roots, settings):
    folders, tars = (RoomToursDataset(data_root=root, on_error="raise", **settings) for root in roots)
    same(folders, tars)
    assert [os.path.relpath(path, roots[0]) for path in folders.data_list] == [
        os.path.relpath(path, roots[1]) for path in tars.data_list
    ]
    same(folders, pickle.loads(pickle.dumps(tars)))


def test_roots_of_both_kinds_mix(roots, tmp_path):
    put_scene(tmp_path / "train" / "another")
    (tmp_path / "train" / "00007.tar").symlink_to(roots[1] / "train" / "00000.tar")
    (tmp_path / "train" / "00007.json").symlink_to(roots[1] / "train" / "00000.json")
    here = RoomToursDataset(data_root=tmp_path, on_error="raise")
    names = list(json.loads((tmp_path / "train" / "00007.json").read_text())["scenes"])
    assert sorted(here[index]["name"] for index in range(len(here))) == sorted(["another", *names])
    same(
        RoomToursDataset(data_root=[roots[1], roots[0]], split="val"),
        RoomToursDataset(data_root=[roots[0]] * 2, split="val"),
    )


def test_workers_read_the_same(roots):
    batches = []
    for root, workers in zip(roots, (0, 2), strict=True):
        dataset = RoomToursDataset(data_root=root, transform=TRANSFORM)
        context = "fork" if workers else None
        loader = torch.utils.data.DataLoader(
            dataset, 5, num_workers=workers, multiprocessing_context=context, collate_fn=host.point_collate_fn
        )
        batches.append(list(loader))
    for first, second in zip(*batches, strict=True):
        assert all(torch.equal(first[key], second[key]) for key in ("coord", "color", "normal", "offset"))


def test_a_scene_costs_few_reads_and_the_index_little_memory(roots, monkeypatch):
    calls = []
    pread = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *given: calls.append(given[0]) or pread(*given))
    dataset = RoomToursDataset(data_root=roots[1])
    for index in range(len(dataset)):
        calls.clear()
        dataset[index]
        assert len(calls) == (1 if dataset[index]["name"] == "bare" else 3)
    assert dataset._shards._table.nbytes == 56 * len(dataset)
    assert not dataset._shards._rows


def test_a_read_that_comes_in_parts_is_whole(tmp_path, monkeypatch):
    put_scene(tmp_path / "room")
    whole = scene.read_scene(str(tmp_path / "room"))
    pread = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, views, start: pread(file, [views[0][:100]], start))
    parts = scene.read_scene(str(tmp_path / "room"))
    assert all(np.array_equal(whole[key], parts[key]) for key in whole)


def test_what_is_damaged_is_named(roots, tmp_path):
    def copy(name):
        folder = tmp_path / name / "train"
        folder.mkdir(parents=True)
        for file in (roots[1] / "train").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return folder

    (copy("no index") / "00001.json").unlink()
    (copy("no tar") / "00001.tar").unlink()
    (copy("torn index") / "00001.json").write_text('{"size": 3, "scenes": {"a": 1}}')
    beyond = copy("beyond") / "00001.json"
    index = json.loads(beyond.read_text())
    beyond.write_text(json.dumps({**index, "scenes": {"a": {"coord.npy": [512, 10**15]}}}))
    with (copy("cut") / "00001.tar").open("r+b") as file:
        file.truncate(1000)
    for name, words in {
        "no index": r"00001\.json is missing",
        "no tar": r"00001\.tar is missing",
        "torn index": r"00001\.json cannot be read as the index",
        "beyond": r"00001\.json cannot be read as the index of a tar \(a file lies outside",
        "cut": r"00001\.tar has 1000 bytes, its index says",
    }.items():
        with pytest.raises(DataError, match=f"{words}.*package.py --shards"):
            RoomToursDataset(data_root=tmp_path / name)
    (copy("later") / "backup.tar").write_bytes(b"a person's own")
    later = RoomToursDataset(data_root=tmp_path / "later")
    (tmp_path / "later" / "train" / "00000.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"coord\.npy cannot be read: the file ends"):
        later.get_data(later.data_list.index(str(tmp_path / "later" / "train" / "bare")))
    assert later[0]["name"] not in json.loads((tmp_path / "later/train/00000.json").read_text())["scenes"]
