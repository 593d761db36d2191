"""Whole clouds in viser, where it is installed: a list of scenes, ways to colour them, camera frustums."""

from __future__ import annotations

import importlib.util
import threading
from typing import Any

import numpy as np

from data_tools.clouds.io import Cloud
from data_tools.reporting.clouds import load_cameras, load_cloud
from data_tools.reporting.model import Report, SceneRow

MOST_LISTED = 200  # a drop-down with more is of no use: type a part of the name
MOST_POINTS = 2_000_000
COLOURS = ("colour", "height", "normal")
RAMP = np.array([[61, 46, 140], [33, 120, 181], [48, 184, 138], [189, 219, 89], [252, 184, 89]], dtype=np.float64)


def has_viser() -> bool:
    """Whether viser is installed."""
    return importlib.util.find_spec("viser") is not None


def height_colors(z: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 colours of heights (N,), percentiles 1 to 99 over the ramp."""
    low, high = np.percentile(z, [1, 99])
    share = np.clip((z - low) / max(high - low, 1e-9), 0, 1) * (len(RAMP) - 1)
    return np.stack([np.interp(share, np.arange(len(RAMP)), RAMP[:, c]) for c in range(3)], axis=1).astype(np.uint8)


def colors_of(cloud: Cloud, mode: str) -> np.ndarray:
    """(N, 3) uint8 colours of a cloud in a mode of `COLOURS`; height where it lacks what the mode shows."""
    if mode == "colour" and cloud.color is not None:
        return cloud.color
    if mode == "normal" and cloud.normal is not None:
        return np.rint((np.clip(cloud.normal, -1, 1) + 1) * 127.5).astype(np.uint8)
    return height_colors(cloud.coord[:, 2])


def listed(rows: list[SceneRow], words: str) -> list[str]:
    """``place/name`` of the first scenes whose name, label or video holds all words."""
    parts = words.lower().split()
    found = [
        "/".join(row.place)
        for row in rows
        if row.cloud is not None and all(part in f"{row.name} {row.label} {row.video}".lower() for part in parts)
    ]
    return found[:MOST_LISTED] or ["(none)"]


class ViserViewer:
    """The controls of one viser server and what they show."""

    def __init__(self, report: Report, server: Any) -> None:
        self.report, self.server = report, server
        self.rows = {"/".join(row.place): row for row in report.scenes}
        self.cloud: Cloud | None = None
        self.lock = threading.Lock()
        gui = server.gui
        self.words = gui.add_text("find", "")
        self.scene = gui.add_dropdown("scene", listed(report.scenes, ""))
        self.mode = gui.add_dropdown("colours", COLOURS)
        self.size = gui.add_slider("point size (mm)", 1.0, 50.0, 0.5, 15.0)
        self.height = gui.add_slider("height shown", 0.05, 1.0, 0.05, 0.85)  # without the ceiling one sees the room
        self.has_cameras = gui.add_checkbox("cameras", True)
        self.facts = gui.add_markdown("")
        self.words.on_update(lambda _: self._list())
        self.scene.on_update(lambda _: self.show())
        self.mode.on_update(lambda _: self.paint())
        self.size.on_update(lambda _: self.paint())
        self.height.on_update(lambda _: self.paint())
        self.has_cameras.on_update(lambda _: self.show())
        server.scene.set_up_direction("+z")
        self.show()

    def _list(self) -> None:
        self.scene.options = listed(self.report.scenes, self.words.value)

    def show(self) -> None:
        """Load the chosen scene and draw it."""
        with self.lock:
            row = self.rows.get(self.scene.value)
            self.server.scene.reset()
            self.cloud = None if row is None else load_cloud(row, MOST_POINTS)
            if row is None or self.cloud is None:
                self.facts.content = "no cloud"
                return
            score = "" if row.score is None else f", score {row.score:.3f}"
            self.facts.content = f"{len(self.cloud):,} points{score}"
            if self.has_cameras.value:
                self._cameras(row)
        self.paint()

    def _cameras(self, row: SceneRow) -> None:
        poses = load_cameras(self.report, row)
        for number, pose in enumerate([] if poses is None else poses):
            w, x, y, z = quaternion(pose[:3, :3])
            name = f"/cameras/{number:04d}"
            self.server.scene.add_camera_frustum(
                name, fov=0.9, aspect=4 / 3, scale=0.12, color=(237, 89, 51), wxyz=(w, x, y, z), position=pose[:3, 3]
            )

    def paint(self) -> None:
        """Draw the loaded cloud in the chosen colours."""
        if self.cloud is not None:
            low, high = np.percentile(self.cloud.coord[:, 2], [1, 99])
            below = self.height.value >= 1 or self.cloud.coord[:, 2] <= low + self.height.value * (high - low)
            shown = self.cloud.select(np.flatnonzero(np.broadcast_to(below, len(self.cloud))))
            colors = colors_of(shown, self.mode.value)
            self.server.scene.add_point_cloud(
                "/cloud", shown.coord, colors, point_size=self.size.value / 1000, point_shape="circle"
            )


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z) of a rotation (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])


def start_viser(report: Report, host: str, port: int) -> str:
    """Start a viser server in threads of its own; returns its address. Port 0 takes a free one near viser's own."""
    import viser

    server = viser.ViserServer(host=host, port=port or 8081, verbose=False)
    ViserViewer(report, server)
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '') else host}:{server.get_port()}/"
