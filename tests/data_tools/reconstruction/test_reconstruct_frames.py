"""Choice of frames: how many, evenly, sharp, from videos and folders."""

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, features

from data_tools.reconstruction import ReconstructSettings
from data_tools.reconstruction.frames import Still, choose, count_frames, frames_for, sharpness
from data_tools.stages.record import RejectedError, StageError
from data_tools.video.images import list_images
from data_tools.video.sampling import write_video

SETTINGS = ReconstructSettings(min_frames=8, max_frames=20, frame_rate=2.0, max_side=128, backend="sfm")


def texture(shift=0, height=96, width=128):
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (height, width + 400, 3)).astype(np.float32), (0, 0), 1.2)
    return np.clip((wide[:, shift : shift + width] - 128) * 3 + 128, 0, 255).astype(np.uint8)


def blur(image, length):
    return cv2.blur(image, (length, 1))


def still(index, time, image, measured=True):
    return Still(index, time, sharpness(image[..., 1]) if measured else 0.0, lambda: image)


def test_sharpness_falls_with_motion_blur_not_with_exposure():
    image = texture()[..., 1]
    assert sharpness(blur(image, 9)) < 0.6 * sharpness(image)
    assert sharpness(blur(image, 21)) < sharpness(blur(image, 9))
    darker = (image * 0.5).astype(np.uint8)
    assert sharpness(darker) == pytest.approx(sharpness(image), rel=0.1)
    assert sharpness(np.full((50, 60), 9, np.uint8)) == 0
    assert sharpness(np.zeros((2, 2), np.uint8)) == 0
    large = cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(large + np.random.default_rng(1).normal(0, 12, large.shape), 0, 255).astype(np.uint8)
    blurred = np.clip(blur(large, 41) + np.random.default_rng(1).normal(0, 12, large.shape), 0, 255).astype(np.uint8)
    assert sharpness(blurred) < sharpness(noisy)  # noise of the sensor does not pass for detail


@pytest.mark.parametrize(
    ("length", "limit", "wanted"), [(1, None, 8), (6, None, 12), (60, None, 20), (60, 15, 15), (0, None, 8), (60, 4, 4)]
)
def test_count_follows_rate_within_limits(length, limit, wanted):
    assert count_frames(SETTINGS, length, limit) == wanted


def test_blurred_frames_give_way_within_their_part():
    bad = {5, 15, 16, 25, 26, 27}
    images = [blur(texture(i), 15) if i in bad else texture(i) for i in range(40)]
    even = list(choose([still(i, i / 10, image, False) for i, image in enumerate(images)], 0.0, 4.0, 4))
    assert [still.index for still, _ in even] == [5, 15, 25, 35]
    chosen = list(choose([still(i, i / 10, image) for i, image in enumerate(images)], 0.0, 4.0, 4))
    assert [flag for _, flag in chosen] == [True, True, True, False]
    for part, (kept, _) in enumerate(chosen):
        assert kept.index not in bad
        assert 10 * part <= kept.index < 10 * part + 10
    assert chosen[3][0].index == 35


def test_no_more_frames_than_there_are():
    stills = [still(i, i / 10, texture(i)) for i in range(5)]
    assert [s.index for s, _ in choose(stills, 0.0, 0.5, 200)] == [0, 1, 2, 3, 4]
    assert list(choose([], 0.0, 1.0, 5)) == []


def test_choice_holds_few_images():
    alive = 0
    most = 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            if self.base is not None:
                alive -= 1

    def stills():
        nonlocal alive, most
        for i in range(200):
            image = texture(i % 50).view(Counted)
            alive += 1
            most = max(most, alive)
            yield still(i, i / 10, image)

    for kept, _ in choose(stills(), 0.0, 20.0, 4):
        del kept
    assert most <= 8


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    av = pytest.importorskip("av")
    assert av
    from data_tools.video.sampling import write_video

    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    images = [blur(texture(2 * i), 17) if i % 10 == 5 else texture(2 * i) for i in range(100)]
    write_video(path, images, fps=10)
    return path


