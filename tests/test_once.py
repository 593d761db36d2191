"""House rule 6: each of these is written once. A row names what, how a second one is recognised, and its home."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("data_tools", "lam3c_plugin", "experiments", "benchmarks", "scripts", "configs")

#: what: (regex of a line of code, its home)
ONCE = {
    "atomic write": (
        r"def (write_text|write_json|replacing(_folder)?|take_place)\(",
        "data_tools/stages/files.py",
    ),
    "Ctrl-C": (r"except.*\bKeyboardInterrupt\b", "data_tools/stages/command_line.py"),
    "closed pipe": (r"except.*\bBrokenPipeError\b", "data_tools/stages/command_line.py"),
    "file lock": (r"\bfcntl\b|\bmsvcrt\b|\bFileLock\b|\blockf\b", "data_tools/stages/locks.py"),
    "split rule": (r"def \w*split_of\(|blake2b\(b.split", "data_tools/stages/splits.py"),
    "record of an item": (r"class \w*Record\b", "data_tools/stages/record.py"),
    "random state": (r"np\.random\.[gs]et_state\(|random\.[gs]etstate\(", "lam3c_plugin/ops/rng.py"),
    "cosine schedule": (r"\bcos\((math|np|numpy|torch)\.pi|\bcos\(.*progress", "lam3c_plugin/ops/schedules.py"),
    "AMP names": (r".bfloat16.: *torch\.bfloat16", "lam3c_plugin/ops/device.py"),
    "script of a page": (r"<script>", "data_tools/reporting/pages.py"),
    "PNG writer": (r"IHDR|\.save\([^)]*[\"']PNG[\"']", "data_tools/drawing/pictures.py"),
    "contact sheet": (r"def \w*(contact_sheet|with_legend)", "data_tools/drawing/pictures.py"),
    "hues of labels": (r"hsv_to_rgb", "data_tools/drawing/pictures.py"),
    "point renderer": (
        r"def \w*(splat|render_points|render_cloud|z_buffer)\b|argsort\(-?depth",
        "data_tools/drawing/points.py",
    ),
    "PCA": (r"pca_lowrank|linalg\.(svd|eigh)\(|def principal_comp", "lam3c_plugin/analysis/components.py"),
    "finder of clouds": (r"suffix\.lower\(\) in CLOUD_SUFFIXES", "data_tools/clouds/find.py"),
}
#: (what, file): why it is no second one
NOT_A_SECOND = {
    ("finder of clouds", "data_tools/postprocessing/scene.py"): "clouds beside reconstructions, named by folder",
    ("PCA", "data_tools/clouds/io.py"): "whether the points lie on a line or plane, no features",
    ("PCA", "data_tools/clouds/gravity.py"): "planes and directions of points, no features",
    ("PCA", "data_tools/clouds/normals.py"): "planes of points, no features",
    ("PCA", "data_tools/postprocessing/quality.py"): "planes of points, no features",
    ("PCA", "data_tools/reconstruction/alignment.py"): "a rotation between clouds",
    ("PCA", "data_tools/reconstruction/chunks/join.py"): "spread of points, no features",
    ("PCA", "data_tools/reconstruction/chunks/loops.py"): "whitens pictures' descriptors; data_tools imports no plugin",
    ("PCA", "data_tools/reconstruction/chunks/surface.py"): "planes of points, no features",
    ("PCA", "data_tools/reconstruction/geometry.py"): "the nearest rotation to a matrix",
    ("PCA", "benchmarks/sfm_tum.py"): "planes of points, no features",
}
#: files that rename, and what: everything else goes through `data_tools.stages.files`
RENAMES = {
    "data_tools/stages/files.py": "the one write-then-rename",
    "data_tools/chain/folders.py": "takes a whole folder aside before it is removed",
    "data_tools/chain/removed.py": "moves stale scenes to WORK/removed, whence undo.sh brings them back",
    "data_tools/collection/fetch.py": "moves what yt-dlp downloaded into its folder where there are no hard links",
    "lam3c_plugin/zoo/fetch.py": "a download's .part, kept between runs so that it goes on where it stopped",
}


@cache
def sources() -> dict[str, str]:
    """Path relative to the repository -> its text."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def homes(pattern: str) -> set[str]:
    """Files in which a pattern occurs."""
    return {path for path, code in sources().items() if re.search(pattern, code)}


def renames(code: str) -> bool:
    """Whether a module renames files: os.replace, os.rename, shutil.move, or a path's replace or rename."""
    for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
        if not isinstance(call.func, ast.Attribute):
            continue
        owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
        if (owner, call.func.attr) in {("os", "replace"), ("os", "rename"), ("os", "renames"), ("shutil", "move")}:
            return True
        one = len(call.args) == 1 and not call.keywords and not isinstance(call.args[0], ast.Starred)
        if call.func.attr in ("replace", "rename") and one:
            return True  # text.replace takes two
    return False


@pytest.mark.parametrize("what", ONCE)
def test_there_is_one(what):
    pattern, home = ONCE[what]
    found = homes(pattern)
    assert home in found, f"{what}: not in {home}; say in this table where it went"
    others = sorted(path for path in found - {home} if (what, path) not in NOT_A_SECOND)
    assert not others, f"{what}: use the one in {home} instead of another in {', '.join(others)}"


def test_exceptions_are_still_needed():
    for what, path in NOT_A_SECOND:
        assert path in homes(ONCE[what][0]), f"{path} is no exception for {what} any more: take it off the list"


def test_files_are_renamed_in_one_place():
    candidates = homes(r"\.(replace|rename|renames|move)\(")
    found = {path for path in candidates if renames(sources()[path])}
    assert found == set(RENAMES), "write through data_tools.stages.files (replacing, write_text, replacing_folder)"


@pytest.mark.parametrize(
    ("code", "is_rename"),
    [
        ("os.replace(a, b)", True),
        ("partial.replace(path)", True),
        ("folder.parent.rename(aside)", True),
        ("shutil.move(a, b)", True),
        ("text.replace('a', 'b')", False),
        ("text.replace(*pair)", False),
        ("replace(settings, seed=1)", False),
        ("now.replace(microsecond=0)", False),
    ],
)
def test_a_rename_is_recognised(code, is_rename):
    assert renames(code) == is_rename
