"""The plugin in the unmodified host, through `scripts/train.sh`: one process, two ranks, resume, and wrong input."""

import math
import shutil

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lam3c_plugin.host_checkout import inspect_checkout
from tests.pointcept import hosts

NAME = "pretrain-lam3c-v1m1-0-base"
SCHEDULES = ("mask_size", "mask_ratio", "teacher_temp", "momentum", "laplacian_weight")
OPTIONS = (*hosts.TINY_LAM3C, *hosts.TINY_RUN)
PROBE = ("probe.interval=1", "probe.max_share=1")


def train(host, *words, options=(), **keywords):
    return hosts.run(["sh", "scripts/train.sh", "-p", host.python, *words], host.root, options, **keywords)


def scalars(folder, names) -> dict[str, dict[int, float]]:
    """What TensorBoard has of some scalars, by step."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in names}


@pytest.fixture(scope="module")
def one_process(host):
    """`-c lam3c/NAME` on one process; micro-batches where the host has them. Four rooms, two epochs of two batches."""
    accumulates = inspect_checkout(host.root).accumulates
    options = (*OPTIONS, f"gradient_accumulation_steps={1 + accumulates}", *PROBE)
    out = train(host, "-c", f"lam3c/{NAME}", "-n", "one", "-g", "1", options=options)
    return host.root / "exp/scannet/one", out, 2 if accumulates else 4


def test_one_process_by_the_default_dataset(one_process):
    folder, out, optimiser_steps = one_process
    steps = hosts.train_losses(out)
    assert len(steps) == 4
    for losses in steps:
        assert set(losses) >= {"loss", "mask_loss", "roll_mask_loss", "unmask_loss", "laplacian_loss"}
        assert all(math.isfinite(value) for value in losses.values())
        assert losses["laplacian_loss"] > 0
    assert not (folder / "wandb").exists()
    found = scalars(folder, [f"params/{name}" for name in SCHEDULES])
    for name, values in found.items():
        assert sorted(values) == list(range(1, optimiser_steps + 1)), name
    assert found["params/momentum"][optimiser_steps] == pytest.approx(1.0)
    assert found["params/laplacian_weight"][optimiser_steps] == pytest.approx(3e-3)


def test_probe_without_labels(one_process):
    folder, out, optimiser_steps = one_process
    assert "OnlineProbe: no labels, 4 scenes of the training set, read in" in out
    names = [f"probe/{name}" for name in ("effective_rank", "view_agreement", "knn_consistency", "share")]
    for name, values in scalars(folder, names).items():
        assert sorted(values) == list(range(1, optimiser_steps + 1)), name
        assert all(math.isfinite(value) for value in values.values())


def test_checkpoint_has_the_names_that_downstream_runs_look_for(one_process):
    folder, _, _ = one_process
    checkpoint = torch.load(folder / "model/model_last.pth", weights_only=False)
    assert {"epoch", "state_dict", "optimizer", "scheduler"} <= set(checkpoint)
    roots = {".".join(name.split(".")[:2]) for name in checkpoint["state_dict"]}
    heads = ("backbone", "mask_head", "unmask_head")
    assert roots == {f"{who}.{part}" for who in ("student", "teacher") for part in heads}


def test_two_ranks_and_resume(host):
    command = ("-d", "lam3c", "-c", NAME, "-n", "two", "-g", "2")
    hosts.make_rooms(host.root / "data/labelled", {"train": 2, "val": 2})
    options = (*OPTIONS, "epoch=3", "eval_epoch=3", "hooks.8.save_freq=1", *PROBE, "probe.data_root=data/labelled")
    straight = train(host, *command, options=options, LAM3C_CPU_HOST_GPUS="2")
    assert len(hosts.train_losses(straight)) == 6
    assert "2 scenes" not in straight  # both ranks see all four rooms' list, half a batch each
    folder = host.root / "exp/lam3c/two"
    names = [f"params/{name}" for name in ("lr", *SCHEDULES)]
    before = scalars(folder, names)
    probes = ["probe/linear_miou", "probe/knn_accuracy"]
    for values in scalars(folder, probes).values():
        assert sorted(values) == [1, 2, 3, 4, 5, 6]  # rank 0 alone, and once each
        assert all(0 <= value <= 1 for value in values.values())

    # as if the run had been killed after its first epoch; the config is now the dumped one, no options
    for path in folder.glob("events*"):
        path.unlink()
    shutil.copy(folder / "model/epoch_1.pth", folder / "model/model_last.pth")
    resumed = train(host, *command, "-r", "true", LAM3C_CPU_HOST_GPUS="2")
    steps = hosts.train_losses(resumed)
    assert "Resuming train at eval epoch: 1" in resumed
    assert len(steps) == 4
    assert all(math.isfinite(value) for losses in steps for value in losses.values())
    for name, values in scalars(folder, names).items():
        assert values == {step: before[name][step] for step in (3, 4, 5, 6)}, name
    assert all(sorted(values) == [3, 4, 5, 6] for values in scalars(folder, probes).values())


def test_python_without_the_plugin_is_told_how_to_get_it(host):
    for words in (("-d", "lam3c", "-c", NAME), ("-c", f"lam3c/{NAME}")):
        command = ["sh", "scripts/train.sh", "-p", host.bare_python, *words, "-n", "bare", "-g", "1"]
        out = hosts.run(command, host.root, ok=False, LAM3C_CPU_HOST_HIDE="lam3c_plugin")
        assert f"{host.bare_python} -m pip install -e {hosts.REPOSITORY}" in out


def test_batch_that_does_not_divide_by_the_ranks(host):
    command = ("-d", "lam3c", "-c", NAME, "-n", "odd", "-g", "2")
    out = train(host, *command, options=(*OPTIONS, "batch_size=3"), ok=False, LAM3C_CPU_HOST_GPUS="2")
    assert "a batch size of 3 (over all GPUs) does not divide by 2 GPUs: set it to 2 or 4" in out


def test_missing_data_names_the_folder_and_the_command(host):
    options = (*OPTIONS, "data.train.data_root=data/nowhere")
    out = train(host, "-d", "lam3c", "-c", NAME, "-n", "nodata", "-g", "1", options=options, ok=False)
    last = out.strip().splitlines()[-1]
    assert "data/nowhere" in last
    assert "python data_tools/package.py" in last


def test_probe_and_evaluation_by_the_host(host, one_process):
    """README's path: exp/scannet -> linear probe -> the host's evaluator -> `scripts/test.sh` on two ranks."""
    folder, _, _ = one_process
    hosts.make_rooms(host.root / "data/probe", {"train": 2, "val": 2})
    options = (*hosts.TINY_BACKBONE, "model.backbone_out_channels=144", "enable_amp=False", "batch_size=2")
    options += ("num_worker=2", "epoch=1", "eval_epoch=1", "data.test.test_cfg.aug_transform=[[]]")
    options += tuple(f"data.{part}.data_root=data/probe" for part in ("train", "val", "test"))
    command = ("-c", "lam3c/semseg-lam3c-v1m1-0a-scannet-lin", "-n", "probe", "-g", "1")
    out = train(host, *command, "-w", "exp/scannet/one/model/model_last.pth", options=options)
    assert "Val result: mIoU/mAcc/allAcc" in out
    probe = torch.load(host.root / "exp/scannet/probe/model/model_best.pth", weights_only=False)["state_dict"]
    student = torch.load(folder / "model/model_last.pth", weights_only=False)["state_dict"]
    name = "backbone.enc.enc4.block0.attn.qkv.weight"
    assert torch.equal(probe[name], student[f"student.{name}"])

    command = ["sh", "scripts/test.sh", "-p", host.python, "-n", "probe", "-g", "2"]
    if inspect_checkout(host.root).version == "1.6.0":  # its tools/test.py cannot be imported, with us or without
        assert "circular import" in hosts.run(command, host.root, ok=False)
        return
    out = hosts.run(command, host.root, timeout=900, LAM3C_CPU_HOST_GPUS="2")
    assert "Val result: mIoU/mAcc/allAcc" in out
