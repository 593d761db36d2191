"""How many metres one unit of the cloud is.

ScanNet's scene sizes as a distribution: the ScanNet paper (Dai et al., CVPR 2017, arXiv 1702.04405) sums up 34,453 m^2
of floor over its 1,513 scans, 22.8 m^2 a scan. Its scans run from bathrooms to halls; that spread is taken here as a
log-normal of sigma 0.6 with that mean, cut off at 4 and 80 m^2. The mean is the paper's, the shape is an approximation
of ours, made without the data (which is behind an agreement).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from data_tools.postprocessing.layout import Layout
from data_tools.postprocessing.settings import PostprocessSettings

SCANNET_MEAN_FLOOR = 34453 / 1513  # m^2
SCANNET_SIGMA = 0.6  # of the floor area's logarithm
SCANNET_RANGE = (4.0, 80.0)  # m^2
# box diagonals of ScanNet's scans: minimum, percentiles 10, 25, 50, 75, 90, 95, 99 (metres); share drawn between two
DIAGONALS = (2.835, 5.236, 6.323, 7.791, 9.365, 10.929, 12.139, 15.189)
DIAGONAL_SHARES = (0.01, 0.09, 0.25, 0.30, 0.20, 0.10, 0.05)
CEILING_HEIGHT = 2.5  # m, of a usual room
EYE_HEIGHT = 1.5  # m, of a hand-held camera

SAID = {
    "metric": "metres of the reconstruction",
    "height (ceiling)": f"size guessed from a ceiling height of {CEILING_HEIGHT} m",
    "height (camera)": f"size guessed from eye height {EYE_HEIGHT} m",
    "scannet": "size unknown: drawn from ScanNet's distribution",
    "diagonal": "size unknown: drawn from the release's distribution",
    "fixed": "size unknown: the reconstruction's times a fixed factor",
    "none": "size unknown: the reconstruction's own unit",
}


@dataclass(frozen=True)
class Scale:
    """The factor and why.

    Attributes:
        factor: metres a unit.
        rule: "scannet", "metric", "height (ceiling)", "height (camera)", "fixed", "diagonal", "none".
    """

    factor: float
    rule: str
    details: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        """How far lengths are to be believed, to stand beside every one of them."""
        return SAID[self.rule]


def scene_rng(name: str, seed: int, step: str) -> np.random.Generator:
    """Random numbers of one step of one scene: the same for the same name, whatever else is done."""
    digest = hashlib.blake2b(f"{name}\0{step}".encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "big")])


def draw_floor_area(rng: np.random.Generator) -> float:
    """A floor area in m^2 from the distribution above; draws outside the range are drawn again."""
    middle = np.log(SCANNET_MEAN_FLOOR) - SCANNET_SIGMA**2 / 2
    while True:
        area = float(np.exp(rng.normal(middle, SCANNET_SIGMA)))
        if SCANNET_RANGE[0] <= area <= SCANNET_RANGE[1]:
            return area


def _scannet(layout: Layout, settings: PostprocessSettings, name: str) -> Scale:
    """Footprint to the area drawn, bent where the room would become impossibly low or high."""
    area = draw_floor_area(scene_rng(name, settings.seed, "scale"))
    drawn = float(np.sqrt(area / max(layout.footprint, 1e-12)))
    factor = min(drawn, settings.max_height / layout.height)
    if layout.ceiling is not None:
        factor = max(factor, settings.min_height / layout.height)
    details: dict[str, object] = {"drawn_floor_area": round(area, 4), "drawn_factor": drawn, "bent": factor != drawn}
    notes = []
    if factor != drawn:
        notes.append(f"the drawn {area:.1f} m2 would make the room {layout.height * drawn:.2f} m high: bent")
    return Scale(factor, "scannet", details, notes)


def _height(layout: Layout) -> Scale | None:
    if layout.ceiling is not None and layout.has_floor:
        return Scale(CEILING_HEIGHT / layout.height, "height (ceiling)", {"ceiling_height": CEILING_HEIGHT})
    if layout.eye is not None and layout.eye > layout.floor:
        notes = [] if layout.has_floor else ["no floor was seen: eye height is taken above the lowest points"]
        return Scale(EYE_HEIGHT / (layout.eye - layout.floor), "height (camera)", {"eye_height": EYE_HEIGHT}, notes)
    return None


def _diagonal(size: np.ndarray, settings: PostprocessSettings, name: str) -> Scale:
    """The diagonal of the cloud's box (3,) to one that is drawn: first the interval, then evenly in it."""
    rng = scene_rng(name, settings.seed, "scale")
    place = int(rng.choice(len(DIAGONAL_SHARES), p=DIAGONAL_SHARES))
    drawn = float(rng.uniform(DIAGONALS[place], DIAGONALS[place + 1]))
    return Scale(drawn / max(float(np.linalg.norm(size)), 1e-12), "diagonal", {"drawn_diagonal": round(drawn, 4)})


def choose_scale(layout: Layout, settings: PostprocessSettings, name: str, is_metric: bool, size: np.ndarray) -> Scale:
    """The factor to metres by the rule of the settings.

    "auto" believes a metric backend, and draws from ScanNet's sizes otherwise, as RoomTours does: what pre-training
    sees is then spread as what the backbone is used on. "height" is nearer to the truth for the single room.
    """
    rule = settings.scale
    if rule == "fixed":
        return Scale(settings.scale_factor, "fixed")
    if rule == "diagonal":
        return _diagonal(size, settings, name)
    if rule == "none" or rule == "metric" or (rule == "auto" and is_metric):
        note = [] if is_metric or rule == "none" else ["the backend does not say that its unit is the metre; believed"]
        return Scale(1.0, "none" if rule == "none" else "metric", {"is_metric": is_metric}, note)
    if rule == "height":
        found = _height(layout)
        if found is not None:
            return found
        drawn = _scannet(layout, settings, name)
        note = "neither ceiling nor cameras: scale drawn from ScanNet's sizes"
        return Scale(drawn.factor, drawn.rule, drawn.details, [note, *drawn.notes])
    return _scannet(layout, settings, name)
