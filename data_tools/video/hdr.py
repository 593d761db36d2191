"""HDR and wide-gamut pictures (PQ, HLG, BT.2020) to ordinary SDR ones (BT.709 primaries, sRGB curve). NumPy only.

The curves are those of ITU-R BT.2100; diffuse white is 203 cd/m2 in both systems (BT.2408). Below `KNEE` of it light
is kept as it is, above it is bent so that the peak of a 1,000 cd/m2 display becomes white.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

WHITE = 203.0  # cd/m2
PEAK = 1000.0
KNEE = 0.6
PQ, HLG = 16, 18  # FFmpeg's numbers of transfer curves
BT2020 = 9  # FFmpeg's number of the primaries
STEPS = 4096
TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)


def kind_of(picture: VideoFrame) -> str:
    """ "PQ", "HLG", "BT.2020" (a wide gamut under an ordinary curve), or "" for an ordinary picture."""
    curve = int(picture.color_trc)
    if curve in (PQ, HLG):
        return "PQ" if curve == PQ else "HLG"
    return "BT.2020" if int(picture.color_primaries) == BT2020 else ""


def to_sdr(image: np.ndarray, kind: str) -> np.ndarray:
    """Tone-map a picture.

    Args:
        image: (H, W, 3) uint16 RGB as coded, 0..65535, primaries of BT.2020.
        kind: of `kind_of`.

    Returns:
        (H, W, 3) uint8 sRGB.
    """
    light = _light(kind)[image >> 4]
    if kind == "HLG":  # the display's gamma works on brightness, not on each colour (BT.2100, table 5)
        light *= np.power(np.maximum(light @ LUMA, 1e-6), 0.2)[..., None] * np.float32(PEAK / WHITE)
    light = light @ TO_BT709.T
    if kind != "BT.2020":
        top = np.maximum(light.max(axis=-1), 1e-6)  # bending the brightest colour alone keeps the hue
        light *= (bend(top) / top)[..., None]
    return _coded()[np.clip(light * (STEPS - 1) + 0.5, 0, STEPS - 1).astype(np.uint16)]


def bend(light: np.ndarray) -> np.ndarray:
    """The tone curve: light in units of diffuse white to 0..1, the identity up to `KNEE`, 1 from `PEAK` on."""
    over = np.clip((light - KNEE) / (1 - KNEE), 0, None)
    most = (PEAK / WHITE - KNEE) / (1 - KNEE)
    return np.where(light <= KNEE, light, np.minimum(KNEE + (1 - KNEE) * over * (1 + over / most**2) / (1 + over), 1))


@cache
def _light(kind: str) -> np.ndarray:
    """(STEPS,) float32: light of a coded value, in units of diffuse white (HLG: of the scene, 0..1)."""
    value = np.arange(STEPS) / (STEPS - 1)
    if kind == "PQ":
        power = value ** (1 / 78.84375)
        light = (
            1e4 / WHITE * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        )
    elif kind == "HLG":
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    else:
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@cache
def _coded() -> np.ndarray:
    """(STEPS,) uint8: sRGB of linear light."""
    light = np.arange(STEPS) / (STEPS - 1)
    value = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * value).astype(np.uint8)
