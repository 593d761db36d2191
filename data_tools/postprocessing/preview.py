"""One picture of a scene for people: from above without the ceiling, and into the room like a doll's house."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data_tools.clouds.io import Cloud
from data_tools.drawing.pictures import FAINT, INK, font, save_png
from data_tools.drawing.points import TOP, render_points
from data_tools.postprocessing.layout import Layout

PAPER = (247, 247, 245)
PANEL = (660, 592)  # width and height of each of the two views, with a strip for the scale
MOST = 600_000  # points drawn
ROOF = 0.94  # of the height: the ceiling is left out of the view into the room
CUT = 0.75  # of the height: what lies above (lamps, ceiling) is left out of the view from above
LIGHT = np.array([0.26, -0.36, 0.9], dtype=np.float32)


def _lit(cloud: Cloud) -> np.ndarray:
    """Colours (N, 3) uint8 with a little light on them, so that walls of one colour keep their corners."""
    color = np.full((len(cloud), 3), 190.0, dtype=np.float32) if cloud.color is None else cloud.color.astype(np.float32)
    if cloud.normal is not None:
        color = color * (0.84 + 0.2 * (cloud.normal @ LIGHT)[:, None])
    return np.clip(color, 0, 255).astype(np.uint8)


def draw_preview(path: Path, cloud: Cloud, layout: Layout, title: str, caption: str, rng: np.random.Generator) -> None:
    """Write preview.png: both views, a scale bar, a title above and a line of figures below.

    The cloud is in metres, z up, floor at z = 0, with normals toward who saw the points.
    """
    if len(cloud) > MOST:
        cloud = cloud.select(np.sort(rng.permutation(len(cloud))[:MOST]))
    options = {"size": PANEL, "background": PAPER, "ceiling_cut": 0.0, "shading": 2.0, "scale_bar": True}
    low = cloud.select(cloud.coord[:, 2] < CUT * layout.height)
    above = render_points(low.coord, _lit(low), view=TOP, **options)
    open_room = cloud.select((cloud.coord[:, 2] > -0.3) & (cloud.coord[:, 2] < ROOF * layout.height))
    wide, deep = np.ptp(np.quantile(cloud.coord[:, :2], [0.005, 0.995], axis=0), axis=0)
    corner = (-130.0 if wide > deep else -40.0, 38.0)  # the room's longer side runs across the picture
    inside = render_points(open_room.coord, _lit(open_room), view=corner, normal=open_room.normal, **options)
    width, height = PANEL
    sheet = Image.new("RGB", (2 * width + 10, height + 66), PAPER)
    sheet.paste(Image.fromarray(above), (0, 38))
    sheet.paste(Image.fromarray(inside), (width + 10, 38))
    draw = ImageDraw.Draw(sheet)
    row = 38 + height - 26
    draw.text((16, 8), title, fill=INK, font=font(20))
    draw.text((16, height + 40), caption, fill=INK, font=font(15))
    draw.text((width - 190, row), "from above, ceiling off", fill=FAINT, font=font(15))
    draw.text((2 * width - 190, row), "into the room, near walls off", fill=FAINT, font=font(15))
    save_png(path, np.asarray(sheet))
