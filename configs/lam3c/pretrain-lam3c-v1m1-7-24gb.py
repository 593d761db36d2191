"""PTv3 Base on one 24 GB GPU: 96 scenes an optimiser step as 16 micro-batches of 6, views of at most 32,768 points.

Gradient accumulation needs Pointcept v1.6.1 or newer (v1.6.0 is refused), or the embedded engine. Schedules, weight
decay and the teacher advance per optimiser step, so that they run as in the base recipe; the clustering targets are
balanced over the six scenes of a micro-batch, some 4 masked points a prototype. docs/configs.md: memory and time.
"""

from lam3c_plugin.recipes.pretrain import view_transforms
from lam3c_plugin.requirements import require_gradient_accumulation

require_gradient_accumulation()

_base_ = ["./_base_/pretrain_roomtours.py"]

batch_size = 6
gradient_accumulation_steps = 16
num_worker = 8
data = dict(train=dict(transform=view_transforms(0.02, max_size=32768)))

del require_gradient_accumulation, view_transforms
