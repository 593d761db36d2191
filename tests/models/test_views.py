import pytest
import torch

from lam3c_plugin.models.views import generate_mask, jitter_masked, match_points, roll_index


def room(points: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(points, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([4.0, 5.0, 2.5])


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.7, 1.0])
def test_mask_takes_whole_patches_at_the_ratio(ratio):
    coord, offset = torch.cat([room(3000), room(2000, 1) + 100]), torch.tensor([3000, 5000])
    torch.manual_seed(0)
    mask = generate_mask(coord, offset, mask_size=0.4, mask_ratio=ratio)
    low = torch.cat([coord[:3000].amin(0).expand(3000, 3), coord[3000:].amin(0).expand(2000, 3)])
    batch = torch.arange(2).repeat_interleave(torch.tensor([3000, 2000]))
    cells = torch.cat([batch[:, None], ((coord - low) / 0.4).long()], dim=1)
    patches, inverse = torch.unique(cells, dim=0, return_inverse=True)
    share = torch.zeros(len(patches)).index_add_(0, inverse, mask.float()) / torch.bincount(inverse)
    assert set(share.tolist()) <= {0.0, 1.0}
    assert int(share.sum()) == int(len(patches) * ratio)


def test_mask_of_a_single_point():
    assert generate_mask(torch.zeros(1, 3), torch.tensor([1]), 0.1, 0.3).tolist() == [False]


def test_jitter_is_cut_on_both_sides_and_leaves_the_rest_alone():
    coord = torch.zeros(20000, 3)
    mask = torch.arange(20000) % 2 == 0
    moved = jitter_masked(coord, mask, 0.01)
    assert torch.equal(moved[~mask], coord[~mask])
    assert moved.max() == pytest.approx(0.02)
    assert moved.min() == pytest.approx(-0.02)
    assert moved[mask].std() == pytest.approx(0.0088, rel=0.1)  # a normal cut at two sigma, edges kept
    assert torch.equal(coord, torch.zeros_like(coord))


def test_roll_swaps_the_views_of_each_scene():
    offset = torch.tensor([3, 5, 9, 10])
    rows, rolled = roll_index(offset)
    assert rows.tolist() == [3, 4, 0, 1, 2, 9, 5, 6, 7, 8]
    assert rolled.tolist() == [2, 5, 6, 10]
    with pytest.raises(ValueError, match="two global views"):
        roll_index(torch.tensor([3, 5, 9]))


def test_match_radius_is_a_distance_not_a_square():
    coord = torch.zeros(3, 3)
    target = torch.tensor([[0.30, 0, 0], [0.33, 0, 0], [0.11, 0, 0]])
    pairs = match_points(coord, torch.tensor([1, 2, 3]), target, torch.tensor([1, 2, 3]), max_radius=0.32)
    assert pairs.tolist() == [[0, 0], [2, 2]]


def test_no_match_gives_no_pair():
    pairs = match_points(torch.zeros(4, 3), torch.tensor([4]), torch.ones(2, 3) * 9, torch.tensor([2]), 0.32)
    assert pairs.shape == (0, 2)
