import pytest

from lam3c_plugin import cli
from lam3c_plugin.commands import doctor_checkout as doctor
from lam3c_plugin.host_checkout import inspect_checkout
from tests.commands.fake_checkout import make_checkout
from tests.rooms import put_scene


@pytest.fixture
def root(tmp_path):
    return make_checkout(tmp_path / "checkout")


def run(*words):
    return cli.main(["doctor", "--pointcept", *map(str, words)])


def test_report_names_what_is_missing_and_the_cure(root, capsys):
    assert run(root, "--gpus", 8, "--gpu-memory", 80) == 1
    out = capsys.readouterr().out
    for text in (
        "the configs are not installed",
        f"lam3c install --pointcept {root}",
        "nowhere_to_be_found is missing; pointcept/engines/train.py imports it",
        "data/roomtours is not there",
        "python data_tools/package.py CLOUDS... --out",
        "of 80 GiB",
    ):
        assert text in out


def test_wrong_folder(tmp_path, capsys):
    assert run(tmp_path) == 1
    assert "no Pointcept checkout" in capsys.readouterr().err


def test_data_and_configs_found(root, capsys):
    put_scene(root / "data/roomtours/train/scene0")
    cli.main(["install", "--pointcept", str(root)])
    run(root)
    out = capsys.readouterr().out
    assert "data/roomtours: 1 scenes" in out
    assert "the configs are installed" in out
    (root / "configs/lam3c/pretrain-lam3c-v1m1-0-base.py").unlink()
    run(root)
    assert "half installed" in capsys.readouterr().out


def test_write_makes_a_config_that_uninstall_removes(root, capsys):
    cli.main(["install", "--pointcept", str(root)])
    words = ("--gpus", 1, "--gpu-memory", 24, "--config", "pretrain-lam3c-v1m1-7-24gb", "--write")
    run(root, *words)
    from lam3c_plugin.embedded.config import Config

    for folder in ("configs/lam3c", "configs/scannet/lam3c"):
        cfg = Config.fromfile(root / folder / "pretrain-lam3c-v1m1-7-24gb-fit.py", import_custom_modules=False)
        assert cfg.batch_size * cfg.gradient_accumulation_steps == 96
        assert max(cfg.model.backbone.enc_patch_size) == (1024 if doctor.has_package("flash_attn") else 256)
    cli.main(["install", "--pointcept", str(root)])  # an update leaves it alone
    run(root, *words)  # and it can be written again
    assert (root / "configs/lam3c/pretrain-lam3c-v1m1-7-24gb-fit.py").is_file()
    capsys.readouterr()
    cli.main(["install", "--pointcept", str(root), "--uninstall"])
    assert not (root / "configs/lam3c").exists()


def test_write_asks_for_what_it_needs(root, capsys):
    assert run(root, "--gpus", 1, "--gpu-memory", 24, "--config", "pretrain-lam3c-v1m1-7-24gb", "--write") == 1
    assert "is not installed in" in capsys.readouterr().err
    cli.main(["install", "--pointcept", str(root)])
    assert run(root, "--gpus", 1, "--gpu-memory", 6, "--write") == 1
    assert "fits no even split" in capsys.readouterr().err


def test_config_must_pre_train(root, capsys):
    assert run(root, "--config", "semseg-lam3c-v1m1-0a-scannet-lin") == 1
    assert "for pre-training configs" in capsys.readouterr().err


def test_batch_that_does_not_divide(root):
    cfg = doctor.load_config(doctor.DEFAULT_CONFIG)
    findings = list(doctor.check_memory(cfg, True, 5, 80, True))
    assert "batch_size=96 does not divide by 5 GPUs" in findings[0].text


def test_what_1_6_0_lacks(root, monkeypatch):
    old = make_checkout(
        root.with_name("old"), {"pointcept/engines/train.py": "", "pointcept/engines/hooks/misc.py": ""}
    )
    monkeypatch.setattr("torch.__version__", "2.6.0+cu124")
    marks = [finding.text for finding in doctor.check_checkout(inspect_checkout(old))]
    assert any("no gradient accumulation before v1.6.1" in text for text in marks)
    assert any("under torch 2.6" in text for text in marks)


@pytest.mark.parametrize(
    ("wheels", "mark", "text"),
    [
        ([("spconv", "2.3.8")], "todo", "CPU build"),
        ([("spconv-cu120", "2.3.6"), ("spconv-cu124", "2.3.8")], "todo", "hide each other"),
        ([("spconv-cu118", "2.3.6")], "todo", "against PyTorch's CUDA 12.4"),
        ([("spconv-cu120", "2.3.6")], "ok", "spconv-cu120"),
    ],
)
def test_spconv_wheels(monkeypatch, wheels, mark, text):
    import torch

    monkeypatch.setattr(torch.version, "cuda", "12.4")
    finding = doctor.check_spconv(wheels)
    assert finding.mark == mark
    assert text in finding.text
