"""What `pip install .` takes along."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("package", ["lam3c_plugin", "data_tools"])
def test_every_folder_of_modules_is_a_package(package):
    # setup.py finds folders with an __init__.py: one without works from a checkout only
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert len(folders) > 1
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()] == []
