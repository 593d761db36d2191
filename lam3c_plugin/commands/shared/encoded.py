"""What ``lam3c encode`` left, to look at: a picture and a page of the features' principal components."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from data_tools.drawing.pictures import to_uint8
from data_tools.drawing.points import turntable
from lam3c_plugin.analysis.components import pca_colors
from lam3c_plugin.commands.shared.files import save_picture, show_page
from lam3c_plugin.commands.shared.pages import color_layer, display_colors, layer, layers_page
from lam3c_plugin.encode.files import read_input
from lam3c_plugin.encode.upright import upright
from lam3c_plugin.errors import DataError


def output_colors(output: Path) -> np.ndarray:
    """Colours (N, 3) uint8 of the points of a file that ``lam3c encode`` wrote (.npz or .ply).

    Raises:
        DataError: it cannot be read.
    """
    if output.suffix == ".ply":
        color = read_input(output).color
        if color is None:
            raise DataError(f"{output} has no colours; encode again with --overwrite")
        return color
    try:
        with np.load(output, allow_pickle=False) as archive:
            color = to_uint8(pca_colors(archive["feat"]))
            return color[archive["inverse"]] if "inverse" in archive else color
    except Exception as error:  # NumPy raises whatever the damage makes of it
        raise DataError(f"{output}: cannot be read ({error!s:.80}); encode again with --overwrite") from error


def show_encoded(args: argparse.Namespace, source: Path, output: Path) -> tuple[Path, str]:
    """Write ``NAME.png`` (four sides) and ``NAME.html`` beside the output of a cloud, and show the page as asked.

    Returns:
        the picture, and what became of the page.

    Raises:
        DataError: a file cannot be read or written.
    """
    cloud, color = read_input(source), output_colors(output)
    if len(color) != len(cloud):
        raise DataError(f"{output} has {len(color)} points, {source} {len(cloud)}; encode again with --overwrite")
    item = upright(cloud, args.no_level)
    rows = {"colours": display_colors(cloud), "principal components of the features": color}
    picture = turntable(item.level.coord, rows, f"{output.stem}: features", args.size)
    save_picture(output.with_suffix(".png"), picture)
    layers = [layer(item.level, "components", color), *color_layer(item.level)]
    caption = "Principal components of the features."
    html = layers_page(item, layers, f"{output.stem}: features", caption, args.max_points)
    return output.with_suffix(".png"), show_page(output.with_suffix(".html"), html, not args.no_open)
