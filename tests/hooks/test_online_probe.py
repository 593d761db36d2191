import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lam3c_plugin.embedded.structure import Point
from lam3c_plugin.embedded.train import main as train
from lam3c_plugin.errors import ConfigError, DataError
from lam3c_plugin.hooks import OnlineProbe
from lam3c_plugin.hooks.online_probe import hook as online_probe
from lam3c_plugin.hooks.online_probe.settings import TimeBudget
from lam3c_plugin.hooks.scenes import other_view, prepare_scene
from tests import rooms
from tests.hooks.fakes import Cfg, Rooms, Trainer

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = {"interval": 1, "every_epochs": 0, "max_share": 1.0}
LABELLED = ["linear_miou", "linear_accuracy", "knn_miou", "knn_accuracy"]
UNLABELLED = ["effective_rank", "view_agreement", "knn_consistency"]


def room(seed: int) -> dict[str, np.ndarray]:
    """Three classes whose colours tell them apart; a tenth of the points has no label."""
    return rooms.box_room(seed=seed, unlabelled=0.1).arrays()


def put_rooms(root: Path, splits: dict[str, int], labels: str = "segment") -> Path:
    return rooms.put_rooms(root, splits, (labels,), unlabelled=0.1)


class Encoder(nn.Module):
    """Pools neighbours in the list by halves; batch normalisation and dropout, which only eval mode keeps still."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, width), nn.BatchNorm1d(width), nn.Dropout(0.5))
        self.fail = False

    def forward(self, point):
        if self.fail:
            raise RuntimeError("out of\nmemory")
        torch.rand(3), np.random.rand()  # as the host's pooling does in eval mode, too
        point = Point(coord=point["coord"], feat=self.net(point["feat"]), offset=point["offset"])
        inverse = torch.arange(len(point.feat)) // 2
        child = Point(coord=point.coord[::2], feat=point.feat[::2], offset=(point.offset + 1) // 2)
        child["pooling_parent"], child["pooling_inverse"] = point, inverse
        return child


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = nn.ModuleDict({"backbone": Encoder()})
        self.teacher = nn.ModuleDict({"backbone": Encoder()})

    def forward(self, batch):
        point = self.student["backbone"](dict(batch))
        return {"loss": (point["feat"] ** 2).mean() + np.random.rand()}


def batches(count: int):
    """Batches that themselves draw from a global generator."""
    for _ in range(count):
        coord = torch.rand(40, 3)
        yield {"coord": coord, "feat": torch.randn(40, 9), "offset": torch.tensor([40]), "name": ["room"]}


def make(tmp_path, model=None, **settings):
    torch.manual_seed(0)  # of the model's weights
    hook = OnlineProbe(**{**ALWAYS, "train_points": 200, "val_points": 200, **settings})
    data = Rooms(room(7))
    data.get_data = lambda index: room(index)
    trainer = Trainer(tmp_path / "run", [hook], model or Model(), dataset=data)
    trainer.cfg.data.train["data_root"] = str(tmp_path / "nothing")
    return hook, trainer


def seed_all():
    torch.manual_seed(3), np.random.seed(3)


def test_probes_with_labels(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = put_rooms(tmp_path / "data", {"train": 3, "val": 2})
    hook, trainer = make(tmp_path, data_root=str(root), train_scenes=2)
    trainer.run(batches(2))
    assert [len(hook.scenes.train), len(hook.scenes.val), hook.scenes.classes] == [2, 2, 3]
    assert all(len(item.label) == 200 and item.label.min() >= 0 for item in hook.scenes.train)
    assert all(set(item.scene) == {"coord", "feat", "grid_size"} for item in hook.scenes.train)  # 12 + 36 bytes a point
    assert [record["step"] for record in hook.history] == [1, 2]
    for name in LABELLED:
        assert [step for step, _ in trainer.writer.scalars[f"probe/{name}"]] == [1, 2]
        # colours are input channels: even random features tell these classes apart
        assert 0.9 < trainer.storage.values[f"probe/{name}"] <= 1
    assert "2 train scenes (400 labels), 2 val scenes (400 labels), read in" in caplog.text
    assert re.search(
        r"Probe: \[step 2\] linear_miou: \S+ linear_accuracy: .* knn_miou: .*% of the run so far", caplog.text
    )


def test_labels_that_mean_nothing_are_not_found(tmp_path):
    """The scores are those of the labels: shuffled among the points they are at chance."""
    root = put_rooms(tmp_path / "data", {"train": 2, "val": 2})
    for file in root.glob("*/*/segment.npy"):
        np.save(file, np.random.default_rng(0).permutation(np.load(file)))
    hook, trainer = make(tmp_path, data_root=str(root))
    trainer.call("before_train")
    values = hook.probe()
    assert 0.2 < values["linear_accuracy"] < 0.5
    assert 0.2 < values["knn_accuracy"] < 0.5


def test_probes_without_labels(tmp_path):
    hook, trainer = make(tmp_path, val_scenes=3, max_points=500)
    trainer.run(batches(1))
    kept = [
        value.nbytes
        for pair in hook.scenes.pairs
        for view in pair[:2]
        for value in view.values()
        if hasattr(value, "nbytes")
    ]
    assert 0 < sum(kept) <= 3 * 500 * 104
    (record,) = hook.history
    assert list(record) == ["step", *UNLABELLED, "seconds", "share"]
    assert str(hook.scenes) == "no labels, 3 scenes of the training set"
    assert 1 < record["effective_rank"] <= 12
    assert 0 < record["knn_consistency"] < 1
    assert 0.1 < record["view_agreement"] < 1
    trainer.cfg.data.train["data_root"] = str(put_rooms(tmp_path / "held", {"val": 2}))
    trainer.call("before_train")
    assert str(hook.scenes) == "no labels, 2 held-out scenes"


@pytest.mark.parametrize("part", ["teacher", "student"])
def test_a_run_is_the_same_with_it(tmp_path, part):
    """Losses, weights, statistics, gradients, modes and generators, with both kinds of probe and without."""
    root = put_rooms(tmp_path / "data", {"train": 1, "val": 2})
    results = []
    for settings in ({"every_epochs": 0, "interval": None}, {"data_root": str(root)}, {"data_root": None}):
        hook, trainer = make(tmp_path, part=part, **settings)
        seed_all()
        trainer.model.train()
        trainer.model.teacher.eval()
        losses = []
        trainer.call("before_train")
        for batch in batches(4):
            trainer.run([batch], start=False)
            losses.append(trainer.comm_info["model_output_dict"]["loss"].item())
        state = [value.clone() for value in trainer.model.state_dict().values()]
        state += [p.grad.clone() for p in trainer.model.student.parameters()]
        modes = [item.training for item in trainer.model.modules()]
        results.append((losses, modes, torch.rand(1).item(), np.random.rand(), state, len(hook.history)))
    plain, *probed = results
    assert [result[-1] for result in results] == [0, 4, 4]
    for result in probed:
        assert result[:4] == plain[:4]
        assert all(torch.equal(a, b) for a, b in zip(result[4], plain[4], strict=True))


RUN = """
_base_ = ["{root}/configs/lam3c/pretrain-lam3c-v1m1-2-tiny.py"]
from lam3c_plugin.recipes.pretrain import layerwise_learning_rates, view_transforms
max_steps, device, num_threads, num_worker = 3, "cpu", 1, 0
param_dicts = layerwise_learning_rates((1, 1, 1, 1, 1), 0.002)
scheduler = dict(max_lr=[0.002] + [group["lr"] for group in param_dicts])
model = dict(
    backbone=dict(
        enc_channels=(8, 8, 8, 16, 16), enc_num_head=(1, 1, 1, 2, 2), enc_depths=(1, 1, 1, 1, 1),
        drop_path=0.3, enc_patch_size=(64, 64, 64, 64, 64),
    ),
    head=dict(in_channels=40, hidden_channels=16, embed_channels=16, num_prototypes=16),
)
data = dict(train=dict(data_root="{data}", transform=view_transforms(0.15, max_size=300)))
del layerwise_learning_rates, view_transforms
"""


def flat(value, where=""):
    """Leaves of a checkpoint by their path."""
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, item in items for key, leaf in flat(item, f"{where}/{name}").items()}
    return {where: value}


def test_a_run_of_the_engine_is_the_same_with_it(tmp_path):
    """Everything in the checkpoint: weights, optimiser, random states; and the losses in the log."""
    root = put_rooms(tmp_path / "data", {"train": 4, "val": 1})
    config = tmp_path / "config.py"
    config.write_text(RUN.format(root=ROOT, data=root))
    found = []
    for name, options in {
        "off": ["probe.every_epochs=0"],
        "teacher": [f"probe.data_root={root}", "probe.interval=1", "probe.max_share=1"],
        "student": ["probe.part=student", "probe.interval=1", "probe.max_share=1"],
    }.items():
        run = tmp_path / name
        assert train(["--config-file", str(config), "--options", f"save_path={run}", *options]) == 0
        log = (run / "train.log").read_text()
        assert len(re.findall(r"Probe: \[step \d\] ", log)) == (0 if name == "off" else 3)
        losses = re.findall(r" (?:mask_|unmask_|laplacian_)?loss: \S+", log)
        found.append((losses, flat(torch.load(run / "model/model_last.pth", weights_only=True))))
    (losses, plain), *probed = found
    assert len(losses) >= 9
    for other, state in probed:
        assert other == losses
        assert state.keys() == plain.keys()
        different = [
            k for k, v in state.items() if not (torch.equal(v, plain[k]) if torch.is_tensor(v) else v == plain[k])
        ]
        assert different == []


def test_stays_under_its_share(tmp_path, monkeypatch, caplog):
    """A clock of its own: a step takes 1 s, a probe 4 s, a scene's trial 0.6 s; 10 % of the time."""
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr(online_probe, "TimeBudget", lambda share: TimeBudget(share, clock=lambda: now[0]))
    hook, trainer = make(tmp_path, max_share=0.1, interval=5, data_root=None)
    trainer.call("before_train")

    def encode(scene):
        now[0] += 0.6
        return torch.zeros(1)

    def measure(features, device):
        now[0] += 4
        return {"effective_rank": 1.0}

    hook._features, hook.scenes.measure = encode, measure
    for number, batch in enumerate(batches(120)):
        now[0] += 1
        trainer.scheduler.last_epoch = number
        trainer.run([batch], start=False)
        assert hook.budget.share <= 0.1
        assert (hook.budget.cost is None) == (number < 9)  # one scene's time is looked at after 10 steps
    # due at step 5, where it would have been most of the run; then whenever it fits in, not at every fifth step
    assert [record["step"] for record in hook.history] == [46, 87]
    assert "the probe due at step 5 waits about 36 s: it may take 4.5 s, and 0.6 of the run's 11 s" in caplog.text
    assert "the probe due at step 50 waits about 36 s: it may take 5.0 s, and 4.6 of the run's 55 s" in caplog.text
    trainer.call("after_train")
    assert "2 probes in 8.6 s, 6.69% of the run's 129 s; the last one due found no time" in caplog.text


