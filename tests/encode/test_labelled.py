import numpy as np
import pytest

from lam3c_plugin.encode.labelled import encode_samples, find_splits, read_labelled
from lam3c_plugin.errors import DataError
from tests.rooms import box_room, put_rooms, put_scene


def test_splits_by_folder_and_by_share(tmp_path):
    put_rooms(tmp_path / "a", {"train": 2, "val": 1})
    train, val = find_splits(tmp_path / "a", None, 0)
    assert [len(train), len(val), val[0].name] == [2, 1, "room0"]
    for i in range(5):
        put_scene(tmp_path / f"b/scene_{i}", box_room(50, seed=i))
    train, val = find_splits(tmp_path / "b", 0.4, 0)
    assert (len(train), len(val)) == (2, 3)
    assert not set(train) & set(val)
    assert find_splits(tmp_path / "b", 0.4, 0) == (train, val)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="0 training and 0 validation"):
        find_splits(tmp_path / "c", None, 0)


def test_labels_are_read_from_the_file_asked_for(tmp_path):
    cloud = box_room(100)
    scene = put_scene(tmp_path / "scene", cloud, segment=None, segment20=cloud.segment)
    assert (read_labelled(scene, "segment20").segment == cloud.segment).all()
    with pytest.raises(DataError, match=r"no segment\.npy; say with --labels"):
        read_labelled(scene, "segment")


def test_samples_are_cached_until_anything_changes(tmp_path):
    scenes = find_splits(put_rooms(tmp_path / "data", {"train": 2, "val": 1}), None, 0)[0]
    calls = []

    def encode(cloud):
        calls.append(len(cloud))
        return cloud.coord, np.arange(len(cloud))

    def samples(most=100, **key):
        return encode_samples(scenes, encode, key, tmp_path / "cache", "segment", [], most, 0, say=lambda text: None)

    first, again = samples(), samples()
    assert len(calls) == 2
    assert all((a.feat == b.feat).all() and (a.label == b.label).all() for a, b in zip(first, again, strict=True))
    samples(weights="others")
    samples(most=50)
    assert len(calls) == 6
    next((tmp_path / "cache").glob("*.npz")).write_bytes(b"damaged")
    np.save(scenes[0] / "color.npy", box_room(seed=7).color)
    samples()
    assert len(calls) in (7, 8)
