"""Pictures of what the teacher has learnt: one fixed scene, coloured by the principal components of its features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lam3c_plugin.host import HOOKS, HookBase, Point, comm
from lam3c_plugin.standalone.errors import DataError
from lam3c_plugin.viz import contact_sheet, pca_colors, render_points, save_png

from .common import bare_model, fixed_rng, steps_done

AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_TRIES = 20  # broken scenes at the head of a data set that are passed over


@HOOKS.register_module()
class FeaturePictures(HookBase):
    """Draws a scene's colours and the teacher's up-cast features (PCA) as PNG and into TensorBoard.

    Rank 0 only, in eval mode, without gradients, with generators of its own: a run with pictures gives the same
    numbers as one without. A picture that cannot be drawn is a warning, never the end of a run. Files:
    ``<save_path>/pictures/features_XXXXXX.png`` (optimiser steps done); TensorBoard: ``pictures/features``.

    Args:
        interval: draw every so many optimiser steps; ``None`` for not by steps.
        every_epochs: draw after every so many epochs, as the trainer counts them; 0 for not by epochs.
        at_start: draw before the first step too, for comparison.
        scene: folder with ``coord.npy`` (N, 3) in metres, z up, and if there ``color.npy`` (0-255), ``normal.npy``;
            ``None`` takes the first scene of the training set.
        level: pooling stages to up-cast by concatenation; ``None``: the model's ``up_cast_level``. Below, each point
            shows its cell's features.
        grid_size: metres; ``None`` takes the training transform's, else 0.02.
        max_points: of more points those nearest to the middle of the scene (seen from above) are kept.
        size: width and height of one image in pixels; there are two views of colours and of features each.
    """

    def __init__(
        self,
        interval: int | None = None,
        every_epochs: int = 1,
        at_start: bool = True,
        scene: str | None = None,
        level: int | None = None,
        grid_size: float | None = None,
        max_points: int = 60_000,
        size: tuple[int, int] = (480, 360),
    ) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f"interval must be at least 1 or None, got {interval}")
        self.interval, self.every_epochs, self.at_start = interval, every_epochs, at_start
        self.scene, self.level, self.grid_size = scene, level, grid_size
        self.max_points, self.size = max_points, tuple(size)
        self._prepared: dict[str, np.ndarray] | None = None
        self._drawn = -1

    # ---- hook points ---------------------------------------------------------------------------------------------

    def before_train(self) -> None:
        if self.at_start and steps_done(self.trainer) == 0:
            self.draw()

    def after_step(self) -> None:
        step = steps_done(self.trainer)
        if self.interval and step > 0 and step % self.interval == 0:
            self.draw()

    def after_epoch(self) -> None:
        if self.every_epochs and (int(self.trainer.epoch) + 1) % self.every_epochs == 0:
            self.draw()

    # ---- drawing -------------------------------------------------------------------------------------------------

    def draw(self) -> Path | None:
        """Draws the scene as the model sees it now; ``None`` off rank 0, after a failure, or if it was just drawn."""
        step = steps_done(self.trainer)
        if not comm.is_main_process() or step == self._drawn:
            return None
        self._drawn = step
        path = Path(str(self.trainer.cfg.save_path), "pictures", f"features_{step:06d}.png")
        try:
            with fixed_rng():
                image = self._image()
            save_png(path, image)
            if self.trainer.writer is not None:
                self.trainer.writer.add_image("pictures/features", image, step, dataformats="HWC")
        except Exception as error:  # whatever it was, a picture is not worth a training run
            reason = " ".join(str(error).split()) or "no message"
            self.trainer.logger.warning(f"no picture of step {step}: {type(error).__name__}: {reason}")
            return None
        return path

    def _image(self) -> np.ndarray:
        if self._prepared is None:
            grid_size = self.grid_size or configured_grid_size(self.trainer.cfg)
            scene = read_folder(self.scene) if self.scene else first_scene(self.trainer.train_loader.dataset)
            self._prepared = prepare_scene(scene, grid_size, self.max_points)
        scene = self._prepared
        colors = pca_colors(self._features(scene))
        return contact_sheet(
            [
                render_points(scene["coord"], paint, size=self.size, view=view)
                for paint in (scene["color"], colors)
                for view in ("oblique", "top")
            ],
            columns=2,
        )

    def _features(self, scene: dict[str, np.ndarray]) -> Tensor:
        """(N, C) float32 features of the teacher, or of the model's only backbone."""
        model, cfg = bare_model(self.trainer), self.trainer.cfg
        backbone = model.teacher["backbone"] if hasattr(model, "teacher") else model.backbone
        level = int(getattr(model, "up_cast_level", 0)) if self.level is None else self.level
        device = next(backbone.parameters()).device
        batch = {key: torch.from_numpy(scene[key]).to(device) for key in ("coord", "feat")}
        batch["offset"] = torch.tensor([len(scene["coord"])], device=device)
        batch["grid_size"] = torch.tensor(float(scene["grid_size"]), device=device)
        dtype = AMP_DTYPES.get(str(getattr(cfg, "amp_dtype", "float16")), torch.float16)
        enabled = bool(getattr(cfg, "enable_amp", False))
        with torch.no_grad(), eval_mode(backbone), torch.autocast(device.type, dtype=dtype, enabled=enabled):
            return point_features(backbone(Point(batch)), level).float()


