"""Pictures of what the teacher has learnt: one fixed scene, coloured by the principal components of its features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.drawing.pictures import captioned, contact_sheet, save_png
from data_tools.drawing.points import OBLIQUE, TOP, render_points
from lam3c_plugin.analysis.components import pca_colors
from lam3c_plugin.hooks.common import bare_model, steps_done
from lam3c_plugin.hooks.frozen_features import frozen_features
from lam3c_plugin.hooks.scenes import configured_grid_size, first_scenes, prepare_scene, read_folder
from lam3c_plugin.host import HOOKS, HookBase, comm
from lam3c_plugin.ops.rng import seeded


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
        """Draw the scene as the model sees it now; ``None`` off rank 0, after a failure, or if it was just drawn."""
        step = steps_done(self.trainer)
        if not comm.is_main_process() or step == self._drawn:
            return None
        self._drawn = step
        path = Path(str(self.trainer.cfg.save_path), "pictures", f"features_{step:06d}.png")
        try:
            with seeded(0, gpu=True):
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
            scene = read_folder(self.scene) if self.scene else first_scenes(self.trainer.train_loader.dataset, 1)[0]
            self._prepared = prepare_scene(scene, grid_size, self.max_points)
        scene = self._prepared
        level = int(getattr(bare_model(self.trainer), "up_cast_level", 0)) if self.level is None else self.level
        colors = pca_colors(frozen_features(self.trainer, scene, level=level))
        rows = []
        for name, paint in (("colours", scene["color"]), ("principal components of the teacher's features", colors)):
            views = [render_points(scene["coord"], paint, size=self.size, view=view) for view in (OBLIQUE, TOP)]
            rows.append(captioned(contact_sheet(views, columns=2), name))
        return captioned(np.concatenate(rows), f"step {steps_done(self.trainer)}", 18)
