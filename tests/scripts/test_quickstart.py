"""The quick start's arguments, stages and folders; tests/embedded covers the training it starts."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from lam3c_plugin.embedded.config import parse_value
from tests.rooms import put_scene

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def quickstart(monkeypatch, tmp_path):
    monkeypatch.setenv("LAM3C_CALLER_DIR", str(tmp_path))
    monkeypatch.setenv("LAM3C_ENGINE", "embedded")
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "scripts/quickstart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stages(quickstart, monkeypatch):
    """The commands that would have been run."""
    commands = []
    monkeypatch.setattr(quickstart, "run", lambda command, *args, **kwargs: commands.append(command))
    return commands


def test_paths_are_relative_to_where_the_command_was_typed(quickstart, tmp_path):
    (tmp_path / "my scans").mkdir()
    args = quickstart.parse_arguments(["--data", "my scans", "--out", "results", "--steps", "7"])
    assert args.data == [tmp_path / "my scans"]
    assert args.out == tmp_path / "results"
    assert quickstart.parse_arguments([]).out == Path("exp/quickstart")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "1"], "--steps must be at least 2, got 1"),
        (["--rooms", "1"], "--rooms must be at least 2, got 1"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--stepps", "5"], "unrecognized arguments"),
        (["--video", "nowhere.mp4"], "nowhere.mp4: no such file or folder"),
        (["--video", "--data", "."], "exclude each other"),
    ],
)
def test_wrong_arguments_are_named(quickstart, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        quickstart.parse_arguments(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_every_input_has_a_data_folder_of_its_own(quickstart, stages, tmp_path):
    for name in ("a.ply", "b.ply"):
        (tmp_path / name).write_bytes(b"")
    inputs = [[], ["--rooms", "4"], ["--seed", "1"], ["--data", "a.ply"], ["--data", "a.ply", "b.ply"]]
    roots = [quickstart.prepare_data(quickstart.parse_arguments(given)) for given in inputs]
    assert len(set(roots)) == len(inputs)
    assert all(str(root) in command for root, command in zip(roots, stages, strict=True))
    assert quickstart.prepare_data(quickstart.parse_arguments([])) == roots[0]  # a second run finds its own again


def test_videos_become_rooms_first(quickstart, stages, tmp_path):
    (tmp_path / "my tour.mp4").write_bytes(b"")
    args = quickstart.parse_arguments(["--video", "my tour.mp4"])
    root = quickstart.prepare_data(args)
    (chain,) = stages
    assert {"data_tools/build_roomtours.py", str(tmp_path / "my tour.mp4"), "sfm", "none", str(root)} <= set(chain)
    assert "--video" in quickstart.resume_command(args)
    assert "--rooms" not in quickstart.resume_command(args)


def test_without_a_video_a_made_up_flat_is_filmed_and_its_labels_are_used(quickstart, stages):
    root = quickstart.prepare_data(quickstart.parse_arguments(["--video"]))
    film, chain = stages
    folder = Path(film[film.index("--out") + 1])
    assert film[1] == "data_tools/synthetic/walkthrough/film.py"
    assert {str(folder / "walkthrough.mp4"), str(folder / "labels.csv"), str(root)} <= set(chain)
    assert root != folder


def test_scene_folders_are_taken_as_they_are(quickstart, stages, tmp_path):
    put_scene(tmp_path / "root/train/one")
    assert quickstart.prepare_data(quickstart.parse_arguments(["--data", "root"])) == tmp_path / "root"
    assert stages == []


def test_few_scenes_still_fill_a_batch(quickstart, stages, tmp_path):
    put_scene(tmp_path / "a, b/train/one")
    args = quickstart.parse_arguments(["--data", "a, b", "--out", "results", "--steps", "5"])
    quickstart.train(args, args.data[0])
    options = dict(option.split("=", 1) for option in stages[0][stages[0].index("--options") + 1 :])
    assert (options["epoch"], options["eval_epoch"], options["max_steps"]) == ("16", "1", "5")  # 8 batches of two
    assert parse_value(options["data.train.data_root"]) == str(tmp_path / "a, b")


def checkpoint(folder: Path) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "model/model_last.pth").write_bytes(b"weights")


def test_a_second_run_leaves_the_first(quickstart, stages, tmp_path, capsys):
    put_scene(tmp_path / "root/train/one")
    out = tmp_path / "results"
    (out / "run").mkdir(parents=True)
    (out / "run/train.log").write_text("a start that failed")
    args = quickstart.parse_arguments(["--data", "root", "--out", "results"])
    assert quickstart.train(args, args.data[0]) == out / "run"
    checkpoint(out / "run")
    assert quickstart.train(args, args.data[0]) == out / "run-2"
    assert f"save_path={str(out / 'run-2')!r}" in stages[-1]
    checkpoint(out / "run-2")
    assert quickstart.train(args, args.data[0]) == out / "run-3"
    assert (out / "run/model/model_last.pth").read_bytes() == b"weights"
    assert "run-2 stays; this run goes to" in capsys.readouterr().out


def test_resume_goes_on_with_the_last_run(quickstart, stages, tmp_path):
    put_scene(tmp_path / "root/train/one")
    out = tmp_path / "results"
    args = quickstart.parse_arguments(["--data", "root", "--out", "results", "--resume"])
    checkpoint(out / "run")
    checkpoint(out / "run-2")
    assert quickstart.train(args, args.data[0]) == out / "run-2"
    assert "resume=True" in stages[-1]
    (out / "run-3").mkdir()
    (out / "run-3/events.out.tfevents.1").write_bytes(b"x" * 200)  # stopped before its first checkpoint
    assert quickstart.train(args, args.data[0]) == out / "run-3"
    assert "resume=True" not in stages[-1]
    assert "--overwrite" in stages[-1]
    checkpoint(out / "run-3")
    (out / "run-3/model/model_last.pth").rename(out / "run-3/model/epoch_1.pth")  # the last is gone, others are there
    quickstart.train(args, args.data[0])
    assert "--overwrite" not in stages[-1]


def test_a_root_without_training_scenes_is_an_error(quickstart, stages, tmp_path):
    put_scene(tmp_path / "root/val/one")
    args = quickstart.parse_arguments(["--data", "root"])
    with pytest.raises(SystemExit, match="holds no scene"):
        quickstart.train(args, args.data[0])
    assert stages == []


def test_only_passing_exit_codes_go_on(quickstart):
    exits = [sys.executable, "-c", "raise SystemExit(3)"]
    quickstart.run(exits, passing=(0, 3))
    with pytest.raises(SystemExit) as stopped:
        quickstart.run(exits)
    assert stopped.value.code == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_reaches_the_stage_and_is_waited_for(quickstart, tmp_path, number):
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    code = (
        "import pathlib, signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(0.5)\n"
        "    pathlib.Path(sys.argv[2]).touch()\n"
        "    sys.exit(7)\n"
        f"signal.signal({int(number)}, stop)\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(60)\n"
    )

    def press() -> None:
        while not ready.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(SystemExit) as stopped:
        quickstart.run([sys.executable, "-c", code, str(ready), str(saved)])
    assert stopped.value.code == 7
    assert saved.exists()


def test_the_command_to_resume_names_what_the_run_was_made_of(quickstart, tmp_path):
    (tmp_path / "my scans").mkdir()
    typed = quickstart.resume_command(quickstart.parse_arguments(["--data", "my scans", "--steps", "9"]))
    assert typed == (
        f"sh scripts/quickstart.sh --data '{tmp_path}/my scans' --seed 0 --steps 9 --out exp/quickstart --resume"
    )
