"""The documents as a test reads them: their text, links, code, and the commands in them."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = ("*.md", "docs/**/*.md", "notebooks/*.ipynb")
PACKAGES = ("lam3c_plugin", "data_tools", "experiments", "benchmarks")
#: whose docstrings are read as documents
CODE = ("configs/**/*.py", "data_tools/*.py", "benchmarks/*.py", "examples/*.py", "experiments/*/run.py")
SHELL = {"sh", "bash", "console", ""}

_FENCE = re.compile(r"^ *(`{3,}|~{3,})(\w*)[^\n]*\n(.*?)^ *\1`*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(`{1,2})(?!`)([^`]+)\1(?!`)")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")
_INDENTED = re.compile(r"^ {4}((?:[A-Z_0-9]+=\S+ )*(?:python3?|sh|lam3c|pytest) .*)", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        name: path below the repository.
        text: Markdown; of a notebook its cells, of a Python file its docstring.
    """

    name: str
    text: str

    @property
    def folder(self) -> Path:
        return (ROOT / self.name).parent

    @property
    def words(self) -> str:
        """The text without web addresses."""
        return re.sub(r"https?://[^\s)>\"'`]+", "", self.text)

    def fences(self, *languages: str) -> list[str]:
        """Contents of the fenced blocks in one of the languages."""
        return [body for _, language, body in _FENCE.findall(self.text) if language in languages]

    def spans(self) -> list[str]:
        """Code inside of sentences."""
        return [" ".join(code.split()) for _, code in _INLINE.findall(_FENCE.sub("", self.text))]

    def links(self) -> list[str]:
        """Targets of links and images that are no web address."""
        found = _LINK.findall(_INLINE.sub("", _FENCE.sub("", self.text)))
        return [target for target in found if not re.match(r"[a-z]+:", target)]

    def anchors(self) -> set[str]:
        """What `#...` of a link may name: the headings as GitHub spells them."""
        headings = re.findall(r"^#+ +(.+)$", _FENCE.sub("", self.text), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}

    def blocks(self) -> Iterator[list[list[str]]]:
        """Commands of each shell block and of each indented line, as argument lists."""
        indented = [re.split(r" {2,}", line)[0] for line in _INDENTED.findall(_FENCE.sub("", _whole_lines(self.text)))]
        for block in (*self.fences(*SHELL), *indented):
            yield [command for line in _whole_lines(block).splitlines() for command in split_line(line)]

    def commands(self) -> Iterator[list[str]]:
        """The commands of all blocks."""
        for block in self.blocks():
            yield from block


def _whole_lines(text: str) -> str:
    return re.sub(r" *\\\n\s*", " ", text)


def split_line(line: str) -> list[list[str]]:
    """Simple commands of a line of shell, without leading assignments and without what comes after a `#`."""
    try:
        reader = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        reader.commenters = "#"
        reader.whitespace_split = True
        words = list(reader)
    except ValueError:
        return []  # a drawing or prose with an apostrophe: no command
    commands: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("();<>|&"):
            commands.append([])
        elif commands[-1] or not re.match(r"\w+=", word):
            commands[-1].append(word.strip("[]"))
    return [command for command in commands if command]


def notebook_text(source: str) -> str:
    """The cells of a notebook as Markdown."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(source)["cells"]]
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for kind, text in cells)


@cache
def repository() -> tuple[str, ...]:
    """Paths of the repository's files."""
    skipped = {".git", ".venv", "__pycache__", "exp", "data", "build", "dist", "site"}
    found = []
    for folder, names, files in os.walk(ROOT):
        top = Path(folder) == ROOT
        names[:] = [name for name in names if name not in {".git", "__pycache__"} and not (top and name in skipped)]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in files]
    return tuple(found)


@cache
def documents() -> tuple[Document, ...]:
    """Every page that people read, and the docstrings of scripts and configs."""
    found = []
    for pattern in (*NAMED, *CODE):
        for path in sorted(ROOT.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                text = notebook_text(text)
            elif path.suffix == ".py":
                text = ast.get_docstring(ast.parse(text)) or ""
            found.append(Document(path.relative_to(ROOT).as_posix(), text))
    return tuple(found)
