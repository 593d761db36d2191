import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import lam3c_plugin
from lam3c_plugin import zoo
from lam3c_plugin.embedded.geometry import PointCloudError
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.encode import Encoder
from lam3c_plugin.encode.models import build_encoder
from lam3c_plugin.errors import CheckpointError, ConfigError
from lam3c_plugin.recipes.ptv3 import ENCODERS
from tests.encode.rooms import GRID, inputs, room, tiny

WIDTHS = (24, 48, 64, 96, 128)


def encode(*arguments, **options):
    return tiny().encode(*arguments, grid_size=GRID, **options)


def test_levels_are_the_last_columns_of_the_full_features():
    full = encode(*inputs(room()))
    assert full.shape == (len(room()), sum(WIDTHS))
    assert full.dtype == np.float32
    assert np.isfinite(full).all()
    for level in range(5):
        part = encode(*inputs(room()), level=level)
        assert part.shape[1] == tiny().channels(level) == sum(WIDTHS[4 - level :])
        assert np.array_equal(part, full[:, full.shape[1] - part.shape[1] :])
    assert tiny().info.channels == (128, 224, 288, 336, 360)
    with pytest.raises(PointCloudError, match="give 'full' or a number from 0 to 4"):
        encode(*inputs(room()), level=5)


def test_it_is_the_same_on_every_run_and_for_arrays_and_tensors():
    first = encode(*inputs(room()))
    assert np.array_equal(first, encode(*inputs(room())))
    tensors = [torch.from_numpy(value.copy()) for value in inputs(room())]
    out = encode(*tensors)
    assert isinstance(out, torch.Tensor)
    assert not out.requires_grad
    assert np.array_equal(out.numpy(), first)
    assert isinstance(encode(*tensors, return_tensor=False), np.ndarray)
    assert isinstance(encode(*inputs(room()), return_tensor=True), torch.Tensor)
    again = Encoder.random("tiny", seed=3, device="cpu"), Encoder.random("tiny", seed=3, device="cpu")
    assert again[0].fingerprint() == again[1].fingerprint() != tiny().fingerprint()


def test_a_batch_gives_each_cloud_what_it_gets_alone():
    clouds = [room(), room(3000, 1)]
    alone = [encode(*inputs(cloud)) for cloud in clouds]
    listed = encode([c.coord for c in clouds], [c.color for c in clouds], [c.normal for c in clouds])
    assert all(np.array_equal(a, b) for a, b in zip(alone, listed, strict=True))
    sizes = [len(c) for c in clouds]
    joined = [np.concatenate(values) for values in zip(*map(inputs, clouds), strict=True)]
    assert np.array_equal(encode(*joined, offset=np.cumsum(sizes)), np.concatenate(alone))
    batch = np.repeat([7, 2], sizes)
    shuffle = np.random.default_rng(0).permutation(sum(sizes))
    mixed = encode(*(value[shuffle] for value in joined), batch=batch[shuffle])
    assert np.array_equal(mixed, np.concatenate(alone)[shuffle])
    assert np.array_equal(encode(*joined, batch=batch), np.concatenate(alone))


@pytest.mark.parametrize("chunk", [None, 1500])
def test_the_order_of_rows_does_not_matter(chunk):
    columns = [np.concatenate([value, value[:2000]]) for value in inputs(room(24_000))]  # many to a cell, and twice
    shuffle = np.random.default_rng(0).permutation(len(columns[0]))
    for given in (columns, columns[:1]):  # normals estimated, too
        mixed = encode(*(value[shuffle] for value in given), chunk=chunk)
        assert np.array_equal(mixed, encode(*given, chunk=chunk)[shuffle])


def test_cells_and_points_tell_the_same():
    result = tiny().encode_cells(*inputs(room()), grid_size=GRID)
    assert np.array_equal(result.feat[result.inverse], encode(*inputs(room())))
    assert result.cells[0] == len(result.feat) == len(result.rows)
    assert np.array_equal(result.inverse[result.rows], np.arange(len(result.rows)))
    assert result.pieces == (1, 1, 1, 1, 1)


def test_half_precision_and_forced_chunks():
    full = encode(*inputs(room()))
    half = encode(*inputs(room()), dtype="float16")
    assert half.dtype == np.float16
    assert np.allclose(half, full, atol=2e-2)
    cut = encode(*inputs(room()), chunk=1500)
    norms = np.linalg.norm(cut, axis=1) * np.linalg.norm(full, axis=1)
    assert np.median((cut * full).sum(1) / norms) > 0.95
    assert np.array_equal(cut, encode(*inputs(room()), chunk=1500))


