"""Starts a run from pre-trained weights, whatever kind of checkpoint they come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lam3c_plugin.checkpoints.keys import (
    MASK_TOKEN,
    LoadReport,
    backbone_state,
    compare,
    is_encoder,
    load_weights,
    map_state,
)
from lam3c_plugin.checkpoints.run_config import inputs_of
from lam3c_plugin.errors import CheckpointError
from lam3c_plugin.hooks.common import bare_model
from lam3c_plugin.host import HOOKS, HookBase
from lam3c_plugin.zoo.state import read_state, trained_grid

LEAST_SHARE = 0.95


def load_encoder(
    backbone: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: Any = "the checkpoint",
    part: str = "student",
    least_share: float = LEAST_SHARE,
) -> LoadReport:
    """Load a backbone's weights out of a checkpoint's state dict, and insist on the encoder.

    Args:
        backbone: with the tensors ``embedding.*`` and ``enc.*`` (PT-v3m2), and perhaps a decoder.
        state: weights without ``module.``, in any layout that ``checkpoints.keys`` knows.
        source: named in errors.
        part: whose weights of a pre-training checkpoint: "student" or "teacher".
        least_share: part of the backbone's encoder tensors that has to match in name and shape.

    Returns:
        names by what became of them; decoders and heads that are missing or too many are in it, and no error.

    Raises:
        CheckpointError: the backbone has no encoder, or too little of it matches; the model is unchanged then.
    """
    target = backbone.state_dict()
    encoder = [name for name in target if is_encoder(name)]
    if not encoder:
        raise CheckpointError(
            f"the backbone ({type(backbone).__name__}) has no embedding.* and enc.* tensors to load {source} into"
        )
    report = compare(backbone_state(state, part), target)
    hits = sum(map(is_encoder, report.matched))
    if hits < least_share * len(encoder):
        raise CheckpointError(
            f"{source}: only {hits} of the encoder's {len(encoder)} tensors match "
            f"(at least {least_share:.0%} have to): {_cause(report, state)}"
        )
    bare = backbone_state(state, part)
    backbone.load_state_dict({name: bare[name] for name in report.matched}, strict=False)
    return report


def _cause(report: LoadReport, state: Mapping[str, Tensor]) -> str:
    """The likeliest reason, in words."""
    reshaped = [item for item in report.reshaped if is_encoder(item[0])]
    if reshaped:
        name, have, want = reshaped[0]
        return (
            f"{len(reshaped)} have another shape, first {name}: {tuple(have)} in the file, {tuple(want)} in the model; "
            "PTv3 Base and Large have configs of their own (…-large)"
        )
    found = ", ".join(sorted(state)[:2])
    return f"the file's names do not fit (first: {found}); is it a LAM3C or Sonata checkpoint?"


@HOOKS.register_module()
class WeightLoader(HookBase):
    """Loads ``cfg.weight`` before training; takes the place of the host's CheckpointLoader, which fits no names.

    For pre-training: ``weight`` may be a LAM3C or Sonata training checkpoint, or backbone weights (a model-zoo file
    ``{"config", "state_dict"}``, .safetensors, a folder for the Hub, a zoo name that was downloaded, a fine-tuned
    model), which then start the student and the teacher. It is an error if
    less than 95 % of the backbones' tensors match; heads may differ. Without a weight the model starts from scratch.
    With ``resume=True`` the whole run is restored, by the engine's CheckpointLoader.
    """

    def __init__(self) -> None:
        self.report: LoadReport | None = None

    def before_train(self) -> None:
        trainer = self.trainer
        if trainer.cfg.resume:
            loader = HOOKS.get("CheckpointLoader")()
            loader.trainer = trainer
            loader.before_train()
        elif trainer.cfg.weight:
            trainer.logger.info(f"{type(self).__name__}: {self.load(bare_model(trainer), trainer.cfg.weight)}")
            self._compare_grids()
        else:
            trainer.logger.info(f"{type(self).__name__}: no weight= given, the model starts from scratch")

    def _compare_grids(self) -> None:
        own, here = trained_grid(self.trainer.cfg.weight), inputs_of(self.trainer.cfg).get("grid_size")
        if own and here and own != here:
            self.trainer.logger.warning(
                f"{self.trainer.cfg.weight} was trained on cells of {own:g} m, and the training transforms have "
                f"{here:g} m: expect less of it; set their grid_size to {own:g}"
            )

    def load(self, model: nn.Module, path: str) -> str:
        """Load a file into the model, set `report`, and say in words what matched."""
        target = model.state_dict()
        state = map_state(read_state(path), target)
        report = compare(state, target)
        hits, wanted = (sum(".backbone." in f".{name}" for name in names) for names in (report.matched, target))
        if hits < LEAST_SHARE * wanted:
            raise CheckpointError(
                f"{path} is of another architecture than the model: only {hits} of the backbones' {wanted} tensors "
                f"match (at least {LEAST_SHARE:.0%} have to): {report.summary()}"
            )
        self.report = load_weights(model, state, source=path)
        return f"{path}: {self.report.summary()}"


@HOOKS.register_module()
class EncoderLoader(WeightLoader):
    """A `WeightLoader` for downstream runs: loads into ``model.backbone`` and insists on the encoder.

    Of a training checkpoint the student's backbone is taken, of a fine-tuned model its backbone.

    Args:
        part: whose backbone of a pre-training checkpoint: "student" or "teacher".
        least_share: part of the encoder's tensors that has to match; less is an error.
    """

    def __init__(self, part: str = "student", least_share: float = LEAST_SHARE) -> None:
        super().__init__()
        if part not in ("student", "teacher"):
            raise ValueError(f"EncoderLoader: part={part!r} must be student or teacher")
        self.part, self.least_share = part, least_share

    def load(self, model: nn.Module, path: str) -> str:
        if not hasattr(model, "backbone"):
            raise CheckpointError(f"{type(model).__name__} has no backbone to load {path} into")
        state = read_state(path)
        report = load_encoder(model.backbone, state, source=path, part=self.part, least_share=self.least_share)
        report.unexpected = [name for name in report.unexpected if name != MASK_TOKEN]
        self.report = report
        encoder = sum(map(is_encoder, report.matched))
        return f"{encoder} encoder tensors from {path}; backbone: {report.summary()}"
