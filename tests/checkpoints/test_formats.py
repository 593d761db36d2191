"""Base and Large with all their numbers: every layout of checkpoint that people have, there and back; features."""

import json

import pytest
import torch

from lam3c_plugin.checkpoints.convert import tensors_digest
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.encode import load
from lam3c_plugin.encode.models import build_encoder
from lam3c_plugin.recipes.ptv3 import ENCODERS
from lam3c_plugin.zoo.publish import write
from tests.rooms import synthetic_room
from tests.zoo.samples import DATA, TOTAL, finetuned, same, training

#: of the published files: PTv3's arguments as the zoo's .pth have them, tuples and all
COMMON = {
    "in_channels": 9,
    "order": ("z", "z-trans", "hilbert", "hilbert-trans"),
    "stride": (2, 2, 2, 2),
    "mlp_ratio": 4,
    "qkv_bias": True,
    "drop_path": 0.3,
    "shuffle_orders": True,
    "enable_flash": True,
    "mask_token": True,
    "enc_mode": True,
}


def numbers(size, seed):
    """A backbone with the reference's names and shapes, and weights of a useful scale."""
    torch.manual_seed(seed)
    with torch.no_grad():
        state = PointTransformerV3(**COMMON, **ENCODERS[size]).state_dict()
        state = {key: value + 0.02 * torch.randn_like(value) for key, value in state.items()}
    shapes = json.loads((DATA / f"ptv3_{size}_backbone_keys.json").read_text())
    assert {key: list(value.shape) for key, value in state.items()} == shapes
    return state


@pytest.mark.slow
@pytest.mark.parametrize("size", ["base", "large"])
def test_every_layout_there_and_back_with_the_same_features(tmp_path, size):
    student, teacher = numbers(size, 0), numbers(size, 1)
    head = {"seg_head.weight": torch.randn(20, TOTAL[size]), "seg_head.bias": torch.randn(20)}
    room, _ = synthetic_room(points=3000, noise="clean")

    def features(path, **options):
        out = load(path, device="cpu", **options).encode(room.coord, room.color, room.normal, grid_size=0.1)
        assert out.shape == (len(room), TOTAL[size])
        return torch.from_numpy(out)

    config = {**COMMON, **ENCODERS[size]}
    backbone = build_encoder(config, student).eval()
    assert same(dict(backbone.state_dict()), student)
    first = tmp_path / "lam3c_ptv3.pth"
    torch.save({"config": config, "state_dict": student}, first)
    wanted, digest = features(first), tensors_digest(read(first))
    assert float(wanted.std(0).mean()) > 0.01

    for prefix in ("module.", ""):
        path = tmp_path / "layout.pth"
        torch.save(training(student, teacher, prefix), path)
        assert torch.equal(features(path), wanted)
        if not prefix:
            other = features(path, student=False)
            assert not torch.allclose(other, wanted, atol=1e-3)
            write(read(path, part="teacher"), tmp_path / "teacher.safetensors", "safetensors")
            assert torch.equal(features(tmp_path / "teacher.safetensors"), other)
        torch.save(finetuned(student, head, prefix), path)
        assert torch.equal(features(path), wanted)
    source = read(path)  # the fine-tuned one: backbone and head
    assert same(source.head, head)
    for layout in ("backbone", "safetensors", "training", "segmentor", "folder"):
        target = tmp_path / {"safetensors": "a.safetensors", "folder": "hub"}.get(layout, f"{layout}.pth")
        write(source, target, layout)
        again = read(target)
        assert same(again.backbone, student)
        if again.head:
            assert same(again.head, head)
        assert torch.equal(features(target), wanted)
        again.head = None
        write(again, tmp_path / "back.pth", "backbone")
        assert tensors_digest(read(tmp_path / "back.pth")) == digest
