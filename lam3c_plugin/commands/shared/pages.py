"""Interactive pages: layers on one cloud, and similarity that is worked out anew at every click."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import numpy as np

from data_tools.clouds.io import Cloud
from data_tools.reporting.viewer import PointLayer, opening_azimuth, thin_rows, toward_viewer, viewer_html
from lam3c_plugin.analysis.similarity import LOW_PERCENTILE, MARK, MARK_EDGE, RAMP, Packed, mark_radius
from lam3c_plugin.encode.upright import Input

Legend = Sequence[tuple[str, Sequence[int]]]


def display_colors(cloud: Cloud) -> np.ndarray:
    """The cloud's colours (N, 3) uint8, mid grey where it has none."""
    return np.full((len(cloud), 3), 150, dtype=np.uint8) if cloud.color is None else cloud.color


def layers_page(
    item: Input,
    layers: Sequence[PointLayer],
    title: str,
    caption: str,
    max_points: int,
    extra: str = "",
    scripts: tuple[str, ...] = (),
) -> str:
    """A page of layers that all lie on ``item.level.coord``; the first is shown first.

    Args:
        item: the points; a click tells them as the input has them.
        layers: at least one.
        title: plain text.
        caption: plain text.
        max_points: larger clouds are thinned evenly.
        extra: HTML below the viewer.
        scripts: assets of the report that run after the viewer's.
    """
    where = " ".join(f"{value:.0f}" for value in item.cloud.origin)
    if item.cloud.origin.any():
        caption += f" Coordinates are relative to {where}."
    return viewer_html(layers, title, caption, max_points, extra=extra, scripts=scripts, turn=item.turn)


def opening_normals(cloud: Cloud) -> np.ndarray | None:
    """The cloud's normals, by which a page hides surfaces that face away, if that leaves enough to be seen.

    None where less than a quarter of the points face the viewer as the page opens (a cloud that lies on its side, or
    normals that point outwards): then nothing is hidden.
    """
    if cloud.normal is None:
        return None
    low, high = cloud.coord.min(axis=0), cloud.coord.max(axis=0)
    toward = toward_viewer(opening_azimuth(cloud.coord, cloud.normal))
    eye = (low + high) / 2 + 1.25 * np.linalg.norm(high - low) * toward
    facing = np.einsum("ni,ni->n", cloud.normal, eye - cloud.coord) >= 0
    return cloud.normal if facing.mean() >= 0.25 else None


def layer(
    cloud: Cloud, name: str, color: np.ndarray, legend: Legend = (), values: np.ndarray | None = None
) -> PointLayer:
    """A layer over all points of a cloud.

    Args:
        cloud: the points.
        name: on the layer's button.
        color: (N, 3) uint8.
        legend: names and colours of classes.
        values: (N,) numbers that a click shows, or None.
    """
    return PointLayer(name, cloud.coord, color, opening_normals(cloud), legend, values)


def color_layer(cloud: Cloud) -> list[PointLayer]:
    """The cloud's own colours, where it has them."""
    return [] if cloud.color is None else [layer(cloud, "colours", display_colors(cloud))]


def similarity_page(
    item: Input,
    layers: Sequence[tuple[str, np.ndarray, np.ndarray | None]],
    packed: Packed,
    inverse: np.ndarray,
    title: str,
    caption: str,
    max_points: int,
) -> str:
    """A page whose first layer shows the similarity to the point clicked last.

    The page holds `Packed` features of the points shown, and compares them in the browser, without a server.

    Args:
        item: the points.
        layers: (name, (N, 3) colours, (N,) values or None); the first is repainted by clicks.
        packed: features of the cells.
        inverse: (N,) the cell of each point.
        title: plain text.
        caption: plain text.
        max_points: larger clouds are thinned evenly.
    """
    rows = thin_rows(len(item.level), max_points)
    small = item.level.select(rows)
    normal = opening_normals(small)
    views = [
        PointLayer(name, small.coord, color[rows], normal, values=None if values is None else values[rows])
        for name, color, values in layers
    ]
    data = {
        "code": base64.b64encode(np.ascontiguousarray(packed.code[inverse[rows]]).tobytes()).decode("ascii"),
        "weight": [float(value) for value in packed.weight],
        "ramp": RAMP,
        "mark": MARK,
        "edge": MARK_EDGE,
        "low": LOW_PERCENTILE,
        "radius": mark_radius(small.coord),
        "layer": 0,
    }
    extra = f'<script type="application/json" id="packed-features">{json.dumps(data)}</script>'
    return layers_page(item, views, title, caption, len(rows), extra, scripts=("similarity.js",))
