"""An interactive point viewer in one HTML page: plain WebGL, no library, works from ``file://``.

    layers = [PointLayer("rgb", coord, color), PointLayer("height", coord, "height")]
    Path("cloud.html").write_text(viewer_html(layers, "my room"), encoding="utf-8")

Layers are ways to see a cloud (colours, labels, features, similarity to a point); a button each. Drag turns, shift or
right drag moves, wheel and pinch zoom, a click prints a point's x, y, z and copies them, a double click goes there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_tools.drawing.pictures import to_uint8
from data_tools.drawing.points import surface_spacing
from data_tools.reporting.pages import THEME_BUTTON, page, script_json, text

HELP = (
    "Drag turns, shift or right drag moves, wheel zooms, double click goes to a point, click shows and copies its "
    "x, y, z. Keys: arrows, + and -, 1-9 layers, R resets."
)
MODES = ("height", "normal")
STEPS = 65535  # of a quantised coordinate: a quarter of a millimetre in a room of 16 m
Store = Callable[[bytes], Any]
AZIMUTH, ELEVATION = -0.9, 0.75  # radians, of the first view


@dataclass
class PointLayer:
    """One way to see a cloud.

    Attributes:
        name: on the button.
        coord: (N, 3) metres, z up. Layers that share the *same array object* share its points in the page.
        color: (N, 3) uint8, or floats in [0, 1]; or "height", or "normal" (both made in the browser).
        normal: (N, 3) unit vectors or None. With normals, surfaces that face away from the viewer can be hidden, so
            that one looks into a room from outside. Those of the first layer on a cloud count.
        legend: (name, (r, g, b) 0..255) pairs, for labels.
        values: (N,) numbers shown when a point is picked, or None.
    """

    name: str
    coord: np.ndarray
    color: np.ndarray | str = "height"
    normal: np.ndarray | None = None
    legend: Sequence[tuple[str, Sequence[int]]] = field(default_factory=tuple)
    values: np.ndarray | None = None


def thin_rows(count: int, most: int) -> np.ndarray:
    """Sorted rows of at most ``most`` points out of ``count``, evenly drawn, the same on every call."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _check(layer: PointLayer) -> None:
    count = len(layer.coord)
    if layer.coord.ndim != 2 or layer.coord.shape[1] != 3 or not count:
        raise ValueError(f"layer {layer.name!r}: coord is {layer.coord.shape}, (N, 3) with N > 0 is needed")
    if isinstance(layer.color, str):
        if layer.color not in MODES:
            raise ValueError(f"layer {layer.name!r}: colour {layer.color!r} is unknown; (N, 3) or {' or '.join(MODES)}")
        if layer.color == "normal" and layer.normal is None:
            raise ValueError(f"layer {layer.name!r} is coloured by normals and has none; give normal=")
    elif layer.color.shape != (count, 3):
        raise ValueError(f"layer {layer.name!r}: colour is {layer.color.shape}, {(count, 3)} is needed")
    for name, rows in (("normal", layer.normal), ("values", layer.values)):
        if rows is not None and len(rows) != count:
            raise ValueError(f"layer {layer.name!r}: {len(rows)} rows of {name} for {count} points")


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


def toward_viewer(azimuth: float) -> np.ndarray:
    """(3,) from a cloud to who sees it from an azimuth (radians) as the page opens."""
    level = np.cos(ELEVATION)
    return np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(ELEVATION)])


def opening_azimuth(coord: np.ndarray, normal: np.ndarray | None = None) -> float:
    """The azimuth in radians from which a page opens: where most of a room is seen, `AZIMUTH` where all do equally.

    With normals (N, 3), towards who saw the points, the side that most of them face; else the side on which the fewest
    points of ``coord`` (N, 3) stand in the way.
    """
    azimuths = [AZIMUTH + turn * np.pi / 8 for turn in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 8)]
    rows = thin_rows(len(coord), 20_000)
    low, high = np.percentile(coord[rows], [2, 98], axis=0)
    centre, tall = (low + high) / 2, coord[rows, 2] > low[2] + 0.3 * (high[2] - low[2])
    flat = (coord[rows, :2] - centre[:2])[tall]
    seen = []
    for azimuth in azimuths:
        toward = toward_viewer(azimuth)
        if normal is not None:
            seen.append(float((normal[rows] @ toward > 0).mean()))
        else:
            ahead = flat @ toward[:2]
            seen.append(-float((ahead > 0.75 * max(float(ahead.max(initial=0.0)), 1e-9)).mean()))
    return round(azimuths[int(np.argmax(np.round(seen, 1 if normal is None else 2)))], 4)


def _cloud_spec(layer: PointLayer, rows: np.ndarray, store: Store) -> dict[str, Any]:
    coord = layer.coord[rows].astype(np.float64)
    low, size = coord.min(axis=0), np.maximum(np.ptp(coord, axis=0), 1e-6)
    steps = np.rint((coord - low) / size * STEPS).astype("<u2")
    cloud = {
        "count": len(rows),
        "position": store(steps.tobytes()),
        "low": _rounded(low),
        "size": _rounded(size),
        "height": _rounded(np.percentile(coord[:, 2], [1, 99])),
        "spacing": round(1.5 * surface_spacing(coord), 6),
        "azimuth": opening_azimuth(coord, None if layer.normal is None else layer.normal[rows]),
    }
    if layer.normal is not None:
        cloud["normal"] = store(np.rint(np.clip(layer.normal[rows], -1, 1) * 127).astype(np.int8).tobytes())
    return cloud


