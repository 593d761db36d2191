"""Config files: bases, overrides, dumping, and the errors of each."""

from __future__ import annotations

import copy
import enum
import pickle

import pytest

from lam3c_plugin.embedded.config import Config, DictAction, parse_value
from lam3c_plugin.embedded.engine.defaults import load_config, read_config
from lam3c_plugin.embedded.logger import get_root_logger
from lam3c_plugin.errors import ConfigError


def write(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def warnings():
    """Texts of the warnings logged during the test."""
    import logging

    seen = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())
    get_root_logger().addHandler(handler)
    yield seen
    get_root_logger().removeHandler(handler)


def test_bases_nest_and_merge(tmp_path):
    write(
        tmp_path,
        base__runtime="import os\nepoch = 100\nseed = None\ndef helper():\n    return 1\n",
        base__model="model = dict(type='A', backbone=dict(depths=(1, 2), width=3), head=dict(type='H', k=1))\n",
        base__both="_base_ = ['runtime.py', 'model.py']\nepoch = 10\n",
        child="_base_ = 'cfg/base/both.py'\n"
        "model = dict(backbone=dict(width=5), head=dict(_delete_=True, type='G'), new=dict(x=1))\n"
        "rates = [0.1 * 0.9**i for i in range(2)]\n",
    )
    (tmp_path / "cfg").symlink_to(tmp_path)
    cfg = Config.fromfile(tmp_path / "child.py")
    assert cfg.epoch == 10
    assert cfg.model.to_dict() == {
        "type": "A",
        "backbone": {"depths": (1, 2), "width": 5},
        "head": {"type": "G"},
        "new": {"x": 1},
    }
    assert set(cfg) == {"epoch", "seed", "model", "rates"}
    assert "_base_ =" in cfg.text


def test_a_config_in_a_symlinked_folder_finds_its_base(tmp_path):
    write(tmp_path, real__base="a = 1\n", real__sub__child="_base_ = '../base.py'\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/link").symlink_to(tmp_path / "real/sub")
    assert Config.fromfile(tmp_path / "elsewhere/link/child.py").a == 1


def test_overrides(tmp_path, warnings):
    write(
        tmp_path, c="epoch = 5\nmodel = dict(depths=(3, 3), sub=dict(a=1))\nhooks = [dict(type='A'), dict(type='B')]\n"
    )
    cfg = Config.fromfile(tmp_path / "c.py")
    cfg.merge_from_dict(
        {
            "model.depths": (1, 1),
            "model.sub.b": 2,
            "hooks.1.type": "C",
            "hooks.-2.x": 1,
            "fresh.key": 1,
            "model.sub.a": 7,
        }
    )
    assert cfg.model.to_dict() == {"depths": (1, 1), "sub": {"a": 7, "b": 2}}
    assert [dict(hook) for hook in cfg.hooks] == [{"type": "A", "x": 1}, {"type": "C"}]
    assert cfg.fresh.key == 1
    assert not warnings
    cfg.merge_from_dict({"epoc": 3})
    assert warnings == ["override epoc: new key 'epoc'; did you mean 'epoch'?"]
    for key, words in (("hooks.7.type", "list of 2"), ("hooks.last", "no index"), ("epoch.x", "has no 'x' to set")):
        with pytest.raises(ConfigError, match=words):
            cfg.merge_from_dict({key: 1})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optimizer.lr", "fast", "override optimizer.lr='fast': the config has 0.004 there; give a number"),
        ("flag", "yes", "give true or false"),
        ("model.depths", "deep", "give a list"),
        ("rates.0", "fast", "give a number"),
        ("model", 3, "name one, model.KEY=VALUE"),
    ],
)
def test_overrides_of_another_kind_are_refused(key, value, words):
    cfg = Config(dict(optimizer=dict(lr=0.004), flag=False, model=dict(depths=(3, 3)), rates=[0.1], weight=None))
    with pytest.raises(ConfigError) as raised:
        cfg.merge_from_dict({key: value})
    assert words in str(raised.value)
    cfg.merge_from_dict({"optimizer.lr": 1, "flag": True, "model.depths": [1], "weight": "x.pth", "rates": None})
    assert cfg.to_dict() == dict(optimizer=dict(lr=1), flag=True, model=dict(depths=[1]), rates=None, weight="x.pth")


