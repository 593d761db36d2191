"""Every config file: it loads, says what it relies on, builds its model on the meta device, and names what it is."""

from __future__ import annotations

import inspect
import re
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lam3c_plugin.embedded.optimizer import build_optimizer
from lam3c_plugin.embedded.scheduler import build_scheduler
from lam3c_plugin.host import DATASETS, HOOKS, MODELS, Config, build_model

FOLDER = Path(__file__).resolve().parents[2] / "configs/lam3c"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
HOST_ONLY = ("insseg-", "pretrain-sonata", "pretrain-msc", "semseg-lam3c-v1m1-0d-scannet-ppt")
HERE = [name for name in NAMES if not name.startswith(HOST_ONLY)]
VARIANT = r"(-\d+ep|-l[ar]\d+(-large)?)$"  # another schedule, fewer labels: the same model
BUILT = [name for name in HERE if not re.search(VARIANT, name)]
ENCODER = {"base": (48, 96, 192, 384, 512), "large": (64, 128, 256, 512, 768), "tiny": (24, 48, 64, 96, 128)}
# what the engines would otherwise fill in, each in its own way
KEYS = re.findall(
    r"\w+",
    """
    weight resume evaluate test_only seed save_path num_worker batch_size batch_size_val batch_size_test
    gradient_accumulation_steps epoch eval_epoch clip_grad sync_bn enable_amp amp_dtype empty_cache
    empty_cache_per_epoch find_unused_parameters mix_prob enable_wandb wandb_project wandb_key train test model
    optimizer scheduler param_dicts data hooks custom_imports
    """,
)

_cache: dict[str, Config] = {}


def load(name: str) -> Config:
    if name not in _cache:
        _cache[name] = Config.fromfile(FOLDER / f"{name}.py")
    return _cache[name]


def size_of(name: str) -> str:
    return "tiny" if "tiny" in name else "large" if "large" in name else "base"


def steps_of(transforms, kind):
    return [step for step in transforms if step["type"] == kind]


@pytest.mark.parametrize("name", NAMES)
def test_states_what_it_relies_on(name):
    cfg = load(name)
    assert [key for key in KEYS if key not in cfg] == []
    assert cfg.enable_wandb is False
    assert cfg.epoch % cfg.eval_epoch == 0
    assert cfg.custom_imports.imports == ["lam3c_plugin"]
    assert cfg.custom_imports.allow_failed_imports is False
    groups = len(cfg.param_dicts) + 1
    assert len(cfg.scheduler.max_lr) == groups
    assert cfg.scheduler.max_lr[0] == cfg.optimizer.lr
    assert [group.lr for group in cfg.param_dicts] == list(cfg.scheduler.max_lr[1:])


@pytest.mark.parametrize("name", NAMES)
def test_dumps_and_loads_again(name, tmp_path):
    cfg = load(name)
    cfg.dump(tmp_path / "config.py")
    assert Config.fromfile(tmp_path / "config.py").to_dict() == cfg.to_dict()


def test_files_are_thin():
    """One base a task and dataset, variants of a few lines."""
    for name in NAMES:
        if "pretrain-sonata" in name or "msc" in name or "ppt" in name:
            continue  # models of the host, with arguments of their own
        lines = (FOLDER / f"{name}.py").read_text().count("\n")
        assert lines <= 60, name


@pytest.mark.parametrize("name", BUILT)
def test_model_builds_and_has_its_channels(name):
    """Shapes, and what is trained: a linear probe's head; head and decoder; or everything."""
    cfg = load(name)
    with torch.device("meta"):
        model = build_model(cfg.model)
    channels = ENCODER[size_of(name)]
    if name.startswith("pretrain"):
        assert tuple(cfg.model.backbone.enc_channels) == channels
        assert cfg.model.head.in_channels == sum(channels[2:])
        return
    widths = [getattr(model.backbone.enc, f"enc{stage}")[-1].norm1[0].weight.shape[0] for stage in range(5)]
    assert tuple(widths) == channels
    decoder = not cfg.model.backbone.enc_mode
    assert model.seg_head.in_features == (cfg.model.backbone.dec_channels[0] if decoder else sum(channels))
    assert model.seg_head.out_features == cfg.data.num_classes == len(cfg.data.names)
    assert hasattr(model.backbone, "dec") == decoder

    parts = {".".join(key.split(".")[:2]) for key, tensor in model.named_parameters() if tensor.requires_grad}
    head = {"seg_head.weight", "seg_head.bias"}
    if re.search(r"-lin\b", name):
        assert parts == head
    elif re.search(r"-dec\b", name):
        assert parts == head | {"backbone.dec"}
    else:
        assert parts == head | {"backbone.embedding", "backbone.enc", "backbone.dec"}


