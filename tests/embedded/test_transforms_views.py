"""View generation and formatting: keys, overlaps, sizes, tiny scenes, and the batch that pre-training gets."""

import numpy as np
import pytest
import torch

from lam3c_plugin.embedded import transforms as T
from lam3c_plugin.embedded.datasets import point_collate_fn
from lam3c_plugin.errors import ConfigError, DataError

VIEW_KEYS = ("coord", "origin_coord", "color", "normal")
COLOR = [
    dict(type="RandomColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.02, p=0.8),
    dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
    dict(type="NormalizeColor"),
]
GEOMETRY = [
    dict(type="CenterShift", apply_z=True),
    dict(type="RandomScale", scale=[0.9, 1.1]),
    dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=0.8),
    dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="x", p=0.8),
    dict(type="RandomFlip", p=0.5),
    dict(type="RandomJitter", sigma=0.005, clip=0.02),
    dict(type="ElasticDistortion", distortion_params=[[0.2, 0.4], [0.8, 1.6]]),
]


def recipe(max_size=2000):
    return [
        dict(type="GridSample", grid_size=0.02, hash_type="fnv", mode="train"),
        dict(type="Copy", keys_dict={"coord": "origin_coord"}),
        dict(
            type="MultiViewGenerator",
            view_keys=VIEW_KEYS,
            global_shared_transform=COLOR,
            global_transform=GEOMETRY,
            local_transform=GEOMETRY + COLOR,
            max_size=max_size,
        ),
        dict(type="ToTensor"),
        dict(type="Update", keys_dict={"grid_size": 0.02}),
        dict(
            type="Collect",
            keys=(
                *("global_origin_coord", "global_coord", "global_color", "global_offset"),
                *("local_origin_coord", "local_coord", "local_color", "local_offset", "grid_size", "name"),
            ),
            offset_keys_dict=dict(),
            global_feat_keys=("global_coord", "global_color", "global_normal"),
            local_feat_keys=("local_coord", "local_color", "local_normal"),
        ),
    ]


def room(count=5000, seed=0, name="room"):
    """Points throughout a box: views are balls whose sizes are counted."""
    rng = np.random.default_rng(seed)
    return {
        "coord": (rng.random((count, 3)) * [4, 3, 2.5]).astype(np.float32),
        "color": (rng.random((count, 3)) * 255).astype(np.float32),
        "normal": rng.standard_normal((count, 3)).astype(np.float32),
        "name": name,
    }


def with_origin(scene):
    return {**scene, "origin_coord": scene["coord"].copy(), "row": np.arange(len(scene["coord"]))}


def views(sample, prefix, key):
    return np.split(sample[f"{prefix}_{key}"], sample[f"{prefix}_offset"][:-1])


def test_views_are_balls_of_the_right_size_inside_each_other():
    generator = T.MultiViewGenerator(view_keys=("coord", "origin_coord", "row"), max_size=3000)
    np.random.seed(0)
    sizes = {"global": [], "local": []}
    for _ in range(60):
        scene = with_origin(room())
        sample = generator(dict(scene))
        assert len(sample["global_offset"]) == 2
        assert len(sample["local_offset"]) == 4
        for prefix in sizes:
            for coord, origin, row in zip(
                *(views(sample, prefix, k) for k in ("coord", "origin_coord", "row")), strict=True
            ):
                assert np.array_equal(coord, scene["coord"][row])
                assert np.array_equal(coord, origin)
                assert len(np.unique(row)) == len(row)
                sizes[prefix].append(len(row))
    shares = {prefix: np.array(values) / 3000 for prefix, values in sizes.items()}
    assert shares["global"].min() >= 0.399
    assert shares["global"].max() <= 1
    assert abs(shares["global"].mean() - 0.7) < 0.06
    assert shares["local"].min() >= 0.099
    assert shares["local"].max() <= 0.4
    assert abs(shares["local"].mean() - 0.25) < 0.03


def test_every_view_is_the_nearest_points_of_a_centre_in_the_principal_view():
    generator = T.MultiViewGenerator(view_keys=("coord", "row"), max_size=3000)
    np.random.seed(1)
    scene = with_origin(room())
    sample = generator(dict(scene))
    major = set(views(sample, "global", "row")[0])
    for row in [*views(sample, "global", "row"), *views(sample, "local", "row")]:
        centers = [
            center
            for center in row
            if set(np.argsort(((scene["coord"] - scene["coord"][center]) ** 2).sum(1))[: len(row)]) == set(row)
        ]
        assert set(centers) & major