def test_video_gives_even_sharp_frames_with_their_numbers(video):
    found = frames_for(video, [(0.0, None)], replace(SETTINGS, min_frames=10, max_frames=10))
    frames = found.frames
    assert len(frames) == 10
    assert found.size == (128, 96)
    assert found.seen == 100
    assert found.replaced >= 8
    assert (frames.index % 10 != 5).all()
    assert (frames.index // 10).tolist() == list(range(10))
    np.testing.assert_allclose(frames.time, frames.index / 10, atol=1e-3)
    plain = frames_for(video, [(0.0, None)], replace(SETTINGS, min_frames=10, max_frames=10, replace_blurred=False))
    assert plain.replaced == 0
    assert np.abs(plain.frames.index % 10 - 5).max() <= 1


def test_video_range_size_and_known_camera(video):
    settings = replace(SETTINGS, max_side=64, intrinsics=(100.0, 100.0, 63.5, 47.5))
    frames = frames_for(video, [(2.0, 5.0)], settings).frames
    assert frames.images.shape[1:] == (48, 64, 3)
    assert frames.time.min() >= 2.0
    assert frames.time.max() <= 5.0
    np.testing.assert_allclose(frames.intrinsics, [[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    assert len(frames_for(video, [(9.0, 9.55)], settings).frames) == 6  # all there are
    with pytest.raises(StageError, match="a cloud needs at least 2 views"):
        frames_for(video, [(9.85, None)], settings)
    with pytest.raises(StageError, match="holds nothing"):
        frames_for(video, [(5.0, 5.0)], settings)


def test_every_interval_gives_its_share_of_the_frames(video):
    settings = replace(SETTINGS, min_frames=12, max_frames=12)
    times = frames_for(video, [(1.0, 3.0), (4.0, 5.0), (8.0, 9.0)], settings).frames.time
    assert [int(((times >= a) & (times <= b)).sum()) for a, b in ((1, 3), (4, 5), (8, 9))] == [6, 3, 3]
    assert (np.diff(times) > 0).all()
    with pytest.raises(StageError, match="holds nothing"):
        frames_for(video, [(1.0, 3.0), (4.0, 4.0)], settings)


def test_the_first_seconds_of_a_scene_are_skipped_over_its_intervals(video):
    settings = replace(SETTINGS, min_frames=12, max_frames=12, skip_start=3.0)
    times = frames_for(video, [(1.0, 3.0), (4.0, 6.0), (8.0, 9.0)], settings).frames.time  # 2 s go, then 1 s
    assert [int(((times >= a) & (times <= b)).sum()) for a, b in ((5, 6), (8, 9))] == [6, 6]
    assert frames_for(video, [(0.0, None)], settings).frames.time.min() >= 3.0
    with pytest.raises(RejectedError, match=r"its first 3 s are skipped, and it has 2\.5 s"):
        frames_for(video, [(1.0, 2.0), (4.0, 5.5)], settings)


def test_lanczos_is_its_formula_in_videos_and_folders(tmp_path):
    columns = np.random.default_rng(0).integers(40, 216, 43).repeat(3)[:128]
    image = np.broadcast_to(columns[None, :, None], (96, 128, 3)).astype(np.uint8)
    centre = 2 * np.arange(64)[:, None] + 0.5
    apart = (np.arange(-8, 136)[None] - centre) / 2  # of 128 columns, mirrored at the edges, to 64
    weights = np.sinc(apart) * np.sinc(apart / 3) * (np.abs(apart) < 3)
    wanted = (weights / weights.sum(1, keepdims=True)) @ np.pad(columns, 8, mode="edge")
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.fromarray(image).save(tmp_path / f"images/{i}.png")
    write_video(tmp_path / "video.mp4", [image] * 3, fps=2, crf=0)
    for source in (tmp_path / "images", tmp_path / "video.mp4"):
        settings = replace(SETTINGS, max_side=64, resize="lanczos")
        row = frames_for(source, [(0.0, None)], settings).frames.images[1, 24, :, 1].astype(float)
        assert np.abs(row - wanted)[3:-3].max() < 3
        plain = frames_for(source, [(0.0, None)], replace(settings, resize="area")).frames.images[1, 24, :, 1]
        assert np.abs(plain - wanted)[3:-3].max() > 8


def test_folder_takes_times_from_names(tmp_path):
    for name in ("10.5", "9.25", "11"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), texture())
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    assert [time for _, time in list_images(tmp_path)] == [9.25, 10.5, 11.0]
    frames = frames_for(tmp_path, [(0.0, 1.3)], SETTINGS).frames
    assert frames.time.tolist() == [9.25, 10.5]
    cv2.imwrite(str(tmp_path / "last.jpg"), texture())
    entries = list_images(tmp_path)
    assert [path.name for path, _ in entries] == ["9.25.png", "10.5.png", "11.png", "last.jpg"]
    assert [time for _, time in entries] == [0, 1, 2, 3]


def test_heic_photos_without_their_package_are_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"photo")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(StageError, match="HEIC photos need pip install pillow-heif"):
        list_images(tmp_path)


def test_folder_longer_than_the_limit_is_thinned_and_sharp(tmp_path):
    for i in range(60):
        image = blur(texture(i), 15) if i % 3 == 1 else texture(i)
        cv2.imwrite(str(tmp_path / f"{i:04d}.png"), image[..., ::-1])
    found = frames_for(tmp_path, [(0.0, None)], SETTINGS)
    assert len(found.frames) == 20
    assert (found.frames.index % 3 != 1).all()
    assert found.replaced == 20
    assert np.array_equal(found.frames.images[0], texture(int(found.frames.index[0])))


def test_names_with_numbers_are_in_the_order_of_the_numbers(tmp_path):
    for i in (10, 9, 2, 1, 100):
        cv2.imwrite(str(tmp_path / f"frame_{i}.png"), texture(i))
    found = frames_for(tmp_path, [(0.0, None)], SETTINGS)
    assert [path.stem for path, _ in list_images(tmp_path)] == [f"frame_{i}" for i in (1, 2, 9, 10, 100)]
    assert np.array_equal(found.frames.images[3], texture(10)[..., ::-1])
    assert found.notes == []


def test_what_cannot_be_used_of_a_folder_is_left_out_and_named(tmp_path):
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.png"), texture(i))
    cv2.imwrite(str(tmp_path / "0.png"), texture(height=100))  # the first has the odd size
    (tmp_path / "2.png").write_bytes(b"")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    for name in ("a.heic", "b.txt", "c.txt", "d.txt", ".DS_Store", "._4.png"):
        (tmp_path / name).write_bytes(b"something")
    found = frames_for(tmp_path, [(0.0, None)], SETTINGS)
    assert found.frames.index.tolist() == [1, 4, 5]  # numbers of the folder, as masks are named by
    assert found.size == (128, 96)
    assert found.notes == [
        "4 left out, no image by its name: a.heic, b.txt, c.txt and 1 more",
        "1 left out, of another size than 128x96: 0.png",
        "2 left out, cannot be read as an image: 2.png, 3.png",
    ]


ROWS, COLUMNS = np.mgrid[:96, :128]
GRADIENT = np.stack([COLUMNS * 2, ROWS * 2, 255 - COLUMNS], -1).astype(np.uint8)


def saved(name, folder):
    """A gradient as a file of this kind, and the picture that is to come back."""
    picture, grey = Image.fromarray(GRADIENT), np.asarray(Image.fromarray(GRADIENT).convert("L"))
    path, exif = folder / f"a{name[name.rindex('.') :]}", Image.Exif()
    exif[0x112] = 6
    turned = np.rot90(GRADIENT, -1)
    if name == "16 bit.png":
        cv2.imwrite(str(path), GRADIENT[..., ::-1].astype(np.uint16) * 257)
    elif name == "16 bit grey.png":
        cv2.imwrite(str(path), grey.astype(np.uint16) * 257)
    elif name == "16 bit.tif":
        cv2.imwrite(str(path), GRADIENT[..., ::-1].astype(np.uint16) * 257)
    elif name.startswith("turned"):
        picture.save(path, exif=exif, **({"lossless": True} if "webp" in name else {"quality": 98}))
        return path, turned
    elif name == "cmyk.jpg":
        picture.convert("CMYK").save(path, quality=98)
    elif name == "palette.png":
        picture.quantize(256).save(path, transparency=3)
        return path, np.asarray(picture.quantize(256).convert("RGB"))
    elif name.startswith("grey"):
        Image.fromarray(grey).save(path)
    else:
        Image.fromarray(np.dstack([GRADIENT, np.zeros_like(grey)])).save(path)
    return path, np.repeat(grey[..., None], 3, -1) if "grey" in name else GRADIENT


KINDS = ("16 bit.png", "16 bit grey.png", "16 bit.tif", "turned.jpg", "turned.png", "turned.webp", "turned.tif")
KINDS += ("cmyk.jpg", "palette.png", "grey.png", "grey.jpg", "alpha.png")
KINDS += ("turned.avif",) if features.check("avif") else ()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_image_comes_back_as_shown(tmp_path, name):
    path, wanted = saved(name, tmp_path)
    path.with_name(f"b{path.suffix}").write_bytes(path.read_bytes())
    found = frames_for(tmp_path, [(0.0, None)], SETTINGS)
    assert found.size == wanted.shape[1::-1]
    assert found.notes == []
    image = found.frames.images[1]
    assert np.abs(image.astype(int) - wanted).max() <= (6 if name.endswith(("jpg", "avif")) else 0)


def test_bad_folders_are_told_in_one_line(tmp_path):
    with pytest.raises(StageError, match="no image in this folder"):
        frames_for(tmp_path, [(0.0, None)], SETTINGS)
    cv2.imwrite(str(tmp_path / "a.png"), texture())
    with pytest.raises(StageError, match="1 frame"):
        frames_for(tmp_path, [(0.0, None)], SETTINGS)
    cv2.imwrite(str(tmp_path / "b.png"), texture(height=100))
    with pytest.raises(StageError, match=r"1 frame.*; 1 left out, of another size than 128x96: b\.png"):
        frames_for(tmp_path, [(0.0, None)], SETTINGS)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(StageError, match=r"1 frame.*; 1 left out, cannot be read as an image: b\.png"):
        frames_for(tmp_path, [(0.0, None)], SETTINGS)
