"""Every command that a page shows: its options and settings are known, its files are there, and the quick ones run.

What a command needs is in the repository, is brought by the reader (`BROUGHT`), or is made by an earlier command of
the same page. Commands that take seconds run, page by page, in a fresh folder with a few small inputs.
"""

from __future__ import annotations

import argparse
import contextlib
import getopt
import inspect
import io
import os
import re
import runpy
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from data_tools.chain.options import usual_settings, with_changes
from data_tools.clouds.io import write_ply
from lam3c_plugin import host
from lam3c_plugin.embedded.engine.defaults import read_config
from lam3c_plugin.hooks.online_probe.settings import ProbeSettings
from tests.commands.run import run
from tests.documents import PACKAGES, ROOT, Document, documents, repository, split_line
from tests.rooms import box_room
from tests.zoo.samples import finetuned, tiny_head, tiny_state, training

#: options of other programs, in sentences
OTHERS = {"--array", "--gpus", "--head", "--address", "--signal", "--maxkb", "--shm-size"}
#: what readers have: clouds, videos, lists, weights, data sets, a checkout
BROUGHT = re.compile(
    r"(my_)?(scans?|room|photos|tour|tours|labels|labelled_rooms)(/|\.(ply|mp4))?|(~/Pointcept|/path/to|/shared|/models|/data)(/.*)?"
    r"|roomtours\.csv|sonata\.pth|ViT-B-32\.pt|4k\.mkv|data/(roomtours|scannet)(/.*)?|exp/(run|finetuned)/model/.*\.pth"
)
#: options whose value is made by the command
MAKES = {"--out", "--work", "--save-head", "--torch-export", "--onnx", "--tables-out"}
#: commands that run in a fresh folder; those of `SLOW` take longer and run with the slow tests
QUICK = (
    r"lam3c zoo (list|convert|publish(?!.*--repo)).*",
    r"lam3c (encode|pca|similarity) (room|scan)\.ply(?!.*--checkpoint).*",
    r"python data_tools/package\.py my_scans/? .*",
    r"python data_tools/report\.py data/roomtours(?!.*(--serve|--jobs)).*",
)
SLOW = (
    r"python -m data_tools\.synthetic\.rooms\.generate .*",
    r"python data_tools/synthetic/walkthrough/film\.py .*--seconds 6 .*",
    r"lam3c (pca|similarity|segment|probe --data) rooms(?!.*--checkpoint).*",
    r"lam3c export --(torch-export|tables).*",
)
_OPTION = re.compile(r"--[a-z][\w-]*")
_SETTING = re.compile(r"[a-z_][\w.-]*=.*")
_PATH = re.compile(r"~?[\w.-]*/[\w./-]*|[\w.-]+\.(ply|pth|pt2?|onnx|csv|mp4|mkv|npz|npy|jsonl?|safetensors|py|txt)")


@pytest.fixture(params=documents(), ids=lambda document: document.name)
def document(request: pytest.FixtureRequest) -> Document:
    return request.param


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


def config_of(words: list[str]) -> Path | None:
    """The config file that a command of training or evaluation names."""
    for option, value in pairwise(words):
        if option == "--config-file":
            return ROOT / value
        if option == "-c":
            folder = words[words.index("-d") + 1] if "-d" in words else ""
            places = [ROOT / f"configs/{place}.py" for place in (value, f"{folder}/{value}")]
            return next((path for path in places if path.exists()), None)
    return None


def takes(holder: Any, name: str) -> bool:
    """Whether a part of a config has a setting, or its ``type`` an argument of that name."""
    if isinstance(holder, (list, tuple)):
        return re.fullmatch(r"-?\d+", name) is not None and -len(holder) <= int(name) < len(holder)
    if not hasattr(holder, "get"):
        return False
    registries = (host.MODELS, host.LOSSES, host.DATASETS, host.TRANSFORMS, host.HOOKS)
    built = [found for registry in registries if (found := registry.get(str(holder.get("type"))))]
    return name in holder or any(name in inspect.signature(found).parameters for found in built)


def unknown_settings(words: list[str]) -> list[str]:
    """Settings of a command, ``KEY=VALUE``, that its config does not know."""
    path = config_of(words)
    settings = [word.partition("=")[0] for word in words if _SETTING.fullmatch(word)]
    unknown = []
    for key in settings if path else ():
        if key.removeprefix("probe.") in ProbeSettings.__dataclass_fields__:  # all may be given, few are in a config
            continue
        holder: Any = read_config(path)
        for part in key.split("."):
            if not takes(holder, part):
                unknown.append(key)
                break
            holder = holder[int(part)] if isinstance(holder, (list, tuple)) else holder.get(part)
    return unknown


def test_settings_are_those_of_the_configs(document):
    unknown = []
    for command in document.commands():
        unknown += unknown_settings(command)
    stages = re.findall(r"--set ((?!STAGE)[a-z]+\.[\w.]+=\S+?)[`\s]", document.text)
    with_changes(usual_settings("sfm", "none"), stages)
    assert unknown == []


def made_by(command: list[str], in_host: bool) -> list[str]:
    """Paths that a command makes."""
    made = [after for word, after in pairwise(command) if word in MAKES]
    options = dict(pairwise(command))
    if "scripts/train.sh" in command:
        folder = options.get("-d") or ("scannet" if in_host else options.get("-c", "scannet/").split("/")[0])
        made.append(f"exp/{folder}/{options.get('-n', 'debug')}")
    elif "scripts/quickstart.sh" in command:
        made.append("exp/quickstart/run")
    elif "--shards" in command and "--out" not in command:
        made.append(f"{command[-1]}-shards")
    elif command[:2] == ["git", "clone"]:
        made.append(command[-1].rpartition("/")[2])
    elif command[:3] == ["lam3c", "zoo", "convert"]:
        made += [word for word in command[4:] if _PATH.fullmatch(word)]
        made += [f"{word.removesuffix('.pth')}_head.pth" for word in made]
    return made


