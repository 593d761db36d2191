import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lam3c_plugin.embedded.geometry import CloudGeometry
from lam3c_plugin.host import LOSSES, MODELS, Config, build_model
from lam3c_plugin.losses import SinkhornClusteringLoss, clustering_loss
from lam3c_plugin.models import SinkhornHead
from tests.models.conftest import BACKBONE, HEAD, make_batch, make_model

DATA = Path(__file__).parent.parent / "data"
CONFIGS = Path(__file__).parent.parent.parent / "configs/lam3c"
TERMS = {"mask_loss", "roll_mask_loss", "unmask_loss", "laplacian_loss", "consistency_loss", "loss"}


def fake_trainer(last_epoch=0, total=10):
    return SimpleNamespace(
        scheduler=SimpleNamespace(last_epoch=last_epoch),
        cfg=SimpleNamespace(scheduler=SimpleNamespace(total_steps=total)),
        writer=None,
    )


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(("size", "config"), [("base", "0-base"), ("large", "1-large")])
def test_parameter_names_are_those_of_the_checkpoints_people_have(size, config):
    cfg = Config.fromfile(str(CONFIGS / f"pretrain-lam3c-v1m1-{config}.py"))
    with torch.device("meta"):
        model = build_model(cfg.model)
    wanted = json.loads((DATA / f"ptv3_{size}_head_keys.json").read_text())
    backbone = json.loads((DATA / f"ptv3_{size}_backbone_keys.json").read_text())
    for side in ("student", "teacher"):
        wanted |= {f"{side}.backbone.{name}": shape for name, shape in backbone.items()}
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == wanted


def test_alias():
    assert MODELS.get("LAM3C") is MODELS.get("LAM3C-v1m1")


def test_forward_gives_every_term_and_their_weighted_sum(batch):
    model = make_model().train()
    model.set_step(5, 10)
    result = model(batch)
    assert set(result) == TERMS
    assert all(torch.isfinite(value) and value.ndim == 0 for value in result.values())
    assert result["laplacian_loss"] > 0
    expected = (
        0.25 * result["mask_loss"]
        + 0.25 * result["roll_mask_loss"]
        + 0.5 * result["unmask_loss"]
        + model.laplacian_weight * result["laplacian_loss"]
        + 0.05 * result["consistency_loss"]
    )
    assert result["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_gradients_reach_the_whole_student_and_nothing_of_the_teacher(batch):
    model = make_model(backbone={**BACKBONE, "drop_path": 0.0}).train()
    model(batch)["loss"].backward()
    frozen = {"original0"}
    for name, parameter in model.student.named_parameters():
        if name.split(".")[-1] not in frozen:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert model.student["backbone"].embedding.mask_token.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        (dict(laplacian_weight_start=0.0, laplacian_weight_base=0.0), {"laplacian_loss"}),
        (dict(consistency_weight=0.0), {"consistency_loss"}),
        (dict(unmask_loss_weight=0.0), {"unmask_loss"}),
        (dict(mask_loss_weight=0.0, roll_mask_loss_weight=0.0), {"mask_loss", "roll_mask_loss"}),
    ],
)
def test_a_term_with_weight_zero_is_left_out(batch, changes, missing):
    assert set(make_model(**changes)(batch)) == TERMS - missing


def test_consistency_needs_no_extra_teacher_pass_and_the_released_variant_takes_one(batch):
    for view, passes in (("cross", 1), ("perturbed", 2)):
        model = make_model(consistency_view=view)
        calls = count_calls(model.teacher["backbone"])
        assert model(batch)["consistency_loss"] > 0
        assert len(calls) == passes


def test_term_without_a_single_match_is_zero_with_zero_gradient():
    model = make_model().train()
    result = model(make_batch(local_shift=50.0))
    assert result["unmask_loss"].item() == 0.0
    result["loss"].backward()
    grads = [p.grad for p in model.student["unmask_head"].parameters() if p.requires_grad]
    assert all(grad is not None and torch.equal(grad, torch.zeros_like(grad)) for grad in grads)
    assert torch.isfinite(result["loss"])


