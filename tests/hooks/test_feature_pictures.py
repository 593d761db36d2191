import random

import numpy as np
import pytest
import torch

from lam3c_plugin.embedded.structure import Point
from lam3c_plugin.errors import DataError
from lam3c_plugin.hooks import FeaturePictures
from lam3c_plugin.hooks.frozen_features import point_features
from lam3c_plugin.hooks.scenes import configured_grid_size, first_scenes, prepare_scene
from tests.hooks.fakes import Cfg, Rooms, Teacher, Trainer
from tests.rooms import box_room, sample_of


@pytest.fixture
def scene():
    sample = sample_of(box_room(4000, (3.0, 2.0, 2.4)))
    return {"coord": sample["coord"], "color": sample["color"]}


def make(tmp_path, room, **settings):
    hook = FeaturePictures(**{"size": (64, 48), **settings})
    return hook, Trainer(tmp_path, [hook], Teacher(), dataset=Rooms(room))


def test_draws_png_and_tensorboard_and_leaves_no_trace(tmp_path, scene):
    _, trainer = make(tmp_path, scene)
    trainer.model.train()
    trainer.model.teacher["backbone"].net[0].eval()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = (torch.rand(1), np.random.rand(), random.random())
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    trainer.call("before_train")
    assert (torch.rand(1), np.random.rand(), random.random()) == expected
    assert (tmp_path / "pictures/features_000000.png").read_bytes().startswith(b"\x89PNG")
    ((step, shape, layout),) = trainer.writer.images["pictures/features"]
    assert (step, layout) == (0, "HWC")
    assert shape == (18 + 10 + 2 * (14 + 10 + 48 + 16), 2 * 64 + 24, 3)  # title, and a named row of two views twice
    assert [m.training for m in trainer.model.teacher["backbone"].net] == [False, True]
    assert trainer.model.training


def test_the_same_weights_give_the_same_picture(tmp_path, scene):
    images = []
    for folder in ("a", "b"):
        hook, trainer = make(tmp_path / folder, scene)
        trainer.model.load_state_dict({k: torch.full_like(v, 0.1) for k, v in trainer.model.state_dict().items()})
        trainer.model.teacher["backbone"].net[0].weight.data[0, 0] = 1
        images.append(hook.draw().read_bytes())
    assert images[0] == images[1]


def test_when_it_draws(tmp_path, scene):
    hook, trainer = make(tmp_path, scene, interval=2, every_epochs=2, at_start=False)
    hook._image = lambda: np.zeros((4, 4, 3), np.uint8)
    trainer.call("before_train")
    for epoch in range(2):
        trainer.epoch = epoch
        for _ in range(3):
            trainer.scheduler.last_epoch += 1
            trainer.call("after_step")
        trainer.call("after_epoch")
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert drawn == [f"features_{step:06d}.png" for step in (2, 4, 6)]
    with pytest.raises(ValueError, match="interval"):
        FeaturePictures(interval=0)


def test_a_failure_is_a_warning_of_one_line(tmp_path, scene, caplog):
    _, trainer = make(tmp_path, scene)
    trainer.model.teacher["backbone"].fail = True
    trainer.model.train()
    trainer.call("before_train")
    assert "no picture of step 0: RuntimeError: out of memory" in caplog.text
    assert trainer.model.teacher["backbone"].training
    _, trainer = make(tmp_path, scene, scene=str(tmp_path / "nowhere"))
    trainer.call("before_train")
    assert "has no coord.npy" in caplog.text


def test_only_rank_0_draws(tmp_path, scene, monkeypatch):
    from lam3c_plugin.hooks import feature_pictures

    hook, _ = make(tmp_path, scene)
    monkeypatch.setattr(feature_pictures.comm, "is_main_process", lambda: False)
    assert hook.draw() is None
    assert not (tmp_path / "pictures").exists()


def test_a_scene_folder(tmp_path, scene):
    for key, value in scene.items():
        np.save(tmp_path / f"{key}.npy", value)
    hook, trainer = make(tmp_path / "run", scene, scene=str(tmp_path), level=0)
    trainer.train_loader = None
    assert hook.draw().is_file()


def test_the_first_readable_scene_of_a_concatenation(scene):
    rooms = Rooms(scene)
    concatenated = Cfg(datasets=[rooms])
    assert first_scenes(concatenated, 1) == [scene]
    assert rooms.asked == [0, 1]
    rooms.get_data = Rooms.get_data.__get__(rooms)
    with pytest.raises(DataError, match="no scene to draw"):
        first_scenes(type("Empty", (), {"__len__": lambda self: 0})(), 1)


def test_grid_size_of_the_transform():
    def cfg(transform):
        return Cfg(data=Cfg(train={"datasets": [{"transform": transform}]}))

    assert configured_grid_size(cfg([{"type": "GridSample", "grid_size": 0.04}])) == 0.04
    assert configured_grid_size(cfg([{"type": "Update", "keys_dict": {"grid_size": 0.03}}, {"type": "X"}])) == 0.03
    assert configured_grid_size(cfg(None)) == 0.02


def test_prepared_scene(scene):
    ready = prepare_scene(scene, 0.1, 10_000)
    coord = ready["coord"]
    cells = np.floor((scene["coord"] - scene["coord"].min(0)) / 0.1)
    assert len(coord) == len(np.unique(cells, axis=0))
    assert ready["feat"].shape == (len(coord), 9)
    assert ready["feat"].dtype == np.float32
    np.testing.assert_array_equal(ready["feat"][:, 6:], 0)  # the scene has no normals
    np.testing.assert_array_equal(ready["feat"][:, 3:6], ready["color"])
    assert ready["color"].max() <= 1
    np.testing.assert_allclose(coord.min(0) + coord.max(0), [0, 0, coord[:, 2].max()], atol=1e-5)
    assert coord[:, 2].min() == 0
    few = prepare_scene(scene, 0.1, 50)
    assert len(few["coord"]) == 50
    assert np.linalg.norm(few["coord"][:, :2], axis=1).max() < 1


def test_features_reach_every_point():
    parent = Point(feat=torch.arange(4.0)[:, None], coord=torch.zeros(4, 3), offset=torch.tensor([4]))
    child = Point(feat=torch.tensor([[10.0], [20.0]]), coord=torch.zeros(2, 3), offset=torch.tensor([2]))
    child["pooling_parent"], child["pooling_inverse"] = parent, torch.tensor([0, 0, 1, 1])
    up = point_features(Point(child), 1)
    assert up.tolist() == [[0, 10], [1, 10], [2, 20], [3, 20]]
    assert point_features(Point(child), 0).tolist() == [[10], [10], [20], [20]]
