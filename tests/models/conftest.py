import copy

import pytest
import torch

from lam3c_plugin.host import build_model

BACKBONE = dict(
    type="PT-v3m2",
    in_channels=9,
    enc_depths=(1, 1, 1, 1, 1),
    enc_channels=(16, 16, 32, 32, 48),
    enc_num_head=(1, 1, 2, 2, 3),
    enc_patch_size=(128, 128, 128, 128, 128),
    order=("z", "z-trans", "hilbert", "hilbert-trans"),
    stride=(2, 2, 2, 2),
    drop_path=0.1,
    shuffle_orders=True,
    enable_flash=False,
    traceable=True,
    enc_mode=True,
    mask_token=True,
)
HEAD = dict(type="SinkhornHead", in_channels=32 + 32 + 48, hidden_channels=64, embed_channels=16, num_prototypes=32)


def make_model(**changes):
    torch.manual_seed(0)
    config = dict(
        type="LAM3C-v1m1",
        backbone=copy.deepcopy(BACKBONE),
        head=dict(HEAD),
        teacher_custom=dict(drop_path=0.0),
        laplacian_loss=dict(type="LaplacianSmoothingLoss", k=12, max_distance=0.6),
    )
    return build_model({**config, **changes})


def make_batch(scenes: int = 2, seed: int = 0, local_shift: float = 0.0) -> dict:
    """Views of rooms: two global and four local ones a scene, in the batch format of the engines."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    batch = {"grid_size": torch.full((scenes,), 0.05), "name": [f"room{i}" for i in range(scenes)]}
    for kind, views, size in (("global", 2, 900), ("local", 4, 250)):
        origin, offsets, total = [], [], 0
        for scene in range(scenes):
            walls = rand(3000, 3) * torch.tensor([3.0, 3.0, 2.0])
            walls[:1500, 2] = 0
            walls[1500:, 0] = 0
            for view in range(views):
                count = size + 10 * view + 7 * scene
                origin.append(walls[torch.randperm(3000, generator=generator)[:count]])
                total += count
                offsets.append(total)
        origin = torch.cat(origin)
        if kind == "local":
            origin = origin + local_shift
        color, normal = rand(len(origin), 3), torch.nn.functional.normalize(rand(len(origin), 3) - 0.5, dim=-1)
        coord = origin * 1.05 + 0.01
        batch |= {
            f"{kind}_coord": coord,
            f"{kind}_origin_coord": origin,
            f"{kind}_color": color,
            f"{kind}_feat": torch.cat([coord, color, normal], dim=1),
            f"{kind}_offset": torch.tensor(offsets),
        }
    return batch


@pytest.fixture
def batch():
    return make_batch()
