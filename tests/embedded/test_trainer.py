"""The trainer on a fake run: hook points, accumulation, schedules, resume to the bit, signals."""

from __future__ import annotations

import signal

import pytest
import torch

from lam3c_plugin.checkpoints.keys import read_checkpoint
from lam3c_plugin.embedded.engine import load_config, run_rank
from lam3c_plugin.embedded.engine.defaults import setup_rank
from lam3c_plugin.embedded.engine.trainer import Trainer
from lam3c_plugin.errors import CheckpointError, ConfigError, DataError, Interrupted
from tests.embedded.fake_run import write_config


def train(file, **options):
    """Run a config in this process; the exit code of an interruption, else None."""
    cfg = load_config(file, options)
    try:
        run_rank(cfg)
    except Interrupted as stopped:
        return stopped.exit_code if "resume with" in str(stopped) else str(stopped)
    return None


def resume_options(folder):
    return {"resume": True, "weight": str(folder / "run/model/model_last.pth")}


def result(folder):
    return (folder / "losses.txt").read_text().splitlines(), read_checkpoint(folder / "run/model/model_last.pth")


def assert_same_run(first, second):
    (lines_a, a), (lines_b, b) = result(first), result(second)
    assert lines_a == lines_b
    assert a["epoch"] == b["epoch"]
    assert a["scheduler"]["last_epoch"] == b["scheduler"]["last_epoch"]
    for key, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][key]), key
    for key, value in a["optimizer"]["state"].items():
        for name, moment in value.items():
            assert torch.equal(moment, b["optimizer"]["state"][key][name])


def test_trains_and_calls_the_model(tmp_path):
    trainer = Trainer(setup_rank(load_config(write_config(tmp_path, epoch=20))))
    trainer.train()
    losses = [float.fromhex(line.split()[0]) for line in result(tmp_path)[0]]
    assert len(losses) == 20 * 7
    assert sum(losses[-14:]) < 0.5 * sum(losses[:14])
    assert trainer.model.calls == {"before_train": 1, "before_step": 140, "after_step": 140, "after_train": 1}
    assert trainer.step == 140
    assert any(file.name.startswith("events") for file in (tmp_path / "run").iterdir())
    assert "Remain" in (tmp_path / "run/train.log").read_text()


def test_schedules_end_at_their_final_value(tmp_path):
    trainer = Trainer(setup_rank(load_config(write_config(tmp_path, gradient_accumulation_steps=3, epoch=6))))
    assert trainer.cfg.scheduler.total_steps == 14 // 2 * 6 // 3
    trainer.train()
    group = trainer.optimizer.param_groups[0]
    last_used = float.fromhex(result(tmp_path)[0][-4].split()[1])
    assert last_used == pytest.approx(0.01 / 10 / 1e4, rel=1e-3)
    assert group["weight_decay"] == pytest.approx(0.1)
    assert trainer.step == 14


