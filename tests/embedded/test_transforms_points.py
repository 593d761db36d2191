"""Geometry, colour and sampling transforms: behaviour, edge cases, distributions, no writes to the caller's arrays."""

import colorsys

import numpy as np
import pytest

from lam3c_plugin.embedded import transforms as T
from lam3c_plugin.embedded.registry import TRANSFORMS
from lam3c_plugin.embedded.transforms import color as color_module
from lam3c_plugin.embedded.transforms import geometry, sampling
from lam3c_plugin.errors import ConfigError, DataError, RegistryError
from tests.rooms import box_room, sample_of


@pytest.fixture
def scene():
    room = box_room(4000, (4.0, 3.0, 2.5))
    return sample_of(room, coord=room.coord + np.float32([10, -5, 1]))


ALL_POINT_TRANSFORMS = [
    dict(type="CenterShift"),
    dict(type="NormalizeCoord"),
    dict(type="PointClip"),
    dict(type="RandomShift"),
    dict(type="RandomScale", scale=[0.9, 1.1], anisotropic=True),
    dict(type="RandomRotate", angle=[-1, 1], axis="x", p=1),
    dict(type="RandomRotate", axis="z", center=[0, 0, 0], always_apply=True),
    dict(type="RandomRotateTargetAngle", axis="y", p=1),
    dict(type="RandomFlip", p=1),
    dict(type="RandomJitter"),
    dict(type="ElasticDistortion"),
    dict(type="NormalizeColor"),
    dict(type="ChromaticAutoContrast", p=1),
    dict(type="ChromaticTranslation", p=1),
    dict(type="ChromaticJitter", p=1),
    dict(type="RandomColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.02, p=1),
    dict(type="RandomDropColor", drop_application_ratio=1),
    dict(type="RandomDropNormal", drop_ratio=1, drop_application_ratio=1),
    dict(type="GridSample", grid_size=0.1),
    dict(type="RandomDropout", dropout_application_ratio=1),
    dict(type="SphereCrop", point_max=100),
    dict(type="ShufflePoint"),
]


@pytest.mark.parametrize("cfg", ALL_POINT_TRANSFORMS, ids=lambda cfg: cfg["type"])
def test_callers_arrays_stay_and_results_are_float32(scene, cfg):
    kept = {key: value.copy() for key, value in scene.items() if isinstance(value, np.ndarray)}
    result = T.build_transform(cfg)(dict(scene))
    for key, value in kept.items():
        assert np.array_equal(scene[key], value), key
        assert result[key].dtype == value.dtype, key
        assert len(result[key]) == len(result["coord"]), key
        assert np.isfinite(result[key]).all(), key


@pytest.mark.parametrize("cfg", ALL_POINT_TRANSFORMS, ids=lambda cfg: cfg["type"])
def test_seed_of_numpy_fixes_the_sample(scene, cfg):
    results = []
    for seed in (5, 5, 6):
        np.random.seed(seed)
        results.append(T.build_transform(cfg)(dict(scene)))
    for key in ("coord", "color", "normal"):
        assert np.array_equal(results[0][key], results[1][key])


@pytest.mark.parametrize("cfg", ALL_POINT_TRANSFORMS, ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_one_point_and_equal_points(cfg, count):
    scene = {key: np.ones((count, 3), np.float32) for key in ("coord", "color", "normal")}
    result = T.build_transform(cfg)(scene)
    assert 1 <= len(result["coord"]) <= count
    assert all(np.isfinite(result[key]).all() for key in ("coord", "color", "normal"))


@pytest.mark.parametrize("cfg", ALL_POINT_TRANSFORMS[:18], ids=lambda cfg: cfg["type"])
def test_a_sample_without_the_entry_passes(cfg):
    assert T.build_transform(cfg)({"name": "empty"}) == {"name": "empty"}


def test_center_shift(scene):
    coord = T.CenterShift()(dict(scene))["coord"]
    low, high = coord.min(0), coord.max(0)
    assert np.allclose((low + high)[:2], 0, atol=1e-5)
    assert low[2] == 0
    assert np.isclose(T.CenterShift(apply_z=False)(dict(scene))["coord"][:, 2].min(), scene["coord"][:, 2].min())


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_keeps_lengths_turns_normals_and_goes_the_right_way(scene, axis):
    rotate = T.RandomRotateTargetAngle(angle=[0.5], center=[0, 0, 0], axis=axis, p=1)
    one = rotate({"coord": np.eye(3, dtype=np.float32), "normal": np.eye(3, dtype=np.float32)})
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    assert np.allclose(one["coord"][first], np.eye(3)[second], atol=1e-6)  # a quarter turn, right-handed
    assert np.allclose(one["coord"], one["normal"])
    turned = T.RandomRotate(axis=axis, p=1)(dict(scene))
    middle = sum(geometry.bounding_box(scene["coord"])) / 2
    before, after = (np.linalg.norm(coord - middle, axis=1) for coord in (scene["coord"], turned["coord"]))
    assert np.allclose(before, after, atol=1e-4)


def test_rotation_probability_and_angles():
    point = {"coord": np.float32([[1, 0, 0]]), "normal": np.float32([[1, 0, 0]])}
    np.random.seed(0)
    angles = []
    for _ in range(2000):
        normal = T.RandomRotate(angle=[-0.25, 0.5], center=[0, 0, 0], p=0.8)(dict(point))["normal"][0]
        angles.append(np.arctan2(normal[1], normal[0]) / np.pi)
    angles = np.array(angles)
    turned = angles != 0
    assert abs(turned.mean() - 0.8) < 0.03
    assert angles.min() >= -0.251
    assert angles.max() <= 0.501
    assert abs(angles[turned].mean() - 0.125) < 0.02
    with pytest.raises(ConfigError, match="axis must be"):
        T.RandomRotate(axis="w")


def test_flip_scale_shift_distributions():
    np.random.seed(1)
    point = {"coord": np.float32([[1, 2, 3]])}
    flipped = np.array([T.RandomFlip(p=0.3)(dict(point))["coord"][0] for _ in range(2000)])
    assert abs((flipped[:, 0] < 0).mean() - 0.3) < 0.04
    assert abs((flipped[:, 1] < 0).mean() - 0.3) < 0.04
    assert (flipped[:, 2] == 3).all()
    scaled = np.array([T.RandomScale([0.9, 1.1])(dict(point))["coord"][0] for _ in range(2000)])
    assert np.allclose(scaled[:, 1], 2 * scaled[:, 0], rtol=1e-5)
    assert scaled[:, 0].min() > 0.899
    assert scaled[:, 0].max() < 1.101
    assert abs(scaled[:, 0].mean() - 1) < 0.01


def test_jitter_is_gaussian_and_clipped_on_both_sides():
    np.random.seed(2)
    coord = np.zeros((100_000, 3), np.float32)
    noise = T.RandomJitter(sigma=0.005, clip=0.02)({"coord": coord})["coord"]
    assert abs(noise.std() - 0.005) < 1e-4
    assert abs(noise.mean()) < 1e-4
    clipped = T.RandomJitter(sigma=0.02, clip=0.02)({"coord": coord})["coord"]
    assert clipped.min() == np.float32(-0.02)
    assert clipped.max() == np.float32(0.02)
    assert abs((clipped == np.float32(-0.02)).mean() - 0.1587) < 0.01
    with pytest.raises(ConfigError, match="clip"):
        T.RandomJitter(clip=0)


def test_trilinear_reads_a_linear_field_exactly():
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in (4, 5, 6)], indexing="ij"), axis=-1)
    position = (np.random.default_rng(0).random((500, 3)) * [3, 4, 5]).astype(np.float32)
    assert np.allclose(geometry.trilinear(grid, position), position, atol=1e-5)
    corner = np.float32([[3, 4, 5]])
    assert np.allclose(geometry.trilinear(grid, corner), corner)


