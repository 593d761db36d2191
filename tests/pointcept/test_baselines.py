"""The baselines of the paper's table in the unmodified host: Sonata on RoomTours and downstream, MSC on PTv3."""

import math

import pytest
import torch

from tests.pointcept import hosts
from tests.pointcept.test_pretraining import train

TINY_SONATA = ("model.head_in_channels=112", "model.head_hidden_channels=32", "model.head_embed_channels=16")
TINY_DECODER = (
    "model.backbone.dec_depths=(1,1,1,1)",
    "model.backbone.dec_channels=(16,16,32,32)",
    "model.backbone.dec_num_head=(1,1,2,2)",
    "model.backbone.dec_patch_size=(64,64,64,64)",
    "model.backbone_out_channels=16",
)


@pytest.fixture(scope="module")
def sonata(host):
    options = (*hosts.TINY_BACKBONE, *TINY_SONATA, "model.head_num_prototypes=32", *hosts.TINY_RUN)
    out = train(host, "-d", "lam3c", "-c", "pretrain-sonata-v1m1-roomtours", "-n", "sonata", "-g", "1", options=options)
    return host.root / "exp/lam3c/sonata/model/model_last.pth", out


def test_sonata_on_roomtours(sonata):
    losses = hosts.train_losses(sonata[1])
    assert len(losses) == 4
    assert all(math.isfinite(value) for step in losses for value in step.values())


def test_sonata_weights_downstream(host, sonata):
    """Fine-tuning from a Sonata checkpoint, and the refusal where sizes differ."""
    hosts.make_rooms(host.root / "data/scannet", {"train": 2, "val": 1})
    options = (*hosts.TINY_BACKBONE, *TINY_DECODER, "enable_amp=False", "batch_size=2", "num_worker=2")
    options += ("epoch=1", "eval_epoch=1", "data.test.test_cfg.aug_transform=[[]]")
    command = ("-d", "lam3c", "-c", "semseg-lam3c-v1m1-0c-scannet-ft", "-n", "ft", "-g", "1", "-w", sonata[0])
    out = train(host, *command, options=options)
    assert "EncoderLoader: " in out
    tuned = torch.load(host.root / "exp/lam3c/ft/model/model_last.pth", weights_only=False)["state_dict"]
    assert any(name.startswith("backbone.dec.") for name in tuned)

    other = tuple(option.replace("(16,16,32,32,48)", "(16,16,32,32,64)") for option in options)
    out = train(host, *command, options=(*other, "model.backbone.enc_num_head=(1,1,2,2,4)"), ok=False)
    assert "of the encoder's" in out
    assert "have another shape" in out


def test_msc_on_ptv3(host):
    script = hosts.HARNESS.parent / "msc_step.py"
    config = host.root / "configs/lam3c/pretrain-msc-v1m1-ptv3.py"
    out = hosts.run([host.python, script, config], host.root, PYTHONPATH=str(host.root))
    assert "STEP" in out
