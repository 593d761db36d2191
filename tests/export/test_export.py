import numpy as np
import pytest
import torch

from lam3c_plugin.encode.models import build_encoder
from lam3c_plugin.errors import ConfigError
from lam3c_plugin.export import files as exporting
from lam3c_plugin.export.network import DenseEncoder, lookup_tables

CONFIG = {
    "in_channels": 9,
    "order": ["z", "z-trans", "hilbert", "hilbert-trans"],
    "stride": [2, 2],
    "enc_depths": [2, 1, 1],
    "enc_channels": [8, 16, 24],
    "enc_num_head": [1, 2, 3],
    "enc_patch_size": [64, 64, 64],
    "mask_token": True,
}


def small(**changes):
    torch.manual_seed(0)
    backbone = build_encoder({**CONFIG, **changes}).eval().requires_grad_(False)
    for parameter in backbone.parameters():  # biases and norms that do something
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return backbone


@pytest.mark.parametrize("changes", [{}, {"layer_scale": 0.3}, {"pre_norm": False}, {"qkv_bias": False}])
@pytest.mark.parametrize("count", [60, 2000])
def test_the_dense_network_equals_the_encoder(changes, count):
    backbone = small(**changes)
    feat, cells = exporting.made_cloud(count, seed=3)
    with torch.inference_mode():
        found = DenseEncoder(backbone)(feat, *lookup_tables(backbone, cells))
        wanted = exporting.encoder_output(backbone, feat, cells)
    assert found.shape == (len(cells), 48)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_pt2_file_takes_clouds_of_any_size(tmp_path):
    backbone, head = small(), torch.nn.Linear(48, 5).requires_grad_(False)
    path = tmp_path / "encoder.pt2"
    assert exporting.write_torch(exporting.traced(backbone, head), backbone, path, head) < 1e-5
    module = torch.export.load(str(path)).module()
    for count in (50, 700, 3000):
        feat, cells = exporting.made_cloud(count, seed=count)
        found = module(feat, *lookup_tables(backbone, cells))
        wanted = exporting.encoder_output(backbone, feat, cells, head)
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_file_with_other_numbers_gets_no_name(tmp_path):
    def save(path):
        path.write_bytes(b"x")
        return lambda feat, tables: torch.zeros(len(feat), 48)

    with pytest.raises(exporting.ExportError, match="off by 1 of the largest feature; not written"):
        exporting._write(tmp_path / "encoder.pt2", save, small(), None)
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_libraries_names_them(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install onnx onnxscript onnxruntime"):
        exporting.write_onnx(None, None, tmp_path / "encoder.onnx", None)


@pytest.mark.slow
def test_an_onnx_file_gives_the_same_numbers(tmp_path):
    for name in exporting.ONNX_LIBRARIES:
        pytest.importorskip(name)
    backbone = small()
    path = tmp_path / "encoder.onnx"
    assert exporting.write_onnx(exporting.traced(backbone), backbone, path, None) < 1e-5
    assert path.stat().st_size > 4 * sum(p.numel() for p in backbone.parameters()) * 0.9
    feat, cells = exporting.made_cloud(100)
    assert set(exporting.flat_inputs(feat, lookup_tables(backbone, cells))) > {"feat", "rows_2", "parents_1"}
    assert np.isfinite(feat.numpy()).all()
