"""PTv3 for models that expect a backbone to return a plain tensor, as the host's older ones do (MSC)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lam3c_plugin.host import MODELS

_PTV3: type = MODELS.get("PT-v3m2")


@MODELS.register_module("PT-v3m2-feat")
class PTv3Features(_PTV3):  # type: ignore[valid-type, misc]
    """The engine's PT-v3m2 with the same arguments and weights; ``forward`` returns features (N, C) and no ``Point``.

    With it, ``MSC-v1m1`` pre-trains PTv3 (the host wires it for SpUNet), and the downstream configs take its weights.
    """

    def forward(self, data_dict: dict[str, Any]) -> Tensor:
        """Features of the finest level the backbone ends at: the decoder's, or with ``enc_mode`` the coarsest."""
        return super().forward(data_dict).feat
