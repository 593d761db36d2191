"""The short form of `benchmarks/fuzz.py`, and that its judging can fail."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("av")

from benchmarks import _fuzz_clouds as clouds
from benchmarks import _fuzz_videos as videos
from benchmarks._fuzz import SILENT, TRACEBACK, Tally
from benchmarks.fuzz import main

pytest.importorskip("plyfile")
pytest.importorskip("trimesh")
pytest.importorskip("laspy")


def test_two_hundred_clouds(capsys):
    assert main(["--clouds", "207", "--videos", "0", "--lists", "0", "--seed", "11"]) == 0
    table = capsys.readouterr().out
    assert all(kind in table for kind in clouds.FORMATS)
    assert "all                          207" in table


@pytest.mark.parametrize("kind", clouds.FORMATS)
def test_a_reader_that_errs_is_caught(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(clouds, "_odd_array", lambda rng, value: value)
    path, made = clouds.written(tmp_path, kind, np.random.default_rng(4))

    def shifted(path):
        cloud = read(path)
        cloud.coord[3, 1] += 0.01
        return cloud

    def falls(path):
        raise ValueError("some library's words")

    read, outcomes = clouds.read_cloud, []
    for reader in (read, shifted, falls):
        monkeypatch.setattr(clouds, "read_cloud", reader)
        tally = Tally("clouds")
        clouds.judge_case(path, kind, made, tally, 0)
        outcomes.append((tally.count(SILENT), tally.count(TRACEBACK)))
    assert outcomes == [(0, 0), (1, 0), (0, 1)]


def test_sixty_videos(capsys):
    assert main(["--clouds", "0", "--videos", "60", "--lists", "0", "--seed", "5"]) == 0
    table = capsys.readouterr().out
    assert all(kind in table for kind in (*videos.FORMATS, "no video"))


@pytest.mark.parametrize("damage", ["none", "cut"])
def test_a_pass_that_loses_pictures_in_silence_is_caught(damage, tmp_path):
    path = tmp_path / "case.mkv"
    content = videos.whole("mkv")
    path.write_bytes(content[: len(content) * 2 // 3] if damage == "cut" else content)

    def forgetful(path):
        scan = videos.read(path)
        return replace(scan, holes=[]) if damage == "cut" else replace(scan, frames=scan.frames - 30)

    def falls(path):
        raise ValueError("some library's words")

    outcomes = []
    for read in (videos.read, forgetful, falls):
        tally = Tally("videos")
        videos.judge_case(path, "mkv", tally, "", read)
        outcomes.append((tally.count(SILENT), tally.count(TRACEBACK)))
    assert outcomes == [(0, 0), (1, 0), (0, 1)]