def test_one_point_and_no_colours_are_enough():
    out = encode(np.array([[1.0, 2.0, 3.0]]))
    assert out.shape == (1, 360)
    assert np.isfinite(out).all()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros((2, 3)),), {"dtype": "int8"}, "choose from float32, float16"),
        ((np.zeros((2, 3)),), {"batch": [0]}, "batch has 1 numbers: one for each of 2 points"),
        ((np.zeros((2, 3)),), {"batch": [0.0, 1.0]}, r"batch has shape \(2,\) .*integers are needed"),
        ((np.zeros((2, 3)),), {"offset": [1.5, 2]}, "offset has shape .*integers"),
        ((np.zeros((2, 3)),), {"offset": "2"}, "offset is no list of whole numbers"),
        ((np.zeros((2, 3)),), {"level": "2"}, "level='2': give 'full' or a number"),
        ((np.zeros((2, 3)),), {"batch": [0, 0], "offset": [2]}, "not both"),
        ((np.zeros((2, 3)),), {"offset": [1]}, "offset .1. does not fit 2 points"),
        (([np.zeros((2, 3))], np.zeros((2, 3))), {}, "give color as a list"),
        (([np.zeros((2, 3)), np.zeros((0, 3))],), {}, "cloud 1: coord is empty"),
        (([np.zeros((2, 3)), np.full((2, 3), np.nan)],), {}, "cloud 1: coord holds NaN"),
        (([np.zeros((2, 3))],), {"offset": [2]}, "list of clouds or batch/offset"),
        (([],), {}, "coord"),
        ((np.full((2, 3), np.nan),), {"offset": [1, 2]}, "cloud 0: coord holds NaN"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(PointCloudError, match=message):
        encode(*arguments, **options)


def test_more_than_the_machine_has_is_refused(monkeypatch):
    monkeypatch.setattr("lam3c_plugin.encode.api.machine_bytes", lambda device: 1e6)
    with pytest.raises(PointCloudError, match="more than this machine has: take encode_cells"):
        encode(*inputs(room()))


def test_memory_that_runs_out_is_said(monkeypatch):
    def full(*arguments):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("lam3c_plugin.encode.api.run_stages", full)
    with pytest.raises(PointCloudError, match=r"out of memory: .* cells, one pass on cpu; give a smaller chunk"):
        encode(*inputs(room()))


def far(array):
    """Map coordinates (UTM)."""
    return array.astype(np.float64) + np.array([432_100.0, 5_412_345.0, 231.0])


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.longdouble),
        lambda a: a.astype(">f4"),
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: torch.from_numpy(a.copy()).T.contiguous().T,
        lambda a: torch.from_numpy(a.copy()).double().requires_grad_(),
        lambda a: a.tolist(),
    ],
)
def test_any_array_of_the_same_numbers(change):
    coord, color, normal = inputs(room(1500))
    out = encode(change(coord), change(color), normal)
    out = out if isinstance(out, np.ndarray) else out.numpy()
    assert np.array_equal(out, encode(coord, color, normal))


@pytest.mark.parametrize("change", [far, lambda a: a[::-1], lambda a: a * [1, 1, 0], lambda a: a * 0, lambda a: a[:2]])
def test_clouds_of_any_shape(change):
    coord = change(room(1500).coord)
    out = encode(coord)
    assert out.shape == (len(coord), 360)
    assert np.isfinite(out).all()
    assert np.array_equal(
        out, encode(np.concatenate([coord, coord[:5]]))[: len(coord)]
    )  # repeated points change nothing


def test_map_coordinates_give_the_features_of_the_room():
    coord, color, normal = inputs(room(1500))
    near, away = encode(coord, color, normal), encode(far(coord), color, normal)
    assert (np.abs(near - away).max(axis=1) < 1e-3).mean() > 0.98  # a point on a cell's border may change sides


def test_devices_are_checked():
    with pytest.raises(ConfigError, match="device='abacus' is unknown"):
        Encoder.random("tiny", device="abacus")
    with pytest.raises(ConfigError, match="PyTorch sees"):
        Encoder.random("tiny", device="cuda:99")
    with pytest.raises(CheckpointError, match=r"no size 'bass'; did you mean 'base'\?"):
        Encoder.random("bass")


# ---- load ----------------------------------------------------------------------------------------------------------


