"""What a pre-training run did, from its own logs: a table for people and one picture."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.stages.lines import read_lines

LOSSES = ("loss", "mask_loss", "roll_mask_loss", "unmask_loss", "laplacian_loss", "consistency_loss")
MONITORS = {
    "coverage": "prototypes in use (student, window)",
    "target_entropy": "target entropy / log K",
    "marginal_entropy": "marginal entropy / log K",
    "feature_std": "feature standard deviation",
    "effective_rank": "effective rank (RankMe)",
    "agreement": "teacher-student agreement",
    "edge_share": "points with a Laplacian edge",
}


def read_scalars(run_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """TensorBoard scalars of a run: tag -> (steps, values). A resumed run's later values win.

    Raises:
        FileNotFoundError: the folder holds no event file.
    """
    series: dict[str, dict[int, float]] = {}
    for events in _event_files(run_dir):
        for tag in events.Tags()["scalars"]:
            series.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return {
        tag: (np.array(sorted(points)), np.array([points[step] for step in sorted(points)]))
        for tag, points in series.items()
    }


def _event_files(run_dir: Path) -> list[Any]:
    """Accumulators of the run's event files that hold losses, oldest first."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loaded = []
    for file in sorted(run_dir.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        if "train_batch/loss" in events.Tags()["scalars"]:
            loaded.append(events)
    if not loaded:
        raise FileNotFoundError(f"{run_dir} holds no TensorBoard events: the run wrote none")
    return loaded


def read_monitor(run_dir: Path) -> list[dict[str, Any]]:
    """The collapse monitor's records, oldest first; empty when it did not run."""
    records = {record["step"]: record for record in read_lines(run_dir / "monitor.jsonl") if "step" in record}
    return [records[step] for step in sorted(records)]


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Means of the first and the last tenth (at least one value)."""
    width = max(len(values) // 10, 1)
    return float(np.mean(values[:width])), float(np.mean(values[-width:]))


def print_summary(run_dir: Path, steps: int, seconds: float, peak_gb: float) -> bool:
    """Print losses and monitor values from first to last; return whether the run looks healthy.

    Healthy: every loss finite, the total lower at the end than at the start, the Laplacian term above 0 and more than
    half of the prototypes in use.
    """
    scalars, monitor = read_scalars(run_dir), read_monitor(run_dir)
    print(f"\n{'':38s}{'first tenth':>14s}{'last tenth':>14s}")
    checks: list[tuple[str, bool]] = []
    for name in LOSSES:
        if f"train_batch/{name}" not in scalars:
            continue
        values = scalars[f"train_batch/{name}"][1]
        first, last = _ends(values)
        print(f"{name:38s}{first:14.6f}{last:14.6f}")
        checks.append((f"{name} finite at every step", bool(np.isfinite(values).all())))
        if name == "loss":
            checks.append(("total loss lower at the end", last < first))
        if name == "laplacian_loss":
            checks.append(("Laplacian term above 0 at every step", bool((values > 0).all())))
    for key, title in MONITORS.items():
        values = np.array([record[key] for record in monitor if record.get(key) is not None], dtype=float)
        if len(values):
            first, last = _ends(values)
            print(f"{title:38s}{first:14.4f}{last:14.4f}")
    coverage = [record["coverage"] for record in monitor if record.get("coverage") is not None]
    if coverage:
        checks.append((f"prototypes in use over the last steps: {coverage[-1]:.0%} > 50%", coverage[-1] > 0.5))
    rate = _steps_per_second(run_dir)
    print(f"\n{steps} steps, {seconds:.0f} s with start-up, {rate:.2f} steps/s, peak memory {peak_gb:.2f} GB")
    for title, passed in checks:
        print(f"  [{'ok' if passed else 'NOT OK'}] {title}")
    return all(passed for _, passed in checks)


def _steps_per_second(run_dir: Path) -> float:
    """From the median time between the log's steps, so that start-up, pauses and pictures do not count."""
    times = [event.wall_time for events in _event_files(run_dir) for event in events.Scalars("train_batch/loss")]
    return 1.0 / float(np.median(np.diff(sorted(times)))) if len(times) > 1 else math.nan


def draw_summary(run_dir: Path, data_root: Path, path: Path, num_scenes: int = 3) -> Path:
    """Draw loss curves, monitor curves and PCA-coloured scenes before and after training into one PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    scalars, monitor = read_scalars(run_dir), read_monitor(run_dir)
    scenes = _scene_pictures(run_dir, data_root, num_scenes)
    num_scenes = max(len(scenes), 1)
    figure = plt.figure(figsize=(15, 4.2 + 3.9 * num_scenes), constrained_layout=True)
    top, bottom = figure.subfigures(2, 1, height_ratios=[4.2, 3.9 * num_scenes])
    axes = top.subplots(1, 3)
    _plot_curves(axes, scalars, monitor)
    rows = bottom.subplots(num_scenes, 3, squeeze=False)
    # one PCA for a column: equal colours mean equal features in all of its rooms
    titles = ("colour", "features before training (PCA)", "features after training (PCA)")
    figure.suptitle(f"{run_dir}: {len(scalars['train_batch/loss'][0])} steps", fontsize=13)
    for column, title in enumerate(titles):
        rows[0, column].set_title(title, fontsize=11)
    for row in rows:
        for axis in row:
            axis.axis("off")
    for row, (name, pictures) in zip(rows, scenes.items(), strict=False):
        row[0].text(0, 0.5, name, transform=row[0].transAxes, rotation=90, ha="right", va="center", fontsize=9)
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def _plot_curves(axes: Any, scalars: dict[str, Any], monitor: list[dict[str, Any]]) -> None:
    for name in ("loss", "mask_loss", "roll_mask_loss", "unmask_loss"):
        if f"train_batch/{name}" in scalars:
            axes[0].plot(*scalars[f"train_batch/{name}"], label=name, lw=2.2 if name == "loss" else 1.2)
    axes[0].set_title("clustering and total loss")
    for name, color in (("laplacian_loss", "tab:green"), ("consistency_loss", "tab:purple")):
        if f"train_batch/{name}" in scalars:
            steps, values = scalars[f"train_batch/{name}"]
            axes[1].plot(
                steps, values / max(values[0], 1e-12), label=f"{name} (starts at {values[0]:.3g})", color=color
            )
    axes[1].set_title("regularisers, relative to their start")
    for key in ("coverage", "target_entropy", "marginal_entropy", "agreement"):
        points = [(record["step"], record[key]) for record in monitor if record.get(key) is not None]
        if points:
            axes[2].plot(*zip(*points, strict=True), label=MONITORS[key])
    axes[2].set_ylim(0, 1.05)
    axes[2].set_title("collapse monitor")
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)


def _scene_pictures(run_dir: Path, data_root: Path, num_scenes: int) -> dict[str, list[np.ndarray]]:
    """Colour, PCA before and PCA after of the first scenes, as images by the scene's name."""
    import torch

    from data_tools.drawing.points import render_points
    from lam3c_plugin.analysis.components import component_colors
    from lam3c_plugin.checkpoints.keys import read_checkpoint
    from lam3c_plugin.hooks.frozen_features import scene_features
    from lam3c_plugin.hooks.scenes import prepare_scene, read_folder
    from lam3c_plugin.host import Config, build_model

    config = Config.fromfile(str(run_dir / "config.py"))
    torch.manual_seed(config.seed or 0)
    model = build_model(config.model).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = read_checkpoint(run_dir / "model/model_last.pth")["state_dict"]
    folders = [folder for folder in sorted((data_root / "train").iterdir()) if (folder / "coord.npy").is_file()]
    scenes = {
        folder.name: prepare_scene(read_folder(str(folder)), config.grid_size, max_points=sys.maxsize)
        for folder in folders[:num_scenes]
    }
    paints = [[scene["color"] for scene in scenes.values()]]
    for weights in (before, after):
        model.load_state_dict(weights)
        backbone, level = model.teacher["backbone"], model.up_cast_level
        paints.append(component_colors([scene_features(backbone, item, level).numpy() for item in scenes.values()])[0])
    columns = zip(*paints, strict=True)
    return {
        name: [render_points(scene["coord"], paint) for paint in row]
        for (name, scene), row in zip(scenes.items(), columns, strict=True)
    }
