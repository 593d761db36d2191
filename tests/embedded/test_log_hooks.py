"""InformationWriter reads the device only when it logs, and loses nothing by it."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks._waits import Waits
from lam3c_plugin.embedded.events import EventStorage
from lam3c_plugin.embedded.hooks.log import InformationWriter


class Lines(list):
    info = list.append


def run(interval: int, outputs: list[dict]) -> tuple[Lines, EventStorage, list[int]]:
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
        writer=None,
        accumulated=0,
    )
    hook = InformationWriter(interval)
    hook.trainer = trainer
    hook.before_train()
    waits = []
    for number, output in enumerate(outputs):
        trainer.comm_info.update(iter=number, model_output_dict=output)
        hook.before_step()
        with Waits() as seen:
            hook.after_step()
        waits.append(seen.total)
    hook.after_epoch()
    return trainer.logger, trainer.storage, waits


@pytest.mark.parametrize("interval", [1, 3, 10])
def test_averages_take_in_every_step_whatever_the_interval(interval):
    outputs = [{"loss": torch.tensor(float(i)), "note": 2 * i, "point": torch.zeros(3)} for i in range(1, 6)]
    outputs[3] = {"loss": torch.tensor(4.0), "extra": torch.tensor([7.0]), "note": 8}
    outputs.insert(2, {"message": "no number at all"})
    lines, storage, waits = run(interval, outputs)
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
