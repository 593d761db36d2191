"""WeightLoader and EncoderLoader: every kind of checkpoint, what it reports, and when it refuses."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lam3c_plugin import zoo
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.hooks.weight_loader import EncoderLoader, load_encoder
from lam3c_plugin.host import HOOKS, build_model
from lam3c_plugin.zoo.publish import write
from tests.embedded.test_segmentor import BACKBONE, segmentor


def backbone(seed=1, **changes):
    torch.manual_seed(seed)
    model = build_model({**BACKBONE, "enc_mode": True, "mask_token": True, **changes})
    return {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}


class Settings(dict):
    """A config as both engines have them."""

    __getattr__ = dict.__getitem__


def run(model, weight, resume=False, hook="EncoderLoader", data=None, **options):
    lines = []
    logger = SimpleNamespace(info=lines.append, warning=lines.append)
    trainer = SimpleNamespace(model=model, cfg=Settings(weight=weight, resume=resume, data=data), logger=logger)
    hook = HOOKS.build(dict(type=hook, **options))
    hook.trainer = trainer
    hook.before_train()
    return hook, " ".join(lines)


def assert_loaded(model, bare):
    for name, tensor in model.backbone.state_dict().items():
        if name.startswith(("embedding.", "enc.")):
            assert torch.equal(tensor, bare[name]), name


@pytest.mark.parametrize(("own", "is_said"), [(0.04, True), (0.02, False), (None, False)])
def test_cells_of_another_size_than_the_weights_own_are_said(own, is_said, tmp_path):
    torch.save({"state_dict": backbone(), "inputs": {"grid_size": own}}, tmp_path / "weights.pth")
    data = {"train": {"transform": [{"type": "GridSample", "grid_size": 0.02}]}}
    _, said = run(segmentor(), str(tmp_path / "weights.pth"), data=data)
    assert ("trained on cells of 0.04 m, and the training transforms have 0.02 m" in said) == is_said


def layouts(bare):
    other = {name: torch.zeros_like(tensor) for name, tensor in bare.items()}
    student = {f"student.backbone.{name}": tensor for name, tensor in bare.items()}
    teacher = {f"teacher.backbone.{name}": tensor for name, tensor in other.items()}
    heads = {"student.mask_head.mlp.0.weight": torch.ones(3, 3)}
    pretrain = {**teacher, **student, **heads}
    return {
        "training run": {"epoch": 3, "state_dict": pretrain, "optimizer": {}},
        "training run under DDP": {"state_dict": {f"module.{name}": tensor for name, tensor in pretrain.items()}},
        "model zoo": {"config": {"enc_depths": (1,) * 5}, "state_dict": bare},
        "fine-tuned": {
            "state_dict": {f"module.backbone.{name}": t for name, t in bare.items()}
            | {"module.seg_head.weight": torch.ones(5, 96), "module.seg_head.bias": torch.ones(5)}
        },
    }


@pytest.mark.parametrize("kind", ["training run", "training run under DDP", "model zoo", "fine-tuned"])
@pytest.mark.parametrize("decoder", [False, True])
def test_loads_every_kind(kind, decoder, tmp_path):
    bare = backbone()
    torch.save(layouts(bare)[kind], tmp_path / "weights.pth")
    model = segmentor(12, enc_mode=False) if decoder else segmentor()
    head = model.seg_head.weight.clone()
    hook, said = run(model, str(tmp_path / "weights.pth"))
    assert_loaded(model, bare)
    assert torch.equal(model.seg_head.weight, head)
    assert hook.report.unexpected == []  # the mask token, which the segmentor has not, is no loss
    assert bool(hook.report.missing) == decoder
    assert ("missing" in said) == decoder
    assert "EncoderLoader: " in said


@pytest.mark.parametrize("layout", ["backbone", "training", "segmentor", "safetensors", "folder", "name", "spelling"])
def test_converted_checkpoints_start_a_run(layout, tmp_path, monkeypatch):
    monkeypatch.setenv("LAM3C_HOME", str(tmp_path / "home"))
    bare = backbone()
    head = {"seg_head.weight": torch.ones(5, 96), "seg_head.bias": torch.ones(5)}
    torch.save({"state_dict": {**bare, **head}}, tmp_path / "sonata.pth")
    if layout in ("name", "spelling"):
        weight = "sonata-ptv3-base" if layout == "name" else "Sonata"
        with pytest.raises(
            CheckpointError, match="a run does not download; `lam3c zoo download sonata-ptv3-base` does"
        ):
            run(segmentor(), weight)
        zoo.resolve("sonata-ptv3-base", source=tmp_path)
    else:
        weight = tmp_path / ("a.safetensors" if layout == "safetensors" else "hub" if layout == "folder" else "a.pth")
        write(read(tmp_path / "sonata.pth"), weight, layout)
    model = segmentor()
    run(model, str(weight))
    assert_loaded(model, bare)


def test_teacher_on_request(tmp_path):
    bare = backbone()
    torch.save(layouts(bare)["training run"], tmp_path / "weights.pth")
    model = segmentor()
    run(model, str(tmp_path / "weights.pth"), part="teacher")
    assert_loaded(model, {name: torch.zeros_like(tensor) for name, tensor in bare.items()})


def pretraining(seed=2, **changes):
    torch.manual_seed(seed)
    head = dict(type="SinkhornHead", in_channels=24 + 32, hidden_channels=8, embed_channels=4, num_prototypes=6)
    backbone = {**BACKBONE, "enc_mode": True, "mask_token": True, "traceable": True, **changes}
    return build_model(dict(type="LAM3C-v1m1", backbone=backbone, head=head, up_cast_level=1))


@pytest.mark.parametrize("kind", ["model zoo", "fine-tuned"])
def test_backbone_weights_start_student_and_teacher(kind, tmp_path):
    bare = backbone()
    torch.save(layouts(bare)[kind], tmp_path / "sonata.pth")
    model = pretraining()
    hook, said = run(model, str(tmp_path / "sonata.pth"), hook="WeightLoader")
    for part in (model.student, model.teacher):
        state = part["backbone"].state_dict()
        assert all(torch.equal(state[name], bare[name]) for name in state)
    assert not hook.report.reshaped
    assert all("head" in name for name in hook.report.missing)
    assert f"WeightLoader: {tmp_path}/sonata.pth: {2 * len(bare)} weights matched" in said


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_training_checkpoint_starts_everything(prefix, tmp_path):
    other = pretraining(seed=3).state_dict()
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in other.items()}}, tmp_path / "run.pth")
    model = pretraining()
    hook, _ = run(model, str(tmp_path / "run.pth"), hook="WeightLoader")
    assert hook.report.exact
    assert all(torch.equal(tensor, other[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("channels", [(16, 16, 32, 48, 64), (16, 16, 16, 24, 32)])  # all stages, or the first only
def test_weights_of_another_size_do_not_start_a_pre_training(channels, tmp_path):
    torch.save({"state_dict": backbone()}, tmp_path / "base.pth")
    other = pretraining(enc_channels=channels)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"base.pth is of another architecture .* of another shape") as caught:
        run(other, str(tmp_path / "base.pth"), hook="WeightLoader")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_wrapped_models(tmp_path):
    """Under DistributedDataParallel the model is one attribute further down."""
    bare = backbone()
    torch.save({"state_dict": bare}, tmp_path / "weights.pth")
    wrapper = nn.Module()
    wrapper.module = segmentor()
    run(wrapper, str(tmp_path / "weights.pth"))
    assert_loaded(wrapper.module, bare)


def test_another_size_is_refused_and_changes_nothing(tmp_path):
    bare = backbone(enc_channels=(16, 16, 32, 48, 64))
    torch.save({"state_dict": bare}, tmp_path / "large.pth")
    model = segmentor()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        run(model, str(tmp_path / "large.pth"))
    message = str(caught.value)
    assert "large.pth: only" in message
    assert "at least 95%" in message
    assert "another shape, first embedding.stem.linear.weight: (16, 9) in the file, (8, 9) in the model" in message
    assert "\n" not in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("lost", "fits"), [(0.04, True), (0.07, False)])
def test_95_per_cent_of_the_encoder(lost, fits):
    bare = backbone()
    encoder = [name for name in bare if name != "embedding.mask_token"]
    for name in encoder[: round(lost * len(encoder))]:
        del bare[name]
    model = segmentor()
    if fits:
        assert load_encoder(model.backbone, bare).missing
    else:
        with pytest.raises(CheckpointError, match="of the encoder's"):
            load_encoder(model.backbone, bare)


def test_foreign_files_are_refused(tmp_path):
    torch.save({"state_dict": {"layer1.conv.weight": torch.ones(3)}}, tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"names do not fit \(first: layer1.conv.weight\)"):
        run(segmentor(), str(tmp_path / "resnet.pth"))
    with pytest.raises(CheckpointError, match="not found"):
        run(segmentor(), str(tmp_path / "nowhere.pth"))
    with pytest.raises(CheckpointError, match="has no backbone"):
        run(nn.Linear(2, 2), str(tmp_path / "resnet.pth"))
    plain = nn.Module()
    plain.backbone = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"no embedding\.\* and enc\.\*"):
        run(plain, str(tmp_path / "resnet.pth"))
    with pytest.raises(ValueError, match="must be student or teacher"):
        EncoderLoader(part="both")


@pytest.mark.parametrize("name", ["EncoderLoader", "WeightLoader"])
def test_without_weight_it_says_so(name):
    hook, said = run(segmentor(), None, hook=name)
    assert hook.report is None
    assert "from scratch" in said


@pytest.mark.parametrize("name", ["EncoderLoader", "WeightLoader"])
def test_resume_is_the_checkpoint_loader_s(name, monkeypatch):
    calls = []
    loader = HOOKS.get("CheckpointLoader")
    monkeypatch.setattr(loader, "before_train", lambda self: calls.append(self.trainer))
    model = segmentor()
    run(model, "exp/run/model/model_last.pth", resume=True, hook=name)
    assert len(calls) == 1
    assert calls[0].model is model


def test_messages_reach_the_log(tmp_path, caplog):
    torch.save({"state_dict": backbone()}, tmp_path / "weights.pth")
    logger = logging.getLogger("lam3c_plugin")
    hook = EncoderLoader()
    cfg = Settings(weight=str(tmp_path / "weights.pth"), resume=False)
    hook.trainer = SimpleNamespace(model=segmentor(), cfg=cfg, logger=logger)
    with caplog.at_level(logging.INFO, logger="lam3c_plugin"):
        hook.before_train()
    assert "encoder tensors from" in caplog.text
