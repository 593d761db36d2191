"""Monitor, guard and probe on two gloo ranks: the same collectives and the same decisions on both."""

import json
from pathlib import Path

import pytest
import torch

from lam3c_plugin.hooks import CollapseMonitor, NonFiniteGuard
from lam3c_plugin.hooks.collapse_monitor.measures import rankme
from tests.hooks.fakes import Observed, Trainer, batch
from tests.hooks.test_collapse_monitor import healthy
from tests.hooks.test_non_finite_guard import BAD, weights
from tests.hooks.test_online_probe import batches
from tests.hooks.test_online_probe import make as make_probe
from tests.ranks import run_ranks

ROWS = (64, 24)


def _measure(rank, folder):
    """Rank 1 saw fewer rows and no unmask term at all: the collectives must still match."""
    seen = healthy(rank, rows=ROWS[rank])
    if rank == 1:
        del seen["unmask"]
    monitor = CollapseMonitor(interval=1)
    Trainer(folder, [monitor], Observed(lambda step: seen), 1).run([batch()])
    return monitor.history


def _drop(rank, folder):
    """Only rank 0's batch is bad; DDP's average brings it to both."""
    trainer = Trainer(folder, [NonFiniteGuard(max_in_a_row=2)])
    trainer.model = torch.nn.parallel.DistributedDataParallel(trainer.model)
    before = weights(trainer)
    trainer.run([batch(BAD if rank == 0 else 1.0, f"room{rank}")])
    return torch.equal(weights(trainer), before), trainer.hooks[0].in_a_row


def _probe(rank, folder):
    """Rank 0 probes, the other goes on to the next gradients; no collective call of the probe's lies between."""
    hook, trainer = make_probe(Path(folder, f"probe{rank}"), val_scenes=1)
    trainer.model = torch.nn.parallel.DistributedDataParallel(trainer.model, find_unused_parameters=True)
    if rank:
        trainer.writer = None
    torch.manual_seed(rank)
    trainer.run(batches(3))
    steps = [record["step"] for record in hook.history]
    return steps, [p.sum().item() for p in trainer.model.module.student.parameters()]


def _all(rank, folder):
    return _measure(rank, folder), _drop(rank, folder), _probe(rank, folder)


def test_ranks_agree(tmp_path):
    (first, drop0, probe0), (second, drop1, probe1) = run_ranks(_all, str(tmp_path), folder=tmp_path)
    assert first == second
    (record,) = first
    parts = [healthy(rank, rows) for rank, rows in enumerate(ROWS)]
    feat = torch.cat([part["feat"] for part in parts])
    assert record["effective_rank"] == pytest.approx(rankme(torch.linalg.svdvals(feat.double())), rel=1e-6)
    assert record["feature_std"] == pytest.approx(float(feat.var(0, unbiased=False).mean().sqrt()), rel=1e-5)
    stats = [part["mask"] for part in parts]
    agreement = sum(float(s.agreement) * s.rows for s in stats) / sum(ROWS)
    assert record["agreement/mask"] == pytest.approx(agreement, rel=1e-5)
    assert record["agreement/unmask"] == pytest.approx(1)
    counts = sum(s.student_counts for s in stats)
    assert record["coverage/mask_head"] == float((counts > 0).float().mean())
    assert record["edge_share"] == 0.5
    assert [json.loads(line) for line in (tmp_path / "monitor.jsonl").read_text().splitlines()] == first

    assert drop0 == drop1 == (True, 1)
    names = sorted(path.name for path in (tmp_path / "nonfinite").iterdir())
    assert names == ["step_000001.pt", "step_000001_rank1.pt"]

    assert (probe0[0], probe1[0]) == ([1, 2, 3], [])
    assert probe0[1] == probe1[1]
