"""The plugin's transforms for both engines.

``LAM3CTransforms`` runs a list of transforms, written as the host's, on the plugin's own implementation of them: same
names, arguments and distributions, several times faster, and no sample of a tiny or odd scene breaks a run. On the
embedded engine it changes nothing. ``RandomDropColor`` and ``RandomDropNormal`` are registered where the host has none
(v1.6.0), with the arguments that they have there since v1.6.1.
"""

from __future__ import annotations

from lam3c_plugin import host
from lam3c_plugin.embedded.transforms import Compose, RandomDropColor, RandomDropNormal
from lam3c_plugin.embedded.transforms.compose import FALLBACK_REGISTRIES

if host.ENGINE == "pointcept" and host.TRANSFORMS not in FALLBACK_REGISTRIES:
    FALLBACK_REGISTRIES.append(host.TRANSFORMS)

for _transform in (RandomDropColor, RandomDropNormal):
    if host.TRANSFORMS.get(_transform.__name__) is None:
        host.TRANSFORMS.register_module(module=_transform)


@host.TRANSFORMS.register_module()
class LAM3CTransforms(Compose):
    """A list of transforms on the plugin's implementation.

    ``transform=[dict(type="LAM3CTransforms", transforms=[dict(type="GridSample", ...), ...])]`` in any dataset's config
    of either engine; lists nested in ``MultiViewGenerator`` are covered too. A name that the plugin does not have is
    taken from the host.

    Args:
        transforms: list of ``dict(type=..., ...)``.
    """

    def __init__(self, transforms: list[dict]) -> None:
        super().__init__(transforms)