def test_elastic_distortion_is_smooth_zero_mean_and_bounded(scene):
    np.random.seed(3)
    shifts, neighbours = [], []
    near = scene["coord"] + np.float32([0.01, 0, 0])
    for _ in range(40):
        both = geometry.elastic_distortion(np.concatenate([scene["coord"], near]), 0.2, 0.4)
        moved = both - np.concatenate([scene["coord"], near])
        shifts.append(moved[:4000])
        neighbours.append(np.abs(moved[:4000] - moved[4000:]).max())
    assert abs(np.mean(shifts)) < 2e-3
    assert 0.01 < np.std(shifts) < 0.1
    assert max(neighbours) < 0.03  # points 1 cm apart move together
    far = np.float32([[0, 0, 0], [1e6, 1e6, 1e6]])
    np.random.seed(3)  # of the 5 % of calls that change nothing, this is none
    with pytest.raises(DataError, match="attic: a view of 1000000"):
        T.ElasticDistortion()({"coord": far, "name": "attic"})


def test_color_normalisation_and_translation(scene):
    assert np.allclose(T.NormalizeColor()(dict(scene))["color"] * 255, scene["color"], atol=1e-4)
    np.random.seed(4)
    gray = {"color": np.full((1, 3), 128, np.float32)}
    shift = np.array([T.ChromaticTranslation(p=1, ratio=0.05)(dict(gray))["color"][0] - 128 for _ in range(2000)])
    assert np.abs(shift).max() <= 12.75
    assert abs(shift.std() - 25.5 / np.sqrt(12)) < 0.3
    assert T.ChromaticTranslation(p=1)({"color": np.zeros((9, 3), np.float32)})["color"].min() >= 0
    noise = T.ChromaticJitter(p=1, std=0.02)({"color": np.full((50_000, 3), 128, np.float32)})["color"] - 128
    assert abs(noise.std() - 5.1) < 0.1


