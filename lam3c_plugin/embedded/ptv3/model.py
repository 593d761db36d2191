"""Point Transformer V3, the version that Sonata and LAM3C pre-train (PT-v3m2 of Pointcept)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lam3c_plugin.embedded.geometry import GRID_ORIGINS, PointCloudError, curve_names
from lam3c_plugin.embedded.ptv3.blocks import Block
from lam3c_plugin.embedded.ptv3.levels import prepare_levels
from lam3c_plugin.embedded.ptv3.pooling import GridPooling, GridUnpooling
from lam3c_plugin.embedded.ptv3.sparse_conv import SubmanifoldConv3d
from lam3c_plugin.embedded.registry import MODELS
from lam3c_plugin.embedded.structure import Point, PointModule, PointSequential


class Embedding(PointModule):
    """Linear, LayerNorm, GELU; then the mask token takes the place of masked points' features.

    Args:
        in_channels: width of the input.
        embed_channels: width of the result.
        mask_token: have a token. Without one a point with ``mask`` is refused (``PointCloudError``).
    """

    def __init__(self, in_channels: int, embed_channels: int, mask_token: bool = False) -> None:
        super().__init__()
        self.stem = PointSequential(
            linear=nn.Linear(in_channels, embed_channels), norm=nn.LayerNorm(embed_channels), act=nn.GELU()
        )
        self.mask_token = nn.Parameter(torch.zeros(1, embed_channels)) if mask_token else None

    def forward(self, point: Point) -> Point:
        point = self.stem(point)
        if "mask" in point:
            if self.mask_token is None:
                raise PointCloudError(
                    "the batch has a mask and the backbone no mask token: build it with mask_token=True"
                )
            token = self.mask_token.to(point.feat.dtype)
            point.feat = torch.where(point.mask.unsqueeze(-1), token, point.feat)
        return point


@MODELS.register_module("PT-v3m2")
class PointTransformerV3(PointModule):
    """Point Transformer V3 (Wu et al., CVPR 2024) as Sonata changed it: LayerNorm throughout, no positional table.

    ``forward`` takes a dictionary or `Point` with ``feat`` (N, in_channels), ``offset`` (B,) or ``batch`` (N,),
    ``coord`` (N, 3) metres, and ``grid_size`` (metres; one number) or ``grid_coord`` (N, 3); optionally ``mask`` (N,)
    bool, ``origin_coord``, ``color``, and ``geometry`` of the same points from an earlier pass. The caller's
    dictionary is left as it is. It gives the coarsest point with ``enc_mode``, else the finest after the decoder; the
    stages before it hang on ``pooling_parent`` / ``pooling_inverse``.

    In eval the result is the same to the bit on every run, and, up to rounding, a cloud's features are the same alone
    and in any batch (unless ``grid_origin="batch"``). Points that share a cell: see `.sparse_conv`; the order of
    a cloud's rows does not matter, but where rows are equal in ``coord`` and ``feat`` either may get the other's.

    Args:
        in_channels: C_in of ``feat``.
        order: curves, block i of a stage uses curve i modulo their number.
        stride: of the pooling before stages 1, 2, ...
        enc_depths: blocks of each stage.
        enc_channels: width of each stage.
        enc_num_head: attention heads of each stage.
        enc_patch_size: points of a patch of each stage.
        dec_depths: blocks of the decoder's stages, finest first; so are the next three.
        dec_channels: their widths.
        dec_num_head: their attention heads.
        dec_patch_size: points of their patches.
        mlp_ratio, qkv_bias, qk_scale, attn_drop, proj_drop, layer_scale, pre_norm, upcast_attention, upcast_softmax,
            enable_flash: see `Block` and `SerializedAttention`.
        drop_path: rate of the last block; the others' rise to it linearly from 0.
        shuffle_orders: shuffle the curves of every stage in training. In eval they never are.
        enable_rpe: must be False.
        traceable: the decoder keeps each coarser stage as ``unpooling_parent``.
        mask_token: have a token for masked points.
        enc_mode: encoder only.
        freeze_encoder: embedding and encoder get no gradient.
        grid_origin: ``cloud`` (cells and curve depth of every cloud by itself) or ``batch`` (one origin and depth for
            all, as the reference does it; for comparing engines on a batch).

    Raises:
        ValueError: arguments that do not fit together.
        PointCloudError: (in ``forward``, a ``ValueError``) an unusable batch: NaN, no point, too many cells, ...
    """

    def __init__(
        self,
        in_channels: int = 6,
        order: str | Sequence[str] = ("z", "z-trans"),
        stride: Sequence[int] = (2, 2, 2, 2),
        enc_depths: Sequence[int] = (2, 2, 2, 6, 2),
        enc_channels: Sequence[int] = (32, 64, 128, 256, 512),
        enc_num_head: Sequence[int] = (2, 4, 8, 16, 32),
        enc_patch_size: Sequence[int] = (48, 48, 48, 48, 48),
        dec_depths: Sequence[int] = (2, 2, 2, 2),
        dec_channels: Sequence[int] = (64, 64, 128, 256),
        dec_num_head: Sequence[int] = (4, 4, 8, 16),
        dec_patch_size: Sequence[int] = (48, 48, 48, 48),
        mlp_ratio: float = 4,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        drop_path: float = 0.3,
        layer_scale: float | None = None,
        pre_norm: bool = True,
        shuffle_orders: bool = True,
        enable_rpe: bool = False,
        enable_flash: bool = True,
        upcast_attention: bool = False,
        upcast_softmax: bool = False,
        traceable: bool = False,
        mask_token: bool = False,
        enc_mode: bool = False,
        freeze_encoder: bool = False,
        grid_origin: str = "cloud",
    ) -> None:
        super().__init__()
        self.num_stages = len(enc_depths)
        self.strides, self.enc_depths = tuple(stride), tuple(enc_depths)
        self.order = curve_names(order)
        self.shuffle_orders = shuffle_orders
        self.enc_mode = enc_mode
        self.freeze_encoder = freeze_encoder
        self.grid_origin = grid_origin
        if grid_origin not in GRID_ORIGINS:
            raise ValueError(f"grid_origin={grid_origin!r} is not one of {', '.join(GRID_ORIGINS)}")
        encoder = dict(depths=enc_depths, channels=enc_channels, num_head=enc_num_head, patch_size=enc_patch_size)
        decoder = dict(depths=dec_depths, channels=dec_channels, num_head=dec_num_head, patch_size=dec_patch_size)
        _check_lengths({f"enc_{key}": value for key, value in encoder.items()}, self.num_stages)
        _check_lengths({"stride": stride}, self.num_stages - 1)
        block = dict(
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
            layer_scale=layer_scale,
            pre_norm=pre_norm,
            enable_rpe=enable_rpe,
            enable_flash=enable_flash,
            upcast_attention=upcast_attention,
            upcast_softmax=upcast_softmax,
        )
        self.embedding = Embedding(in_channels, enc_channels[0], mask_token)
        self.enc = self._build_encoder(encoder, stride, drop_path, block)
        if not enc_mode:
            _check_lengths({f"dec_{key}": value for key, value in decoder.items()}, self.num_stages - 1)
            self.dec = self._build_decoder(decoder, enc_channels, drop_path, traceable, block)
        if freeze_encoder:
            self.embedding.requires_grad_(False)
            self.enc.requires_grad_(False)
        self.apply(_init_weights)

    def _add_blocks(
        self,
        stage: PointSequential,
        sizes: Mapping[str, Sequence[int]],
        s: int,
        rates: list[float],
        block: dict[str, Any],
    ) -> None:
        for i, rate in enumerate(rates):
            stage.add(
                Block(
                    channels=sizes["channels"][s],
                    num_heads=sizes["num_head"][s],
                    patch_size=sizes["patch_size"][s],
                    drop_path=rate,
                    order_index=i % len(self.order),
                    **block,
                ),
                name=f"block{i}",
            )

    def _build_encoder(
        self, sizes: Mapping[str, Sequence[int]], stride: Sequence[int], drop_path: float, block: dict[str, Any]
    ) -> PointSequential:
        encoder = PointSequential()
        rates = _drop_path_rates(drop_path, sizes["depths"])
        for s in range(self.num_stages):
            stage = PointSequential()
            if s > 0:
                channels = sizes["channels"][s - 1 : s + 1]
                stage.add(GridPooling(*channels, stride[s - 1], shuffle_orders=self.shuffle_orders), name="down")
            self._add_blocks(stage, sizes, s, rates[s], block)
            if len(stage) > 0:
                encoder.add(stage, name=f"enc{s}")
        return encoder

    def _build_decoder(
        self,
        sizes: Mapping[str, Sequence[int]],
        enc_channels: Sequence[int],
        drop_path: float,
        traceable: bool,
        block: dict[str, Any],
    ) -> PointSequential:
        decoder = PointSequential()
        rates = _drop_path_rates(drop_path, sizes["depths"])
        coarse = enc_channels[-1]
        for s in reversed(range(self.num_stages - 1)):
            stage = PointSequential()
            channels = sizes["channels"][s]
            stage.add(GridUnpooling(coarse, enc_channels[s], channels, traceable), name="up")
            self._add_blocks(stage, sizes, s, rates[s][::-1], block)
            decoder.add(stage, name=f"dec{s}")
            coarse = channels
        return decoder

    def forward(self, data_dict: Mapping[str, Any]) -> Point:
        point = Point(data_dict)
        # refuses an unusable batch before any work is done
        prepare_levels(point.locate(self.grid_origin), self.strides, self.enc_depths)
        point = self.embedding(point)
        point.serialization(self.order, shuffle_orders=self.shuffle_orders and self.training)
        point = self.enc(point)
        return point if self.enc_mode else self.dec(point)


def _check_lengths(arguments: Mapping[str, Sequence[int]], wanted: int) -> None:
    """Raise ValueError for a sequence that has not one entry for each stage it speaks of."""
    for name, values in arguments.items():
        if len(values) != wanted:
            raise ValueError(f"{name} has {len(values)} entries, {tuple(values)}; enc_depths asks for {wanted}")


def _drop_path_rates(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Rates of all blocks, stage by stage, rising linearly from 0 to ``last``."""
    rates = iter(torch.linspace(0, last, sum(depths), device="cpu").tolist())  # also under a meta device
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _init_weights(module: nn.Module) -> None:
    """Weights of linear layers and convolutions truncated normal 0.02, their biases 0, as the host has it."""
    if isinstance(module, nn.Linear | SubmanifoldConv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
