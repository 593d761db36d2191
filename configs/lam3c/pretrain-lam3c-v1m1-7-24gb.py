"""PTv3 Base on one 24 GB GPU: 96 scenes an optimiser step as 48 micro-batches of 2, views of at most 32,768 points.

Gradient accumulation needs Pointcept v1.6.1 or newer (v1.6.0 is refused), or the embedded engine. Schedules, weight
decay and the teacher advance per optimiser step, so that they run as in the base recipe; the clustering targets are
balanced over the two scenes of a micro-batch. docs/configs.md shows how to estimate memory and time.
"""

from lam3c_plugin.recipes.pretrain import view_transforms
from lam3c_plugin.requirements import require_gradient_accumulation

require_gradient_accumulation()

_base_ = ["./_base_/pretrain_roomtours.py"]

batch_size = 2
gradient_accumulation_steps = 48
num_worker = 8
data = dict(train=dict(transform=view_transforms(0.02, max_size=32768)))

del require_gradient_accumulation, view_transforms