@pytest.mark.parametrize(
    ("key", "value"), [("max_steps", 0), ("num_worker", -1), ("seed", -2), ("batch_size_val", 1.5)]
)
def test_whole_numbers_of_a_run_are_checked(tmp_path, key, value):
    write(tmp_path, c="model = {}\ndata = dict(train={})\noptimizer = {}\nscheduler = {}\n")
    with pytest.raises(ConfigError, match=f"{key}={value} must be a whole number of at least"):
        read_config(tmp_path / "c.py", {key: value})


def test_dump_loads_again(tmp_path):
    settings = {
        "a": None,
        "b": [dict(type="X", keys_dict={"coord": "origin", "not an id": 1}), dict(type="Y")],
        "c": (1,),
        "d": {
            "lr": 1e-3,
            "inf": float("inf"),
            "text": 'it\'s "quoted"\nand\\more',
            "empty": {},
            "none": [],
            3: "three",
        },
        "e": [[0.2, 0.4], [0.8, 1.6]],
        "f": dict(nested=dict(deep=[dict(a=(1, 2, dict(b=1)))] * 12)),
        "custom_imports": dict(imports=["json"], allow_failed_imports=False),
        "level": enum.IntEnum("Level", "low high").high,
    }
    cfg = Config(settings)
    cfg.dump(tmp_path / "out.py")
    again = Config.fromfile(tmp_path / "out.py")
    assert again.to_dict() == cfg.to_dict() == settings
    assert again.pretty_text == cfg.pretty_text
    assert all(len(line) < 130 for line in cfg.pretty_text.splitlines())
    with pytest.raises(ConfigError, match=r"x\.y is a object"):
        Config(dict(x=dict(y=object()))).dump(tmp_path / "bad.py")


