import json
import logging
import math

import pytest
import torch

from lam3c_plugin.hooks import CollapseMonitor
from lam3c_plugin.hooks.collapse_monitor.diagnostics import gather_sums, local_sums
from lam3c_plugin.hooks.collapse_monitor.measures import rankme
from lam3c_plugin.hooks.collapse_monitor.rules import CollapseRules
from tests.hooks.fakes import Linear, Observed, Trainer, batch, clustering_stats, graph_stats
from tests.models.conftest import make_batch, make_model

K = 8


def healthy(seed, rows=64, prototypes=K):
    generator = torch.Generator().manual_seed(seed)
    target = torch.softmax(torch.randn(rows, prototypes, generator=generator) * 3, dim=1)
    student = torch.randint(prototypes, (rows,), generator=generator)
    return {
        "mask": clustering_stats(student, target),
        "unmask": clustering_stats(target.argmax(1), target),
        "feat": torch.randn(rows, 6, generator=generator),
        "teacher_feat": torch.randn(rows, 6, generator=generator),
        "laplacian": graph_stats(rows, 5 * rows, rows // 2),
    }


def collapsed(step, rows=64):
    one = torch.zeros(rows, dtype=torch.long)
    target = torch.full((rows, K), 1 / K)
    return {
        "mask": clustering_stats(one, target),
        "feat": torch.ones(rows, 6) + 1e-3 * torch.randn(rows, 6),
        "laplacian": graph_stats(rows, 0, 0),
    }


def run(tmp_path, observe, steps=10, total=None, accumulation=1, **settings):
    monitor = CollapseMonitor(**{"interval": 1, "window": 3, "grace_steps": 0, **settings})
    trainer = Trainer(tmp_path, [monitor], Observed(observe), total or steps, accumulation)
    trainer.run([batch()] * (steps * accumulation))
    return monitor, trainer


def read(tmp_path):
    return [json.loads(line) for line in (tmp_path / "monitor.jsonl").read_text().splitlines()]


def test_values_of_one_measurement(tmp_path):
    monitor, trainer = run(tmp_path, healthy, steps=1)
    (record,) = monitor.history
    seen = healthy(1)
    entropy = float(torch.special.entr(seen["mask"].marginal).sum()) / math.log(K)
    assert record["step"] == 1
    assert record["marginal_entropy/mask"] == pytest.approx(entropy, rel=1e-5)
    assert record["target_entropy/mask"] == pytest.approx(float(seen["mask"].target_entropy) / math.log(K), rel=1e-5)
    assert record["agreement/unmask"] == pytest.approx(1)
    assert record["agreement"] == pytest.approx((1 + record["agreement/mask"]) / 2)
    assert record["coverage/mask_head"] == float((seen["mask"].student_counts > 0).float().mean())
    assert record["coverage"] == min(record["coverage/mask_head"], record["coverage/unmask_head"])
    assert record["feature_std"] == pytest.approx(float(seen["feat"].var(0, unbiased=False).mean().sqrt()), rel=1e-5)
    assert record["effective_rank"] == pytest.approx(rankme(torch.linalg.svdvals(seen["feat"].double())), rel=1e-5)
    assert (record["edge_share"], record["edges_per_point"]) == (0.5, 5.0)
    assert trainer.writer.scalars["monitor/coverage"] == [(1, record["coverage"])]
    assert trainer.storage.values["monitor/effective_rank"] == record["effective_rank"]
    assert read(tmp_path) == monitor.history


def test_coverage_looks_back_over_the_window(tmp_path):
    def one_more_each_step(step):
        student = torch.full((4,), (step - 1) % K)
        return {"roll_mask": clustering_stats(student, torch.eye(K)[student])}

    monitor, _ = run(tmp_path, one_more_each_step, steps=6, window=3)
    assert [record["coverage"] for record in monitor.history] == [1 / K, 2 / K] + [3 / K] * 4
    assert monitor.history[-1]["prototypes_teacher"] == 3 / K
    assert "effective_rank" not in monitor.history[-1]


def test_measures_at_interval_and_at_the_last_step_once_a_step(tmp_path):
    monitor, trainer = run(tmp_path, healthy, steps=8, interval=3, accumulation=2)
    assert [record["step"] for record in monitor.history] == [1, 4, 7, 8]
    assert trainer.model.collect_diagnostics is False
    assert trainer.model.diagnostics == {}


def test_resume_continues_the_file_and_forgets_what_was_redone(tmp_path):
    run(tmp_path, healthy, steps=6, total=8)
    with open(tmp_path / "monitor.jsonl", "a") as file:
        file.write('{"step": 7, "cov')  # killed in the middle of a line
    monitor = CollapseMonitor(interval=1)
    trainer = Trainer(tmp_path, [monitor], Observed(healthy), 8)
    trainer.scheduler.last_epoch = 4
    trainer.run([batch()] * 4)
    assert [record["step"] for record in monitor.history] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert read(tmp_path) == monitor.history
    Trainer(tmp_path, [CollapseMonitor()], Observed(healthy), 8).call("before_train")
    assert read(tmp_path) == []


def test_a_healthy_run_is_not_warned(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        monitor, _ = run(tmp_path, healthy, steps=12, log_interval=5)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert not any("warnings" in record for record in monitor.history)
    assert sum("Monitor: [step" in r.message for r in caplog.records) == 3


def test_collapse_is_told_in_words_and_not_at_every_step(tmp_path, caplog):
    def turn(step):
        return healthy(step) if step < 6 else collapsed(step)

    with caplog.at_level(logging.WARNING):
        monitor, _ = run(tmp_path, turn, steps=30, warn_interval=1000, window=2, thresholds=dict(min_coverage=0.2))
    text = "\n".join(record.message for record in caplog.records)
    for part in (
        "prototypes are nearest",
        "effective rank of the features",
        "nearly one vector",
        "all but uniform",
    ):
        assert text.count(part) == 1, part
    assert text.count("have an edge in the Laplacian graph") == 1
    assert {"coverage", "edges", "effective_rank", "feature_spread", "target_entropy"} <= set(
        monitor.history[-1]["warnings"]
    )
    assert "learning rate" in text


def test_no_warning_in_the_grace_period_but_for_edges(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run(tmp_path, collapsed, steps=10, total=1000, grace_ratio=0.05)
    assert [("edge" in record.message) for record in caplog.records] == [True]


def test_a_falling_rank_is_told():
    rules = CollapseRules(grace_steps=0)
    past = [{"step": step, "effective_rank": 40.0} for step in (2, 3, 4)]
    found = rules.check({"step": 5, "effective_rank": 9.0}, past, 10, True)
    assert "fell from 40.0 to 9.0" in found["effective_rank"]
    assert rules.check({"step": 6, "effective_rank": 9.0}, past, 10, True) == {"effective_rank": ""}
    assert rules.check({"step": 7, "effective_rank": 11.0}, past, 10, True) == {}


def test_the_start_of_the_rank_is_after_the_grace_period(tmp_path, caplog):
    """Random weights have features of high rank; losing that is learning, not collapsing."""

    def learning(step):
        rank = 12 if step <= 4 else 2 if step <= 8 else 1
        generator = torch.Generator().manual_seed(step)
        directions = torch.linalg.qr(torch.randn(12, 12, generator=generator))[0][:rank]
        return {"feat": torch.randn(256, rank, generator=generator) @ directions}

    with caplog.at_level(logging.WARNING):
        monitor, _ = run(tmp_path, learning, steps=8, grace_steps=4)
    assert monitor.history[-1]["effective_rank"] < 0.25 * monitor.history[0]["effective_rank"]
    assert not caplog.records
    monitor, _ = run(tmp_path, learning, steps=9, grace_steps=4)
    assert "effective rank of the features is 1.0" in caplog.text


def test_values_that_are_not_finite_are_null_and_told(tmp_path, caplog):
    def broken(step):
        return {
            "feat": torch.full((5, 3), math.nan),
            "mask": clustering_stats(torch.zeros(0).long(), torch.zeros(0, K)),
        }

    with caplog.at_level(logging.WARNING):
        monitor, _ = run(tmp_path, broken, steps=2)
    assert monitor.history[0]["effective_rank"] is None
    assert "target_entropy" not in monitor.history[0]
    assert "null" in (tmp_path / "monitor.jsonl").read_text()
    assert "not finite" in caplog.text


def test_a_model_without_diagnostics_is_left_alone(tmp_path, caplog):
    monitor = CollapseMonitor(interval=1)
    Trainer(tmp_path, [monitor], Linear()).run([batch()] * 2)
    assert monitor.history == []
    assert "offers no diagnostics" in caplog.text


def test_settings_are_checked():
    with pytest.raises(ValueError, match="interval and window"):
        CollapseMonitor(interval=0)
    with pytest.raises(TypeError, match="min_covrage"):
        CollapseMonitor(thresholds=dict(min_covrage=0.1))


def test_the_real_model_is_measured():
    model = make_model()
    model.collect_diagnostics = True
    model(make_batch())
    sums = gather_sums(local_sums(model.diagnostics), torch.device("cpu"))
    record = CollapseMonitor().measure(sums, 1)
    for key in ("coverage", "target_entropy/roll_mask", "effective_rank", "teacher_feature_std", "edge_share"):
        assert record[key] > 0, key
    assert record["marginal_entropy"] > 0.9  # Sinkhorn balances
    assert 0 < record["coverage"] <= 1
