"""InformationWriter reads the device only when it logs, and loses nothing by it."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks._waits import Waits
from lam3c_plugin.embedded.events import EventStorage
from lam3c_plugin.embedded.hooks.log import InformationWriter


class Lines(list):
    info = list.append


class Scalars(list):
    def add_scalar(self, name, value, step):
        self.append((name, value, step))

    def flush(self):
        pass


def run(interval: int, outputs: list[dict], accumulation: int = 1) -> tuple[SimpleNamespace, list[int]]:
    trainer = SimpleNamespace(
        comm_info={"iter": 0},
        start_epoch=0,
        start_iter=0,
        epoch=0,
        max_epoch=1,
        train_loader=outputs,
        storage=EventStorage(),
        optimizer=SimpleNamespace(param_groups=[{"lr": 0.1}]),
        logger=Lines(),
        writer=Scalars(),
        accumulated=0,
        step=0,
    )
    hook = InformationWriter(interval)
    hook.trainer = trainer
    hook.before_train()
    waits = []
    for number, output in enumerate(outputs):
        trainer.comm_info.update(iter=number, model_output_dict=output)
        hook.before_step()
        trainer.accumulated = (number + 1) % accumulation
        trainer.step = (number + 1) // accumulation
        with Waits() as seen:
            hook.after_step()
        waits.append(seen.total)
    hook.after_epoch()
    return trainer, waits


@pytest.mark.parametrize("interval", [1, 3, 10])
def test_averages_take_in_every_step_whatever_the_interval(interval):
    outputs = [{"loss": torch.tensor(float(i)), "note": 2 * i, "point": torch.zeros(3)} for i in range(1, 6)]
    outputs[3] = {"loss": torch.tensor(4.0), "extra": torch.tensor([7.0]), "note": 8}
    outputs.insert(2, {"message": "no number at all"})
    trainer, waits = run(interval, outputs)
    lines, storage = trainer.logger, trainer.storage
    assert storage.history("loss").avg == 3.0
    assert storage.history("note").avg == 6.0
    assert storage.history("extra").val == 7.0
    logged = [line for line in lines if line.startswith("Train: ")]
    assert len(logged) == len(outputs) // interval
    assert [line.startswith(f"Train: [1/1][{(i + 1) * interval}/") for i, line in enumerate(logged)] == [True] * len(
        logged
    )
    assert all(wait <= 1 for wait in waits)
    assert all(wait == 0 for i, wait in enumerate(waits, start=1) if i % interval)
    assert lines[-1] == "Train result: loss: 3.0000 note: 6.0000"


def test_a_step_of_many_micro_batches_is_written_once():
    outputs = [{"loss": torch.tensor(float(i))} for i in range(96)]
    trainer, waits = run(1, outputs, accumulation=48)
    written = [(name, value, step) for name, value, step in trainer.writer if name.startswith("train_batch/")]
    assert written == [("train_batch/loss", 23.5, 1), ("train_batch/loss", 71.5, 2)]
    assert [name for name, _, step in trainer.writer if step == 2] == ["params/lr", "train_batch/loss"]
    assert sum(line.startswith("Train: [1/1]") for line in trainer.logger) == 2
    assert sum(wait > 0 for wait in waits) == 2
    assert trainer.storage.history("loss").avg == 47.5
