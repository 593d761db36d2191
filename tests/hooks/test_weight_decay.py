import pytest
import torch

from lam3c_plugin.hooks import WeightDecayCosine
from tests.hooks.fakes import Trainer, batch


def decay(trainer):
    return trainer.optimizer.param_groups[0]["weight_decay"]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_goes_from_base_to_final_over_optimiser_steps(tmp_path, accumulation):
    trainer = Trainer(tmp_path, [WeightDecayCosine(0.04, 0.1)], total_steps=7, accumulation=accumulation)
    trainer.run([batch()] * (7 * accumulation))
    logged = trainer.writer.scalars["params/wd"]
    assert [step for step, _ in logged] == list(range(1, 8))
    assert logged[0][1] == 0.04
    assert logged[3][1] == pytest.approx(0.07)
    assert logged[-1][1] == 0.1
    assert decay(trainer) == 0.1


def test_a_resumed_run_continues(tmp_path):
    straight = Trainer(tmp_path, [WeightDecayCosine()], total_steps=9).run([batch()] * 6)
    resumed = Trainer(tmp_path, [WeightDecayCosine()], total_steps=9)
    resumed.scheduler.last_epoch = 5
    resumed.run([batch()])
    assert decay(resumed) == decay(straight)


def test_groups_without_decay_keep_none_unless_all_are(tmp_path):
    trainer = Trainer(tmp_path, [WeightDecayCosine(0.04, 0.1)])
    trainer.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "weight_decay": 0.0})
    trainer.call("before_train")
    trainer.call("before_step")
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.04, 0.0]
    for group in trainer.optimizer.param_groups:
        group["weight_decay"] = 0.0
    trainer.call("before_train")
    trainer.call("before_step")
    assert all(group["weight_decay"] > 0 for group in trainer.optimizer.param_groups)


def test_one_step_runs_end_at_the_final_value(tmp_path):
    assert decay(Trainer(tmp_path, [WeightDecayCosine(0.04, 0.1)], total_steps=1).run([batch()])) == 0.1
