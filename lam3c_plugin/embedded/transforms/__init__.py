"""The host's point-cloud transforms that pre-training and downstream configs use, in numpy, under the host's names.

A transform takes the sample's dict and returns it with entries replaced. Arrays are never written to: what the caller
holds stays as it was. Coordinates are metres, z up; colours 0-255 until ``NormalizeColor``; both (N, 3) float32.
Random numbers come from ``np.random``'s global state alone, so that ``np.random.seed`` fixes a sample.
"""

from lam3c_plugin.embedded.transforms.color import (
    ChromaticAutoContrast,
    ChromaticJitter,
    ChromaticTranslation,
    NormalizeColor,
    RandomColorJitter,
    RandomDropColor,
    RandomDropNormal,
)
from lam3c_plugin.embedded.transforms.compose import Compose, build_transform, index_operator
from lam3c_plugin.embedded.transforms.formatting import Collect, Copy, InstanceParser, ToTensor, Update
from lam3c_plugin.embedded.transforms.geometry import (
    CenterShift,
    ElasticDistortion,
    NormalizeCoord,
    PointClip,
    RandomFlip,
    RandomJitter,
    RandomRotate,
    RandomRotateTargetAngle,
    RandomScale,
    RandomShift,
)
from lam3c_plugin.embedded.transforms.sampling import GridSample, RandomDropout, ShufflePoint, SphereCrop
from lam3c_plugin.embedded.transforms.views import ContrastiveViewsGenerator, MultiViewGenerator
