"""What is missing is said once, before the first video."""

import importlib.util
import os
from dataclasses import replace

import pytest

from data_tools.chain import preflight
from data_tools.chain.items import Places, VideoItem
from data_tools.chain.options import usual_settings
from tests.data_tools.chain.chain_run import make_videos, run_here


def without(monkeypatch, *names):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in names else real(name, *more))


def test_missing_packages_are_said_once_and_nothing_is_begun(tmp_path, monkeypatch, capsys):
    videos, out = make_videos(tmp_path / "videos", a="room 1 1", b="room 1 2"), tmp_path / "out"
    with monkeypatch.context() as patch:
        without(patch, "av", "pycolmap")
        assert run_here(patch, videos, "--out", out) == 2
        said = capsys.readouterr().err.splitlines()
        assert said == [
            "build_roomtours: segment needs av, which is not installed: pip install av",
            "build_roomtours: reconstruct needs pycolmap, which is not installed: pip install pycolmap",
        ]
        assert not list(out.rglob("record.json"))
    assert run_here(monkeypatch, videos, "--out", out) == 0
    without(monkeypatch, "av", "pycolmap")
    assert run_here(monkeypatch, videos, "--out", out) == 0  # all is done: nothing is needed
    assert run_here(monkeypatch, videos, "--out", out, "--redo", "postprocess", "--set", "postprocess.value=1") == 0


def test_what_is_needed_is_what_is_still_to_be_called():
    assert preflight.needed({"settled": 3}) == set()
    assert preflight.needed({"postprocess": 1}) == {"postprocess"}
    assert preflight.needed({"segment": 1, "settled": 9}) == {"segment", "reconstruct", "postprocess"}


def test_a_folder_that_cannot_be_written_and_a_disk_that_is_full(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    (line,) = preflight.check_places(Places(tmp_path / "file/out", tmp_path / "work"))
    assert line.startswith(f"{tmp_path / 'file/out'}: cannot be written (Not a directory)")
    assert preflight.check_places(Places(tmp_path / "out", tmp_path / "out/_work")) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["_work"]
    monkeypatch.setattr(preflight, "LEAST_FREE", 2**60)
    assert "make room" in preflight.check_places(Places(tmp_path / "out", tmp_path / "out/_work"))[0]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written" in preflight.check_places(Places(tmp_path, tmp_path))[0]
    tmp_path.chmod(0o700)


FETCHED = VideoItem("v", url="https://example.org/v.mp4")


def check(backend="sfm", videos=(FETCHED,), **changes):
    stages = usual_settings("sfm", "none")
    stages["reconstruct"] = replace(stages["reconstruct"], backend=backend, **changes)
    return preflight.check_stages(list(videos), stages)


def test_a_checkout_and_weights_that_are_missing(tmp_path, monkeypatch):
    assert "reconstruct" not in check()
    monkeypatch.delenv("PI3_ROOT", raising=False)
    assert "PI3_ROOT names a checkout" in check("pi3")["reconstruct"][0]
    monkeypatch.setenv("PI3_ROOT", str(tmp_path))
    assert check("pi3")["reconstruct"] == [f"PI3_ROOT={tmp_path} holds no pi3/; see docs/reconstruct.md"]
    (tmp_path / "pi3").mkdir()
    weights = tmp_path / "model.safetensors"
    assert check("pi3", weights=str(weights))["reconstruct"] == [
        f"reconstruct.weights {weights}: no such file or folder; check the path"
    ]
    weights.touch()
    assert "reconstruct" not in check("pi3", weights=str(weights))


def test_weights_of_the_hub(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    constants = importlib.import_module("huggingface_hub.constants")
    (tmp_path / "pi3").mkdir()
    monkeypatch.setenv("PI3_ROOT", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    asked = []

    def no_network(self, name, timeout):
        asked.append(name)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", no_network)
    (line,) = check("pi3", options={"model": "pi3x"})["reconstruct"]
    assert line.startswith("weights yyfz233/Pi3X are not on this machine and cannot be had (ConnectionError: no route")
    cached = tmp_path / "hub/models--yyfz233--Pi3/snapshots/abc"
    cached.mkdir(parents=True)
    (cached / "model.safetensors").touch()
    assert "reconstruct" not in check("pi3")
    assert asked == ["yyfz233/Pi3X"]


def test_downloads_need_yt_dlp_and_local_videos_do_not(tmp_path, monkeypatch):
    without(monkeypatch, "yt_dlp")
    assert "yt-dlp is not installed" in check()["collect"][0]
    assert "collect" not in check(videos=[VideoItem("v", tmp_path / "v.mp4")])
    without(monkeypatch, "av")
    assert "segment" in check(videos=[VideoItem("v", tmp_path / "v.mp4")])
    assert "segment" not in check(videos=[VideoItem("frames", tmp_path)])
