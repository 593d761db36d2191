"""Every format of checkpoint, loaded by the host's own loader and by ours, gives the features of our encoder."""

import copy
import importlib.util

import numpy as np
import pytest
import torch

from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.embedded.ptv3 import PointTransformerV3
from lam3c_plugin.host import build_model
from lam3c_plugin.zoo.publish import write
from tests.pointcept import hosts
from tests.pointcept.test_parity import BACKBONE, GRID, make_view

CHANGES = {key: value for key, value in BACKBONE.items() if key not in ("type", "mask_token")}
#: what a user of the host would write, by format
STUDENT = dict(type="CheckpointLoader", keywords="module.student.backbone", replacement="module.backbone")
BARE = dict(type="CheckpointLoader", keywords="module", replacement="module.backbone")
OWN = dict(type="CheckpointLoader")
EASY = dict(type="EncoderLoader")


def batch(seed=3, points=2500):
    rng = np.random.default_rng(seed)
    coord = torch.from_numpy(make_view(rng, points))
    feat = torch.cat([coord, torch.from_numpy(rng.uniform(0, 1, (len(coord), 6)).astype(np.float32))], 1)
    return dict(coord=coord, feat=feat, offset=torch.tensor([len(coord)]), grid_size=GRID)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint of every format, made of one another by `checkpoints.convert.write`, and the weights in them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    config = {key: value for key, value in BACKBONE.items() if key != "type"}
    torch.manual_seed(0)
    state = {
        key: value + 0.02 * torch.randn_like(value) for key, value in PointTransformerV3(**config).state_dict().items()
    }
    torch.save({"config": config, "state_dict": state}, folder / "inference.pth")
    weights = read(folder / "inference.pth")
    width = sum(BACKBONE["enc_channels"])
    weights.head = {"seg_head.weight": torch.randn(20, width), "seg_head.bias": torch.randn(20)}
    weights.head_config = {"backbone_out_channels": width, "num_classes": 20}
    made = {"inference": folder / "inference.pth"}
    for layout, name in (("training", "run.pth"), ("segmentor", "tuned.pth"), ("backbone", "zoo.pth")):
        made[layout] = folder / name
        write(weights, made[layout], layout)
    plain = torch.load(made["training"], weights_only=True)
    plain["state_dict"] = {key.removeprefix("module."): value for key, value in plain["state_dict"].items()}
    made["plain"] = folder / "plain.pth"
    torch.save(plain, made["plain"])
    if importlib.util.find_spec("safetensors"):
        made["safetensors"], made["folder"] = folder / "a.safetensors", folder / "hub"
        write(read(made["training"], config=weights.backbone_config), made["safetensors"], "safetensors")
        write(read(made["segmentor"], config=weights.backbone_config), made["folder"], "folder")
    return made, state


def test_features_of_every_format_in_the_host(host, tmp_path, files):
    made, state = files
    tasks = [("host " + name, STUDENT, made[name]) for name in ("training", "plain")]
    tasks += [("host segmentor", OWN, made["segmentor"])]
    tasks += [("host " + name, BARE, made[name]) for name in ("inference", "backbone")]
    tasks += [(name, EASY, path) for name, path in made.items()]
    view, width = batch(), sum(BACKBONE["enc_channels"])
    content = {"tasks": [(name, hook, str(path)) for name, hook, path in tasks], "backbone": CHANGES, "batch": view}
    content["model"] = {"backbone_out_channels": width, "num_classes": 20}
    theirs = run_loads(host, "semseg-lam3c-v1m1-0a-scannet-lin", content, tmp_path)
    ours = our_features(state, view)
    assert set(theirs) == {name for name, _, _ in tasks}
    assert all(float(feat.std(0).mean()) > 0.01 for feat in ours)  # they tell points apart
    for name, found in theirs.items():
        assert len(found) == len(ours) == 5
        for level, (feat, wanted) in enumerate(zip(found, ours, strict=True)):
            difference = float((feat - wanted).abs().max())
            assert difference < 1e-4, f"{name}, level {level}: {difference}"


def test_pretraining_starts_from_every_format(host, tmp_path, files):
    made, state = files
    view = batch()
    tasks = [(name, dict(type="WeightLoader"), str(path)) for name, path in made.items()]
    content = {"tasks": tasks, "backbone": CHANGES, "batch": view}
    head = dict(type="SinkhornHead", in_channels=112, hidden_channels=32, embed_channels=16, num_prototypes=32)
    content["model"] = {"head": head}
    theirs = run_loads(host, "pretrain-lam3c-v1m1-0-base", content, tmp_path)
    ours = our_features(state, view)
    assert set(theirs) == set(made)
    for name, found in theirs.items():
        assert max(float((a - b).abs().max()) for a, b in zip(found, ours, strict=True)) < 1e-4, name


def our_features(state, view):
    """Features of every stage by the embedded engine, coarsest first."""
    model = build_model({**BACKBONE, "grid_origin": "batch"}).train()
    model.load_state_dict(state)
    with torch.no_grad():
        point = model(copy.deepcopy(view))
    found = [point.feat]
    while "pooling_parent" in point:
        point = point.pooling_parent
        found.append(point.feat)
    return found


def run_loads(host, config, content, folder):
    torch.save(content, folder / "in.pt")
    script = hosts.HARNESS.parent / "host_load.py"
    command = [host.python, script, host.root / f"configs/lam3c/{config}.py", folder / "in.pt", folder / "out.pt"]
    hosts.run(command, host.root, PYTHONPATH=str(host.root))
    return torch.load(folder / "out.pt", weights_only=False)