def test_local_views_spread_over_the_principal_view():
    generator = T.MultiViewGenerator(view_keys=("coord", "row"), max_size=5000, local_view_scale=(0.2, 0.2))
    np.random.seed(2)
    covered = []
    for _ in range(30):
        sample = generator(with_origin(room()))
        local = views(sample, "local", "row")
        major = views(sample, "global", "row")[0]
        covered.append(np.isin(major, np.concatenate(local)).mean())
        assert not any(np.array_equal(local[0], other) for other in local[1:])
    assert np.mean(covered) > 0.5  # centres drawn anywhere overlap more


def test_shared_transform_is_common_to_global_views_and_absent_from_local_ones():
    gray = dict(type="RandomColorJitter", saturation=(0, 0), p=1)
    generator = T.MultiViewGenerator(view_keys=("coord", "color", "row"), global_shared_transform=[gray])
    scene = with_origin(room())
    kept = scene["color"].copy()
    sample = generator(dict(scene))
    assert np.array_equal(scene["color"], kept)
    assert np.array_equal(sample["color"], kept)
    assert np.ptp(sample["global_color"], axis=1).max() == 0
    assert np.array_equal(sample["local_color"], kept[sample["local_row"]])
    first, second = (
        dict(zip(rows, colors[:, 0], strict=True))
        for rows, colors in zip(views(sample, "global", "row"), views(sample, "global", "color"), strict=True)
    )
    assert all(first[row] == second[row] for row in set(first) & set(second))


def test_shared_global_view_and_center_height():
    generator = T.MultiViewGenerator(
        view_keys=("coord", "row"),
        shared_global_view=True,
        center_height_scale=(0.9, 1),
        global_view_scale=(0.01, 0.01),
    )
    scene = with_origin(room())
    sample = generator(dict(scene))
    first, second = views(sample, "global", "row")
    assert np.array_equal(first, second)
    assert views(sample, "global", "coord")[0][:, 2].mean() > 2.0
    two = {"coord": np.float32([[0, 0, 0], [0, 0, 3]]), "row": np.arange(2)}  # nothing between floor and ceiling
    assert len(T.MultiViewGenerator(view_keys=("coord", "row"), center_height_scale=(0.3, 0.6))(two)["global_row"]) > 0


