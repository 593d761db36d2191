"""Every kind of checkpoint is read; everything else is refused in one line, and nothing in a file is ever run."""

import json
import pickle

import pytest
import torch

from lam3c_plugin.checkpoints.architecture import guess_config
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.zoo.card import Card
from lam3c_plugin.zoo.publish import write, write_folder
from tests.zoo.samples import TINY, TOTAL, features, finetuned, same, shaped, tiny_head, tiny_state, training

PLAIN = json.loads(json.dumps(TINY))


def saved(path, content):
    torch.save(content, path)
    return path


def refused(path, *words, **options):
    with pytest.raises(CheckpointError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


# ----------------------------------------------------------------------------------------- the reference's key lists
@pytest.mark.parametrize("size", ["base", "large"])
def test_the_config_follows_from_the_reference_shapes(size):
    state = shaped(f"ptv3_{size}_backbone_keys.json")
    config = guess_config(state)
    wide = size == "large"
    assert config["enc_depths"] == [3, 3, 3, 12, 3]
    assert config["enc_channels"] == ([64, 128, 256, 512, 768] if wide else [48, 96, 192, 384, 512])
    assert config["enc_num_head"] == ([4, 8, 16, 32, 48] if wide else [3, 6, 12, 24, 32])
    assert (config["in_channels"], config["mlp_ratio"], config["qkv_bias"]) == (9, 4, True)
    assert config["mask_token"]
    assert config["enc_mode"]


@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_reference_files_of_every_layout(tmp_path, size, prefix):
    student, teacher = (shaped(f"ptv3_{size}_backbone_keys.json", start) for start in (1.0, 1001.0))
    heads = shaped(f"ptv3_{size}_head_keys.json")
    run = saved(tmp_path / "run.pth", training(student, teacher, prefix, heads))
    weights = read(run)
    assert (weights.kind, weights.head) == ("training", None)
    assert same(weights.backbone, student)
    assert weights.keys_report() == "453 matched, 0 missing, 0 unexpected, 0 reshaped"
    if size == "base":
        assert same(read(run, part="teacher").backbone, teacher)
    zoo_file = saved(tmp_path / "zoo.pth", {"config": weights.backbone_config, "state_dict": student})
    again = read(zoo_file)
    assert (again.kind, again.notes) == ("inference", [])
    assert same(again.backbone, student)
    head = {"seg_head.weight": torch.tensor(3.0).expand(20, TOTAL[size]), "seg_head.bias": torch.zeros(20)}
    tuned = read(saved(tmp_path / "tuned.pth", finetuned(student, head, prefix)))
    assert tuned.kind == "finetuned"
    assert same(tuned.backbone, student)
    assert same(tuned.head, head)
    assert tuned.head_config == {"backbone_out_channels": TOTAL[size], "num_classes": 20}
    probe = read(saved(tmp_path / "probe.pth", {"config": tuned.head_config, "state_dict": head}))
    assert (probe.kind, probe.backbone_config, probe.backbone) == ("head", None, {})
    assert same(probe.head, head)


# ------------------------------------------------------------------------------------------------- configs, small ones
def test_the_same_features_out_of_every_format(tmp_path):
    state, head = tiny_state(), tiny_head()
    wanted = features(TINY, state)
    source = read(saved(tmp_path / "zoo.pth", {"config": TINY, "state_dict": state}))
    source.head, source.head_config = head, {"backbone_out_channels": 96, "num_classes": 20}
    assert source.backbone_config == PLAIN
    files = {layout: tmp_path / f"{layout}.pth" for layout in ("backbone", "training", "segmentor")}
    for layout, path in {**files, "safetensors": tmp_path / "a.safetensors"}.items():
        write(source, path, layout)
        weights = read(path, config=PLAIN if layout in ("training", "segmentor") else None)
        assert weights.backbone_config == PLAIN
        assert torch.equal(features(weights.backbone_config, weights.backbone), wanted)
    write_folder(source, tmp_path / "hub", Card("tiny"))
    weights = read(tmp_path / "hub")
    assert weights.kind == "folder"
    assert same(weights.head, head)
    assert torch.equal(features(weights.backbone_config, weights.backbone), wanted)


def test_a_decoder_is_recognised(tmp_path):
    decoder = dict(dec_depths=(1, 2), dec_channels=(16, 32), dec_num_head=(1, 2), dec_patch_size=(64, 64))
    state = tiny_state(enc_mode=False, **decoder)
    weights = read(saved(tmp_path / "run.pth", finetuned(state, tiny_head(16))))
    config = weights.backbone_config
    assert (config["enc_mode"], config["dec_depths"], config["dec_channels"]) == (False, [1, 2], [16, 32])
    assert weights.keys_report().startswith(f"{len(state)} matched, 0 missing, 0 unexpected")


def test_the_runs_own_config_is_read_and_not_run(tmp_path):
    (tmp_path / "run/model").mkdir(parents=True)
    trap = tmp_path / "trap"
    text = f"open({str(trap)!r}, 'w').close()\nseed = 3\nmodel = dict(type='LAM3C-v1m1', backbone={TINY!r})\n"
    (tmp_path / "run/config.py").write_text(text.replace("'enc_num_head': (1, 2, 3)", "'enc_num_head': (2, 4, 6)"))
    weights = read(saved(tmp_path / "run/model/model_last.pth", training(tiny_state(), tiny_state(1))))
    assert weights.backbone_config["enc_num_head"] == [2, 4, 6]
    assert weights.backbone_config["enc_patch_size"] == [64, 64, 64]
    assert weights.notes == ["heads, patches and curves are those of the run's config"]
    assert not trap.exists()


def test_assumptions_are_said(tmp_path):
    path = saved(tmp_path / "bare.pth", tiny_state())
    weights = read(path)
    assert weights.backbone_config["enc_num_head"] == [1, 2, 3]
    assert "ASSUMPTION" in weights.notes[0]
    given = read(path, config=PLAIN)
    assert given.notes == []
    assert given.backbone_config == PLAIN


def test_arguments_of_other_packages_are_left_out(tmp_path):
    path = saved(tmp_path / "a.pth", {"config": {**TINY, "pdnorm_bn": False}, "state_dict": tiny_state()})
    weights = read(path)
    assert weights.backbone_config == PLAIN
    assert weights.notes == ["arguments that mean nothing here were left out: pdnorm_bn"]


def test_types_stay(tmp_path):
    half = {key: value.half() for key, value in tiny_state().items()}
    weights = read(saved(tmp_path / "a.pth", {"config": TINY, "state_dict": half}))
    assert {value.dtype for value in weights.backbone.values()} == {torch.float16}


def test_a_missing_teacher_is_said(tmp_path):
    state = {f"student.backbone.{key}": value for key, value in tiny_state().items()}
    assert "there is no teacher" in read(saved(tmp_path / "a.pth", state), part="teacher").notes[0]
    refused(tmp_path / "a.pth", "part='pupil'", part="pupil")


# ------------------------------------------------------------------------------------------------------ the 95 % rule
def test_less_than_95_percent_of_the_encoder_is_an_error(tmp_path):
    state = tiny_state()
    encoder = [key for key in state if key != "embedding.mask_token"]
    blocks = [key for key in encoder if ".block1." in key]
    few = {key: value for key, value in state.items() if key not in blocks[:2]}
    weights = read(saved(tmp_path / "few.pth", {"config": TINY, "state_dict": few}))
    assert f", 2 missing, 0 unexpected, 0 reshaped ({blocks[0]}, {blocks[1]})" in weights.keys_report()
    less = {key: value for key, value in state.items() if key not in blocks}
    wanted = f"only {len(encoder) - len(blocks)} of the encoder's {len(encoder)} tensors match"
    refused(saved(tmp_path / "less.pth", {"config": TINY, "state_dict": less}), wanted, "at least 95%", "--config")
    other = {**TINY, "enc_channels": (16, 32, 64), "enc_num_head": (1, 2, 4)}
    text = refused(saved(tmp_path / "other.pth", {"config": other, "state_dict": state}), "of another shape")
    assert "48 for 64" in text
    refused(saved(tmp_path / "odd.pth", {"config": {**TINY, "stride": (2,)}, "state_dict": state}), "stride has 1")


# -------------------------------------------------------------------------------------------------------- wrong files
def test_files_that_are_no_weights(tmp_path):
    def file(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    refused(file("a.pth", b""), "is empty")
    refused(file("b.pth", b"hello, this is a note\n" * 400), "a text file", "give a .pth")
    refused(file("c.pth", "grüße\n".encode() * 900), "a text file")
    refused(file("d.pth", b"\n <!DOCTYPE html><html>404</html>"), "an HTML page", "lam3c zoo download")
    refused(file("e.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "git lfs pull")
    refused(file("f.pth", b"\x00\x01\x02\xff" * 900), "neither a PyTorch nor a safetensors file")
    refused(file("g.pth", b"\x80\x04garbage" * 50), "cannot read")
    refused(file("h.safetensors", (60).to_bytes(8, "little") + b'{"x": 1'), "damaged safetensors header")
    refused(tmp_path / "a.pt", "not found", "did you mean a.pth or")
    refused(tmp_path / "none/a.pt", "lam3c zoo list")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_truncated_files(tmp_path, name):
    weights = read(saved(tmp_path / "zoo.pth", {"config": TINY, "state_dict": tiny_state()}))
    write(weights, tmp_path / name, "backbone" if name.endswith("pth") else "safetensors")
    whole = (tmp_path / name).read_bytes()
    for share in (0.02, 0.5, 0.99):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        refused(tmp_path / name, name, "get it again")


def test_damage_at_the_end_of_a_file(tmp_path):
    path = saved(tmp_path / "a.pth", {"config": TINY, "state_dict": tiny_state()})
    content = bytearray(path.read_bytes())
    disks = content.rindex(b"PK\x06\x07") + 16  # "zip files that span multiple disks"
    content[disks] = 7
    path.write_bytes(bytes(content))
    refused(path, "or damaged", "get it again")


def test_damage_inside_a_file(tmp_path):
    path = saved(tmp_path / "a.pth", {"config": TINY, "state_dict": tiny_state()})
    content = bytearray(path.read_bytes())
    content[40:900] = b"x" * 860
    path.write_bytes(bytes(content))
    refused(path, "cannot read")


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_wants_more_is_refused_and_never_run(tmp_path, monkeypatch, legacy):
    trap = tmp_path / "trap"
    monkeypatch.setenv("LAM3C_TRUST_CHECKPOINTS", "1")  # for a run's own checkpoints; not for the zoo
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    content = {"config": TINY, "state_dict": tiny_state(), "extra": Evil(trap)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    refused(tmp_path / "a.pth", "was refused, and nothing in it was run", "open", "safetensors")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Evil(trap)))
    refused(tmp_path / "b.pth", "b.pth")
    assert not trap.exists()


def test_other_architectures(tmp_path):
    resnet = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.bn1.weight": torch.zeros(64)}
    refused(saved(tmp_path / "a.pth", {"state_dict": resnet}), "not the weights of a LAM3C", "conv1.weight")
    old = {"embedding.stem.conv.weight": torch.zeros(32, 5, 5, 5, 6), "enc.enc0.block0.fc.weight": torch.zeros(3)}
    refused(saved(tmp_path / "b.pth", {"state_dict": old}), "embedding.stem.linear.weight")
    refused(saved(tmp_path / "c.pth", {"epoch": 3}), "no weights")
    refused(saved(tmp_path / "d.pth", [1, 2]), "holds a list")
    mlp = {"seg_head.0.weight": torch.zeros(4, 4), "seg_head.0.bias": torch.zeros(4)}
    refused(saved(tmp_path / "e.pth", {"state_dict": mlp}), "a head that is not one linear layer")


def test_folders(tmp_path):
    refused(tmp_path, "should hold one weights file", "none")
    saved(tmp_path / "a.pth", {"config": TINY, "state_dict": tiny_state()})
    assert read(tmp_path).kind == "folder"
    (tmp_path / "config.json").write_text("[")
    refused(tmp_path, "config.json", "not JSON")
    (tmp_path / "config.json").unlink()
    saved(tmp_path / "b.pth", {})
    refused(tmp_path, "a.pth, b.pth")