def test_when_it_is_due(tmp_path):
    hook, trainer = make(tmp_path, interval=4, every_epochs=2, val_scenes=1)
    hook.probe = lambda: hook.history.append(trainer.scheduler.last_epoch)
    trainer.call("before_train")
    for epoch in range(4):
        trainer.epoch = epoch
        for _ in range(3):
            trainer.scheduler.last_epoch += 1
            trainer.call("after_step")
            trainer.call("after_step")  # a further micro-batch of the next step
        trainer.call("after_epoch")
    assert hook.history == [4, 6, 8, 12]


def test_a_failure_is_a_warning_and_training_goes_on(tmp_path, caplog):
    hook, trainer = make(tmp_path)
    trainer.call("before_train")
    trainer.model.teacher["backbone"].fail = True
    trainer.model.train()
    trainer.run(batches(2), start=False)
    assert "no probe at step 1: RuntimeError: out of memory" in caplog.text
    assert hook.history == []
    assert all(item.training for item in trainer.model.modules())
    trainer.model.teacher["backbone"].fail = False
    trainer.model.teacher["backbone"].net[0].weight.data.fill_(float("nan"))
    assert hook.probe() is None
    assert "features are not finite" in caplog.text


def test_wrong_folders_end_before_training(tmp_path):
    def message(error=DataError, **settings):
        with pytest.raises(error) as caught:
            make(tmp_path, **settings)[1].call("before_train")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert f"data_root={tmp_path / 'none'}: is not a folder" in message(data_root=str(tmp_path / "none"))
    (tmp_path / "empty/train").mkdir(parents=True), (tmp_path / "empty/val").mkdir()
    assert "0 training and 0 validation scenes" in message(data_root=str(tmp_path / "empty"))
    odd = put_rooms(tmp_path / "odd", {"train": 1, "val": 1}, "segment200")
    assert "no segment.npy and no segment20.npy; set probe.labels=segment200" in message(data_root=str(odd))
    root = put_rooms(tmp_path / "short", {"train": 1, "val": 1})
    np.save(root / "val/room0/segment.npy", np.zeros(3, np.int16))
    assert "val/room0" in message(data_root=str(root))
    np.save(root / "val/room0/segment.npy", np.full(1500, -1, np.int16))
    assert "the 1 validation scenes have no labelled point" in message(data_root=str(root))
    np.save(root / "val/room0/segment.npy", np.full(1500, 65535 // 2, np.int16))
    assert "set probe.ignore=[32767]" in message(data_root=str(root))
    labels = put_rooms(tmp_path / "scannet", {"train": 1, "val": 1}, "segment20")
    assert "has neither teacher.backbone nor a backbone" in message(
        ConfigError, model=nn.Linear(2, 2), data_root=str(labels)
    )
    hook, trainer = make(tmp_path, data_root=str(labels), ignore=[2])
    trainer.call("before_train")  # ScanNet's name of the file, without being told
    assert hook.scenes.classes == 2


def test_without_labels_nothing_is_refused(tmp_path, caplog):
    hook, trainer = make(tmp_path, model=nn.Linear(2, 2))
    trainer.call("before_train")
    assert "OnlineProbe is off: Linear has neither teacher.backbone nor a backbone" in caplog.text
    trainer.call("after_step"), trainer.call("after_epoch"), trainer.call("after_train")
    assert hook.scenes is None


def test_settings(tmp_path):
    hook, trainer = make(tmp_path)
    trainer.cfg.probe = Cfg(interval=7).__dict__
    trainer.call("before_train")
    assert hook.settings.interval == 7
    for wrong, words in (
        ({"intervall": 5}, "no setting 'intervall'; did you mean 'interval'"),
        ({"interval": 0}, "interval=0 must be a whole number of at least 1"),
        ({"max_share": 2}, "max_share=2 must be in"),
        ({"part": "head"}, "part='head' must be teacher or student"),
        ({"grid_size": 0.0}, "grid_size=0.0 must be metres"),
        ({"every_epochs": -1}, "every_epochs=-1"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            OnlineProbe(**wrong)
    trainer.cfg.probe = 5
    with pytest.raises(ConfigError, match="probe=5 must be a dict"):
        trainer.call("before_train")
    trainer.cfg.probe = {"max_shar": 1}
    with pytest.raises(ConfigError, match="did you mean 'max_share'"):
        trainer.call("before_train")


def test_the_other_view_shows_the_same_points():
    scene = prepare_scene(room(0), 0.05, 400)
    view = other_view(scene, np.random.default_rng(4))
    assert len(view["inverse"]) == 400
    cells = np.floor((view["coord"] - view["coord"].min(0)) / 0.05)
    assert len(np.unique(cells, axis=0)) > 0.9 * len(cells)  # float32 moves a point across a border now and then
    seen, had = view["coord"][view["inverse"]].astype(float), scene["coord"].astype(float)
    ratio = np.linalg.norm(seen[1:] - seen[0], axis=1) / np.linalg.norm(had[1:] - had[0], axis=1).clip(0.3)
    far = np.linalg.norm(had[1:] - had[0], axis=1) > 1
    assert 0.8 < ratio[far].min() <= ratio[far].max() < 1.2
    turned = np.linalg.norm(view["feat"][:, 6:], axis=1)
    np.testing.assert_allclose(turned, 1, atol=1e-5)
    assert np.abs(seen - had).max() > 0.3