def test_auto_contrast_stretches_and_leaves_a_plain_colour(scene):
    half = {"color": scene["color"] / 2}
    stretched = T.ChromaticAutoContrast(p=1, blend_factor=1)(dict(half))["color"]
    assert np.allclose([stretched.min(), stretched.max()], [0, 255], atol=1e-2)
    assert np.allclose(T.ChromaticAutoContrast(p=1, blend_factor=0)(dict(half))["color"], half["color"], atol=1e-3)
    plain = {"color": np.full((5, 3), 7, np.float32)}
    assert np.array_equal(T.ChromaticAutoContrast(p=1)(dict(plain))["color"], plain["color"])


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.02, 0.37, 0.5])
def test_hue_against_colorsys(shift):
    rgb = np.random.default_rng(0).integers(0, 256, (300, 3)).astype(np.float32)
    rgb[:20] = rgb[:20, :1]  # grays have no hue
    expected = []
    for red, green, blue in rgb / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        expected.append(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value))
    result = color_module.adjust_hue(np.ascontiguousarray(rgb.T), shift).T
    assert np.abs(result - np.array(expected) * 255).max() < 2e-3


def test_brightness_contrast_saturation_formulas():
    rgb = np.float32([[10, 200], [20, 100], [30, 50]])
    gray = color_module.GRAY_WEIGHTS @ rgb
    assert np.allclose(color_module.adjust_brightness(rgb.copy(), 1.5), np.minimum(rgb * 1.5, 255))
    assert np.allclose(color_module.adjust_contrast(rgb.copy(), 0.5), rgb / 2 + gray.mean() / 2)
    assert np.allclose(color_module.adjust_saturation(rgb.copy(), 0.0), np.stack([gray] * 3), atol=1e-4)


