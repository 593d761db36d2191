"""The end of a command line: one line on stderr, the exit code, nothing else."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools import build_roomtours, collect, package, postprocess, reconstruct, report, segment
from data_tools.stages.command_line import UsageError, count, run_main, usage_errors
from lam3c_plugin.errors import DataError, Interrupted
from lam3c_plugin.errors import run_main as run_lam3c

SCRIPTS = {
    build_roomtours: ("read_videos", ["tour.mp4", "--backend", "sfm", "--labels", "none", "--out", "{}/out"]),
    collect: ("scan_manifest", ["report", "list.csv", "--out", "{}/out"]),
    package: ("find_clouds", ["clouds", "--out", "{}/out"]),
    postprocess: ("find_scenes", ["clouds", "--out", "{}/out"]),
    reconstruct: ("find_scenes", ["tour.mp4", "--out", "{}/out"]),
    report: ("scan", ["{}/out"]),
    segment: ("find_videos", ["tour.mp4", "--work", "{}/out"]),
}


def raising(error):
    def main():
        raise error

    return main


@pytest.fixture(autouse=True)
def no_debug(monkeypatch):
    monkeypatch.delenv("LAM3C_DEBUG", raising=False)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(28, "No space left on device", "a/b.npy"), 1, "tool: a/b.npy: No space left on device; check space"),
        (OSError(28, "No space left on device"), 1, "tool: out: No space left on device; check space and rights"),
        (OSError("a decoder's\nown words"), 1, "tool: a decoder's own words\n"),
        (UsageError("--jobs is 0"), 2, "tool: --jobs is 0\n"),
        (KeyboardInterrupt(), 130, "stopped: start it again to go on\n"),
    ],
)
def test_errors_are_one_line_and_a_code(capsys, monkeypatch, error, code, line):
    assert run_main(raising(error), "tool", out=Path("out")) == code
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1
    if code != 130:
        monkeypatch.setenv("LAM3C_DEBUG", "1")
        assert run_main(raising(error), "tool", out=Path("out")) == code
        assert "Traceback" in capsys.readouterr().err


def test_codes_go_through_and_bugs_keep_their_traceback():
    assert [run_main(lambda code=code: code, "tool") for code in (None, 0, 3, True)] == [0, 0, 3, 1]
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 / 0, "tool")
    with pytest.raises(OSError, match="lam3c"):  # lam3c names its own errors; others are bugs
        run_lam3c(raising(OSError("lam3c")))


def test_the_plugins_errors_end_the_same_way(capsys):
    assert run_lam3c(raising(DataError("no\nscene"))) == 1
    assert run_lam3c(raising(Interrupted("saved", 143))) == 143
    assert run_lam3c(raising(KeyboardInterrupt())) == 130
    said = capsys.readouterr().err
    assert said == "error: no scene\nstopped: saved\nstopped: Ctrl-C before there was anything to save\n"


@pytest.mark.parametrize("error", [ValueError("bad"), FileNotFoundError(2, "No such file or directory", "x"), KeyError])
def test_what_the_arguments_cannot_mean_is_usage(error):
    with pytest.raises(UsageError), usage_errors(KeyError):
        raise error
    with pytest.raises(OSError, match="space"), usage_errors():
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__.rpartition(".")[2])
@pytest.mark.parametrize(("error", "code"), [(ValueError("no such thing"), 2), (KeyboardInterrupt(), 130)])
def test_all_seven_scripts_end_the_same_way(monkeypatch, tmp_path, capsys, script, error, code):
    name, arguments = SCRIPTS[script]

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(script, name, fail)
    assert script.main([text.format(tmp_path) for text in arguments]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert ("no such thing" in said) == (code == 2)


@pytest.mark.parametrize("text", ["-3", "1.5", "many", ""])
def test_what_counts_is_a_whole_number(text):
    assert (count("0"), count("12")) == (0, 12)
    with pytest.raises(argparse.ArgumentTypeError, match="give a whole number, 0 or more"):
        count(text)


@pytest.mark.skipif(os.name != "posix", reason="pipes of a shell")
@pytest.mark.parametrize(("code", "wanted"), [("print('x' * 100000)", 0), ("raise BrokenPipeError(32, 'other')", 1)])
def test_a_reader_that_went_away_is_no_error(code, wanted):
    program = f"import sys; from data_tools.stages.command_line import run_main\ndef main():\n    {code}\n"
    program += "sys.exit(run_main(main, 'tool'))"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if not wanted:
        process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == wanted, said
    process.stdout.close()
    assert ("tool: other" in said) == bool(wanted)