def test_tiny_clouds_give_finite_losses():
    batch = make_batch(scenes=1)
    for kind, views in (("global", 2), ("local", 4)):
        rows = torch.cat([torch.zeros(1, dtype=torch.long), batch[f"{kind}_offset"][:-1]])
        for key in ("coord", "origin_coord", "color", "feat"):
            batch[f"{kind}_{key}"] = batch[f"{kind}_{key}"][rows]
        batch[f"{kind}_offset"] = torch.arange(1, views + 1)
    model = make_model().train()
    result = model(batch)
    result["loss"].backward()
    assert all(torch.isfinite(value) for value in result.values())
    assert all(torch.isfinite(p.grad).all() for p in model.student.parameters() if p.grad is not None)


def test_amp_keeps_embeddings_prototypes_and_losses_in_float32(batch, monkeypatch):
    model = make_model().train()
    seen = []
    for head in (model.student["mask_head"], model.teacher["unmask_head"]):
        monkeypatch.setattr(head, "similarity", lambda feat, give=head.similarity: seen.append(give(feat)) or seen[-1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = model(batch)
    assert {t.dtype for given in seen for t in (given.embedding, given.prototypes)} == {torch.float32}
    assert len(seen) == 2
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in result.values())
    result["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.student.parameters() if p.grad is not None)


class LossOfSimilarities(torch.nn.Module):
    """A clustering loss that knows nothing of embeddings, as a user's own may."""

    def forward(self, student, teacher, batch, teacher_temp, **unused):
        return clustering_loss(student, teacher, batch, 0.1, teacher_temp)


def test_losses_without_any_similarity_matrix_equal_those_with(batch):
    values = []
    for dense in (False, True):
        model = make_model().train()
        if dense:
            model.clustering_loss = LossOfSimilarities()
        torch.manual_seed(3)
        result = model(batch)
        result["loss"].backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        values.append((result, gradients))
    for name, value in values[0][0].items():
        torch.testing.assert_close(value, values[1][0][name], msg=name)
    assert values[0][1].keys() == values[1][1].keys()
    for name, value in values[0][1].items():
        atol = 1e-4 * float(value.abs().max())
        torch.testing.assert_close(value, values[1][1][name], rtol=1e-3, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


class HeadOfSimilarities(torch.nn.Module):
    """A head of a user's own: a plain linear layer to similarities."""

    def __init__(self, in_channels, num_prototypes):
        super().__init__()
        self.layer = torch.nn.Linear(in_channels, num_prototypes)

    def forward(self, feat):
        return self.layer(feat).float().tanh()


class ScaledHead(SinkhornHead):
    """A head that changes what this package's gives, as a subclass may."""

    def forward(self, feat):
        return super().forward(feat) * 0.5


class DoubledLoss(SinkhornClusteringLoss):
    """The same of a loss."""

    def forward(self, student_similarity, *args, **kwargs):
        assert isinstance(student_similarity, torch.Tensor)
        return 2 * super().forward(student_similarity, *args, **kwargs)


@pytest.fixture
def registered(monkeypatch):
    for registry, kind in ((MODELS, HeadOfSimilarities), (MODELS, ScaledHead), (LOSSES, DoubledLoss)):
        monkeypatch.setitem(registry.module_dict, kind.__name__, kind)


def test_a_head_and_a_loss_of_your_own_work_on_similarities(batch, registered):
    def clustering_terms(**changes):
        model = make_model(**changes).train()
        torch.manual_seed(3)
        result = model(batch)
        result["loss"].backward()
        heads = [p for name in ("mask_head", "unmask_head") for p in model.student[name].parameters()]
        assert all(torch.isfinite(p.grad).all() for p in heads if p.requires_grad)
        return [result[name].item() for name in ("mask_loss", "roll_mask_loss", "unmask_loss")]

    own = dict(type="HeadOfSimilarities", in_channels=112, num_prototypes=32)
    plain, doubled = clustering_terms(), clustering_terms(clustering_loss=dict(type="DoubledLoss"))
    assert doubled == pytest.approx([2 * value for value in plain], rel=1e-4)
    assert clustering_terms(head={**HEAD, "type": "ScaledHead"}) != pytest.approx(plain, rel=1e-2)
    both = clustering_terms(head=own), clustering_terms(head=own, clustering_loss=dict(type="DoubledLoss"))
    assert both[1] == pytest.approx([2 * value for value in both[0]], rel=1e-4)


def test_without_jitter_the_student_takes_over_what_the_teacher_knows_of_the_points(batch, monkeypatch):
    made = []
    build = CloudGeometry.from_coord.__func__

    def count(cls, *args, **options):
        made.append(1)
        return build(cls, *args, **options)

    monkeypatch.setattr(CloudGeometry, "from_coord", classmethod(count))
    for jitter, expected in ((0.01, 3), (None, 2)):  # teacher, masked and local views; or the first two as one
        made.clear()
        make_model(mask_jitter=jitter).train()(batch)
        assert len(made) == expected


def test_schedules_follow_the_optimiser_step_and_the_teacher_moves_once_a_step():
    model = make_model()
    model.trainer = trainer = fake_trainer(last_epoch=0, total=10)
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in model.teacher.parameters()]
    model.before_step()
    model.after_step()  # a micro-batch: the scheduler has not moved
    assert all(torch.equal(a, b) for a, b in zip(before, model.teacher.parameters(), strict=True))
    model.before_step()
    trainer.scheduler.last_epoch = 1
    model.after_step()
    moved = [(b - a).abs().max().item() for a, b in zip(before, model.teacher.parameters(), strict=True)]
    assert max(moved) == pytest.approx(0.006, rel=1e-3)
    trainer.scheduler.last_epoch = 9
    model.before_step()
    assert model.laplacian_weight == pytest.approx(3e-3)
    assert model.momentum == 1.0
    assert (model.mask_size, model.mask_ratio, model.teacher_temp) == pytest.approx((0.4, 0.7, 0.07))


def test_diagnostics_only_when_asked(batch):
    model = make_model()
    model(batch)
    assert model.diagnostics == {}
    model.collect_diagnostics = True
    model(batch)
    assert {"mask", "roll_mask", "unmask", "feat", "teacher_feat", "laplacian"} <= set(model.diagnostics)
    assert model.diagnostics["feat"].shape[1] == HEAD["in_channels"]


def test_return_point_gives_the_teachers_features(batch):
    model = make_model().eval()
    cloud = dict(
        coord=batch["global_coord"][:900],
        feat=batch["global_feat"][:900],
        offset=torch.tensor([900]),
        grid_size=torch.tensor(0.05),
    )
    point = model(cloud, return_point=True)["point"]
    assert point.feat.shape[1] == HEAD["in_channels"]
    assert not point.feat.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(mask_loss_weight=0.0, roll_mask_loss_weight=0.0, unmask_loss_weight=0.0), "at least one"),
        (dict(consistency_view="sideways"), "consistency_view"),
        (dict(num_global_view=1), "no other to roll to"),
        (dict(num_global_view=3), "must be 1 or 2"),
        (dict(match_max_r=-1), "match_max_r must be a positive length in metres, got -1"),
        (dict(match_max_r=float("nan")), "match_max_r must be a positive length"),
        (dict(up_cast_level=-1), "up_cast_level must be at least 0"),
        (dict(teacher_temp_base=0.0), "teacher_temp_.*must lie in 1e-06 .. inf"),
        (dict(momentum_base=1.2), "momentum_.*must lie in 0 .. 1"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(Exception, match=message):
        make_model(**changes)


def test_incomplete_batch_names_what_is_missing(batch):
    del batch["local_feat"]
    with pytest.raises(KeyError, match="local_feat"):
        make_model()(batch)


def test_up_cast_beyond_the_backbones_levels(batch):
    with pytest.raises(ValueError, match="up_cast_level=5"):
        make_model(up_cast_level=5)(batch)


def test_head_similarities_are_cosines():
    head = build_model(dict(HEAD))
    similarity = head(torch.randn(50, HEAD["in_channels"]) * 30)
    assert similarity.shape == (50, HEAD["num_prototypes"])
    assert similarity.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(head.prototype.weight.norm(dim=1), torch.ones(HEAD["num_prototypes"]))
    assert not head.prototype.parametrizations.weight.original0.requires_grad
