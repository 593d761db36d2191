import os
import shutil
import stat

import pytest

from lam3c_plugin import cli
from lam3c_plugin.commands import install as command
from lam3c_plugin.embedded.config import Config
from lam3c_plugin.host_checkout import inspect_checkout
from tests.commands.fake_checkout import FILES, make_checkout

BASE = "configs/lam3c/pretrain-lam3c-v1m1-0-base.py"
TWIN = "configs/scannet/lam3c/pretrain-lam3c-v1m1-0-base.py"


@pytest.fixture
def root(tmp_path):
    return make_checkout(tmp_path / "a checkout")


def everything(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink())


def run(*words):
    return cli.main(["install", "--pointcept", *map(str, words)])


def test_install_lists_what_it_writes_and_uninstall_removes_exactly_that(root, capsys):
    before = everything(root)
    assert run(root) == 0
    written = set(everything(root)) - set(before)
    listed = {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("write ")}
    assert {BASE, TWIN, "configs/lam3c/_base_/pretrain_roomtours.py"} <= listed
    assert written == listed
    assert run(root, "--uninstall") == 0
    assert everything(root) == before
    assert not (root / "configs/lam3c").exists()
    assert not (root / "configs/scannet/lam3c").exists()


def test_both_ways_lead_to_the_same_config(root):
    run(root)
    one, other = (Config.fromfile(root / name, import_custom_modules=False).to_dict() for name in (BASE, TWIN))
    assert one == other
    assert one["model"]["type"] == "LAM3C-v1m1"
    assert "importlib" not in one


def test_dry_run_writes_nothing(root, capsys):
    before = everything(root)
    assert run(root, "--dry-run") == 0
    assert everything(root) == before
    assert f"would write      {BASE}" in capsys.readouterr().out


def test_link_links_files_and_not_folders(root):
    run(root, "--link")
    assert (root / BASE).is_symlink()
    assert not (root / "configs/lam3c").is_symlink()
    assert Config.fromfile(root / TWIN, import_custom_modules=False).batch_size == 96
    run(root, "--uninstall")
    assert everything(root) == sorted(FILES)


def test_second_install_changes_nothing_and_updates_what_is_old(root, capsys):
    run(root)
    for name in (BASE, "configs/lam3c/gone.py"):
        (root / name).write_text(command.marked("# an earlier version\n"))
    (root / "configs/lam3c/own.py").write_text("mine = True\n")
    capsys.readouterr()
    run(root)
    out = capsys.readouterr().out
    assert f"update           {BASE}" in out
    assert "remove           configs/lam3c/gone.py" in out
    assert "1 file written" in out
    assert "own.py" not in out
    assert (root / "configs/lam3c/own.py").exists()


def test_a_file_of_the_user_is_kept(root, capsys):
    before = (root / BASE).parent
    before.mkdir(parents=True)
    (root / BASE).write_text("mine = True\n")
    assert run(root) == 1
    assert "--force" in capsys.readouterr().err
    assert everything(root) == sorted([*FILES, BASE])
    assert run(root, "--force") == 0
    assert "mine" not in (root / BASE).read_text()


def test_uninstall_keeps_what_the_user_changed(root, capsys):
    run(root)
    (root / BASE).write_text("mine = True\n")
    (root / "configs/lam3c/own.py").write_text("")
    assert run(root, "--uninstall") == 0
    assert f"keep             {BASE}" in capsys.readouterr().out
    assert set(everything(root)) - set(FILES) == {BASE, "configs/lam3c/own.py"}


def test_half_installed_is_finished_or_undone(root, monkeypatch, capsys):
    write, count = command.write_text, []

    def killed(path, content):
        count.append(path)
        if len(count) == 20:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(command, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        command.install(inspect_checkout(root))
    monkeypatch.setattr(command, "write_text", write)
    assert command.is_complete(root) is False
    half = shutil.copytree(root, root.with_name("copy"), symlinks=True)
    assert run(root) == 0
    assert command.is_complete(root) is True
    assert run(half, "--uninstall") == 0
    assert everything(half) == sorted(FILES)


def test_an_update_killed_half_way_is_not_taken_for_the_users_work(root, monkeypatch):
    run(root)
    new = dict(command.wanted_files(command.config_source()))
    new[BASE] = command.marked("# the next version\n")
    monkeypatch.setattr(command, "wanted_files", lambda source, link=False: new)
    monkeypatch.setattr(command, "write_text", _fail_at(command.write_text, root / BASE))
    assert run(root) == 1
    monkeypatch.undo()
    monkeypatch.setattr(command, "wanted_files", lambda source, link=False: new)
    assert run(root) == 0
    assert (root / BASE).read_text() == command.marked("# the next version\n")


def _fail_at(write, where):
    def replacement(path, content):
        if path == where:
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    return replacement


def test_nothing_to_uninstall(root, capsys):
    assert run(root, "--uninstall") == 1
    assert "nothing to remove" in capsys.readouterr().err


def test_symbolic_link_in_the_way(root, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (root / "configs/lam3c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert run(root) == 1
    assert "is a symbolic link to" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_file_where_a_folder_is_needed(root, capsys):
    (root / "configs/lam3c").write_text("")
    assert run(root) == 1
    assert "where a folder is needed" in capsys.readouterr().err


def test_read_only_checkout(root, monkeypatch, capsys):
    if os.geteuid() == 0:  # root writes through permissions
        error = PermissionError(13, "Permission denied", str(root / "configs/lam3c"))
        monkeypatch.setattr(command.Path, "mkdir", lambda *args, **kwargs: (_ for _ in ()).throw(error))
    else:
        (root / "configs").chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert run(root) == 1
        assert "make the checkout writable" in capsys.readouterr().err
    finally:
        monkeypatch.undo()
        (root / "configs").chmod(stat.S_IRWXU)
    assert everything(root) == sorted(FILES)


def test_config_checks_for_the_plugin_first(root, monkeypatch):
    run(root)
    text = (root / BASE).read_text()
    assert text.index("find_spec") < text.index("_base_")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"-m pip install -e .*train\.sh resets PYTHONPATH"):
        exec(text, {})


def test_missing_configs_of_a_broken_installation(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "__file__", str(tmp_path / "a/b/c.py"))
    with pytest.raises(command.InstallError, match="came without its configs"):
        command.config_source()
