"""HDR comes back as ordinary pictures: patches of known light and colour through a real encoder."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("av")

import av

from data_tools.reconstruction import ReconstructSettings
from data_tools.reconstruction.frames import frames_for
from data_tools.video import hdr
from data_tools.video.sampling import DecodeReport, raw_frames, sample_frames
from tests.data_tools.video import videos

# linear light of BT.709 primaries in units of diffuse white (203 cd/m2)
PATCHES = np.array(
    [
        [0.02, 0.02, 0.02], [0.18, 0.18, 0.18], [0.5, 0.5, 0.5], [0.5, 0.1, 0.05], [0.05, 0.4, 0.1], [0.1, 0.1, 0.5],
        [1.0, 1.0, 1.0], [3.0, 3.0, 3.0],
    ]
)  # fmt: skip
TO_2020 = np.array([[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]])


def pq(light):
    power = (light * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light):
    """Display light of a 1,000 cd/m2 screen to the signal (BT.2100: inverse OOTF, then OETF)."""
    display = light * 203 / 1000
    luma = display @ [0.2627, 0.6780, 0.0593]
    scene = display * luma[..., None] ** (-0.2 / 1.2)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def srgb(light):
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def planes(signal):
    """(8, 3) RGB signals 0..1 as (3, 64, 512) limited-range BT.2020 YCbCr, 10 bit."""
    r, g, b = np.repeat(np.repeat(signal[None], 64, 0), 64, 1).transpose(2, 0, 1)
    y = 0.2627 * r + 0.6780 * g + 0.0593 * b
    return np.rint([64 + 876 * y, 512 + 896 * (b - y) / 1.8814, 512 + 896 * (r - y) / 1.4746]).astype(np.uint16)


@pytest.mark.skipif("libx265" not in av.codecs_available, reason="no encoder of 10-bit HDR")
@pytest.mark.parametrize(("name", "curve", "code"), [("PQ", 16, pq), ("HLG", 18, hlg)])
def test_patches_come_back_as_sdr(tmp_path, name, curve, code):
    path = videos.write_hdr(tmp_path / "hdr.mp4", planes(code(PATCHES @ TO_2020.T)), curve)
    report = DecodeReport()
    image = next(sample_frames(path, report=report)).image
    assert report.hdr == name
    found = np.stack([image[20:44, 64 * i + 20 : 64 * i + 44].mean((0, 1)) for i in range(8)])
    np.testing.assert_allclose(found[:6], srgb(PATCHES[:6]), atol=4)  # below the knee: as it was
    assert 225 < found[6].min() <= found[6].max() < 245  # diffuse white leaves room for lamps
    assert found[7].min() > found[6].max() + 8
    np.testing.assert_allclose(found[7], srgb(hdr.bend(PATCHES[7])), atol=4)
    found = frames_for(path, [(0, None)], ReconstructSettings(backend="sfm"))
    assert found.notes == [f"{name} video: colours brought to ordinary ones (BT.709)"]
    assert np.array_equal(found.frames.images[0], image)
    small = next(raw_frames(path)).pixels((128, 16))
    assert small.shape == (16, 128, 3)
    assert next(raw_frames(path)).pixels(form="gray").shape == (64, 512)


def test_wide_gamut_under_an_ordinary_curve(tmp_path):
    light = PATCHES[:6].repeat([1, 1, 1, 1, 1, 3], 0)
    signal = srgb(light @ TO_2020.T) / 255
    path = videos.write_hdr(tmp_path / "wide.mp4", planes(signal), 14)
    report = DecodeReport()
    image = next(sample_frames(path, report=report)).image
    assert report.hdr == "BT.2020"
    found = np.stack([image[20:44, 64 * i + 20 : 64 * i + 44].mean((0, 1)) for i in range(8)])
    np.testing.assert_allclose(found, srgb(light), atol=4)


def test_the_tone_curve():
    light = np.linspace(0, hdr.PEAK / hdr.WHITE, 500)
    bent = hdr.bend(light)
    assert (np.diff(bent) > 0).all()
    assert np.diff(np.diff(bent)).max() < 1e-4  # no corner upward
    np.testing.assert_allclose(bent[light <= hdr.KNEE], light[light <= hdr.KNEE])
    assert bent[-1] == pytest.approx(1)
    assert hdr.bend(np.array([50.0])) == 1