def test_accumulation_equals_the_big_batch(tmp_path):
    fixed = dict(
        data=dict(train=dict(type="FakeClouds", size=16, random_points=False)),
        model=dict(type="FakeModel", dropout=0.0, noise=0.0),
        epoch=4,
        clip_grad=0.05,
    )
    train(write_config(tmp_path / "big", batch_size=8, **fixed))
    train(write_config(tmp_path / "parts", batch_size=2, gradient_accumulation_steps=4, **fixed))
    big, parts = (result(tmp_path / name)[1]["state_dict"] for name in ("big", "parts"))
    for key, value in big.items():
        torch.testing.assert_close(value, parts[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("accumulation", "pause"),
    [(1, 7), (1, 10), (3, 2), (3, 4)],
    ids=["epoch-end", "mid-epoch", "accumulating", "accumulating-mid-epoch"],
)
def test_resume_is_exact(tmp_path, workers, accumulation, pause):
    settings = dict(gradient_accumulation_steps=accumulation, num_worker=workers)
    train(write_config(tmp_path / "straight", **{**settings, "num_worker": 0}))
    file = write_config(tmp_path / "parts", **settings)
    assert train(file, stop_after_steps=pause) == 0
    assert len(result(tmp_path / "parts")[0]) == pause * accumulation
    assert train(tmp_path / "parts/run/config.py", **resume_options(tmp_path / "parts")) is None
    assert_same_run(tmp_path / "straight", tmp_path / "parts")


def test_resume_with_an_unfinished_accumulation_at_the_epoch_end(tmp_path):
    """Seven batches an epoch, three a step: the epoch's end leaves one behind, whose gradient the checkpoint keeps."""
    train(write_config(tmp_path / "straight", gradient_accumulation_steps=3, epoch=3))
    file = write_config(tmp_path / "parts", gradient_accumulation_steps=3, epoch=3)
    trainer = Trainer(setup_rank(load_config(file)))

    class StopError(Exception):
        pass

    def stop_after_epoch():
        if trainer.epoch == 0:
            raise StopError

    trainer._stop_if_asked = lambda **_: stop_after_epoch() if trainer.batches_done == 7 else None
    with pytest.raises(StopError):
        trainer.train()
    assert read_checkpoint(tmp_path / "parts/run/model/model_last.pth")["lam3c"]["accumulated"] == 1
    train(tmp_path / "parts/run/config.py", **resume_options(tmp_path / "parts"))
    assert_same_run(tmp_path / "straight", tmp_path / "parts")


def test_workers_do_not_change_the_run(tmp_path):
    train(write_config(tmp_path / "none"))
    train(write_config(tmp_path / "two", num_worker=2))
    assert_same_run(tmp_path / "none", tmp_path / "two")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_and_resume(tmp_path, number, code):
    train(write_config(tmp_path / "straight", gradient_accumulation_steps=2))
    file = write_config(tmp_path / "parts", gradient_accumulation_steps=2)
    plain = load_config(file).hooks
    hooks = [*plain, dict(type="Interrupter", after=3, number=int(number))]
    before = signal.getsignal(number)
    assert train(file, hooks=hooks) == code
    assert signal.getsignal(number) is before
    assert len(result(tmp_path / "parts")[0]) == 4  # the step it was in is finished
    train(tmp_path / "parts/run/config.py", hooks=plain, **resume_options(tmp_path / "parts"))
    assert_same_run(tmp_path / "straight", tmp_path / "parts")


def test_max_steps_is_the_length_of_the_run(tmp_path):
    for steps, epochs in ((10, 2), (30, 5), (1, 1)):
        trainer = Trainer(setup_rank(load_config(write_config(tmp_path / str(steps), max_steps=steps))))
        trainer.train()
        assert (trainer.step, trainer.max_epoch, trainer.cfg.scheduler.total_steps) == (steps, epochs, steps)
        assert len(result(tmp_path / str(steps))[0]) == steps


def test_saver_frequencies(tmp_path):
    file = write_config(tmp_path)
    hooks = load_config(file).hooks
    hooks[-1] = dict(type="CheckpointSaver", save_freq=2, save_freq_steps=5)
    trainer = Trainer(setup_rank(load_config(file, {"hooks": hooks, "enable_amp": True, "amp_dtype": "bfloat16"})))
    saved = []
    write = trainer.save
    trainer.save = lambda: saved.append(trainer.step) or write()
    trainer.train()
    assert saved == [5, 10, 15, 20]
    assert sorted(p.name for p in (tmp_path / "run/model").iterdir()) == ["epoch_2.pth", "model_last.pth"]
    last = read_checkpoint(tmp_path / "run/model/model_last.pth")
    host_keys = {"epoch", "state_dict", "optimizer", "scheduler", "scaler", "best_metric_value"}
    assert host_keys | {"lam3c", "inputs"} == set(last)
    assert last["scaler"]["scale"] == 65536.0  # the host loads it under AMP
    assert read_checkpoint(tmp_path / "run/model/epoch_2.pth")["epoch"] == 2


def test_a_checkpoint_without_our_extras_resumes_at_its_epoch(tmp_path):
    file = write_config(tmp_path)
    train(file, stop_after_steps=7)
    path = tmp_path / "run/model/model_last.pth"
    checkpoint = read_checkpoint(path)
    del checkpoint["lam3c"]
    checkpoint["state_dict"] = {f"module.{key}": value for key, value in checkpoint["state_dict"].items()}
    torch.save(checkpoint, path)
    train(file, **resume_options(tmp_path))
    lines, last = result(tmp_path)
    assert len(lines) == 21
    assert last["epoch"] == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_amp_on_the_cpu(tmp_path, dtype):
    train(write_config(tmp_path, enable_amp=True, amp_dtype=dtype, epoch=1))
    assert len(result(tmp_path)[0]) == 7


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (dict(epoch=3, eval_epoch=2), ConfigError, "multiple of eval_epoch"),
        (dict(amp_dtype="half"), ConfigError, "bfloat16"),
        (dict(device="tpu"), ConfigError, "cuda"),
        (dict(data=dict(train=dict(type="FakeClouds", size=0))), DataError, "no samples"),
        (dict(data=dict(train=dict(type="FakeClouds", fail=True))), DataError, "scene 'attic' has no coord.npy"),
        (dict(data=dict(train=dict(type="FakeClouds", fail=True)), num_worker=1), DataError, "scene 'attic' has no"),
        (dict(model=dict(type="FakeModle")), ConfigError, "did you mean 'FakeModel'"),
        (dict(model=dict(type="FakeModel", witdh=3)), ConfigError, "did you mean 'width'"),
        (dict(scheduler=dict(type="OneCycleLR", max_lr=[1.0])), ConfigError, "2 parameter groups"),
        (dict(scheduler=dict(type="OneCycleLR", max_lr=1.0, pct_strat=0.1)), ConfigError, "did you mean 'pct_start'"),
        (dict(gradient_accumulation_steps=50), ConfigError, "not one optimiser step"),
        (dict(param_dicts=[dict(keywords="net")]), ConfigError, "keyword"),
        (dict(weight="nowhere.pth"), CheckpointError, "not found: nowhere.pth"),
        (dict(weight="w.pth", hooks=[]), ConfigError, "CheckpointLoader"),
        (dict(resume=True), CheckpointError, "resume=True needs weight"),
    ],
)
def test_one_line_errors(tmp_path, changes, error, words):
    with pytest.raises(error) as raised:
        train(write_config(tmp_path, **changes))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_batch_larger_than_the_data_is_told(monkeypatch):
    from lam3c_plugin.embedded.engine import data

    told = []
    monkeypatch.setattr(data.get_root_logger(), "warning", told.append)
    options = dict(rank=0, world_size=1, seed=0, num_workers=0, collate_fn=list, pin_memory=False)
    for batch_size in (4, 3):
        assert len(data.build_loader([1, 2, 3], batch_size=batch_size, **options)) == 1
    assert told == ["batch_size=4 is more than the 3 samples: every batch has 3"]


