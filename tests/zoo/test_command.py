"""``lam3c zoo`` as people type it."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from lam3c_plugin import cli
from lam3c_plugin.checkpoints import convert
from lam3c_plugin.checkpoints.weights import read
from lam3c_plugin.commands.zoo import add_parser
from lam3c_plugin.zoo.publish import check_sums
from tests.zoo.samples import TINY, finetuned, same, tiny_head, tiny_state, training

CONFIG = json.dumps(TINY)


@pytest.fixture
def lam3c(capsys):
    def call(*args, code=0):
        assert cli.main(["zoo", *map(str, args)]) == code
        output = capsys.readouterr()
        if code:
            assert len(output.err.splitlines()) <= 3
            assert "Traceback" not in output.err
        return output.out, output.err

    return call


@pytest.fixture
def run(tmp_path):
    torch.save(training(tiny_state(0), tiny_state(1)), tmp_path / "run.pth")
    return tmp_path / "run.pth"


def test_help_and_list(lam3c):
    assert "publish" in lam3c()[0]
    text = lam3c("list", "--scores")[0]
    assert "lam3c-ptv3-base " in text
    assert "aist-cvrt/lam3c-roomtours@main (unpinned); SHA-256 recorded at the first download" in text
    listed = json.loads(lam3c("list", "--json")[0])
    assert {"lam3c-ptv3-large", "sonata-ptv3-base"} <= {item["name"] for item in listed}
    assert [item["name"] for item in listed if item["here"]] == ["lam3c-tiny"]  # comes with the package


def test_download_from_a_folder_then_verify_and_info(lam3c, tmp_path):
    torch.save({"config": TINY, "state_dict": tiny_state()}, tmp_path / "sonata.pth")
    path = lam3c("download", "sonata-ptv3-base", "--from", tmp_path)[0].strip()
    assert same(read(path).backbone, tiny_state())
    assert "as expected" in lam3c("verify")[0]
    assert "here" in lam3c("list")[0]
    assert "cc-by-nc-4.0".upper() in lam3c("info", "sonata-ptv3-base")[0]
    Path(path).write_bytes(Path(path).read_bytes()[:-1])
    assert "wrong  sonata-ptv3-base: " in lam3c("verify", code=1)[0]
    _, error = lam3c("download", "lam3c-ptv3-base", code=1)
    assert "lam3c zoo download lam3c-ptv3-base --yes" in error
    assert "it is not on this machine" in lam3c("info", "lam3c-ptv3-base")[0]
    assert "did you mean" in lam3c("download", "lam3c-ptv3-bass", code=1)[1]


def test_one_of_several_downloads_may_fail(lam3c, tmp_path):
    torch.save({"config": TINY, "state_dict": tiny_state()}, tmp_path / "sonata.pth")
    out, error = lam3c("download", "lam3c-ptv3-base", "sonata-ptv3-base", "--from", tmp_path, code=1)
    assert out.strip().endswith("sonata.pth")
    assert f"error: lam3c-ptv3-base: {tmp_path} has no lam3c_ptv3-base_roomtours49k.pth" in error


def test_convert_the_teacher(lam3c, tmp_path, run):
    out, error = lam3c("convert", run, tmp_path / "t.safetensors", "--part", "teacher", "--config", CONFIG)
    assert out.strip() == str(tmp_path / "t.safetensors")
    assert " matched, 0 missing, 0 unexpected, 0 reshaped" in error
    assert same(read(tmp_path / "t.safetensors").backbone, tiny_state(1))
    assert "--force" in lam3c("convert", run, tmp_path / "t.safetensors", code=1)[1]
    lam3c("convert", run, tmp_path / "t.safetensors", "--force")
    assert same(read(tmp_path / "t.safetensors").backbone, tiny_state(0))
    facts = json.loads(lam3c("info", tmp_path / "t.safetensors", "--json")[0])
    assert facts["kind"] == "safetensors"
    assert facts["parameters"] == sum(value.numel() for value in tiny_state().values())
    text = lam3c("info", run, "--part", "teacher")[0]
    assert "kind        training" in text
    assert "ASSUMPTION" in text


def test_convert_a_segmentor_and_back(lam3c, tmp_path):
    torch.save(finetuned(tiny_state(), tiny_head()), tmp_path / "tuned.pth")
    out = lam3c("convert", tmp_path / "tuned.pth", tmp_path / "b.pth")[0].split()
    assert out == [str(tmp_path / "b.pth"), str(tmp_path / "b_head.pth")]
    lam3c("convert", tmp_path / "b.pth", tmp_path / "s.pth", "--to", "segmentor", "--head", tmp_path / "b_head.pth")
    first, second = (torch.load(tmp_path / name, weights_only=True)["state_dict"] for name in ("tuned.pth", "s.pth"))
    assert same(first, second)
    assert "has no head" in lam3c("convert", tmp_path / "b.pth", tmp_path / "h.pth", "--to", "head", code=1)[1]
    assert "head" in lam3c("info", tmp_path / "b_head.pth")[0]


def test_wrong_options(lam3c, tmp_path, run):
    target = tmp_path / "a.pth"
    assert "--config" in lam3c("convert", run, target, "--config", "none.json", code=1)[1]
    (tmp_path / "list.json").write_text("[1]")
    assert "JSON object" in lam3c("convert", run, target, "--config", tmp_path / "list.json", code=1)[1]
    assert "NAME=PERCENT" in lam3c("publish", run, "--out", tmp_path / "hub", "--score", "good", code=1)[1]
    (tmp_path / "page.pth").write_text("<!doctype html>")
    for action in (("info", tmp_path / "page.pth"), ("convert", tmp_path / "page.pth", target)):
        assert "HTML page" in lam3c(*action, code=1)[1]
    assert "HTML page" in lam3c("verify", tmp_path / "page.pth", code=1)[0]
    assert "checkpoint not found" in lam3c("info", tmp_path / "none.pth", code=1)[1]
    assert not target.exists()


def test_publish_leaves_a_folder_that_others_can_add(lam3c, tmp_path, run):
    score = ("--score", "ScanNet LP=12.5", "--name", "my-model", "--licence", "mit")
    out, error = lam3c("publish", run, "--out", tmp_path / "hub", "--config", CONFIG, *score)
    assert out.strip() == str(tmp_path / "hub")
    assert "nothing was uploaded" in error
    assert "4 files as in SHA256SUMS" in lam3c("verify", tmp_path / "hub")[0]
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "hub/SHA256SUMS").read_text().splitlines())
    assert sums["model.safetensors"] in (tmp_path / "hub/README.md").read_text()
    assert "my-model  MIT" in lam3c("add", tmp_path / "hub")[0]
    assert lam3c("download", "my-model")[0].strip() == str(tmp_path / "hub/model.safetensors")
    assert "ScanNet LP 12.5" in lam3c("list", "--scores")[0]
    lam3c("add", "--remove", "my-model")
    assert "my-model" not in lam3c("list")[0]


def test_old_spellings_are_understood_everywhere(lam3c, tmp_path):
    head = {"config": {"backbone_out_channels": 96, "num_classes": 20}, "state_dict": tiny_head()}
    stem = "lam3c_ptv3-base_roomtours49k_probe-head"
    for have, ask in (("scannet", "scennet"), ("scennet", "scannet")):
        folder = tmp_path / have
        folder.mkdir()
        torch.save(head, folder / f"{stem}_{have}.pth")
        assert f"{stem}_{have}.pth" in lam3c("info", folder / f"{stem}_{ask}.pth")[0]
        assert lam3c("verify", folder / f"{stem}_{ask}.pth")[0].endswith("a head\n")
        lam3c("convert", folder / f"{stem}_{ask}.pth", folder / "h.safetensors")
        name = f"{stem}_{ask}.pth"
        assert "name        lam3c-ptv3-base-scannet-probe\n" in lam3c("info", name)[0]
        assert "lam3c zoo download lam3c-ptv3-base-scannet-probe" in lam3c("verify", name, code=1)[0]
    assert "is under CC-BY-NC-4.0" in lam3c("download", name, "--from", tmp_path / "scannet")[1]
    assert lam3c("verify", f"{stem}_scennet")[0].startswith("ok ")


def test_targets_that_would_surprise(lam3c, tmp_path, run):
    assert "the ending .safetensor says no format" in lam3c("convert", run, tmp_path / "a.safetensor", code=1)[1]
    lam3c("convert", run, tmp_path / "lam3c-v1.5")
    assert "pass --force" in lam3c("convert", run, tmp_path / "lam3c-v1.5", code=1)[1]
    lam3c("convert", run, tmp_path / "lam3c-v1.5", "--force")
    (tmp_path / "exp/model").mkdir(parents=True)
    run.rename(tmp_path / "exp/model/model_last.pth")
    assert "model/model_last.pth; name the file itself" in lam3c("info", tmp_path / "exp", code=1)[1].replace("\\", "/")


class FakeApi:
    calls = ()

    def __init__(self, **options):
        FakeApi.calls = []

    def create_repo(self, repo, **options):
        self.calls.append(("create", repo, options["private"]))

    def upload_folder(self, repo_id, folder_path, commit_message):
        if repo_id.endswith("broken"):
            raise OSError("no route to host")
        self.calls.append(("upload", repo_id, len(check_sums(Path(folder_path)))))
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/abc")


def test_publish_uploads_with_the_users_login(lam3c, tmp_path, run, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    arguments = ("publish", run, "--out", tmp_path / "hub", "--config", CONFIG, "--repo")
    assert "hf auth login" in lam3c(*arguments, "me/model", code=1)[1]
    assert (tmp_path / "hub/SHA256SUMS").exists()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "the user's")
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    assert "https://huggingface.co/me/model/commit/abc" in lam3c(*arguments, "me/model", "--private")[0]
    assert FakeApi.calls == [("create", "me/model", True), ("upload", "me/model", 4)]
    assert "no route to host" in lam3c(*arguments, "me/broken", code=1)[1]


def test_a_broken_connection_leaves_the_folder(lam3c, tmp_path, run, monkeypatch):
    client = huggingface_hub.errors.HfHubHTTPError.__mro__[1]  # HTTPError of httpx, or of requests

    class Unreachable(FakeApi):
        def create_repo(self, repo, **options):
            raise client("[Errno 111] Connection refused")

    monkeypatch.setattr(huggingface_hub, "HfApi", Unreachable)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    error = lam3c("publish", run, "--out", tmp_path / "hub", "--repo", "me/mine", code=1)[1]
    assert "Connection refused" in error
    assert "is complete and stays" in error
    assert read(tmp_path / "hub").kind == "folder"


def test_the_formats_of_the_command_are_those_of_the_library():
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    assert parser.parse_args(["zoo", "convert", "a", "b", "--to", "folder"]).to == "folder"
    for layout in convert.FORMATS:
        parser.parse_args(["zoo", "convert", "a", "b", "--to", layout])
