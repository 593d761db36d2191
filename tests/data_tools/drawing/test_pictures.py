import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.drawing import pictures
from data_tools.drawing.pictures import contact_sheet, save_png, with_legend


def test_contact_sheet_and_png(tmp_path):
    a, b = np.zeros((4, 6, 3), np.uint8), np.full((2, 3, 3), 7, np.uint8)
    sheet = contact_sheet([a, b, a], columns=2, gap=1)
    assert sheet.shape == (2 * 4 + 3, 2 * 6 + 3, 3)
    assert (sheet[1:5, 1:7] == 0).all()
    assert (sheet == 7).all(2).sum() == 6
    np.testing.assert_array_equal(np.asarray(Image.open(save_png(tmp_path / "new/sheet.png", sheet))), sheet)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ValueError, match="uint8"):
        save_png(tmp_path / "x.png", np.zeros((2, 2, 3)))


def test_a_legend_that_does_not_fit_into_one_line_gets_more():
    image = np.zeros((20, 280, 3), np.uint8)
    legend = [(f"a long name of class {i}", (i, 0, 0)) for i in range(5)]
    assert with_legend(image, legend).shape[0] > 20 + 3 * 24


def test_drawing_needs_numpy_and_pillow_only():
    for path in sorted(Path(pictures.__file__).parent.glob("*.py")):
        used = set(re.findall(r"^ *(?:from|import) (\S+)", path.read_text(encoding="utf-8"), re.M))
        ours = {module for module in used if module.startswith("data_tools.")}
        assert ours <= {"data_tools.drawing.pictures", "data_tools.stages.files"}
        assert {module.partition(".")[0] for module in used - ours} <= {"numpy", "PIL"} | sys.stdlib_module_names
