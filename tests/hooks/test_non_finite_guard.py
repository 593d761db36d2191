import logging
import math
import random

import numpy as np
import pytest
import torch

from lam3c_plugin.hooks import NonFiniteError, NonFiniteGuard
from lam3c_plugin.ops.rng import get_rng_state, seeded, set_rng_state
from tests.hooks.fakes import Linear, Trainer, batch

BAD = math.nan


class BadGradient(Linear):
    """The loss is finite, its gradient is not, where the batch says so."""

    def forward(self, batch):
        value = self.layer(batch["x"]).mean()
        if batch.get("poison"):
            value = value + torch.sqrt(0.0 * self.layer.weight.sum())  # d sqrt(x)/dx at 0
        return {"loss": value}


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).clone()


def test_a_bad_step_changes_nothing_and_the_next_one_goes_on(tmp_path, caplog):
    guard = NonFiniteGuard()
    trainer = Trainer(tmp_path, [guard]).run([batch()])
    before = weights(trainer)
    state = {k: v.clone() for k, v in trainer.optimizer.state_dict()["state"][0].items()}
    trainer.run([batch(BAD, "cellar")], start=False)
    assert torch.equal(weights(trainer), before)
    for key, value in trainer.optimizer.state_dict()["state"][0].items():
        assert torch.equal(value, state[key])
    assert (guard.in_a_row, guard.dropped_steps) == (1, 1)
    assert "step 2: loss = nan, twice = nan; the gradients of all parameters are not finite" in caplog.text
    assert "scenes: cellar" in caplog.text
    trainer.run([batch()], start=False)
    assert guard.in_a_row == 0
    assert not torch.equal(weights(trainer), before)


def test_without_bad_steps_nothing_differs(tmp_path):
    plain = Trainer(tmp_path, []).run([batch(i) for i in range(4)])
    guarded = Trainer(tmp_path, [NonFiniteGuard()]).run([batch(i) for i in range(4)])
    assert torch.equal(weights(plain), weights(guarded))
    assert not (tmp_path / "nonfinite").exists()


def test_the_batch_is_dumped_and_can_be_replayed(tmp_path):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)

    class Drawing(Linear):
        def forward(self, batch):
            self.drawn = (random.random(), np.random.rand(), float(torch.rand(1)))
            return super().forward(batch)

    trainer = Trainer(tmp_path, [NonFiniteGuard()], Drawing()).run([batch(), batch(BAD, "cellar"), batch(BAD, "attic")])
    assert [path.name for path in (tmp_path / "nonfinite").iterdir()] == ["step_000002.pt"]  # one a row of bad steps
    dump = torch.load(tmp_path / "nonfinite/step_000002.pt")  # weights_only: nothing but plain data
    assert dump["names"] == ["cellar"]
    assert (dump["step"], dump["rank"], dump["left_out"]) == (2, 0, [])
    assert torch.isnan(dump["input_dict"]["x"]).all()
    assert math.isnan(dump["losses"]["twice"])
    set_rng_state(dump["rng"])
    trainer.model(dump["input_dict"])
    replayed = trainer.model.drawn
    set_rng_state(dump["rng"])
    assert replayed == (random.random(), np.random.rand(), float(torch.rand(1)))


def test_dumps_are_few_and_small(tmp_path, caplog):
    guard = NonFiniteGuard(max_dumps=2, max_dump_mb=1)
    big = {**batch(BAD), "small": torch.ones(3), "big": torch.zeros(2**19)[:400_000]}
    with caplog.at_level(logging.INFO):
        Trainer(tmp_path, [guard]).run([big, batch(), batch(BAD), batch(), batch(BAD), batch()])
    files = sorted(path.name for path in (tmp_path / "nonfinite").iterdir())
    assert files == ["step_000001.pt", "step_000003.pt"]
    assert "max_dumps" in caplog.text
    dump = torch.load(tmp_path / "nonfinite/step_000001.pt")
    assert dump["left_out"] == ["big"]
    assert "small" in dump["input_dict"]