def test_color_jitter_arguments():
    assert T.RandomColorJitter(brightness=1.5).brightness == (0.0, 2.5)
    assert T.RandomColorJitter(contrast=0).contrast is None
    for wrong in (dict(brightness=-1), dict(hue=0.6), dict(saturation=(2, 1))):
        with pytest.raises(ConfigError, match="RandomColorJitter"):
            T.RandomColorJitter(**wrong)


def test_drops_zero_the_share_asked_for(scene):
    dropped = T.RandomDropColor(drop_ratio=0.25, drop_application_ratio=1)(dict(scene))
    assert (dropped["color"] == 0).all(axis=1).sum() == 1000
    assert np.array_equal(dropped["normal"], scene["normal"])
    np.random.seed(0)
    drop = T.RandomDropNormal(drop_ratio=1, drop_application_ratio=0.2)
    hit = np.mean([not drop(dict(scene))["normal"].any() for _ in range(1000)])
    assert abs(hit - 0.2) < 0.04
    with pytest.raises(ConfigError, match="drop_ratio"):
        T.RandomDropColor(drop_ratio=2)


def _cells(coord, grid):
    return np.floor(coord.astype(np.float64) / grid).astype(np.int64)


def test_grid_sample_keeps_one_random_point_a_cell(scene):
    np.random.seed(0)
    cells = _cells(scene["coord"], 0.3)
    unique, inverse, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    scene["row"] = np.arange(4000)
    scene["index_valid_keys"] = ["coord", "row", "segment"]
    hits = np.zeros(4000)
    for _ in range(300):
        result = T.GridSample(0.3)(dict(scene))
        assert len(np.unique(_cells(result["coord"], 0.3), axis=0)) == len(result["coord"]) == len(unique)
        assert np.array_equal(scene["coord"][result["row"]], result["coord"])
        assert np.array_equal(scene["segment"][result["row"]], result["segment"])
        hits[result["row"]] += 1
    share = hits / 300 * count[inverse.ravel()]  # 1 where every point of a cell is equally likely
    assert abs(share.mean() - 1) < 0.01
    assert len(result["color"]) == 4000  # not among index_valid_keys


def test_grid_sample_extras(scene):
    grid = T.GridSample(
        0.2, return_inverse=True, return_grid_coord=True, return_min_coord=True, return_displacement=True
    )
    before = scene["coord"]
    result = grid(scene)
    cells = _cells(before, 0.2)
    lowest = cells.min(0)
    assert np.array_equal(result["grid_coord"], _cells(result["coord"], 0.2) - lowest)
    assert np.array_equal(result["grid_coord"][result["inverse"]], cells - lowest)
    assert np.allclose(result["min_coord"], lowest * 0.2)
    middle = (result["grid_coord"] + lowest + 0.5) * 0.2
    assert np.allclose(result["coord"] - middle, result["displacement"] * 0.2, atol=1e-5)
    cropped = T.SphereCrop(point_max=50)(result)
    assert len(cropped["grid_coord"]) == len(cropped["displacement"]) == 50


def test_grid_sample_projects_displacement_on_normals(scene):
    plain = T.GridSample(0.5, mode="test", return_displacement=True)(dict(scene))[0]
    projected = T.GridSample(0.5, mode="test", return_displacement=True, project_displacement=True)(dict(scene))[0]
    expected = (plain["displacement"] * plain["normal"]).sum(1, keepdims=True)
    assert np.allclose(projected["displacement"], expected, atol=1e-5)


def test_grid_sample_test_mode_covers_every_point(scene):
    parts = T.GridSample(0.4, mode="test", return_grid_coord=True)(dict(scene))
    count = np.unique(_cells(scene["coord"], 0.4), axis=0, return_counts=True)[1]
    assert len(parts) == count.max()
    assert len(np.unique(np.concatenate([part["index"] for part in parts]))) == 4000
    for part in parts:
        assert len(part["coord"]) == len(count)
        assert np.array_equal(part["coord"], scene["coord"][part["index"]])
        assert part["name"] == "room"
        assert "grid_coord" in part["index_valid_keys"]


