"""What README, docs, notebooks and docstrings of scripts name is there: files, modules, configs, commands, options."""

from __future__ import annotations

import argparse
import ast
import contextlib
import fnmatch
import getopt
import importlib
import io
import os
import re
import runpy
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.documents import ROOT, Document, documents, split_line

DOCUMENTS = {document.name: document for document in documents()}
PACKAGES = ("lam3c_plugin", "data_tools", "experiments", "benchmarks")
FOLDERS = (*PACKAGES, "configs", "scripts", "tests", "docs", "examples", "notebooks")
#: files of Pointcept, and files that runs write or people bring
ELSEWHERE = re.compile(
    r"(^|/)(config|undo|tools/(test|train)|train|[\w-]+-fit|pointcept/.*|sonata_v1m1_base|README|dataset_card|learning|results)"
    r"\.(py|sh|md)$|^configs/scannet|lam3c-install\.json$"
)
#: configs of Pointcept
HOSTS = {"pretrain-sonata-v1m1-0-base", "pretrain-msc-v1m1-1-spunet-pointcontrast", "pretrain-msc-v1m2-0-spunet-csc"}
#: options of other programs, in sentences
OTHERS = {"--array", "--gpus", "--head", "--address", "--signal", "--maxkb"}
OLD = re.compile(
    r"\bstandalone\b|\b(apps|collecting|segmenting|reconstructors|proof)[/.]\w|\blam3c_plugin[./]viz\b|\b_io_\w+"
    r"|\bstage_run\b|\b_normals\.py|\bsynthetic/(walkthrough|trajectory|apartment|truth)\.py"
)

_FILE = re.compile(r"(?<![\w/.>*}$~%<-])(?:[\w.-]+/)*[\w.-]*\w\.(?:py|sh|md|ipynb|js|css|toml|yml|cff)\b(?![\w/*<{])")
_FOLDER = re.compile(rf"(?<![\w/.>*}}$~-])(?:{'|'.join(FOLDERS)})/[\w./-]*(?![\w/.*<{{\[]|-\w*[{{\[])")
_MODULE = re.compile(rf"(?<![\w/.-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
_CONFIG = re.compile(r"(?<![\w-])(?:pretrain|semseg|insseg)-[\w-]+-v\dm\d[\w-]*(?![\w*\[{<…-])")
_SHORT = re.compile(r"…?-?(\d\w*-[\w-]+)")
_PATTERN = re.compile(r"(?:pretrain|semseg|insseg)-[\w,*{}-]+")
_OPTION = re.compile(r"--[a-z][\w-]*")


@cache
def repository() -> tuple[str, ...]:
    """Paths of the repository's files."""
    skipped = {".git", ".venv", "__pycache__", "exp", "data", "build", "dist"}
    found = []
    for folder, names, files in os.walk(ROOT):
        top = Path(folder) == ROOT
        names[:] = [name for name in names if name not in {".git", "__pycache__"} and not (top and name in skipped)]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in files]
    return tuple(found)


def file_exists(name: str, document: Document) -> bool:
    """Whether a file is there: below the root, beside the document, or as the end of some path."""
    if (ROOT / name).exists() or (document.folder / name).exists() or ELSEWHERE.search(name):
        return True
    return any(path.endswith("/" + name.removeprefix("./")) for path in repository())


