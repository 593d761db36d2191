"""What some configs need of the host: they call these functions when they are read, and stop where it is missing."""

from __future__ import annotations

import inspect

from lam3c_plugin import host


def require_instance_segmentation() -> None:
    """Stop on a Pointcept without ``PG-v1m2``, the only instance model that takes PTv3 (there from v1.6.1 on).

    Raises:
        HostError: it is v1.6.0.
    """
    if host.ENGINE == "pointcept" and "PG-v1m2" not in host.MODELS.module_dict:
        raise host.HostError("instance segmentation needs Pointcept v1.6.1 or newer: this checkout has no PG-v1m2")


def require_gradient_accumulation() -> None:
    """Stop on a Pointcept whose trainer takes no notice of ``gradient_accumulation_steps`` (before v1.6.1).

    It would train on micro-batches, at the learning rate of the whole batch.

    Raises:
        HostError: it is v1.6.0.
    """
    if host.ENGINE != "pointcept":
        return
    trainer = host.TRAINERS.get("DefaultTrainer")
    if "gradient_accumulation_steps" not in inspect.getsource(inspect.getmodule(trainer)):
        raise host.HostError(
            "gradient accumulation needs Pointcept v1.6.1 or newer: this checkout's trainer would ignore it "
            "and train on micro-batches; take pretrain-lam3c-v1m1-0-base with a batch_size that fits"
        )