@pytest.mark.parametrize("name", [name for name in NAMES if re.search(VARIANT, name)])
def test_variants_share_their_model(name):
    parent = re.sub(r"-\d+ep$", "", name)
    parent = re.sub(r"-0e\d-scannet-ft-l[ar]\d+", "-0c-scannet-ft", parent)
    cfg = load(name)
    assert parent != name
    changed = {key for key in cfg.keys() if cfg[key] != load(parent).get(key)}  # noqa: SIM118 - a Config is no dict
    assert changed == ({"epoch"} if name.endswith("ep") else {"data"})


@pytest.mark.parametrize(
    "name", [name for name in BUILT if name.endswith(("lin", "ft", "scratch", "0-base", "1-large"))]
)
def test_optimiser_groups(name):
    """Blocks have rates of their own, every trained tensor is in one group, and the schedule fits the groups."""
    cfg = load(name)
    with torch.device("meta"):
        model = build_model(cfg.model)
    optimizer = build_optimizer(cfg.optimizer, model, cfg.param_dicts)
    held = [id(tensor) for group in optimizer.param_groups for tensor in group["params"]]
    wanted = [id(tensor) for tensor in model.parameters() if tensor.requires_grad]
    assert sorted(held) == sorted(wanted)
    build_scheduler({**cfg.scheduler, "total_steps": 100}, optimizer)
    if name.startswith("pretrain"):
        depth = sum(cfg.model.backbone.enc_depths)
        assert len(optimizer.param_groups) == depth + 1
        assert all(group["params"] for group in optimizer.param_groups)
        rates = [group.lr for group in cfg.param_dicts]
        assert rates == pytest.approx([cfg.optimizer.lr * 0.9 ** (depth - 1 - block) for block in range(depth)])
    elif not cfg.model.freeze_backbone:
        names = {id(tensor): parameter for parameter, tensor in model.named_parameters()}
        assert all("block" in names[id(tensor)] for tensor in optimizer.param_groups[1]["params"])
        assert not any("block" in names[id(tensor)] for tensor in optimizer.param_groups[0]["params"])


@pytest.mark.parametrize("name", HERE)
def test_types_are_registered(name):
    cfg = load(name)
    assert [hook.type for hook in cfg.hooks if hook.type not in HOOKS] == []
    assert [part for part in ("train", "val", "test") if part in cfg.data and cfg.data[part].type not in DATASETS] == []
    assert cfg.model.type in MODELS


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("semseg", "insseg"))])
def test_input_convention(name):
    """Nine channels: coordinates after CenterShift, colours / 255, normals; the grid of pre-training."""
    cfg = load(name)
    grid = 0.04 if "tiny" in name else 0.02
    assert cfg.model.backbone.in_channels == 9
    sets = cfg.data.train.get("datasets") or [cfg.data.train]
    for data in [*sets, cfg.data.val]:
        kinds = [step["type"] for step in data.transform]
        assert data.transform[0] == {"type": "CenterShift", "apply_z": True}
        last_shift = len(kinds) - 1 - kinds[::-1].index("CenterShift")
        assert kinds[last_shift + 1] == "NormalizeColor"
        assert tuple(steps_of(data.transform, "Collect")[0]["feat_keys"]) == ("coord", "color", "normal")
        assert steps_of(data.transform, "GridSample")[0]["grid_size"] == grid
    assert cfg.hooks[0].type == "EncoderLoader"


def test_schedules_and_sizes_of_names():
    for name in NAMES:
        cfg = load(name)
        long = re.search(r"-(\d+)ep$", name)
        if name.startswith(("semseg", "insseg")) and "tiny" not in name:
            assert cfg.eval_epoch == 100, name
            assert cfg.epoch == (int(long.group(1)) if long else 100), name
            assert tuple(cfg.model.backbone.enc_channels) == ENCODER[size_of(name)], name
            assert cfg.data.train.get("data_root", "data/scannet").startswith("data/"), name


