"""One rule for splits: the same scene is on the same side, whichever tool writes it, and stays there."""

import numpy as np
import pytest

from data_tools.chain.items import Places, SceneItem, VideoItem
from data_tools.chain.journal import Journal
from data_tools.chain.plan import ChainSettings, Planner
from data_tools.chain.recorded import Settings
from data_tools.clouds.io import Cloud, write_ply
from data_tools.packaging.clouds import package_cloud
from data_tools.packaging.run import plan
from data_tools.postprocess import main as postprocess
from data_tools.stages.files import write_json
from data_tools.stages.scene_folder import META, read_meta, write_scene
from data_tools.stages.splits import split_of, video_of, written_splits

LOOSE = ["--no-preview", "--min-score=0", "--max-double=1", "--max-noise=9", "--min-coverage=0"]
LOOSE += ["--least-points=0"]
CLOUD = Cloud(np.eye(3, dtype=np.float32))


def chain_split(out, video, val_share):
    settings = ChainSettings(Settings.of({}), "train", val_share)
    planner = Planner(Places(out, out / "_work"), settings, Journal(out / "log"), "run", lambda folder: [])
    return planner.folder("postprocess", VideoItem(video), SceneItem(f"{video}_000")).parent.name


def package_split(path, out, val_share):
    (job,) = plan([path], out, "train", val_share)
    return job.split_dir.name


def test_a_share_of_the_keys_goes_to_val_and_more_for_a_larger_share():
    keys = [f"video{number}" for number in range(400)]
    few, many = ({key for key in keys if split_of(key, "train", share) == "val"} for share in (0.1, 0.3))
    assert few < many
    assert 20 < len(few) < 60
    assert 90 < len(many) < 150
    assert {split_of(key, "other", 0.0) for key in keys} == {"other"}


def test_chain_and_package_agree_on_every_scene_of_a_video(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    splits = set()
    for number in range(30):
        video = f"v{number}"
        expected = chain_split(new, video, 0.3)
        splits.add(expected)
        for scene in range(2):
            name = f"{video}_{scene:03d}"
            write_scene(old / "train" / name, CLOUD, {"video": video, "source": {"name": name}})
            assert package_split(old / "train" / name, new, 0.3) == expected
        write_scene(old / "alone" / video, CLOUD, {})
        assert video_of(old / "alone" / video) == ""
        assert package_split(old / "alone" / video, new, 0.3) == expected
    assert splits == {"train", "val"}


@pytest.mark.parametrize("kept", ["val", "test"])
def test_a_written_scene_keeps_its_split(tmp_path, kept):
    out = tmp_path / "out"
    cloud = Cloud(np.random.default_rng(0).random((400, 3), dtype=np.float32) * 4)
    source = tmp_path / "in" / "tour_000.ply"
    write_ply(source, cloud)
    assert package_split(source, out, 0.0) == chain_split(out, "tour", 0.0) == "train"
    package_cloud(source, out / kept)
    assert written_splits(out, "tour_000") == [kept]
    assert package_split(source, out, 0.0) == package_split(source, out, 0.99) == kept
    assert chain_split(out, "tour", 0.0) == kept
    (out / "clean" / "tour_000").mkdir(parents=True)  # a post-processed scene below the data set is no split of it
    write_json(out / "clean" / "tour_000" / META, {"name": "tour_000"})
    assert written_splits(out, "tour_000") == [kept]
    assert postprocess([str(source), "--out", str(out), *LOOSE]) == 0
    assert written_splits(out, "tour_000") == [kept]
    assert "quality" in read_meta(out / kept / "tour_000")