def test_a_dump_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "nonfinite").write_text("a file in the way")
    Trainer(tmp_path, [NonFiniteGuard()]).run([batch(BAD), batch()])
    assert "could not be written" in caplog.text


def test_stops_after_so_many_in_a_row(tmp_path):
    guard = NonFiniteGuard(max_in_a_row=3, dump=False)
    with pytest.raises(NonFiniteError, match=r"3 bad steps in a row .*learning rate"):
        Trainer(tmp_path, [guard]).run([batch(BAD, "attic")] * 5)
    assert guard.in_a_row == 3


def test_stops_at_once_when_the_weights_are_broken(tmp_path):
    trainer = Trainer(tmp_path, [NonFiniteGuard()])
    trainer.model.layer.bias.data.fill_(math.inf)
    with pytest.raises(NonFiniteError, match=r"1 weights are not finite \(layer.bias"):
        trainer.run([batch()])


def test_bad_gradients_of_a_finite_loss(tmp_path, caplog):
    guard = NonFiniteGuard()
    trainer = Trainer(tmp_path, [guard], BadGradient())
    trainer.clip = False
    before = weights(trainer)
    trainer.run([{**batch(), "poison": True}])
    assert torch.equal(weights(trainer), before)
    assert "gradients of layer.weight are not finite" in caplog.text
    assert torch.load(tmp_path / "nonfinite/step_000001.pt")["losses"] == {}


def test_with_accumulation_the_bad_micro_batch_is_dumped_and_the_step_dropped(tmp_path, caplog):
    guard = NonFiniteGuard()
    trainer = Trainer(tmp_path, [guard], accumulation=3)
    before = weights(trainer)
    trainer.run([batch(1, "a"), batch(BAD, "b"), batch(1, "c")])
    assert torch.equal(weights(trainer), before)
    assert guard.in_a_row == 1
    assert torch.load(tmp_path / "nonfinite/step_000001.pt")["names"] == ["b"]
    assert "scenes: a, b, c" in caplog.text
    trainer.run([batch()] * 3, start=False)
    assert guard.in_a_row == 0


def test_a_grad_scaler_that_looks_for_its_scale_is_no_event(tmp_path, caplog):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    guard = NonFiniteGuard()
    trainer = Trainer(tmp_path, [guard], Linear(), scaler=scaler)
    before = weights(trainer)
    trainer.run([batch(3e38 / 2**14)])  # the loss is finite, the scaled one is not
    assert torch.equal(weights(trainer), before)
    assert guard.in_a_row == 0
    assert "GradScaler" not in caplog.text
    trainer.run([batch()], start=False)
    assert not torch.equal(weights(trainer), before)


def test_a_grad_scaler_does_not_hide_a_bad_loss(tmp_path):
    scaler = torch.amp.GradScaler("cpu")
    guard = NonFiniteGuard(max_in_a_row=2)
    trainer = Trainer(tmp_path, [guard], Linear(), scaler=scaler)
    with pytest.raises(NonFiniteError, match="GradScaler left the step out"):
        trainer.run([batch(), batch(BAD), batch(BAD)])
    assert trainer.scheduler.last_epoch == 1


def test_the_pre_hook_goes_with_the_run(tmp_path):
    trainer = Trainer(tmp_path, [NonFiniteGuard()]).run([batch()])
    trainer.call("after_train")
    trainer.step(batch(BAD))
    assert torch.isnan(weights(trainer)).all()


def test_generators_are_left_as_they_were():
    before = get_rng_state()
    first = (random.random(), np.random.rand(), float(torch.rand(1)))
    set_rng_state(before)
    with seeded(0, gpu=True):
        torch.rand(3), np.random.rand(3), random.random()
    assert first == (random.random(), np.random.rand(), float(torch.rand(1)))
