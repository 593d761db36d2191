import numpy as np
import pytest

from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.commands.shared import classes
from lam3c_plugin.commands.shared.heads import find_head, read_head, write_head
from lam3c_plugin.encode import Encoder
from lam3c_plugin.errors import CheckpointError, DataError
from lam3c_plugin.labels import SCANNET_20
from lam3c_plugin.zoo.publish import write


def made_head(path, channels=360, names=("a", "b", "c")):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(len(names), channels)).astype(np.float32)
    return write_head(path, weight, rng.normal(size=len(names)).astype(np.float32), names), weight


def test_a_head_comes_back_as_written(tmp_path):
    path, weight = made_head(tmp_path / "head.pth")
    head = read_head(str(path))
    assert (head.weight == weight).all()
    assert head.names == ["a", "b", "c"]


def test_class_names_survive_a_conversion(tmp_path):
    made_head(tmp_path / "head.pth")
    write(read(tmp_path / "head.pth"), tmp_path / "head.safetensors", "safetensors")
    head = read_head(str(tmp_path / "head.safetensors"))
    assert head.names == ["a", "b", "c"]
    assert np.array_equal(head.weight, read_head(str(tmp_path / "head.pth")).weight)


def test_heads_that_do_not_fit_are_named(tmp_path):
    encoder = Encoder.random("tiny")
    path, _ = made_head(tmp_path / "head.pth", channels=12)
    with pytest.raises(CheckpointError, match=r"head\.pth reads 12 channels, the encoder gives 360"):
        find_head(str(path), encoder)
    with pytest.raises(CheckpointError, match=r"1232 channels \(lam3c-ptv3-base-scannet-probe\).*gives 360; train one"):
        find_head("scannet", encoder)
    with pytest.raises(CheckpointError, match="no head: give --head"):
        find_head(None, encoder)


def test_names_of_classes(tmp_path):
    assert classes.class_names(None, 20) == SCANNET_20
    assert classes.class_names(None, 3) == ["class 0", "class 1", "class 2"]
    (tmp_path / "names.txt").write_text("x\ny\n\nz\n")
    assert classes.class_names(str(tmp_path / "names.txt"), 3) == ["x", "y", "z"]
    with pytest.raises(DataError, match="has 20 names, there are 3"):
        classes.class_names("scannet", 3)
    with pytest.raises(DataError, match="neither a benchmark nor a file; did you mean 'scannet'"):
        classes.class_names("scanet", 20)


def test_names_of_labels_follow_the_data(tmp_path):
    (tmp_path / "meta.json").write_text('{"classes": ["floor", "wall"]}')
    assert classes.names_of_labels(None, "segment", tmp_path, 1) == ["floor", "wall"]
    assert classes.names_of_labels(None, "segment20", tmp_path, 3) == SCANNET_20
    assert classes.names_of_labels(None, "segment", tmp_path / "none", 2) == ["class 0", "class 1", "class 2"]
    with pytest.raises(DataError, match=r"labels go up to 255.*--ignore 255"):
        classes.names_of_labels(None, "segment", tmp_path, 255)
