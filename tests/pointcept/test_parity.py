"""The same weights, input and masks give the same losses, gradients and features on both engines."""

import copy

import numpy as np
import pytest
import torch

from lam3c_plugin.host import build_model
from tests.pointcept import hosts

GRID = 0.02
BACKBONE = dict(
    type="PT-v3m2",
    in_channels=9,
    order=("z", "z-trans", "hilbert", "hilbert-trans"),
    stride=(2, 2, 2, 2),
    enc_depths=(2, 2, 2, 2, 2),
    enc_channels=(16, 16, 32, 32, 48),
    enc_num_head=(1, 1, 2, 2, 3),
    enc_patch_size=(128, 64, 32, 16, 4),  # below every view's size in every stage
    drop_path=0.0,
    shuffle_orders=False,
    enable_flash=False,
    traceable=True,
    enc_mode=True,
    mask_token=True,
)
MODEL = dict(
    type="LAM3C-v1m1",
    backbone=BACKBONE,
    head=dict(type="SinkhornHead", in_channels=112, hidden_channels=64, embed_channels=16, num_prototypes=32),
    mask_jitter=None,  # jitter would put two points into one cell
    laplacian_loss=dict(type="LaplacianSmoothingLoss", k=12, max_distance=0.3),
    laplacian_weight_start=0.05,
    laplacian_weight_base=0.05,
)


def surface_cells(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N, 3) distinct cells on a floor and two walls, with (0, 0, 0) among them."""
    side = 90
    first, second = np.divmod(np.arange(side * side), side)
    zero = np.zeros_like(first)
    cells = np.concatenate([np.stack(axes, 1) for axes in ((first, second, zero), (zero, first, second + 1))])
    cells = np.concatenate([cells, np.stack((first + 1, zero, second + 1), 1)])
    # a ball of them: neighbours have to be there for the convolution to matter
    near = np.argsort(((cells - 0.3 * side) ** 2).sum(1) + rng.uniform(0, 1, len(cells)))[: count - 1]
    return np.concatenate([[[0, 0, 0]], cells[near[(cells[near] != 0).any(1)]]])


def make_view(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N, 3) coordinates in metres, one point a cell also after `trunc((coord - min) / grid)` in float32."""
    cells = surface_cells(rng, count)
    inside = rng.uniform(0.3, 0.7, cells.shape)
    inside[0] = 0.3  # so the lowest coordinate of the batch lies at 0.3 of a cell
    return ((cells + inside) * GRID).astype(np.float32)


def make_batch(seed: int = 0, scenes: int = 2) -> dict:
    """Views as `point_collate_fn` gives them: two global and four local ones a scene."""
    rng = np.random.default_rng(seed)
    batch = {"grid_size": torch.full((scenes,), GRID), "name": [f"room{index}" for index in range(scenes)]}
    for kind, views, size in (("global", 2, 2200), ("local", 4, 1500)):
        coords = [torch.from_numpy(make_view(rng, size + 40 * view)) for _ in range(scenes) for view in range(views)]
        coord = torch.cat(coords)
        color = torch.from_numpy(rng.uniform(0, 1, coord.shape).astype(np.float32))
        normal = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=coord.shape).astype(np.float32)), dim=1)
        batch |= {
            f"{kind}_coord": coord,
            f"{kind}_origin_coord": coord * 0.98 + 0.01,
            f"{kind}_feat": torch.cat([coord, color, normal], 1),
            f"{kind}_offset": torch.tensor([len(view) for view in coords]).cumsum(0),
        }
    return batch


def run_host(host, task: dict, folder) -> dict:
    """What the real host makes of the task (see host_step.py)."""
    torch.save(task, folder / "in.pt")
    script = hosts.HARNESS.parent / "host_step.py"
    hosts.run([host.python, script, folder / "in.pt", folder / "out.pt"], host.root, PYTHONPATH=str(host.root))
    return torch.load(folder / "out.pt", weights_only=False)


def test_losses_and_gradients_of_a_step(host, tmp_path):
    torch.manual_seed(0)
    config = copy.deepcopy(MODEL)
    config["backbone"]["grid_origin"] = "batch"  # the host's rule; ours takes a cloud's own origin
    model = build_model(config).train()
    batch = make_batch()
    ours_in = copy.deepcopy(batch)
    task = {"model": MODEL, "state": model.state_dict(), "batch": batch, "seed": 1}
    theirs = run_host(host, task, tmp_path)

    torch.manual_seed(1)
    out = model(ours_in)
    out["loss"].backward()
    ours = {name: value.item() for name, value in out.items()}
    print("embedded", ours)
    print("host    ", theirs["losses"])
    assert set(ours) == set(theirs["losses"])
    assert ours["laplacian_loss"] > 0
    for name, value in ours.items():
        assert value == pytest.approx(theirs["losses"][name], abs=1e-4), name
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert set(gradients) == set(theirs["gradients"])
    for name, gradient in gradients.items():
        expected = theirs["gradients"][name]
        assert (gradient - expected).norm() <= 1e-3 * expected.norm() + 1e-6, name


def test_base_size_features_of_20000_points(host, tmp_path):
    backbone = BACKBONE | dict(
        enc_depths=(3, 3, 3, 12, 3),
        enc_channels=(48, 96, 192, 384, 512),
        enc_num_head=(3, 6, 12, 24, 32),
        enc_patch_size=(1024, 1024, 256, 64, 16),
    )
    torch.manual_seed(0)
    model = build_model(backbone | dict(grid_origin="batch")).train()
    coord = torch.from_numpy(make_view(np.random.default_rng(1), 20_000))
    assert len(torch.unique(torch.div(coord - coord.min(0)[0], GRID, rounding_mode="trunc"), dim=0)) == len(coord)
    feat = torch.cat([coord, torch.rand(len(coord), 6)], 1)
    batch = dict(coord=coord, feat=feat, offset=torch.tensor([len(coord)]), grid_size=GRID)
    task = {"backbone": backbone, "state": model.state_dict(), "batch": dict(batch), "seed": 0}
    theirs = run_host(host, task, tmp_path)
    with torch.no_grad():
        ours = model(batch)
    difference = (ours.feat - theirs["feat"]).abs().max().item()
    print(f"{len(coord)} points; largest difference {difference:.2e}; features up to {ours.feat.abs().max():.2f}")
    assert len(coord) >= 19_900
    assert torch.allclose(ours.coord, theirs["coord"], atol=1e-5)
    assert difference < 1e-3
