"""Which module may import which: the arrows of CONTRIBUTING.md, and no circle, imports inside functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lam3c_plugin", "data_tools", "experiments", "benchmarks")
SCRIPTS = {"collect", "segment", "reconstruct", "postprocess", "package", "report", "build_roomtours"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def names_imported(source: str) -> set[str]:
    """Every dotted name that an import statement names, wherever it stands; ``from a import b`` names ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def resolve(name: str, known: set[str]) -> str:
    """The module of ours a dotted name lies in (its parents' ``__init__`` do not count), or the name itself."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in known), name)


def graph_of(sources: dict[str, str]) -> dict[str, set[str]]:
    known = set(sources)
    graph: dict[str, set[str]] = {}
    for module, text in sources.items():
        beside = module.rpartition(".")[0] + "."  # scripts of `benchmarks` import one another without the folder
        graph[module] = {
            beside + name if beside + name.split(".")[0] in known else name for name in names_imported(text)
        }
        graph[module] = {resolve(name, known) for name in graph[module]}
    return graph


def find_circle(graph: dict[str, set[str]]) -> list[str] | None:
    """Modules that import one another in a ring, the first of them once more at the end; None where there is none."""
    done: set[str] = set()
    for start in graph:
        path, stack = [start], [iter(sorted(graph[start]))]
        while stack:
            step = next((name for name in stack[-1] if name in graph and name not in done), None)
            if step is None:
                stack.pop()
                done.add(path.pop())
            elif step in path:
                return [*path[path.index(step) :], step]
            elif step not in done:
                path.append(step)
                stack.append(iter(sorted(graph[step])))
    return None


GRAPH = graph_of({module: path.read_text(encoding="utf-8") for module, path in FILES.items()})


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offenders(start: str, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    """``module -> import`` for all imports of ``start`` that lie in ``forbidden`` and not in ``allowed``."""
    return [
        f"{module} -> {name}"
        for module, names in GRAPH.items()
        if within(module, start)
        for name in sorted(names)
        if within(name, *forbidden) and not within(name, *allowed)
    ]


def test_the_finder_finds_a_circle_with_a_lazy_import():
    sources = {"p": "", "p.a": "from p import b", "p.b": "def f():\n    from p.c import g", "p.c": "import p.a"}
    assert find_circle(graph_of(sources)) == ["p.a", "p.b", "p.c", "p.a"]
    sources["p.c"] = "import os"
    assert find_circle(graph_of(sources)) is None
    assert find_circle(graph_of({"p.a": "from b import x", "p.b": "import a"})) == ["p.a", "p.b", "p.a"]
    assert find_circle(graph_of({"p": "from p.a import x", "p.a": "from p.b import y", "p.b": ""})) is None


def test_no_circle():
    assert find_circle(GRAPH) is None


P = "lam3c_plugin."
PLUGIN_MAY_USE = tuple(
    f"data_tools.{name}"
    for name in ("clouds", "stages.files", "stages.lines", "stages.command_line", "drawing", "reporting")
)
ARROWS = {
    # who: (what it may not import, and of that what it may)
    "lam3c_plugin.ops": (("lam3c_plugin",), (P + "ops",)),
    "lam3c_plugin.losses": (("lam3c_plugin",), (P + "losses", P + "ops", P + "errors", P + "host")),
    "lam3c_plugin.models": (("lam3c_plugin",), (P + "models", P + "losses", P + "ops", P + "host")),
    "lam3c_plugin.embedded": (tuple(P + x for x in ("models", "losses", "datasets", "hooks", "host")), ()),
    "lam3c_plugin.checkpoints": (tuple(P + x for x in ("zoo", "models", "losses", "hooks", "host", "encode")), ()),
    "lam3c_plugin.recipes": (("lam3c_plugin",), (P + "recipes",)),
    "lam3c_plugin": (("data_tools",), PLUGIN_MAY_USE),
    "lam3c_plugin.analysis": (("lam3c_plugin",), (P + "analysis", P + "errors", P + "embedded.downstream.metrics")),
    "data_tools": (("lam3c_plugin", "experiments", "benchmarks"), ()),
    "data_tools.clouds": (("data_tools", "torch"), ("data_tools.clouds", "data_tools.stages.files")),
    "data_tools.drawing": (("data_tools", "torch"), ("data_tools.drawing", "data_tools.stages.files")),
}


@pytest.mark.parametrize("start", ARROWS)
def test_arrows_point_one_way(start):
    assert any(within(module, start) for module in GRAPH)
    assert offenders(start, *ARROWS[start]) == []


def test_the_host_is_reached_through_one_door():
    assert [module for module, names in GRAPH.items() if any(within(name, "pointcept") for name in names)] == []
    door = P + "host"
    assert door in GRAPH[P + "models.lam3c_v1m1_base"]
    registrars = [
        f"{module} -> {name}"
        for part in ("models", "losses", "hooks", "datasets")
        for module, names in GRAPH.items()
        if within(module, P + part)
        for name in names
        if name == P + "embedded.registry"
    ]
    assert registrars == []


def test_nothing_imports_commands():
    users = {module for module, names in GRAPH.items() if any(within(name, P + "commands") for name in names)}
    assert {module for module in users if not within(module, P + "commands")} <= {P + "cli"}


def test_analysis_knows_arrays_only():
    forbidden = ("argparse", "webbrowser", P + "commands", "data_tools.clouds.io", "data_tools.reporting")
    assert offenders(P + "analysis", forbidden) == []


def test_the_root_of_data_tools_is_its_seven_scripts():
    root = ROOT / "data_tools"
    assert {path.stem for path in root.glob("*.py")} == SCRIPTS | {"__init__"}
    assert [path.name for path in root.iterdir() if path.is_file() and path.suffix != ".py"] == []


def test_names_of_old_folders_are_gone():
    folders = {part for path in FILES.values() for part in path.relative_to(ROOT).parts[:-1]}
    assert folders & {"standalone", "apps"} == set()