def point_features(point: Any, level: int) -> Tensor:
    """Features of every input point: up-cast by concatenation for ``level`` stages, below by gathering."""
    while "pooling_parent" in point:
        parent, inverse = point["pooling_parent"], point["pooling_inverse"]
        gathered = point["feat"][inverse]
        parent["feat"] = torch.cat([parent["feat"], gathered], dim=-1) if level > 0 else gathered
        point, level = parent, level - 1
    return point["feat"]


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every submodule is in the mode it was in."""
    modes = [(item, item.training) for item in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for item, training in modes:
            item.training = training


# ---- the scene -----------------------------------------------------------------------------------------------------


def read_folder(folder: str) -> dict[str, np.ndarray]:
    """``coord``, and where they exist ``color`` (0-255) and ``normal``, of a scene folder.

    Raises:
        DataError: there is no ``coord.npy``.
    """
    files = {key: Path(folder, f"{key}.npy") for key in ("coord", "color", "normal")}
    if not files["coord"].is_file():
        raise DataError(f"scene={folder!r} has no coord.npy: give the folder of one scene, or None")
    return {key: np.load(file, allow_pickle=False) for key, file in files.items() if file.is_file()}


def first_scene(dataset: Any) -> dict[str, Any]:
    """The first readable scene of a data set (or of the first of a concatenation), before its transforms.

    Raises:
        DataError: none of the first scenes can be read; the last reason is in the message.
    """
    while hasattr(dataset, "datasets"):
        dataset = dataset.datasets[0]
    reason: Exception | None = None
    for index in range(min(_TRIES, len(dataset))):
        try:
            return dataset.get_data(index)
        except DataError as error:  # the data set itself passes over broken scenes, too
            reason = error
    raise DataError(f"no scene to draw among the first {_TRIES} of the training set: {reason}")


def configured_grid_size(cfg: Any) -> float:
    """Grid size in metres of the training transform's ``GridSample``, or 0.02, the paper's."""
    train = cfg.data.train
    while "datasets" in train:
        train = train["datasets"][0]
    for item in reversed(train.get("transform") or []):
        if item.get("type") == "GridSample" and "grid_size" in item:
            return float(item["grid_size"])
        if "grid_size" in (item.get("keys_dict") or {}) and item.get("type") == "Update":
            return float(item["keys_dict"]["grid_size"])
    return 0.02


def prepare_scene(scene: dict[str, Any], grid_size: float, max_points: int) -> dict[str, Any]:
    """One point a grid cell, centred (x, y at the box's middle, z at its bottom), with the model's nine channels.

    Args:
        scene: ``coord`` (N, 3) metres, optional ``color`` (N, 3) 0-255 and ``normal`` (N, 3).
        grid_size: metres.
        max_points: of more points those nearest to the middle are kept.

    Returns:
        ``coord`` (M, 3) float32, ``color`` (M, 3) in [0, 1], ``feat`` (M, 9) float32, ``grid_size``.
    """
    coord = np.asarray(scene["coord"], dtype=np.float64)
    cell = np.floor((coord - coord.min(axis=0)) / grid_size).astype(np.int64)
    extent = cell.max(axis=0) + 1
    _, keep = np.unique((cell[:, 0] * extent[1] + cell[:, 1]) * extent[2] + cell[:, 2], return_index=True)
    low, high = coord[keep].min(axis=0), coord[keep].max(axis=0)
    coord = coord - [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]
    if len(keep) > max_points:
        distance = np.square(coord[keep, :2]).sum(axis=1)
        keep = keep[np.sort(np.argsort(distance, kind="stable")[:max_points])]
    coord = coord[keep].astype(np.float32)
    color, normal = (
        np.asarray(scene[key], dtype=np.float32)[keep] if key in scene else np.zeros_like(coord)
        for key in ("color", "normal")
    )
    color = np.clip(color / 255.0, 0.0, 1.0)
    feat = np.concatenate([coord, color, normal], axis=1)
    return {"coord": coord, "color": color, "feat": np.ascontiguousarray(feat), "grid_size": grid_size}