@pytest.mark.parametrize("count", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("equal", [False, True])
def test_tiny_scenes_give_valid_samples(count, equal):
    np.random.seed(count)
    scene = room(count)
    if equal:
        scene["coord"][:] = scene["coord"][0]
    sample = T.Compose(recipe())(scene)
    for prefix, num_views in (("global", 2), ("local", 4)):
        size = torch.diff(sample[f"{prefix}_offset"], prepend=torch.zeros(1, dtype=torch.int64))
        assert len(size) == num_views
        assert size.min() >= 1
        assert size.max() <= count
        assert torch.isfinite(sample[f"{prefix}_feat"]).all()


def test_view_errors():
    with pytest.raises(DataError, match=r"cellar: MultiViewGenerator needs \['origin_coord'\]"):
        T.MultiViewGenerator(view_keys=("coord", "origin_coord"))(room(5, name="cellar"))
    with pytest.raises(DataError, match="cellar: no points"):
        T.MultiViewGenerator(view_keys=("coord",))(room(0, name="cellar"))
    with pytest.raises(ConfigError, match="must contain 'coord'"):
        T.MultiViewGenerator(view_keys=("color",))
    with pytest.raises(ConfigError, match="global_view_num"):
        T.MultiViewGenerator(global_view_num=0)


def test_contrastive_views():
    generator = T.ContrastiveViewsGenerator(("coord",), [dict(type="RandomJitter")])
    sample = generator({"coord": np.zeros((5, 3), np.float32)})
    assert not np.array_equal(sample["view1_coord"], sample["view2_coord"])
    assert not sample["coord"].any()


def test_the_batch_that_pretraining_gets():
    np.random.seed(0)
    transform = T.Compose(recipe())
    batch = point_collate_fn([transform(room(seed=seed, name=f"room{seed}")) for seed in range(3)])
    assert batch["name"] == ["room0", "room1", "room2"]
    assert batch["grid_size"].shape == (3,)
    assert torch.allclose(batch["grid_size"].float(), torch.tensor(0.02))
    for prefix, num_views in (("global", 6), ("local", 12)):
        offset = batch[f"{prefix}_offset"]
        assert offset.dtype == torch.int64
        assert offset.shape == (num_views,)
        assert (offset.diff() > 0).all()
        total = int(offset[-1])
        assert batch[f"{prefix}_feat"].shape == (total, 9)
        assert batch[f"{prefix}_feat"].dtype == torch.float32
        feat = torch.cat([batch[f"{prefix}_coord"], batch[f"{prefix}_color"]], dim=1)
        assert torch.equal(batch[f"{prefix}_feat"][:, :6], feat)
        assert batch[f"{prefix}_origin_coord"].shape == (total, 3)
        color = batch[f"{prefix}_color"]
        assert 0 <= color.min() < color.max() <= 1
        for coord in torch.tensor_split(batch[f"{prefix}_coord"], offset[:-1]):
            assert coord[:, :2].mean(0).abs().max() < 1  # near the origin after CenterShift
            assert coord[:, 2].min() > -0.6


def test_seed_of_numpy_fixes_the_views():
    samples = []
    for _ in range(2):
        np.random.seed(7)
        samples.append(T.Compose(recipe())(room()))
    assert all(torch.equal(value, samples[1][key]) for key, value in samples[0].items() if torch.is_tensor(value))


def test_to_tensor_and_collect():
    arrays = {
        "coord": np.arange(6, dtype=np.float64).reshape(2, 3),
        "segment": np.int32([1, 2]),
        "mask": np.array([True, False]),
        "count": 3,
        "share": 0.5,
        "scalar": np.float32(2),
        "list": [np.zeros(2), 1],
        "name": "x",
    }
    locked = np.ones((2, 3), np.float32)
    locked.flags.writeable = False
    tensors = T.ToTensor()({**arrays, "locked": locked})
    kinds = {"coord": torch.float32, "segment": torch.int64, "mask": torch.bool, "count": torch.int64}
    assert {key: tensors[key].dtype for key in kinds} == kinds
    assert tensors["share"].tolist() == [0.5]
    assert tensors["scalar"].tolist() == [2.0]
    assert tensors["name"] == "x"
    assert tensors["list"][1].tolist() == [1]
    with pytest.raises(TypeError):
        T.ToTensor()({"a": object()})
    collected = T.Collect(keys="segment", feat_keys=("coord", "locked"))(tensors)
    assert collected["offset"].tolist() == [2]
    assert collected["feat"].shape == (2, 6)
    with pytest.raises(DataError, match="x: Collect needs 'grid_coord'"):
        T.Collect(keys=("grid_coord",))(tensors)
    with pytest.raises(ConfigError, match="feat_keys"):
        T.Collect(keys=(), feat_keys="coord")


def test_copy_and_update():
    scene = {"coord": np.zeros((2, 3)), "tensor": torch.zeros(2)}
    T.Copy({"coord": "origin_coord", "tensor": "kept"})(scene)
    scene["coord"] += 1
    assert not scene["origin_coord"].any()
    assert scene["kept"] is not scene["tensor"]
    assert T.Update({"grid_size": 0.02})(scene)["grid_size"] == 0.02
    with pytest.raises(DataError, match="Copy needs 'segment'"):
        T.Copy({"segment": "origin_segment"})(scene)


def test_instance_parser():
    scene = {
        "coord": np.float32([[0, 0, 0], [2, 0, 0], [5, 5, 5], [1, 1, 1], [9, 9, 9]]),
        "segment": np.int32([3, 3, 4, 0, -1]),
        "instance": np.int32([8, 8, 2, 1, 5]),
    }
    kept = scene["instance"].copy()
    result = T.InstanceParser(segment_ignore_index=(-1, 0, 1))(dict(scene))
    assert result["instance"].tolist() == [1, 1, 0, -1, -1]
    assert np.allclose(result["instance_centroid"], [[1, 0, 0], [1, 0, 0], [5, 5, 5], [-1] * 3, [-1] * 3])
    assert np.allclose(result["bbox"], [[5, 5, 5, 0, 0, 0, 0, 2], [1, 0, 0, 2, 0, 0, 0, 1]])
    assert np.array_equal(scene["instance"], kept)
    nothing = T.InstanceParser((3, 4, 0, -1))(dict(scene))
    assert nothing["bbox"].shape == (0, 8)