def module_exists(name: str) -> bool:
    """Whether a dotted name can be imported: a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Document:
    return DOCUMENTS[request.param]


def test_links_lead_somewhere(document):
    broken = []
    for target in document.links():
        path, _, anchor = target.partition("#")
        page = (document.folder / path).resolve() if path else ROOT / document.name
        known = DOCUMENTS.get(page.relative_to(ROOT).as_posix()) if page.is_relative_to(ROOT) else None
        if not page.exists() or (anchor and (known is None or anchor not in known.anchors())):
            broken.append(target)
    assert broken == []


def test_paths_are_there(document):
    files = {name for name in _FILE.findall(document.words) if not file_exists(name, document)}
    folders = {
        name for name in _FOLDER.findall(document.words) if not re.search(r"[A-Z]{4}", name)
    }  # no DATASET/CONFIG
    folders = {
        name for name in folders if not any((ROOT / f"{name.rstrip('./')}{end}").exists() for end in ("", ".py"))
    }
    assert sorted(files | {name for name in folders if not ELSEWHERE.search(name) and not _FILE.fullmatch(name)}) == []


def test_modules_are_there(document):
    names = {name for name in _MODULE.findall(document.words) if not re.search(r"\.(py|md|sh)$", name)}
    assert sorted(name for name in names if not module_exists(name)) == []


def test_examples_import_what_is_there(document):
    missing = []
    for block in document.fences("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                missing += [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Import):
                missing += [name.name for name in node.names if name.name.split(".")[0] in PACKAGES]
    assert [name for name in missing if not module_exists(name)] == []


def spelled_out(pattern: str) -> list[str]:
    """A name with `{a,b}` as a shell spells it out."""
    match = re.fullmatch(r"(.*?)\{([^{}]*)\}(.*)", pattern)
    return (
        [name for word in match[2].split(",") for name in spelled_out(match[1] + word + match[3])]
        if match
        else [pattern]
    )


def test_configs_are_there(document):
    stems = {path.stem for path in (ROOT / "configs").rglob("*.py")}
    long = {name for name in _CONFIG.findall(document.words) if name.removesuffix("-fit") not in stems}
    spans = [name for span in document.spans() if _PATTERN.fullmatch(span) for name in spelled_out(span)]
    long |= {name for name in spans if not fnmatch.filter(stems, name.removesuffix(".py").removesuffix("-fit"))}
    short = {match[1] for span in document.spans() if (match := _SHORT.fullmatch(span))}
    assert sorted(long - HOSTS | {name for name in short if not any(stem.endswith(f"-{name}") for stem in stems)}) == []


def test_old_names_are_gone(document):
    assert [match[0] for match in OLD.finditer(document.words)] == []


class Parsed(BaseException):
    """Raised where a script has read its command line."""


@contextlib.contextmanager
def script_as(script: str, argv: list[str], keep: list[argparse.ArgumentParser] | None = None) -> Iterator[None]:
    """Run a script up to the end of its command line; the process stays as it was."""
    real = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, args: list[str] | None = None, namespace: object = None) -> None:
        if keep is not None:
            keep.append(self)
        real(self, args, namespace)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        patch.setattr(sys, "argv", [script, *argv])
        patch.setattr(sys, "path", [str((ROOT / script).parent), *sys.path])
        patch.setattr(os, "environ", {name: value for name, value in os.environ.items() if name != "POINTCEPT_ROOT"})
        yield


def read_command_line(script: str, argv: list[str], keep: list[argparse.ArgumentParser] | None = None) -> str:
    """What a script's own parser has against a command line; empty if nothing. Nothing of the script's work is done."""
    path = ROOT / script
    assert re.search(r"parse_args\(|engine_parser", path.read_text(encoding="utf-8")), f"{script} reads no options"
    said = io.StringIO()
    with script_as(script, argv, keep), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except Parsed:
            return ""
        except SystemExit as end:
            if end.code == 0 or "POINTCEPT_ROOT" in str(end.code):  # what needs a checkout asks for it first
                return ""
            return (said.getvalue().strip().splitlines() or [f"exit {end.code}"])[-1]
    return "did not read its command line"


def module_file(name: str) -> str:
    path = name.replace(".", "/")
    return f"{path}.py" if (ROOT / f"{path}.py").exists() else f"{path}/__main__.py"


def sh_complaint(script: str, argv: list[str]) -> str:
    """What is wrong with the call of a shell script: its flags, and the config that `-c` names."""
    text = (ROOT / script).read_text(encoding="utf-8")
    if script == "scripts/quickstart.sh":
        return read_command_line("scripts/quickstart.py", argv)
    flags = re.search(r'getopts "([\w:]+)"', text)
    if not flags:
        return ""
    try:
        options, rest = getopt.getopt(argv, flags[1])
    except getopt.GetoptError as error:
        return str(error)
    given = dict(options)
    config = given.get("-c", "lam3c/pretrain-lam3c-v1m1-0-base").removesuffix(".py")
    places = (f"configs/{config}.py", f"configs/{given.get('-d', 'scannet')}/{config}.py")
    if not config.isupper() and not any((ROOT / place).exists() for place in places):
        return f"-c {config}: no such config"
    return "" if all(re.match(r"[\w.]+=", word) for word in rest) else f"not key=value: {rest}"


def complaint(command: list[str]) -> str:
    """What is wrong with a command of ours; empty for one of other programs."""
    program, *argv = command
    if any(word in ("...", "…") for word in argv):
        return ""
    if program in ("srun", "exec") and argv:
        return complaint(argv)
    if program == "lam3c":
        return read_command_line("lam3c_plugin/cli.py", argv)
    if program in ("python", "python3") and argv[:1] == ["-m"]:
        return read_command_line(module_file(argv[1]), argv[2:]) if argv[1].split(".")[0] in PACKAGES else ""
    if program in ("python", "python3") and argv[:1] and argv[0].endswith(".py"):
        script = argv[0] if (ROOT / argv[0]).exists() else f"benchmarks/{argv[0]}"
        return read_command_line(script, argv[1:])
    if program == "pip":
        extras = re.findall(r"^\.\[([\w,]+)\]$", " ".join(word for word in argv if word.startswith(".[")), re.MULTILINE)
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        return ", ".join(
            f"no extra {name}" for name in ",".join(extras).split(",") if name and f'"{name}": [' not in setup
        )
    if program == "sh" and argv[:1] and argv[0].startswith("scripts/"):
        return sh_complaint(argv[0], argv[1:])
    return ""


def test_commands_are_understood(document):
    wrong = [f"{' '.join(command)}: {said}" for command in document.commands() if (said := complaint(command))]
    assert wrong == []


def test_commands_in_sentences_are_understood(document):
    wrong = []
    for span in document.spans():
        for command in split_line(span):
            said = complaint(command)
            if said and "are required" not in said and "expected" not in said:  # a sentence may leave out the rest
                wrong.append(f"{span}: {said}")
    assert wrong == []


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every option of a parser and of its subcommands."""
    found = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        for sub in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            found |= options_of(sub)
    return found


