"""The row ``collapsing``: full LAM3C with one number that makes it collapse, to show what the monitor says."""

from __future__ import annotations

#: options of the pre-training, over those of the row ``full``: twice the student's temperature of 0.1
COLLAPSING: dict[str, float] = {"model.teacher_temp_start": 0.2, "model.teacher_temp_base": 0.2}
WHY = """The teacher's temperature is twice the student's instead of less than half of it. Its targets are then flatter
than the student's predictions, which is learnt best by telling nothing apart. Sinkhorn evens out the *mean* target at
any temperature, so marginal entropy and prototypes in use say little about it; the entropy of a single target and the
features' effective rank and spread do."""
