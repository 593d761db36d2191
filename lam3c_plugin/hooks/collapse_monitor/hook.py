"""Watches whether a self-supervised run collapses: measures every so many steps, and says in words what it sees."""

from __future__ import annotations

import json
import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.stages.files import write_text
from data_tools.stages.lines import append_lines, read_lines
from lam3c_plugin.hooks.collapse_monitor.diagnostics import Sums, gather_sums, local_sums
from lam3c_plugin.hooks.collapse_monitor.measures import (
    effective_rank,
    feature_spread,
    feature_std,
    normalised_entropy,
)
from lam3c_plugin.hooks.collapse_monitor.rules import CollapseRules
from lam3c_plugin.hooks.common import bare_model, steps_done, total_steps
from lam3c_plugin.host import HOOKS, HookBase, comm

# terms of the clustering loss that share prototypes
HEADS = {"mask": "mask_head", "roll_mask": "mask_head", "unmask": "unmask_head"}
FILE = "monitor.jsonl"


@HOOKS.register_module()
class CollapseMonitor(HookBase):
    """Measures the representation every ``interval`` optimiser steps, and at the first and the last one.

    It asks the model for a measurement (``model.collect_diagnostics``) and reduces what it finds in
    ``model.diagnostics`` over all ranks; every rank makes the same two calls, whatever its batch held. Values go to
    TensorBoard (``monitor/...``), to ``trainer.storage``, to the log, to `history` and, on rank 0, as one line
    each to ``<save_path>/monitor.jsonl``. A resumed run reads that file and continues it.

    Values of a record (absent where the model does not measure them, ``None`` where they are not finite):

    * ``target_entropy``: mean entropy of the Sinkhorn targets' rows over log K; ``marginal_entropy``: entropy of their
      mean over log K. ``agreement``: share of rows where student and target choose the same prototype. Means over the
      terms; each term's own is beside it as ``<name>/mask``, ``/roll_mask``, ``/unmask``.
    * ``coverage``: share of a head's prototypes that were nearest to a student's point in one of the last ``window``
      measurements; ``prototypes_teacher``: the same of the targets. The smaller head's; ``<name>/<head>`` has each.
    * ``feature_std``: root mean variance over channels of the student's up-cast features; ``feature_spread``: the part
      of them that is not their common mean, 0 to 1; ``effective_rank``: RankMe (arXiv 2210.02885) of the same sample;
      ``teacher_feature_std``, ``teacher_feature_spread``: of the teacher's.
    * ``edge_share``: share of points with an edge in the Laplacian graph; ``edges_per_point``.

    Args:
        interval: optimiser steps between measurements.
        window: measurements that ``coverage`` looks back on.
        log_interval: at most one line of values in the log in so many steps.
        warn_interval: the same warning comes at most once in so many steps.
        grace_ratio: no warnings for this share of the run (schedules warm up, features are still random), but for those
            about missing edges and non-finite values.
        grace_steps: nor for at least so many steps.
        thresholds: changes to `lam3c_plugin.hooks.collapse_monitor.rules.CollapseRules`, for instance
            ``dict(min_coverage=0.2)``; 0 turns a rule off.

    Raises:
        ValueError: ``interval`` or ``window`` is below 1.
    """

    def __init__(
        self,
        interval: int = 50,
        window: int = 20,
        log_interval: int = 50,
        warn_interval: int = 1000,
        grace_ratio: float = 0.05,
        grace_steps: int = 100,
        thresholds: dict[str, float] | None = None,
    ) -> None:
        if interval < 1 or window < 1:
            raise ValueError(f"interval and window must be at least 1, got {interval} and {window}")
        self.interval, self.window, self.log_interval = interval, window, log_interval
        self.rules = CollapseRules(warn_interval, grace_ratio, grace_steps, **(thresholds or {}))
        self.history: list[dict[str, Any]] = []
        self._used: dict[str, deque[tuple[np.ndarray, np.ndarray, int]]] = {}
        self._active = False
        self._measured_step = -1
        self._logged_step: int | None = None

    # ---- hook points ---------------------------------------------------------------------------------------------

    def before_train(self) -> None:
        self._model = bare_model(self.trainer)
        self._supported = hasattr(self._model, "diagnostics") and hasattr(self._model, "collect_diagnostics")
        if not self._supported:
            self.trainer.logger.warning(
                f"CollapseMonitor: {type(self._model).__name__} offers no diagnostics; nothing is monitored"
            )
            return
        self._continue_file()

    def before_step(self) -> None:
        step = steps_done(self.trainer)
        due = step % self.interval == 0 or step == total_steps(self.trainer) - 1
        # with gradient accumulation the first micro-batch of a step speaks for it
        self._active = self._supported and due and step != self._measured_step
        if self._active:
            self._measured_step = step
            self._model.collect_diagnostics = True

    def after_step(self) -> None:
        if not self._active:
            return
        self._active = False
        self._model.collect_diagnostics = False
        diagnostics, self._model.diagnostics = self._model.diagnostics, {}
        sums = gather_sums(local_sums(diagnostics), next(self._model.parameters()).device)
        self._publish(self.measure(sums, self._measured_step + 1))

    # ---- measuring -----------------------------------------------------------------------------------------------

    def measure(self, sums: Sums, step: int) -> dict[str, Any]:
        """Record of step ``step`` (1-based) from sums over all ranks; moves the window of prototypes in use on."""
        record: dict[str, Any] = {"step": step}
        self._measure_targets(sums, record)
        self._measure_prototypes(sums, record)
        for name, prefix in (("feat", ""), ("teacher_feat", "teacher_")):
            if f"{name}/count" in sums:
                moments = (float(sums[f"{name}/count"]), sums[f"{name}/total"], sums[f"{name}/square"])
                record[f"{prefix}feature_std"] = feature_std(*moments)
                record[f"{prefix}feature_spread"] = feature_spread(*moments)
        if "feat/gram" in sums:
            record["effective_rank"] = effective_rank(sums["feat/gram"])
        if "laplacian/points" in sums:
            points = max(float(sums["laplacian/points"]), 1.0)
            record["edge_share"] = float(sums["laplacian/points_with_edge"]) / points
            record["edges_per_point"] = float(sums["laplacian/edges"]) / points
        return {k: v if k == "step" or math.isfinite(v) else None for k, v in record.items()}

    def _measure_targets(self, sums: Sums, record: dict[str, Any]) -> None:
        found: dict[str, dict[str, float]] = {"target_entropy": {}, "marginal_entropy": {}, "agreement": {}}
        for term in (name.partition("/")[0] for name in sums if name.endswith("/marginal")):
            rows, marginal = float(sums[f"{term}/rows"]), sums[f"{term}/marginal"]
            if rows >= 1:
                most = math.log(max(len(marginal), 2))
                found["target_entropy"][term] = float(sums[f"{term}/target_entropy"]) / rows / most
                found["marginal_entropy"][term] = normalised_entropy(marginal)
                found["agreement"][term] = float(sums[f"{term}/agreement"]) / rows
        for key, values in found.items():
            if values:
                record[key] = sum(values.values()) / len(values)
                record.update({f"{key}/{term}": value for term, value in values.items()})

    def _measure_prototypes(self, sums: Sums, record: dict[str, Any]) -> None:
        counts: dict[str, list[Any]] = {}
        for name in sums:
            term, _, what = name.partition("/")
            if what == "student_counts":
                head = counts.setdefault(HEADS.get(term, term), [0, 0, 0])
                head[0] = head[0] + sums[name]
                head[1] = head[1] + sums[f"{term}/target_counts"]
                head[2] += int(sums[f"{term}/rows"])
        shares: dict[str, dict[str, float]] = {"coverage": {}, "prototypes_teacher": {}}
        for head, (student, target, rows) in counts.items():
            used = self._used.setdefault(head, deque(maxlen=self.window))
            used.append(((student > 0).cpu().numpy(), (target > 0).cpu().numpy(), rows))
            shares["coverage"][head] = float(np.logical_or.reduce([item[0] for item in used]).mean())
            shares["prototypes_teacher"][head] = float(np.logical_or.reduce([item[1] for item in used]).mean())
        for key, by_head in shares.items():
            if by_head:
                record[key] = min(by_head.values())
                record.update({f"{key}/{head}": value for head, value in by_head.items()})

    def _window_is_full(self) -> bool:
        """Whether the window has seen enough rows for every prototype to have had its chance."""
        return all(
            len(used) == self.window or sum(rows for *_, rows in used) >= 4 * len(used[0][0])
            for used in self._used.values()
        )

    # ---- telling -------------------------------------------------------------------------------------------------

    def _publish(self, record: dict[str, Any]) -> None:
        trainer, step = self.trainer, record["step"]
        warnings = self.rules.check(record, self.history, total_steps(trainer), self._window_is_full())
        if warnings:
            record["warnings"] = sorted(warnings)
        self.history.append(record)
        numbers = {k: v for k, v in record.items() if isinstance(v, float)}
        for key, value in numbers.items():
            trainer.storage.put_scalar(f"monitor/{key}", value)
            if trainer.writer is not None:
                trainer.writer.add_scalar(f"monitor/{key}", value, step)
        if not comm.is_main_process():
            return
        if self._logged_step is None or step - self._logged_step >= self.log_interval or any(warnings.values()):
            shown = " ".join(f"{k}: {v:.4g}" for k, v in numbers.items() if "/" not in k)
            trainer.logger.info(f"Monitor: [step {step}] {shown}")
            self._logged_step = step
        for text in warnings.values():
            if text:
                trainer.logger.warning(f"[step {step}] {text}")
        try:
            append_lines(self._path(), [record])
        except OSError as error:
            trainer.logger.warning(f"CollapseMonitor cannot write {self._path()}: {error}")

    def _path(self) -> Path:
        return Path(str(self.trainer.cfg.save_path), FILE)

    def _continue_file(self) -> None:
        """Take over the records up to the resumed step; a fresh run starts a fresh file, as ``train.log`` does."""
        done, path = steps_done(self.trainer), self._path()
        records = {record["step"]: record for record in read_lines(path) if "step" in record} if done > 0 else {}
        self.history = [records[step] for step in sorted(records) if step <= done]
        if not comm.is_main_process():
            return
        try:
            write_text(path, "".join(json.dumps(record) + "\n" for record in self.history))
        except OSError as error:
            self.trainer.logger.warning(f"CollapseMonitor cannot write {path}: {error}")