def test_few_labels():
    for index, points in enumerate((20, 50, 100, 200)):
        cfg = load(f"semseg-lam3c-v1m1-0e{index}-scannet-ft-la{points}")
        assert cfg.data.train.la_file == f"data/scannet/tasks/points/points{points}"
    for index, share in enumerate((1, 5, 10, 20), start=4):
        cfg = load(f"semseg-lam3c-v1m1-0e{index}-scannet-ft-lr{share}-large")
        assert cfg.data.train.lr_file == f"data/scannet/tasks/scenes/{share}.txt"
        assert "lr_file" not in cfg.data.val


def test_table_is_complete():
    """Dataset x protocol x size, as the paper's tables have them."""
    for number, data in enumerate(("scannet", "scannet200", "scannetpp", "s3dis")):
        for letter, protocol in (("a", "lin"), ("b", "dec"), ("c", "ft")):
            for size in ("", "-large"):
                assert f"semseg-lam3c-v1m1-{number}{letter}-{data}-{protocol}{size}" in NAMES
                if protocol != "dec":
                    assert f"insseg-lam3c-v1m1-{number}{letter}-{data}-pg-{protocol}{size}" in NAMES
        assert f"semseg-pt-v3m2-{number}-{data}-scratch" in NAMES


def test_instances_know_what_is_stuff():
    for name in (name for name in NAMES if name.startswith("insseg")):
        cfg = load(name)
        stuff = tuple(cfg.model.segment_ignore_index)
        assert stuff[0] == -1
        assert cfg.model.semantic_num_classes == cfg.data.num_classes == len(cfg.data.names)
        parsers = [steps_of(cfg.data[part].transform, "InstanceParser")[0] for part in ("train", "val", "test")]
        assert {tuple(parser["segment_ignore_index"]) for parser in parsers} == {stuff}
        assert tuple(cfg.test.segment_ignore_index) == tuple(cfg.hooks[3].segment_ignore_index) == stuff


def test_one_small_gpu_keeps_the_recipe():
    base, small = load("pretrain-lam3c-v1m1-0-base"), load("pretrain-lam3c-v1m1-7-24gb")
    assert small.batch_size * small.gradient_accumulation_steps == base.batch_size
    views = [steps_of(cfg.data.train.transform, "MultiViewGenerator")[0] for cfg in (base, small)]
    assert views[1]["max_size"] < views[0]["max_size"]
    changed = {key for key in base.keys() if base[key] != small.get(key)}  # noqa: SIM118 - a Config is no dict
    assert changed == {"batch_size", "gradient_accumulation_steps", "num_worker", "data"}


def test_sonata_baseline_differs_by_its_model():
    ours, sonata = load("pretrain-lam3c-v1m1-3-clustering-only"), load("pretrain-sonata-v1m1-roomtours")
    changed = {key for key in ours.keys() if ours[key] != sonata.get(key)}  # noqa: SIM118
    assert changed == {"model", "hooks"}
    assert sonata.model.backbone == ours.model.backbone
    assert sonata.model.match_max_r == ours.model.match_max_r
    assert ours.model.consistency_weight == ours.model.laplacian_weight_base == 0


def test_synthetic_classes_are_the_generator_s():
    from data_tools.synthetic.rooms.palette import CLASSES
    from lam3c_plugin.labels import SYNTHETIC_24

    assert tuple(SYNTHETIC_24) == CLASSES


def test_old_pointcept_is_refused_in_one_line(monkeypatch):
    """v1.6.0 has neither PG-v1m2 nor accumulation: the configs say so when they are read."""
    import lam3c_plugin.host as host
    from lam3c_plugin.errors import ConfigError

    monkeypatch.setattr(host, "ENGINE", "pointcept")
    module = types.ModuleType("old_host")
    monkeypatch.setitem(sys.modules, "old_host", module)
    trainer = type("Trainer", (), {"__module__": "old_host"})
    monkeypatch.setattr(host, "TRAINERS", SimpleNamespace(get=lambda name: trainer))
    monkeypatch.setattr(inspect, "getsource", lambda module: "class Trainer: ...")
    with pytest.raises(ConfigError, match=r"gradient accumulation needs Pointcept v1\.6\.1 or newer"):
        Config.fromfile(FOLDER / "pretrain-lam3c-v1m1-7-24gb.py")
    with pytest.raises(ConfigError, match=r"instance segmentation needs Pointcept v1\.6\.1 or newer"):
        Config.fromfile(FOLDER / "insseg-lam3c-v1m1-0a-scannet-pg-lin.py")