@cache
def all_options() -> frozenset[str]:
    """Options of every script and command there is."""
    parsers: list[argparse.ArgumentParser] = []
    for path in sorted(path for path in repository() if path.endswith(".py") and path.split("/")[0] != "tests"):
        if re.search(r"^if __name__ == .__main__", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE):
            with contextlib.suppress(AssertionError):  # reads no options
                read_command_line(path, ["--help"], parsers)
    return frozenset().union(*map(options_of, parsers)) | OTHERS


def test_options_in_sentences_are_there(document):
    named = {option for span in document.spans() if span.startswith("--") for option in _OPTION.findall(span)}
    assert sorted(named - all_options()) == []


def test_the_readers_find_what_is_wrong(tmp_path):
    text = (
        "# A page\n`scripts/gone.sh` and [b](#a-page) [c](gone.md) `lam3c nothing`\n\n```sh\n"
        "A=1 lam3c pca x.ply --rainbow   # why\npython data_tools/package.py a.ply \\\n    --outt b && ls | wc\n"
        "sh scripts/train.sh -q 1\nsh scripts/train.sh -c lam3c/gone\n```\n"
    )
    page = Document("page.md", text)
    assert page.links() == ["#a-page", "gone.md"]
    assert page.anchors() == {"a-page"}
    assert page.spans() == ["scripts/gone.sh", "lam3c nothing"]
    said = [complaint(command) for command in page.commands()]
    assert ["--rainbow" in said[0], "--outt" in said[1], said[2:4]] == [True, True, ["", ""]]
    assert said[4:] == ["option -q not recognized", "-c lam3c/gone: no such config"]
    assert "invalid choice" in complaint(["lam3c", "nothing"])
    assert [file_exists(name, page) for name in ("scripts/gone.sh", "losses/clustering.py")] == [False, True]
    assert [module_exists(name) for name in ("data_tools.gravity", "lam3c_plugin.load")] == [False, True]
