"""Runs inside the real host: one MSC step over PTv3. `python msc_step.py CONFIG`.

torch_geometric, of which MSC takes a voxel numbering, has wheels for few machines: a stand-in does that.
"""

from __future__ import annotations

import sys

import torch


def voxel_grid(pos: torch.Tensor, size: float, batch: torch.Tensor, start: float = 0) -> torch.Tensor:
    """A number a cell and cloud."""
    cells = torch.cat([batch[:, None].long(), torch.floor((pos - start) / size).long()], dim=1)
    return torch.unique(cells, dim=0, return_inverse=True)[1]


def main(path: str) -> None:
    """Build the config's model small, and take one step."""
    import pointcept.engines.train  # noqa: F401 - first, as tools/train.py does
    import pointcept.models.masked_scene_contrast.masked_scene_contrast_v1m1_base as msc
    from pointcept.models import build_model
    from pointcept.utils.config import Config

    msc.voxel_grid = voxel_grid
    cfg = Config.fromfile(path)
    small = dict(enc_channels=(16, 16, 32, 32, 48), enc_num_head=(1, 1, 2, 2, 3), enc_depths=(1,) * 5)
    small |= dict(dec_channels=(16, 16, 32, 32), dec_num_head=(1, 1, 2, 2), dec_depths=(1,) * 4)
    small |= dict(enc_patch_size=(64,) * 5, dec_patch_size=(64,) * 4)
    cfg.model.backbone.update(small)
    cfg.model.update(backbone_out_channels=16, matching_max_pair=128)
    model = build_model(cfg.model).train()
    torch.manual_seed(0)
    batch = {}
    room = torch.rand(2, 400, 3) * torch.tensor([1.0, 1.0, 0.5])
    for view in ("view1", "view2"):
        origin = torch.cat([room[0, torch.randperm(400)[:300]], room[1, torch.randperm(400)[:250]]])
        coord, color = origin + 0.001 * torch.randn_like(origin), torch.rand(550, 3)
        cells = torch.floor(origin / 0.02).int()
        batch |= {
            f"{view}_origin_coord": origin,
            f"{view}_coord": coord,
            f"{view}_grid_coord": cells,
            f"{view}_color": color,
            f"{view}_feat": torch.cat([coord, color, torch.rand(550, 3)], dim=1),
            f"{view}_offset": torch.tensor([300, 550]),
        }
    result = model(batch)
    assert torch.isfinite(result["loss"]), result
    result["nce_loss"].backward()
    assert model.backbone.enc.enc4.block0.attn.qkv.weight.grad.abs().sum() > 0
    print("STEP", float(result["loss"]))


if __name__ == "__main__":
    main(sys.argv[1])
