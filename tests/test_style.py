"""House style that a linter does not know: one parameter a line, `name` for names, no page named that is not there."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("lam3c_plugin", "configs", "data_tools", "experiments", "benchmarks", "examples", "scripts", "tests")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
#: pages that runs write, not pages of the repository
WRITTEN = {"dataset_card.md", "README.md", "learning.md", "tables.md", "RESULTS.md", "results.md"}
# written anew on other branches; a line goes when its branch is merged and the files are in order
IN_FLUX = (
    "data_tools/build_roomtours.py",  # h-chain
    "data_tools/chain",
    "data_tools/collection",
    "data_tools/segmentation/run.py",
    "data_tools/reconstruction/frames.py",  # h-videos
    "data_tools/video",
    "tests/data_tools/video",
    "lam3c_plugin/embedded/ptv3",  # h-gpuopt
)
SETTLED = [path for path in FILES if not path.relative_to(ROOT).as_posix().startswith(IN_FLUX)]

_SECTION = re.compile(r"(Args|Attributes):\s*$")
_TWO_NAMES = re.compile(r"[*\w]+\s*,\s*[*\w]+[\w, *]*:\s")
_SECOND = re.compile(r"\w+: .*[.;] (?!none|default)[a-z]\w*: ")
_ROLE = re.compile(r":(?:func|class|meth|attr|mod|data|exc):`[^`]*`")
#: first words that are verbs in the third person, unless "of" follows, which makes "Runs of True" a noun
_THIRD = re.compile(
    r"(?:Adds|Applies|Asks|Builds|Calls|Checks|Collects|Compares|Compiles|Computes|Converts|Copies|Creates|Does|"
    r"Downloads|Draws|Fetches|Finds|Fits|Gives|Installs|Keeps|Lets|Loads|Looks|Makes|Moves|Opens|Parses|"
    r"Prepares|Prints|Puts|Raises|Reads|Reduces|Refuses|Registers|Removes|Renders|Resumes|Returns|Runs|Saves|"
    r"Says|Sets|Shows|Starts|Stores|Takes|Tells|Trains|Turns|Updates|Waits|Writes)\b(?! of)"
)
_SCRIPT = re.compile(
    r"\bfunction *\w*\([\w, ]*\) *\{|=> *\{|addEventListener|querySelector|\bon(?:click|change|input)="
)
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


def third_person(source: str) -> list[str]:
    """First lines of functions' docstrings that tell what a function does instead of telling it to."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [text.split("\n")[0] for text in texts if text and _THIRD.match(text)]


def pages(source: str) -> set[str]:
    """Markdown files that docstrings and comments name."""
    comments = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    return {name for text in (*docstrings(source), *comments) for name in _PAGE.findall(text)}


def javascript(source: str) -> list[str]:
    """Strings of a module that hold JavaScript or handlers of HTML."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and _SCRIPT.search(text)]


def test_the_finders_find():
    text = "Do.\n\nArgs:\n    a, b: two.\n    c: one. d: another.\n    e: (N, 3): fine.\n        f, g: more\n\nh, i: no"
    assert crowded(text) == ["a, b: two.", "c: one. d: another."]
    assert crowded("Args:\n    a: one; b: two.\n    c: 1; none: 0.") == ["a: one; b: two."]
    assert third_person('def f():\n    """Runs it."""\ndef g():\n    """Runs of 1."""\n"""Reads."""') == ["Runs it."]
    assert javascript('x = f"<p onclick={y}>"') == ["<p onclick="]
    assert javascript('x = "function (a) {"\ny = "a function (of b) is called"') == ["function (a) {"]
    assert pages('"""See there.md."""\nx = "no.md"  # and docs/here.md\n') == {"there.md", "docs/here.md"}


def test_one_parameter_a_line_and_one_markup():
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in SETTLED
        for text in docstrings(path.read_text(encoding="utf-8"))
        for line in (*crowded(text), *_ROLE.findall(text))
    ]
    assert found == []


def test_functions_are_told_what_to_do():
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in SETTLED
        for line in third_person(path.read_text(encoding="utf-8"))
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


def test_javascript_stands_in_assets():
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] != "tests"]
    assert [path.name for path in files if javascript(path.read_text(encoding="utf-8"))] == []
