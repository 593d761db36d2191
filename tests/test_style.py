"""House style that a linter does not know: one parameter a line, `name` for names, no page named that is not there."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("lam3c_plugin", "configs", "data_tools", "experiments", "benchmarks", "examples", "tests")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
#: pages that runs write, not pages of the repository
WRITTEN = {"dataset_card.md", "README.md", "learning.md", "tried.md", "RESULTS.md"}
# owned by branches that are being merged; to be removed then
IN_FLUX = (
    "data_tools",
    "experiments",
    "benchmarks",
    "lam3c_plugin/analysis",
    "lam3c_plugin/cli",
    "lam3c_plugin/commands",
    "lam3c_plugin/embedded/ptv3/attention.py",
)

_SECTION = re.compile(r"(Args|Attributes):\s*$")
_TWO_NAMES = re.compile(r"[*\w]+\s*,\s*[*\w]+[\w, *]*:\s")
_SECOND = re.compile(r"\w+: .*[.] [a-z]\w*: ")
_ROLE = re.compile(r":(?:func|class|meth|attr|mod|data|exc):`[^`]*`")
_PAGE = re.compile(r"[\w./-]+\.md\b")


def docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text


def crowded(text: str) -> list[str]:
    """Lines of Args and Attributes that hold more than one parameter."""
    found, inside, depth = [], False, 0
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if _SECTION.match(line):
            inside, depth = True, 0
        elif line.strip() and not indent:
            inside = False
        elif inside and line.strip():
            depth = depth or indent
            if indent == depth and (_TWO_NAMES.match(line.strip()) or _SECOND.match(line.strip())):
                found.append(line.strip())
    return found


def pages(source: str) -> set[str]:
    """Markdown files that docstrings and comments name."""
    comments = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    return {name for text in (*docstrings(source), *comments) for name in _PAGE.findall(text)}


def test_the_finder_finds_both():
    text = "Do.\n\nArgs:\n    a, b: two.\n    c: one. d: another.\n    e: (N, 3): fine.\n        f, g: more\n\nh, i: no"
    assert crowded(text) == ["a, b: two.", "c: one. d: another."]
    assert pages('"""See there.md."""\nx = "no.md"  # and docs/here.md\n') == {"there.md", "docs/here.md"}


def test_one_parameter_a_line_and_one_markup():
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in FILES
        if not str(path.relative_to(ROOT)).startswith(IN_FLUX)
        for text in docstrings(path.read_text(encoding="utf-8"))
        for line in (*crowded(text), *_ROLE.findall(text))
    ]
    assert found == []


def test_pages_named_are_there():
    found = [
        f"{path.relative_to(ROOT)}: {page}"
        for path in FILES
        if path != Path(__file__).resolve()
        for page in sorted(pages(path.read_text(encoding="utf-8")) - WRITTEN)
        if not (ROOT / page).exists() and not (path.parent / page).exists()
    ]
    assert found == []