def read_by(command: list[str]) -> list[str]:
    """Paths that a command of ours names and does not make."""
    if command[0] not in ("python", "lam3c", "sh", "srun", "torchrun"):
        return []
    made = made_by(command, False)
    words = [word for word in command if not word.startswith("-") and not _SETTING.fullmatch(word)]
    values = [after for word, after in pairwise(command) if word in ("-c", "-n", "-d", "--repo")]
    return [word for word in words if _PATH.fullmatch(word) and word not in made and word not in values]


def test_files_of_commands_are_there(document):
    missing, made = [], []
    if not document.name.endswith(".md"):
        return
    for block in document.blocks():
        in_host = False
        for command in block:
            in_host |= command[:2] == ["cd", "~/Pointcept"]
            for path in read_by(command):
                name = path.rstrip("/")
                known = any(name == new.rstrip("/") or name.startswith(new.rstrip("/") + "/") for new in made)
                if not (
                    known or (ROOT / name).exists() or (ROOT / "benchmarks" / name).exists() or BROUGHT.fullmatch(path)
                ):
                    missing.append(f"{' '.join(command)}: {path}")
            if in_host and "scripts/train.sh" in command and any(map(_SETTING.fullmatch, command)):
                missing.append(f"{' '.join(command)}: Pointcept's train.sh takes no settings")
            made += made_by(command, in_host)
    assert missing == []


def run_as_typed(command: list[str]) -> int:
    """A command's exit code; it runs in this process, so that PyTorch is imported once."""
    if command[0] == "lam3c":
        return run(*command[1:]) or 0
    module = command[1] == "-m"
    target, argv = (command[2], command[3:]) if module else (str(ROOT / command[1]), command[2:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [target, *argv])
        patch.setattr(sys, "path", [str(Path(target).parent), *sys.path])
        try:
            (runpy.run_module if module else runpy.run_path)(target, run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def inputs(folder: Path) -> None:
    """What a reader brings: two clouds, a folder of them, a data set, a checkpoint."""
    room = box_room(4000, (4.0, 3.0, 2.5))
    room.coord -= (2.0, 1.5, 0.0)  # the middle of the floor at 0
    for name in ("room.ply", "scan.ply", "my_scans/room.ply"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_ply(folder / name, room)
    for name, weights in (
        ("run/model/model_last", training(*[tiny_state()] * 2)),
        ("finetuned/model/model_best", finetuned(tiny_state(), tiny_head())),
    ):
        (folder / f"exp/{name}.pth").parent.mkdir(parents=True)
        torch.save(weights, folder / f"exp/{name}.pth")


def wanted(document: Document, patterns: tuple[str, ...]) -> list[list[str]]:
    return [words for words in document.commands() if any(re.fullmatch(p, " ".join(words)) for p in patterns)]


def check_runs(document: Document, patterns: tuple[str, ...], folder: Path, patch: pytest.MonkeyPatch) -> None:
    inputs(folder)
    patch.chdir(folder)
    assert run_as_typed(["python", "data_tools/package.py", "my_scans", "--out", "data/roomtours"]) == 0
    patch.setenv("LAM3C_HOME", str(folder / "home"))
    patch.setattr("webbrowser.open", lambda address: False)
    failed = [command for command in wanted(document, patterns) if run_as_typed(command) != 0]
    assert failed == []


@pytest.mark.parametrize("page", [page for page in documents() if wanted(page, QUICK)], ids=lambda page: page.name)
def test_quick_commands_run(page, tmp_path, monkeypatch):
    check_runs(page, QUICK, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in documents() if wanted(page, SLOW)], ids=lambda page: page.name)
def test_slower_commands_run(page, tmp_path, monkeypatch):
    check_runs(page, (*QUICK, *SLOW), tmp_path, monkeypatch)


def test_the_readers_find_what_is_wrong():
    text = (
        "`lam3c nothing`\n\n```sh\n"
        "A=1 lam3c pca x.ply --rainbow   # why\npython data_tools/package.py a.ply \\\n    --outt b && ls | wc\n"
        "sh scripts/train.sh -q 1\nsh scripts/train.sh -c lam3c/gone\n```\n"
    )
    page = Document("page.md", text)
    assert page.spans() == ["lam3c nothing"]
    said = [complaint(command) for command in page.commands()]
    assert ["--rainbow" in said[0], "--outt" in said[1], said[2:4]] == [True, True, ["", ""]]
    assert said[4:] == ["option -q not recognized", "-c lam3c/gone: no such config"]
    assert "invalid choice" in complaint(["lam3c", "nothing"])
    config = "sh scripts/train.sh -c lam3c/pretrain-lam3c-v1m1-2-tiny -- "
    settings = "model.match_max_r=1 model.macht=1 hooks.0.gone=1 max_steps=3 data.train.loop=2 epochs=3"
    assert unknown_settings((config + settings).split()) == ["model.macht", "hooks.0.gone", "epochs"]
    lines = (
        "```sh\ncd ~/Pointcept\nsh scripts/train.sh -c lam3c/x -n n{}\nsh scripts/train.sh -w exp/lam3c/n/a.pth\n```"
    )
    for words, wrong in (("", 1), (" -- batch_size=4", 2)):
        with pytest.raises(AssertionError) as error:
            test_files_of_commands_are_there(Document("page.md", lines.format(words)))
        assert str(error.value).count(": ") >= wrong