def test_survives_pickle_and_copy():
    cfg = Config(dict(a=dict(b=[dict(c=1)])), filename="x.py")
    for other in (pickle.loads(pickle.dumps(cfg)), copy.deepcopy(cfg)):
        assert other.a.b[0].c == 1
        assert other.filename == "x.py"
    cfg.a.total = 3
    cfg.new = dict(x=1)
    assert (cfg.a.total, cfg["new"].x, "new" in cfg, cfg.get("absent", 5)) == (3, 1, True, 5)
    with pytest.raises(AttributeError, match="did you mean 'new'"):
        _ = cfg.nw


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("None", None),
        ("(1,2)", (1, 2)),
        ("(1,)", (1,)),
        ("(1)", (1,)),
        ("[a, b]", ["a", "b"]),
        ("1,2", [1, 2]),
        ("[(1,2),(3,4)]", [(1, 2), (3, 4)]),
        ("exp/my run (2)", "exp/my run (2)"),
        ("'a,b'", "a,b"),
        ("(a", "(a"),
        ("{'type': 'X', 'p': 0.5}", {"type": "X", "p": 0.5}),
        ("PT-v3m2", "PT-v3m2"),
        ("", ""),
        ("[]", []),
    ],
)
def test_parse_value(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_command_line_overrides():
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--options", nargs="+", action=DictAction)
    args = parser.parse_args(["--options", "a.b=(1,1)", "save_path=x=y", "c=1,2"])
    assert args.options == {"a.b": (1, 1), "save_path": "x=y", "c": [1, 2]}
    with pytest.raises(ConfigError, match="key=value"):
        parser.parse_args(["--options", "epoch"])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "config file not found: "),
        ({"chld": "a = 1"}, "did you mean chld.py?"),
        ({"child": "_base_ = 'missing.py'"}, "child.py builds on a missing file: "),
        ({"child": "_base_ = 'bas.py'", "base": ""}, "did you mean base.py?"),
        ({"child": "_base_ = 'child.py'"}, "builds on it in turn"),
        ({"child": "_base_ = ['a.py', 'b.py']", "a": "x = 1", "b": "x = 2"}, "both set 'x'"),
        ({"child": "a = 1\nb = (\n"}, "child.py:2: syntax error"),
        ({"child": "a = 1\nb = aa\n"}, "child.py:2: NameError"),
        ({"child": "_base_ = 'a.py'\nx = dict(y=1)", "a": "x = 2"}, "_delete_=True"),
        ({"child": "custom_imports = dict(imports=['no_such_module'])"}, "cannot import 'no_such_module'"),
        ({"child": "custom_imports = ['json']"}, "must be dict(imports=[...])"),
        ({"child": "custom_imports = dict(imports=[3])"}, "cannot import 3 (AttributeError"),
        ({"child": "hooks = [dict(type='A', _delete_=True)]"}, "child.py: hooks.0._delete_: no base sets"),
        ({"child": "_base_ = 'a.py'\nm = dict(n=dict(_delete_=True))", "a": "m = dict(x=2)"}, "m.n._delete_: no base"),
        ({"child": "_base_ = ('a.py',)", "a": ""}, "_base_ holds a tuple"),
        ({"child": "_base_ = ['a.py', 3]", "a": ""}, "_base_ holds a int"),
        ({"child": "x = {{ _base_.y }}"}, "child.py: x: {{ _base_.y }}, but the file has no _base_"),
        (
            {"child": "_base_ = 'a.py'\nx = [{{ _base_.m.n }}]", "a": "m = dict(x=2)"},
            "x.0: {{ _base_.m.n }}: its bases",
        ),
        (
            {"child": "_base_ = 'a.py'\nx = '{{ _base_.m }}'", "a": "m = 2"},
            "child.py: x: {{ _base_.key }} stands inside",
        ),
        ({"child": '_base_ = "a.py"\nx = "{{ _base_.m }}"', "a": "m = 2"}, "child.py:2: syntax error"),
        ({"child": "_base_ = 'a.py'\nx = 2 * {{ _base_.m }}", "a": "m = 2"}, "child.py:2: TypeError"),
        ({"child": "_base_ = 'a.py'\nx = 3 if {{ _base_.m }} else 4", "a": "m = 2"}, "{{ _base_.m }} must be a whole"),
        ({"child": "_base_ = 'a.py'\nx = {{{ _base_.m }}: 1}", "a": "m = 2"}, "child.py:2: TypeError: unhashable"),
        ({"child": "x = {{ fileDirname }}"}, "{{ fileDirname }} and its like inside"),
        ({"child": "text = 1"}, "child.py: 'text' is reserved"),
        ({"child": "a = []\na.append(a)"}, "contains itself"),
        ({"child": "from collections import namedtuple\na = namedtuple('P', 'x')(1)"}, "child.py: a is a P"),
        ({"child": "import sys\nsys.exit('enough')"}, "child.py:2: SystemExit: enough"),
        ({"child": "raise ValueError('two\\nlines')"}, "child.py:1: ValueError: two lines"),
        ({"child": "a = 1\0"}, "child.py"),
        ({"child": "a = " + "(" * 300 + ")" * 300}, "child.py"),
        ({"child": "_deprecation_ = 1"}, "_deprecation_ must be dict"),
    ],
)
def test_one_line_errors(tmp_path, files, words):
    write(tmp_path, **files)
    with pytest.raises(ConfigError) as raised:
        Config.fromfile(tmp_path / "child.py")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "child.py" in str(raised.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a = '\xe9'\n", "no UTF-8 text"),
        ("a = 1\n".encode("utf-16"), "no UTF-8 text"),
        (b"# coding: latin-1\na = '\xc3\xa9'\n", "its encoding is iso-8859-1; save it as UTF-8"),
        (b"# coding: klingon\na = 1\n", "no UTF-8 text (unknown encoding: klingon)"),
    ],
)
def test_other_encodings_are_refused_in_one_line(tmp_path, data, words):
    (tmp_path / "child.py").write_bytes(data)
    with pytest.raises(ConfigError) as raised:
        Config.fromfile(tmp_path / "child.py")
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path / 'child.py'}: ")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_a_byte_order_mark_line_ends_and_tabs(tmp_path, mark, ends):
    text = "# coding: utf-8\na = 'Größe'\nif a:\n\tb = 2\n" + 'c = """x\ny"""\n'
    (tmp_path / "child.py").write_bytes(mark + text.replace("\n", ends).encode())
    assert Config.fromfile(tmp_path / "child.py").to_dict() == {"a": "Größe", "b": 2, "c": "x\ny"}


