"""The notebook runs from top to bottom; what the tour does with an exported network works."""

import json
import re
from pathlib import Path

import matplotlib
import pytest

from data_tools.clouds.io import write_ply
from tests.commands.run import run
from tests.rooms import box_room

ROOT = Path(__file__).resolve().parents[2]


def test_the_notebook_runs_top_to_bottom(monkeypatch, tmp_path, capsys):
    matplotlib.use("Agg")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    content = json.loads((ROOT / "notebooks/tour.ipynb").read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    names = {}
    for number, cell in enumerate(content["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"]
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    matplotlib.pyplot.close("all")
    assert names["feat"].shape == (20_000, 400)
    assert names["accuracy"] > 0.4
    assert names["page"].read_text().startswith("<!DOCTYPE html>")
    assert "right:" in capsys.readouterr().out


@pytest.mark.slow
def test_the_exported_network_runs_as_the_tour_says(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_ply(tmp_path / "room.ply", box_room())
    words = ("--torch-export", "encoder.pt2", "--tables", "room.ply", "--tables-out", "room_tables.npz")
    assert run("export", "--random", "tiny", *words) == 0
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tour.md").read_text(encoding="utf-8"), re.S)
    names = {}
    exec(next(block for block in blocks if "torch.export" in block), names)
    expected = names["stored"]["output"][names["stored"]["inverse"]]
    assert names["feat"].shape == (1500, 360)
    assert float((names["feat"] - expected).abs().max()) < 1e-4
