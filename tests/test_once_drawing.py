"""Points become pictures, features become components and folders become lists of clouds in one place each."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("data_tools", "lam3c_plugin", "experiments", "benchmarks", "scripts", "examples")
#: what is to be there once: a pattern of its source, and the one file that may hold it
ONCE = [
    ("a PNG writer", r"IHDR|\.save\([^)]*[\"']PNG[\"']", "data_tools/drawing/pictures.py"),
    ("a contact sheet", r"def \w*(contact_sheet|with_legend)", "data_tools/drawing/pictures.py"),
    ("hues of labels", r"hsv_to_rgb", "data_tools/drawing/pictures.py"),
    ("a point renderer", r"def \w*(splat|render_points|render_cloud|z_buffer)\b", "data_tools/drawing/points.py"),
    ("an order from far to near", r"argsort\(-?depth", "data_tools/drawing/points.py"),
    ("a principal component", r"pca_lowrank|def \w*(pca|principal_comp)\w*\(", "lam3c_plugin/analysis/components.py"),
    ("axes of features", r"linalg\.(svd|eigh)\(", "lam3c_plugin/analysis/components.py"),
    ("the formats in a folder", r"suffix\.lower\(\) in CLOUD_SUFFIXES", "data_tools/clouds/find.py"),
]
#: uses that only look alike
ALIKE = {
    # clouds beside reconstructions, which have other names: no search
    ("data_tools/postprocessing/scene.py", "the formats in a folder"),
}


def sources() -> list[tuple[str, str]]:
    """Path below the root and text of every Python file outside the tests."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    return [(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")) for file in files]


@pytest.mark.parametrize(("what", "pattern", "home"), ONCE, ids=[row[0] for row in ONCE])
def test_there_is_one(what, pattern, home):
    found = {name for name, text in sources() if re.search(pattern, text)}
    if what == "axes of features":  # rotations and planes of clouds are none
        found = {name for name in found if not name.startswith(("data_tools/", "benchmarks/sfm_"))}
    assert found - {name for name, kind in ALIKE if kind == what} == {home}


def imports(text: str) -> set[str]:
    """Modules that a source imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_analysis_knows_arrays_only():
    forbidden = {"argparse", "pathlib", "os", "io", "json", "webbrowser", "shutil", "sys"}
    for name, text in sources():
        if name.startswith("lam3c_plugin/analysis/"):
            assert not imports(text) & forbidden, name
            assert not re.search(r"\b(open|print)\(", text), name


def test_only_the_command_line_imports_commands():
    users = {
        name
        for name, text in sources()
        if any(module.startswith("lam3c_plugin.commands") for module in imports(text))
        and not name.startswith("lam3c_plugin/commands/")
    }
    assert users == {"lam3c_plugin/cli.py"}


def test_drawing_needs_numpy_and_pillow_only():
    ours = {"numpy", "PIL", "data_tools", "__future__"}
    for name, text in sources():
        if name.startswith("data_tools/drawing/"):
            used = imports(text)
            assert {module.partition(".")[0] for module in used} <= ours | sys.stdlib_module_names, name
            assert all(m.startswith(("data_tools.drawing", "data_tools.stages.files")) for m in used if "data_t" in m)


def test_scripts_of_pages_lie_in_assets():
    writers = {name for name, text in sources() if re.search(r"<script>(?!\\n\{asset)", text)}
    assert writers == set()