def test_names_of_the_file_and_values_of_its_bases(tmp_path, warnings):
    write(
        tmp_path,
        base="from __future__ import annotations\nx = 3\nm = dict(k=[1], n=dict(p=(1, 2)))\n"
        "where = '{{fileBasename}}'\n",
        child="_base_ = 'base.py'  # {{ _base_.nothing }} in a comment\n"
        "_deprecation_ = dict(expected='new.py')\n"
        "here = '{{ fileDirname }}/data'\n"
        "names = ['{{fileBasename}}', '{{ fileBasenameNoExtension }}', '{{ fileExtname }}']\n"
        "a = {{ _base_.x }}\nb = a\n"
        "c = dict(d=[{{_base_.m.k}}, ({{ _base_.m.n.p }}, 'text')])\n"
        "m = dict(_delete_=True, n={{ _base_.m.n }})\n",
    )
    cfg = Config.fromfile(tmp_path / "child.py")
    assert cfg.to_dict() == {
        "x": 3,
        "m": {"n": {"p": (1, 2)}},
        "where": "base.py",
        "here": f"{tmp_path}/data",
        "names": ["child.py", "child", ".py"],
        "a": 3,
        "b": 3,
        "c": {"d": [[1], ((1, 2), "text")]},
    }
    assert warnings == [f"the config file {tmp_path / 'child.py'} will be deprecated; use new.py instead"]


def test_an_override_replaces_where_it_says_so():
    cfg = Config(dict(model=dict(head=dict(type="A", x=1)), hooks=[dict(type="B")]))
    cfg.merge_from_dict({"model.head": {"_delete_": True, "type": "C"}, "model.tail": {"_delete_": True, "x": 1}})
    assert cfg.model.to_dict() == {"head": {"type": "C"}, "tail": {"x": 1}}
    with pytest.raises(ConfigError, match=r"overrides: hooks\.1\._delete_"):
        cfg.merge_from_dict({"hooks": [{"type": "B"}, {"type": "D", "_delete_": True}]})
    for key in ("a-b", "", "class", "text", "3.x"):
        with pytest.raises(ConfigError, match="cannot be the name of a setting"):
            cfg.merge_from_dict({key: 1})


def test_a_slip_in_a_file_is_reported(tmp_path, warnings):
    parts = "model = {}\ndata = dict(train={})\noptimizer = {}\nscheduler = {}\n"
    write(tmp_path, c=parts + f"num_workers = 3\nbase_lr = 1\nsave_path = {str(tmp_path / 'run')!r}\n")
    cfg = load_config(tmp_path / "c.py", {"stop_after_steps": 3})
    assert warnings == ["config key 'num_workers' means nothing to the engine; did you mean 'num_worker'?"]
    assert isinstance(cfg.seed, int)
    dumped = Config.fromfile(tmp_path / "run/config.py")
    assert dumped.seed == cfg.seed
    assert "stop_after_steps" not in dumped
    write(tmp_path, d="model = {}\n")
    with pytest.raises(ConfigError, match="has no data and no optimizer and no scheduler"):
        load_config(tmp_path / "d.py")


@pytest.mark.parametrize(("key", "near"), [("bacth_size", "batch_size"), ("modl.w", "model"), ("base.lr", "base_lr")])
def test_a_command_line_setting_that_nothing_reads_is_refused(tmp_path, key, near):
    parts = "model = {}\ndata = dict(train={})\noptimizer = {}\nscheduler = {}\nbase_lr = 1\n"
    write(tmp_path, c=parts + f"save_path = {str(tmp_path / 'run')!r}\n")
    with pytest.raises(ConfigError, match=f"there is no setting '{key.split('.')[0]}'; did you mean '{near}'"):
        load_config(tmp_path / "c.py", {key: 1})
    assert load_config(tmp_path / "c.py", {"remark": "mine", "batch_size": 4}).batch_size == 4
