"""The clustering head: an MLP into a small embedding, compared with weight-normalised prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lam3c_plugin.host import MODELS
from lam3c_plugin.losses import Similarity


@MODELS.register_module("SinkhornHead")
class SinkhornHead(nn.Module):
    """Similarities of point features to prototypes (arXiv 2512.23042, clustering objective; after Sonata's head).

    ``Linear(in, hidden) -> GELU -> Linear(hidden, embed) -> L2 normalisation -> K unit-length prototypes``. The
    prototypes' directions are trained, their gain is frozen at 1, so a similarity is a cosine in [-1, 1].

    Args:
        in_channels: channels of the up-cast features (1,088 for Base, 1,536 for Large).
        hidden_channels: width of the MLP.
        embed_channels: channels of the embedding.
        num_prototypes: number of prototypes K.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 4096,
        embed_channels: int = 256,
        num_prototypes: int = 4096,
    ) -> None:
        super().__init__()
        sizes = dict(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            embed_channels=embed_channels,
            num_prototypes=num_prototypes,
        )
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, embed_channels),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototype = nn.utils.parametrizations.weight_norm(nn.Linear(embed_channels, num_prototypes, bias=False))
        gain = self.prototype.parametrizations.weight.original0
        gain.data.fill_(1.0)
        gain.requires_grad_(False)

    def similarity(self, feat: Tensor) -> Similarity:
        """What `forward` gives, not multiplied out: embeddings of features (N, in_channels), and the prototypes."""
        return Similarity(self.embed(feat), self.prototype.weight, largest=1.0)

    def embed(self, feat: Tensor) -> Tensor:
        """Unit-length float32 embeddings (N, embed_channels) of features (N, in_channels)."""
        embedding = self.mlp(feat)
        # under AMP the cosines feed exp(x / 0.04): bfloat16's 3 digits are not enough there
        with torch.autocast(device_type=feat.device.type, enabled=False):
            return F.normalize(embedding.float(), dim=-1)

    def forward(self, feat: Tensor) -> Tensor:
        """Cosine similarities (N, K) in float32 of features (N, in_channels) to the prototypes."""
        embedding = self.embed(feat)
        with torch.autocast(device_type=feat.device.type, enabled=False):
            return self.prototype(embedding)
