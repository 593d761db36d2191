import numpy as np
import pytest
import torch

from lam3c_plugin.embedded.downstream import DefaultSegmentorV2
from lam3c_plugin.embedded.geometry import PointCloudError
from lam3c_plugin.embedded.structure import Point
from lam3c_plugin.encode.clouds import prepare
from lam3c_plugin.encode.memory import choose_limit, machine_bytes, pass_bytes
from lam3c_plugin.encode.stages import cut, default_halo, run_stages
from tests.encode.rooms import GRID, inputs, room, tiny

CPU = torch.device("cpu")


def prepared():
    return prepare(*inputs(room()), grid_size=GRID)


def joined(stages):
    index, columns = torch.arange(len(stages[0].feat)), []
    for stage in stages:
        index = index if stage.index is None else stage.index[index]
        columns.append(stage.feat[index])
    return torch.cat(columns, 1)


@torch.no_grad()
def test_one_pass_is_the_backbone_itself():
    cloud = prepared()
    point = Point(feat=cloud.feat, coord=cloud.feat[:, :3], grid_coord=cloud.cells)
    point = Point({**point, "offset": torch.tensor([len(cloud.cells)])})
    expected = DefaultSegmentorV2.all_levels(tiny().backbone(point)).feat
    assert torch.allclose(joined(run_stages(tiny().backbone, cloud.feat, cloud.cells)), expected, atol=1e-5)


@torch.no_grad()
def test_a_halo_around_everything_changes_nothing():
    cloud = prepared()
    whole = run_stages(tiny().backbone, cloud.feat, cloud.cells)
    # with so wide a rim no box is cut; pooling still goes in pieces
    same = run_stages(tiny().backbone, cloud.feat, cloud.cells, limit=700, halo=10**6)
    assert torch.allclose(joined(same), joined(whole), atol=1e-5)


@torch.no_grad()
def test_chunks_agree_with_one_pass():
    cloud = prepared()
    whole = run_stages(tiny().backbone, cloud.feat, cloud.cells)
    parts = run_stages(tiny().backbone, cloud.feat, cloud.cells, limit=1500)
    assert parts[0].pieces > 2
    for a, b in zip(whole, parts, strict=True):
        assert float(torch.cosine_similarity(a.feat, b.feat).median()) > 0.95
    assert not torch.equal(whole[0].feat, parts[0].feat)


@pytest.mark.parametrize(("limit", "halo"), [(500, 4), (2000, 8), (40, 0), (64, 1)])
def test_every_cell_is_in_the_core_of_one_box(limit, halo):
    cells = prepared().cells
    seen, largest = torch.zeros(len(cells), dtype=torch.int64), 0
    for core, rows in cut(cells, limit, halo):
        assert (rows[1:] > rows[:-1]).all()
        seen[rows[core]] += 1
        largest = max(largest, len(rows))
        inner = cells[rows[core]]
        in_reach = ((cells >= inner.amin(0) - halo) & (cells <= inner.amax(0) + halo)).all(1)
        assert set(in_reach.nonzero().flatten().tolist()) <= set(rows.tolist())  # all of the halo is there
    assert (seen == 1).all()
    if halo > 1:  # else the smallest boxes decide
        assert largest <= max(limit, (3 * halo + 1) ** 3)


def test_cells_all_in_one_place_end():
    core, rows = next(iter(cut(torch.zeros(1, 3, dtype=torch.int32), 1, 4)))
    assert core.tolist() == [True]
    assert rows.tolist() == [0]


def test_the_limit_follows_the_memory(monkeypatch):
    monkeypatch.setattr("lam3c_plugin.encode.memory.machine_bytes", lambda device: 2 * 2.0**30)
    widths = (48, 96, 192, 384, 512)
    assert choose_limit(100_000, widths, CPU) is None
    limit = choose_limit(3_000_000, widths, CPU, held=0.4e9)
    assert limit in {1 << k for k in range(14, 22)}
    assert choose_limit(3_000_000, widths, CPU, held=0.4e9) == limit
    assert choose_limit(3_000_000, widths, CPU, chunk=None) is None
    assert choose_limit(10, widths, CPU, chunk=7) == 7
    assert choose_limit(3_000_000, widths, CPU, held=1e12) == 1 << 14  # nothing fits: the smallest pass
    assert pass_bytes(10**6, widths, 10**5) < pass_bytes(10**6, widths)


@pytest.mark.parametrize("chunk", [0, -5, "many", True, 1.5])
def test_a_wrong_chunk_is_told(chunk):
    with pytest.raises(PointCloudError, match="chunk="):
        choose_limit(10, (8,), CPU, chunk=chunk)


def test_the_machine_has_memory_and_a_halo_grows_with_the_chunk():
    assert machine_bytes(CPU) > 2**28
    assert default_halo(65536) == 32
    assert default_halo(10) == 4
    assert np.all(np.diff([default_halo(n) for n in (10, 10**4, 10**6)]) >= 0)