def viewer_spec(
    layers: Sequence[PointLayer],
    title: str,
    store: Store,
    max_points: int = 200_000,
    lines: np.ndarray | None = None,
    preview: str | None = None,
    turn: np.ndarray | None = None,
) -> dict[str, Any]:
    """What the viewer's script reads; every array goes through ``store``, which returns how to find it.

    Args:
        store: takes an array's bytes.
        lines: (L, 2, 3) segments in metres, see `camera_lines`.
        preview: data address of a picture, shown where there is no WebGL.

    Raises:
        ValueError: no layer, or arrays that do not fit each other; one line.
    """
    if not layers:
        raise ValueError("a viewer needs at least one layer")
    clouds: list[dict[str, Any]] = []
    known: dict[int, tuple[int, np.ndarray]] = {}
    views = []
    for layer in layers:
        _check(layer)
        if id(layer.coord) not in known:
            finite = np.flatnonzero(np.isfinite(layer.coord).all(axis=1))
            if not len(finite):
                raise ValueError(f"layer {layer.name!r} has no finite point")
            rows = finite[thin_rows(len(finite), max_points)]
            known[id(layer.coord)] = (len(clouds), rows)
            clouds.append(_cloud_spec(layer, rows, store))
        number, rows = known[id(layer.coord)]
        view: dict[str, Any] = {"name": layer.name, "cloud": number, "mode": "rgb"}
        if isinstance(layer.color, str):
            view["mode"] = layer.color
        else:
            color = layer.color[rows]
            view["color"] = store((color if color.dtype == np.uint8 else to_uint8(np.nan_to_num(color))).tobytes())
        if layer.legend:
            view["legend"] = [[name, "#{:02x}{:02x}{:02x}".format(*map(int, color))] for name, color in layer.legend]
        if layer.values is not None:
            view["values"] = store(np.asarray(layer.values)[rows].astype("<f4").tobytes())
        views.append(view)
    spec = {"title": title, "clouds": clouds, "layers": views}
    if lines is not None and len(lines):
        spec["lines"] = [round(float(value), 4) for value in np.asarray(lines).ravel()]
    if preview:
        spec["preview"] = preview
    if turn is not None and not np.array_equal(turn, np.eye(3)):
        spec["turn"] = _rounded(turn.ravel())
    return spec


def camera_lines(camera_to_world: np.ndarray, size: float = 0.15) -> np.ndarray:
    """Wire frames of cameras.

    Args:
        camera_to_world: (F, 4, 4), OpenCV axes (x right, y down, z forward), metres.

    Returns:
        (F * 8, 2, 3) line segments, and between following cameras one more each: (F * 9 - 1, 2, 3).
    """
    corners = size * np.array([[0, 0, 0], [-0.6, -0.45, 1], [0.6, -0.45, 1], [0.6, 0.45, 1], [-0.6, 0.45, 1]])
    edges = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])
    poses = np.asarray(camera_to_world, dtype=np.float64)
    placed = np.einsum("fij,cj->fci", poses[:, :3, :3], corners) + poses[:, None, :3, 3]
    frames = placed[:, edges].reshape(-1, 2, 3)
    path = np.stack([poses[:-1, :3, 3], poses[1:, :3, 3]], axis=1)
    return np.concatenate([frames, path])


def viewer_part(spec: dict[str, Any]) -> str:
    """The element that shows a specification; the page needs ``viewer.css`` and ``viewer.js``."""
    data = f'<script type="application/json" class="pv-data" data-target="cloud">{script_json(spec)}</script>'
    return f'<div class="pv" id="cloud"></div>\n{data}'


def help_line(more: str = "") -> str:
    """How the viewer is used, and ``more`` (plain text) behind it."""
    return f'<p class="soft small">{HELP}{text(more)}</p>'


def embed(data: bytes) -> str:
    """Bytes as base64, the store of pages that stand alone."""
    return base64.b64encode(data).decode("ascii")


def viewer_html(
    layers: Sequence[PointLayer],
    title: str,
    caption: str = "",
    max_points: int = 200_000,
    extra: str = "",
    scripts: tuple[str, ...] = (),
    turn: np.ndarray | None = None,
) -> str:
    """A page of its own that shows layers of points.

    Args:
        layers: at least one; the first is shown first.
        title: plain text.
        caption: plain text below the title.
        max_points: larger clouds are thinned evenly to so many (about 16 bytes a point in the page, 4 more a layer).
        extra: HTML at the end of the page, for ``scripts`` to read.
        scripts: names of assets that run after the viewer's.
        turn: (3, 3) that took the points to z-up: a click tells where they were before; None: they are as they were.

    Returns:
        The page's HTML; the same input gives the same text.

    Raises:
        ValueError: no layer, or arrays that do not fit each other; one line.
    """
    spec = viewer_spec(layers, title, embed, max_points, turn=turn)
    note = f'<p class="soft">{text(caption)}</p>' if caption else ""
    header = f"<header><h1>{text(title)}</h1>{THEME_BUTTON}</header>"
    body = "\n".join([header, note, viewer_part(spec), help_line(), extra])
    return page(title, body, styles=("viewer.css",), scripts=("viewer.js", *scripts))


def viewer_blob(layers: Sequence[PointLayer], title: str, max_points: int, lines: np.ndarray | None = None) -> bytes:
    """The same as one binary answer, for a server: length of the header (uint32), header (JSON), arrays.

    A page asks for it with the specification ``{"title": …, "url": …}``.
    """
    parts: list[bytes] = []
    length = 0

    def store(data: bytes) -> list[int]:
        nonlocal length
        place = [length, len(data)]
        parts.append(data + bytes(-len(data) % 4))  # typed arrays start at whole elements
        length += len(parts[-1])
        return place

    spec = viewer_spec(layers, title, store, max_points, lines)
    header = json.dumps(spec).encode()
    header += b" " * (-len(header) % 4)
    return len(header).to_bytes(4, "little") + header + b"".join(parts)
