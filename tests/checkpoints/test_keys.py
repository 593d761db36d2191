"""Checkpoints: full disks, damaged files, other architectures, and weights of one layout in a model of another."""

from __future__ import annotations

import errno
import os
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from lam3c_plugin.checkpoints import keys
from lam3c_plugin.checkpoints.keys import (
    backbone_state,
    copy_atomic,
    layout_of,
    load_weights,
    map_state,
    read_checkpoint,
    save_atomic,
    state_dict_of,
    warm_start,
)
from lam3c_plugin.errors import CheckpointError


def backbone(width=4):
    return nn.ModuleDict({"embedding": nn.Linear(3, width), "enc": nn.Linear(width, width)})


def pretrain(width=4, head=5):
    def one():
        return nn.ModuleDict({"backbone": backbone(width), "mask_head": nn.Linear(width, head)})

    return nn.ModuleDict({"student": one(), "teacher": one()})


def downstream(width=4):
    return nn.ModuleDict({"backbone": backbone(width), "seg_head": nn.Linear(width, 2)})


def save(path, model, ddp=False, **extra):
    state = {("module." if ddp else "") + key: value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, **extra}, path)
    return path


def same(first, second):
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_layouts():
    assert [layout_of(make().state_dict()) for make in (pretrain, downstream, backbone)] == [
        "pretrain",
        "downstream",
        "backbone",
    ]


@pytest.mark.parametrize("ddp", [False, True])
def test_pretraining_checkpoint_into_pretraining_model(tmp_path, ddp):
    source, target = pretrain(), pretrain()
    report = warm_start(target, save(tmp_path / "w.pth", source, ddp, epoch=3))
    assert report.exact
    assert same(source, target)


def test_zoo_checkpoint_fills_student_and_teacher(tmp_path):
    source, target = backbone(), pretrain()
    head = target["student"]["mask_head"].weight.clone()
    report = warm_start(target, save(tmp_path / "w.pth", source, config={"enc_depths": [1]}))
    assert same(source, target["student"]["backbone"])
    assert same(source, target["teacher"]["backbone"])
    assert torch.equal(head, target["student"]["mask_head"].weight)
    assert (len(report.matched), len(report.missing), len(report.unexpected)) == (8, 4, 0)
    assert "8 weights matched, 4 missing (student.mask_head.weight" in report.summary()


def test_student_goes_downstream(tmp_path):
    source = pretrain()
    path = save(tmp_path / "w.pth", source, ddp=True)
    for keywords in ({}, dict(keywords="module.student.backbone", replacement="module.backbone")):
        target = downstream()
        report = warm_start(target, path, **keywords)
        assert same(source["student"]["backbone"], target["backbone"])
        assert report.missing == ["seg_head.weight", "seg_head.bias"]
    bare = backbone()
    warm_start(bare, path)
    assert same(source["student"]["backbone"], bare)
    zoo = save(tmp_path / "zoo.pth", bare)  # keywords of a training checkpoint, given a zoo file
    target = downstream()
    warm_start(target, zoo, keywords="module.student.backbone", replacement="module.backbone")
    assert same(bare, target["backbone"])


def test_other_directions():
    source = pretrain().state_dict()
    assert set(backbone_state(source)) == set(backbone().state_dict())
    teacher = backbone_state(source, "teacher")
    assert torch.equal(teacher["enc.weight"], source["teacher.backbone.enc.weight"])
    only_student = {key: value for key, value in source.items() if key.startswith("student.")}
    assert set(map_state(only_student, source)) == set(source)
    fine_tuned = map_state(downstream().state_dict(), source)
    assert set(fine_tuned) == {key for key in source if ".backbone." in key}


@pytest.mark.parametrize("make", [pretrain, downstream, backbone])
def test_another_architecture_is_one_line(tmp_path, make):
    path = save(tmp_path / "w.pth", pretrain(8))
    target = make(4)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(CheckpointError) as raised:
        warm_start(target, path)
    message = str(raised.value)
    assert "another architecture" in message
    assert "of another shape (" in message
    assert "8x3 for 4x3" in message
    assert "\n" not in message
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_strict_and_lenient_heads(tmp_path):
    source, target = pretrain(head=6), pretrain(head=5)
    report = load_weights(target, source.state_dict())
    assert len(report.reshaped) == 4
    with pytest.raises(CheckpointError, match="4 of another shape"):
        load_weights(target, source.state_dict(), strict=True)
    with pytest.raises(CheckpointError, match="0 weights matched"):
        load_weights(backbone(), {"other": torch.zeros(2)})


def test_unreadable_files(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    whole = save(tmp_path / "whole.pth", backbone()).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"state_dict": {}, "cls": pretrain}, tmp_path / "code.pth")
    for name, words in (
        ("text", "cannot read checkpoint"),
        ("cut", "cannot read checkpoint"),
        ("list", "holds a list"),
        ("code", "LAM3C_TRUST_CHECKPOINTS=1"),
        ("whol", "did you mean whole.pth"),
    ):
        with pytest.raises(CheckpointError) as raised:
            read_checkpoint(tmp_path / f"{name}.pth")
        assert words in str(raised.value)
        assert f"{name}.pth" in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(CheckpointError, match="has no weights"):
        state_dict_of({"epoch": 3}, "x.pth")


def test_numpy_numbers_need_no_trust(tmp_path):
    path = save(tmp_path / "host.pth", backbone(), best_metric_value=np.float64(0.7), epoch=np.int64(3))
    assert read_checkpoint(path)["best_metric_value"] == 0.7
    renamed = tmp_path / "other_numpy.pth"  # NumPy 1 and 2 name the maker of numbers differently
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(renamed, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            ours, theirs = b"numpy._core.multiarray", b"numpy.core.multiarray"
            new.writestr(item, data.replace(ours, theirs) if ours in data else data.replace(theirs, ours))
    assert read_checkpoint(renamed)["epoch"] == 3


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_full_disk_keeps_the_previous_checkpoint(tmp_path, size, fill_disk):
    path = tmp_path / "model_last.pth"
    save_atomic({"step": 1}, path)
    fill_disk(keys)
    with pytest.raises(CheckpointError) as raised:
        save_atomic({"step": 2, "weights": torch.zeros(size)}, path)
    assert "the disk is full; the previous checkpoint is intact" in str(raised.value)
    assert read_checkpoint(path) == {"step": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["model_last.pth"]


def test_failing_rename_and_missing_folder(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match="Permission denied; there is no earlier checkpoint"):
        save_atomic({"step": 1}, tmp_path / "deep/model_last.pth")
    assert list((tmp_path / "deep").iterdir()) == []


def test_copies_are_independent(tmp_path, monkeypatch):
    save_atomic({"step": 1}, tmp_path / "last.pth")
    copy_atomic(tmp_path / "last.pth", tmp_path / "linked.pth")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    copy_atomic(tmp_path / "last.pth", tmp_path / "copied.pth")
    save_atomic({"step": 2}, tmp_path / "last.pth")
    assert [read_checkpoint(tmp_path / f"{name}.pth")["step"] for name in ("linked", "copied", "last")] == [1, 1, 2]
