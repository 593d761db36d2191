"""Arrays in, arrays out: no command line, no files, no browser in ``analysis``."""

import ast
import re
from pathlib import Path

import pytest

import lam3c_plugin.analysis

FORBIDDEN = {"argparse", "pathlib", "os", "io", "json", "webbrowser", "shutil", "sys", "subprocess"}
FILES = sorted(Path(lam3c_plugin.analysis.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_no_files_and_no_command_line(path):
    text = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    used = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    used |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not {module.partition(".")[0] for module in used} & FORBIDDEN
    assert not re.search(r"\b(open|print)\(", text)
    assert not any(module.startswith(("lam3c_plugin.commands", "data_tools.reporting")) for module in used)