def test_a_longer_plan_is_refused_or_stretched(tmp_path):
    train(write_config(tmp_path, epoch=2))
    config = tmp_path / "run/config.py"
    with pytest.raises(CheckpointError, match=r"planned for 14 steps and would have 28 now.*stretch_schedule=True"):
        train(config, epoch=4, **resume_options(tmp_path))
    train(config, epoch=4, stretch_schedule=True, **resume_options(tmp_path))
    train(write_config(tmp_path / "straight", epoch=4))
    rates, straight = ([line.split()[1] for line in result(folder)[0]] for folder in (tmp_path, tmp_path / "straight"))
    assert rates[14:] == straight[14:]  # the learning rate of every step is the longer run's
    assert "epoch = 4" in config.read_text()  # and a plain -r true resumes it


@pytest.mark.parametrize("kind", ["OneCycleLR", "CosineAnnealingLR", "MultiStepLR", "PolyLR"])
def test_every_schedule_can_be_stretched(kind):
    from lam3c_plugin.embedded.engine.state import _replay
    from lam3c_plugin.embedded.scheduler import build_scheduler

    settings = {"OneCycleLR": dict(max_lr=1.0), "MultiStepLR": dict(milestones=[0.3, 0.7])}.get(kind, {})
    rates = []
    for steps in (0, 25):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = build_scheduler(dict(type=kind, total_steps=40, **settings), optimizer)
        optimizer.param_groups[0]["lr"] = 0.0123  # a loaded optimiser has the old place's
        _replay(schedule, steps)
        for _ in range(25 - steps):
            optimizer.step()
            schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)