def training_checkpoint(path):
    student, teacher = (Encoder.random("tiny", seed, "cpu") for seed in (4, 5))
    state = {f"module.student.backbone.{k}": v for k, v in student.backbone.state_dict().items()}
    state |= {f"module.teacher.backbone.{k}": v for k, v in teacher.backbone.state_dict().items()}
    state["module.student.mask_head.prototype.weight"] = torch.zeros(4, 4)
    torch.save({"epoch": 1, "state_dict": state}, path)
    return student, teacher


def test_load_takes_the_student_or_the_teacher(tmp_path):
    student, teacher = training_checkpoint(tmp_path / "model_last.pth")
    config = {"config": tiny_config(), "state_dict": student.backbone.state_dict()}
    torch.save(config, tmp_path / "inference.pth")
    loaded = lam3c_plugin.load(tmp_path / "inference.pth", device="cpu")
    assert loaded.fingerprint() == student.fingerprint()
    assert loaded.info.kind == "inference"
    assert np.array_equal(
        loaded.encode(*inputs(room()), grid_size=GRID), student.encode(*inputs(room()), grid_size=GRID)
    )
    # the training run's file has no config: its tensors tell the widths
    assert lam3c_plugin.load(str(tmp_path / "model_last.pth"), device="cpu").fingerprint() == student.fingerprint()
    other = lam3c_plugin.load(tmp_path / "model_last.pth", device="cpu", student=False)
    assert other.fingerprint() == teacher.fingerprint()
    assert other.info.notes


def tiny_config():
    return {"in_channels": 9, "stride": (2, 2, 2, 2), "mask_token": True, "enc_mode": True, **ENCODERS["tiny"]}


def test_a_finetuned_model_lends_its_encoder(tmp_path):
    arguments = {**tiny_config(), "enc_mode": False, "dec_depths": (1,) * 4, "dec_channels": (32, 48, 64, 96)}
    model = PointTransformerV3(**arguments, dec_num_head=(2, 3, 4, 6), dec_patch_size=(64,) * 4)
    state = {f"module.backbone.{k}": v for k, v in model.state_dict().items()}
    state |= {"module.seg_head.weight": torch.zeros(5, 32), "module.seg_head.bias": torch.zeros(5)}
    torch.save({"state_dict": state}, tmp_path / "ft.pth")
    assert lam3c_plugin.load(tmp_path / "ft.pth", device="cpu").channels() == 360


def test_the_config_of_an_index_goes_over_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("LAM3C_HOME", str(tmp_path / "home"))
    torch.save(tiny().backbone.state_dict(), tmp_path / "bare.pth")  # heads and patches leave no trace in it
    digest = hashlib.sha256((tmp_path / "bare.pth").read_bytes()).hexdigest()
    entry = {"name": "their-tiny", "kind": "backbone", "summary": "s", "licence": "mit", "sha256": digest}
    entry |= {"source": {"file": "bare.pth"}, "config": tiny_config()}
    (tmp_path / "index.json").write_text(json.dumps({"format": "lam3c-zoo/1", "entries": [entry]}))
    zoo.add(str(tmp_path / "index.json"))
    model = lam3c_plugin.load("their-tiny", device="cpu")
    assert model.info.config["enc_num_head"] == list(tiny_config()["enc_num_head"])
    columns = inputs(room(800))
    assert np.array_equal(model.encode(*columns, grid_size=0.04), tiny().encode(*columns, grid_size=0.04))


def test_a_head_alone_or_a_text_cannot_be_loaded(tmp_path):
    head = {"seg_head.weight": torch.zeros(20, 1232), "seg_head.bias": torch.zeros(20)}
    torch.save(
        {"config": {"backbone_out_channels": 1232, "num_classes": 20}, "state_dict": head}, tmp_path / "head.pth"
    )
    with pytest.raises(CheckpointError, match="head without a backbone"):
        lam3c_plugin.load(tmp_path / "head.pth")
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    with pytest.raises(CheckpointError):
        lam3c_plugin.load(tmp_path / "page.pth")
    with pytest.raises(CheckpointError, match="do not fit its config"):
        build_encoder({**tiny_config(), "enc_channels": [24, 48, 64, 96, 160]}, tiny().backbone.state_dict())


def test_importing_the_package_stays_light():
    code = "import sys, lam3c_plugin; sys.exit('lam3c_plugin.encode' in sys.modules or not callable(lam3c_plugin.load))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
