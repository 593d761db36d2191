"""HDR comes back as ordinary pictures: patches of known light and colour through a real encoder."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("av")

import av

from data_tools.reconstruction import ReconstructSettings
from data_tools.reconstruction.frames import frames_for
from data_tools.video import hdr
from data_tools.video.sampling import DecodeReport, raw_frames
from tests.data_tools.video import videos
from tests.data_tools.video.videos import sample_frames

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


def planes(signal, weights=(0.2627, 0.6780, 0.0593)):
    """(8, 3) RGB signals 0..1 as (3, 64, 512) limited-range YCbCr, 10 bit, of BT.2020 or by other weights."""
    r, g, b = np.repeat(np.repeat(signal[None], 64, 0), 64, 1).transpose(2, 0, 1)
    y = weights[0] * r + weights[1] * g + weights[2] * b
    chroma = [512 + 448 * (part - y) / (1 - weight) for part, weight in ((b, weights[2]), (r, weights[0]))]
    return np.rint([64 + 876 * y, *chroma]).astype(np.uint16)


def patches(image):
    """(8, 3) means of the patches of a picture."""
    return np.stack([image[20:44, 64 * i + 20 : 64 * i + 44].mean((0, 1)) for i in range(8)])


def read(path):
    """The patches of a video's first picture, and what kind of HDR it was taken for."""
    report = DecodeReport()
    return patches(next(sample_frames(path, report=report)).image), report.hdr


@pytest.mark.skipif("libx265" not in av.codecs_available, reason="no encoder of 10-bit HDR")
@pytest.mark.parametrize(("name", "curve", "code"), [("PQ", 16, pq), ("HLG", 18, hlg)])
def test_patches_come_back_as_sdr(tmp_path, name, curve, code):
    path = videos.write_hdr(tmp_path / "hdr.mp4", planes(code(PATCHES @ TO_2020.T)), curve)
    report = DecodeReport()
    image = next(sample_frames(path, report=report)).image
    assert report.hdr == name
    found = patches(image)
    np.testing.assert_allclose(found[:6], srgb(PATCHES[:6]), atol=4)  # below the knee: as it was
    assert 225 < found[6].min() <= found[6].max() < 245  # diffuse white leaves room for lamps
    assert found[7].min() > found[6].max() + 8
    np.testing.assert_allclose(found[7], srgb(hdr.bend(PATCHES[7])), atol=4)
    found = frames_for(path, [(0, None)], ReconstructSettings(backend="sfm"))
    assert found.notes == [f"{name} video: colours brought to ordinary ones (BT.709)"]
    assert np.array_equal(found.frames.images[0], image)
    small = next(raw_frames(path)).pixels((128, 16))
    assert small.shape == (16, 128, 3)
    assert next(raw_frames(path)).luma(256).shape == (32, 256)


@pytest.mark.parametrize("curve", [1, 2, 4, 13, 14])  # BT.709, none told, gamma 2.2, sRGB, BT.2020
def test_wide_gamut_under_an_ordinary_curve(tmp_path, curve):
    light = PATCHES[:6].repeat([1, 1, 1, 1, 1, 3], 0)
    path = videos.write_hdr(tmp_path / "wide.mp4", planes(srgb(light @ TO_2020.T) / 255), curve)
    found, kind = read(path)
    assert kind == "BT.2020"
    np.testing.assert_allclose(found, srgb(light), atol=4)


@pytest.mark.parametrize(
    ("suffix", "codec", "primaries", "matrix"),
    [
        (".mkv", "libx265", 9, 9),
        (".ts", "libx265", 9, 9),
        (".mkv", "ffv1", 9, 9),  # told by the container alone
        (".webm", "libsvtav1", 9, 9),
        (".mp4", "libx265", 9, 2),  # the curve is told, the rest in part or not at all
        (".mp4", "libx265", 2, 2),
    ],
)
@pytest.mark.parametrize(("curve", "code", "name"), [(16, pq, "PQ"), (18, hlg, "HLG")])
def test_hdr_of_every_container_and_with_few_tags(tmp_path, suffix, codec, primaries, matrix, curve, code, name):
    if codec not in av.codecs_available:
        pytest.skip(f"no {codec}")
    signal = planes(code(PATCHES @ TO_2020.T))
    path = videos.write_hdr(tmp_path / f"a{suffix}", signal, curve, 3, codec, primaries, matrix)
    found, kind = read(path)
    assert kind == name
    np.testing.assert_allclose(found[:6], srgb(PATCHES[:6]), atol=4)


@pytest.mark.parametrize(("curve", "primaries", "matrix"), [(1, 1, 1), (13, 1, 1), (2, 2, 2)])
def test_ten_bits_alone_are_no_hdr(tmp_path, curve, primaries, matrix):
    light = PATCHES.clip(0, 1)
    weights = (0.2126, 0.7152, 0.0722) if matrix == 1 else (0.299, 0.587, 0.114)  # small and untagged: BT.601
    signal = planes(srgb(light) / 255, weights)
    found, kind = read(videos.write_hdr(tmp_path / "a.mp4", signal, curve, primaries=primaries, matrix=matrix))
    assert kind == ""
    np.testing.assert_allclose(found, srgb(light), atol=4)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_phone_on_its_side_films_hdr(tmp_path, rotation):
    path = videos.write_hdr(tmp_path / "a.mp4", planes(hlg(PATCHES @ TO_2020.T)), 18, rotation=rotation)
    image = np.rot90(next(sample_frames(path)).image, -rotation // 90)
    np.testing.assert_allclose(patches(image)[:6], srgb(PATCHES[:6]), atol=4)


def test_only_chosen_frames_are_tone_mapped(tmp_path, monkeypatch):
    path = videos.write_hdr(tmp_path / "a.mp4", planes(pq(PATCHES @ TO_2020.T)), 16, frames=60)
    converted, to_sdr = [], hdr.to_sdr
    monkeypatch.setattr(hdr, "to_sdr", lambda *given: converted.append(1) or to_sdr(*given))
    found = frames_for(path, [(0, None)], ReconstructSettings(backend="sfm", min_frames=5, max_frames=5))
    assert (found.seen, len(found.frames), len(converted)) == (60, 5, 5)


def test_the_tone_curve():
    light = np.linspace(0, hdr.PEAK / hdr.WHITE, 500)
    bent = hdr.bend(light)
    assert (np.diff(bent) > 0).all()
    assert np.diff(np.diff(bent)).max() < 1e-4  # no corner upward
    np.testing.assert_allclose(bent[light <= hdr.KNEE], light[light <= hdr.KNEE])
    assert bent[-1] == pytest.approx(1)
    assert hdr.bend(np.array([50.0])) == 1
