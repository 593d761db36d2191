"""Values of a config against the hints of the classes that they are for."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from lam3c_plugin.embedded import config_types
from lam3c_plugin.embedded.config_types import check_parts
from lam3c_plugin.embedded.registry import HOOKS
from lam3c_plugin.errors import ConfigError


class Part:
    """Takes one of everything."""

    def __init__(
        self,
        whole: int = 1,
        real: float | None = None,
        word: Literal["a", "b"] = "a",
        many: Sequence[int] = (),
        pair: tuple[float, float] = (0, 1),
        group: Mapping[str, Any] | None = None,
        place: str | os.PathLike[str] | None = None,
        path: Path | None = None,
        part: Any = None,
    ) -> None:
        pass


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(HOOKS.module_dict, "PartOfATest", Part)


@pytest.mark.parametrize(
    ("key", "good", "bad", "words"),
    [
        ("whole", [0, -3], [1.5, True, "3", None, [1]], "a whole number"),
        ("real", [1, 0.5, None], ["x", False, [1.0]], "a number or None"),
        ("word", ["a"], ["c", 1], "one of a, b"),
        ("many", [[1], (), (2, 3)], [3, ["x"], [1.5], None], "a list of whole numbers"),
        ("pair", [(0, 0.5), [1, 2]], [0.5, ("a", "b")], "a list of numbers"),
        ("group", [{}, None, {"a": 1}], [3, "x", [1]], r"a group of settings, dict\(...\) or None"),
        ("place", ["here", None], [3], "a text or None"),
        ("path", ["here", None], [], ""),
        ("part", [3, "x", {}, None], [], ""),
        ("unknown", [3], [], ""),  # the registry tells of it when it builds the part
    ],
)
def test_values_are_held_against_hints(key, good, bad, words):
    for value in good:
        check_parts({"hooks": [{"type": "PartOfATest", key: value}]})
    for value in bad:
        with pytest.raises(ConfigError, match=rf"^hooks\.0\.{key}=.* must be {words}$"):
            check_parts({"hooks": [{"type": "PartOfATest", key: value}]})


def test_ranges_by_name_at_any_depth():
    for key, value in (("drop_path", 1.01), ("p", -0.1), ("lr", -1), ("max_lr", [0.1, -0.1]), ("grid_size", -0.02)):
        with pytest.raises(ConfigError, match=rf"data\.train\.datasets\.1\.{key}="):
            check_parts({"data": {"train": {"datasets": [{}, {"type": "Nobody's", key: value}]}}})
    check_parts({"optimizer": {"type": "AdamW", "lr": 0, "betas": (0.9, 0.95)}})


def test_what_cannot_be_built_without_memory_is_left_to_the_run(monkeypatch):
    def build(_):
        raise NotImplementedError("no numbers on meta")

    monkeypatch.setattr(config_types.registry, "build_model", build)
    assert config_types.check_model(type("Cfg", (), {"model": {}})) is None
