"""DefaultSegmentorV2: all levels of the encoder, decoder, what is frozen, what comes out."""

from __future__ import annotations

import pytest
import torch

from lam3c_plugin.errors import ConfigError
from lam3c_plugin.host import MODELS, build_model

BACKBONE = dict(
    type="PT-v3m2",
    in_channels=9,
    enc_depths=(1, 1, 1, 1, 1),
    enc_channels=(8, 16, 16, 24, 32),
    enc_num_head=(1, 2, 2, 3, 4),
    enc_patch_size=(64,) * 5,
    dec_depths=(1, 1, 1, 1),
    dec_channels=(12, 16, 16, 24),
    dec_num_head=(1, 2, 2, 3),
    dec_patch_size=(64,) * 4,
    enable_flash=False,
    shuffle_orders=False,
    drop_path=0.0,
)
LOSSES = [dict(type="CrossEntropyLoss", ignore_index=-1), dict(type="LovaszLoss", ignore_index=-1)]


def segmentor(channels=8 + 16 + 16 + 24 + 32, freeze=False, criteria=LOSSES, **backbone):
    torch.manual_seed(0)
    return build_model(
        dict(
            type="DefaultSegmentorV2",
            num_classes=5,
            backbone_out_channels=channels,
            backbone={**BACKBONE, "enc_mode": True, **backbone},
            criteria=criteria,
            freeze_backbone=freeze,
        )
    )


def batch(sizes=(150, 90), seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = sum(sizes)
    cells = torch.randint(0, 24, (count, 3), generator=generator)
    return dict(
        coord=cells * 0.02,
        grid_coord=cells,
        feat=torch.randn(count, 9, generator=generator),
        offset=torch.tensor(sizes).cumsum(0),
        segment=torch.randint(-1, 5, (count,), generator=generator, dtype=torch.int32),
    )


def test_encoder_is_read_at_all_levels():
    model = segmentor().eval()
    point = model(batch(), return_point=True)["point"]
    assert point.feat.shape == (240, 96)
    assert "pooling_parent" not in point
    # by hand: each stage's features, carried down by the inverses
    stage = model.backbone(batch())
    columns = []
    while True:
        feat, chain = stage.feat, stage
        for inverse in reversed(columns_to_finest(stage)):
            feat = feat[inverse]
        columns.insert(0, feat)
        if "pooling_parent" not in chain:
            break
        stage = chain.pooling_parent
    assert torch.equal(point.feat, torch.cat(columns, dim=1))


def columns_to_finest(point):
    """The inverses from the finest points to ``point``, finest first."""
    chain = []
    while "pooling_parent" in point:
        chain.insert(0, point.pooling_inverse)
        point = point.pooling_parent
    return chain


def test_decoder_ends_at_the_finest_points():
    model = segmentor(12, enc_mode=False).eval()
    result = model(batch())
    assert result["seg_logits"].shape == (240, 5)
    assert torch.isfinite(result["loss"])


def test_training_gives_the_loss_and_evaluation_the_scores():
    model = segmentor()
    assert set(model.train()(batch())) == {"loss"}
    assert set(model.eval()(batch())) == {"loss", "seg_logits"}
    unlabelled = {key: value for key, value in batch().items() if key != "segment"}
    assert set(model(unlabelled)) == {"seg_logits"}
    with pytest.raises(ConfigError, match="no segment"):
        model.train()(unlabelled)


def test_loss_is_the_sum_of_the_criteria():
    data = batch()
    total, first, second = (
        segmentor(criteria=losses).eval()(dict(data))["loss"] for losses in (LOSSES, LOSSES[:1], LOSSES[1:])
    )
    assert torch.allclose(total, first + second)


def test_frozen_backbone_gets_no_gradient():
    model = segmentor(freeze=True).train()
    model(batch())["loss"].backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.seg_head.weight.grad.abs().sum() > 0
    model = segmentor().train()
    model(batch())["loss"].backward()
    assert model.backbone.embedding.stem.linear.weight.grad.abs().sum() > 0


def test_names_are_the_host_s():
    names = {name.split(".")[0] for name in segmentor().state_dict()}
    assert names == {"backbone", "seg_head"}


def test_wrong_channels_are_named():
    with pytest.raises(ConfigError, match="backbone_out_channels=64, but the backbone gives 96"):
        segmentor(64).eval()(batch())


def test_plain_features_for_older_models():
    """PT-v3m2-feat: the same weights, a tensor for an answer."""
    torch.manual_seed(0)
    point = MODELS.build({**BACKBONE, "enc_mode": False}).eval()
    plain = MODELS.build({**BACKBONE, "enc_mode": False, "type": "PT-v3m2-feat"}).eval()
    plain.load_state_dict(point.state_dict())
    assert torch.equal(plain(batch()), point(batch()).feat)
