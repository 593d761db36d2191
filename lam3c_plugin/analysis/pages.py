"""Interactive pages: layers on one cloud, and similarity that is worked out anew at every click."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import numpy as np

from data_tools.clouds.io import Cloud
from data_tools.reporting.viewer import PointLayer, thin_rows, viewer_html
from lam3c_plugin.analysis.pictures import display_colors
from lam3c_plugin.analysis.similarity import LOW_PERCENTILE, MARK, RAMP, Packed

Legend = Sequence[tuple[str, Sequence[int]]]

# Runs after the viewer's own script and adds to what it does on a click; see the module's text for the arithmetic.
_SCRIPT = """
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("packed-features").textContent);
  const bytes = Uint8Array.from(atob(data.code), (c) => c.charCodeAt(0));
  const code = new Int8Array(bytes.buffer), K = data.weight.length, N = code.length / K;
  const similarityTo = (row) => {
    const query = data.weight.map((w, k) => w * code[row * K + k]), out = new Float32Array(N);
    for (let i = 0, at = 0; i < N; i++) {
      let sum = 0;
      for (let k = 0; k < K; k++, at++) sum += query[k] * code[at];
      out[i] = Math.max(-1, Math.min(1, sum));
    }
    out[row] = 1;
    return out;
  };
  const heat = (values) => {
    const low = values.slice().sort()[Math.floor((values.length - 1) * data.low / 100)];
    const ramp = data.ramp, last = ramp.length - 1, colors = new Uint8Array(3 * values.length);
    values.forEach((value, i) => {
      const place = Math.max(0, Math.min(1, (value - low) / Math.max(1 - low, 1e-6))) * last;
      const step = Math.min(Math.floor(place), last - 1), share = place - step;
      const mix = (c) => Math.round(ramp[step][c] * (1 - share) + ramp[step + 1][c] * share);
      for (let c = 0; c < 3; c++) colors[3 * i + c] = mix(c);
    });
    return colors;
  };
  const mark = (viewer, cloud, colors, row) => {
    const p = viewer.pointAt(cloud, row);
    for (let i = 0; i < N; i++) {
      const q = viewer.pointAt(cloud, i);
      if (Math.hypot(q[0] - p[0], q[1] - p[1], q[2] - p[2]) <= data.radius) colors.set(data.mark, 3 * i);
    }
  };
  const report = PointViewer.prototype.report;
  PointViewer.prototype.report = function (row) {
    if (row >= 0) {
      const layer = this.layers[data.layer], values = similarityTo(row), colors = heat(values);
      mark(this, this.clouds[layer.cloud], colors, row);
      layer.values = values;
      this.gl.deleteBuffer(layer.color);
      layer.color = this.buffer(colors);
      if (this.layer !== data.layer) this.show(data.layer);
      this.root.dataset.picked = row;
      this.draw();
    }
    report.call(this, row);
  };
})();
"""


def layers_page(cloud: Cloud, layers: Sequence[PointLayer], title: str, caption: str, max_points: int) -> str:
    """A page of layers that all lie on ``cloud.coord``; the first is shown first."""
    where = " ".join(f"{value:.0f}" for value in cloud.origin)
    if cloud.origin.any():
        caption += f" Coordinates are relative to {where}."
    return viewer_html(layers, title, caption, max_points)


def opening_normals(cloud: Cloud) -> np.ndarray | None:
    """The cloud's normals, by which a page hides surfaces that face away, if that leaves enough to be seen.

    None where less than a quarter of the points face the viewer as the page opens (a cloud that lies on its side, or
    normals that point outwards): then nothing is hidden.
    """
    if cloud.normal is None:
        return None
    low, high = cloud.coord.min(axis=0), cloud.coord.max(axis=0)
    toward = np.array([np.cos(0.75) * np.cos(-0.9), np.cos(0.75) * np.sin(-0.9), np.sin(0.75)])  # the page's first view
    eye = (low + high) / 2 + 1.25 * np.linalg.norm(high - low) * toward
    facing = np.einsum("ni,ni->n", cloud.normal, eye - cloud.coord) >= 0
    return cloud.normal if facing.mean() >= 0.25 else None


def layer(
    cloud: Cloud, name: str, color: np.ndarray, legend: Legend = (), values: np.ndarray | None = None
) -> PointLayer:
    """A layer over all points of a cloud."""
    return PointLayer(name, cloud.coord, color, opening_normals(cloud), legend)


def color_layer(cloud: Cloud) -> list[PointLayer]:
    """The cloud's own colours, where it has them."""
    return [] if cloud.color is None else [layer(cloud, "colours", display_colors(cloud))]


def similarity_page(
    cloud: Cloud,
    layers: Sequence[tuple[str, np.ndarray, np.ndarray | None]],
    packed: Packed,
    inverse: np.ndarray,
    title: str,
    caption: str,
    max_points: int,
) -> str:
    """A page whose first layer shows the similarity to the point clicked last.

    The page holds :class:`Packed` features of the points shown, and compares them in the browser, without a server.

    Args:
        cloud: the points.
        layers: (name, (N, 3) colours, (N,) values or None); the first is repainted by clicks.
        packed: features of the cells.
        inverse: (N,) the cell of each point.
        title, caption: plain texts.
        max_points: larger clouds are thinned evenly.
    """
    rows = thin_rows(len(cloud), max_points)
    small = cloud.select(rows)
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
        "low": LOW_PERCENTILE,
        "radius": 0.04,
        "layer": 0,
    }
    html = layers_page(small, views, title, caption, max_points=len(rows))
    body = (
        f'<script type="application/json" id="packed-features">{json.dumps(data)}</script>\n<script>{_SCRIPT}</script>'
    )
    return html.replace("</body>", f"{body}\n</body>")