def test_grid_sample_keeps_labelled_points(scene):
    scene["sampled_index"] = np.array([3, 77, 1500])
    wanted = scene["coord"][[3, 77, 1500]]
    for transform in (T.GridSample(1.0), T.RandomDropout(0.9, 1.0)):
        result = transform(dict(scene))
        assert np.array_equal(result["coord"][result["sampled_index"]], wanted)


@pytest.mark.parametrize("scale", [1.0, 1e5, 1e9])
def test_groups_are_exact_however_large_the_cloud(scale):
    rng = np.random.default_rng(1)
    coord = (rng.standard_normal((3000, 3)) * scale).astype(np.float32)
    coord = np.concatenate([coord, coord[::7]])
    cells, _ = sampling.grid_cells(coord, np.full(3, 0.02))
    order, start = sampling.group_by_key(*sampling.cell_keys(cells))
    unique = np.unique(np.stack(cells, axis=1), axis=0)
    assert len(start) == len(unique)
    assert np.array_equal(np.sort(order), np.arange(len(coord)))


def test_sampling_errors():
    with pytest.raises(DataError, match="loft: no points left for GridSample"):
        T.GridSample()({"coord": np.zeros((0, 3), np.float32), "name": "loft"})
    with pytest.raises(DataError, match="loft: GridSample needs finite"):
        T.GridSample()({"coord": np.float32([[0, 0, np.nan]]), "name": "loft"})
    with pytest.raises(DataError, match="needs 'coord'"):
        T.SphereCrop()({"name": "loft"})
    with pytest.raises(ConfigError, match="mode must be"):
        T.GridSample(mode="fast")
    with pytest.raises(ConfigError, match="grid_size"):
        T.GridSample(grid_size=0)


def test_nearest_rows_are_the_nearest(scene):
    center = np.float32([11, -4, 2])
    rows = sampling.nearest_rows(scene["coord"].T, center, 321)
    expected = np.argsort(((scene["coord"] - center) ** 2).sum(1), kind="stable")[:321]
    assert set(rows) == set(expected)
    assert len(T.SphereCrop(point_max=321)(dict(scene))["coord"]) == 321
    assert len(T.SphereCrop(sample_rate=0.1, mode="center")(dict(scene))["coord"]) == 400


def test_dropout_and_shuffle(scene):
    assert len(T.RandomDropout(0.2, 1.0)(dict(scene))["coord"]) == 3200
    shuffled = T.ShufflePoint()(dict(scene))
    assert not np.array_equal(shuffled["coord"], scene["coord"])
    assert np.array_equal(np.sort(shuffled["coord"], axis=0), np.sort(scene["coord"], axis=0))


def test_compose_names_a_wrong_type():
    assert T.Compose(None)({"a": 1}) == {"a": 1}
    with pytest.raises(RegistryError, match=r"GridSampel.*did you mean 'GridSample'"):
        T.Compose([dict(type="GridSampel")])
    with pytest.raises(ConfigError, match="no argument 'gird_size'"):
        T.Compose([dict(type="GridSample", gird_size=1)])
    assert all(name in TRANSFORMS for name in vars(T) if name[0].isupper() and name != "Compose")


def test_every_inverse_row_is_of_its_own_cell_where_labelled_points_are_kept_too():
    generator = np.random.default_rng(0)
    coord = generator.uniform(0, 2, (5000, 3)).astype(np.float32)
    labelled = np.array([3, 77, 1500, 4000, 4999])
    scene = {"coord": coord, "sampled_index": labelled.copy(), "index_valid_keys": ["coord"]}
    result = T.GridSample(0.1, return_inverse=True)(scene)
    cells = np.floor(coord.astype(np.float64) / 0.1).astype(int)
    kept = np.floor(result["coord"].astype(np.float64) / 0.1).astype(int)
    assert np.array_equal(kept[result["inverse"]], cells)
    assert np.array_equal(result["coord"][result["inverse"][labelled]], coord[labelled])
