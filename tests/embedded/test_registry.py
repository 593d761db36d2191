"""Registries: names, aliases, and errors that help."""

from __future__ import annotations

import pytest
from torch import nn

from lam3c_plugin.embedded.registry import LOSSES, Registry, build_criteria
from lam3c_plugin.errors import ConfigError, RegistryError


@pytest.fixture
def pets():
    registry = Registry("pets")

    @registry.register_module(["Dog-v1m1", "Dog"])
    class Dog(nn.Module):
        def __init__(self, name, num_legs=4, **rest):
            super().__init__(**rest)
            self.name, self.num_legs = name, num_legs

    @registry.register_module()
    class Cat:
        def __init__(self, lives=9):
            if lives > 9:
                raise ValueError("too many lives")
            self.lives = lives

    return registry


def test_builds_by_name_and_alias(pets):
    assert pets.build(dict(type="Dog", name="a")).num_legs == 4
    assert type(pets.build(dict(type="Dog-v1m1", name="a"))) is pets.get("Dog")
    assert pets.build(dict(type="Cat"), default_args=dict(lives=3)).lives == 3
    assert pets.build(dict(type=pets.get("Cat"), lives=1)).lives == 1
    assert ("Dog" in pets, pets.get("Cow"), len(pets)) == (True, None, 3)


def test_same_class_twice_is_fine_another_is_not(pets):
    pets.register_module("Cat")(pets.get("Cat"))
    with pytest.raises(RegistryError, match="already in the pets registry"):
        pets.register_module("Cat", module=int)
    pets.register_module("Cat", force=True, module=int)
    assert pets.get("Cat") is int


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (dict(type="Dgo"), "'Dgo' is not in the pets registry; did you mean 'Dog'"),
        (dict(type="dog"), "did you mean 'Dog'"),
        (dict(type="Zebra"), "known: Cat, Dog"),
        (dict(type="Cat", live=1), "Cat has no argument 'live'; did you mean 'lives'?"),
        (dict(type="Dog", name="a", num_leg=3), "Dog has no argument 'num_leg'; did you mean 'num_legs'?"),
        (dict(type="Dog"), "Dog needs the argument name"),
        (dict(lives=1), "has no 'type'"),
        (3, "expected dict"),
    ],
)
def test_errors_name_the_culprit(pets, cfg, words):
    with pytest.raises(ConfigError) as raised:
        pets.build(cfg)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_value_that_a_constructor_refuses_is_one_line(pets):
    with pytest.raises(ValueError, match=r"^Cat: too many lives$") as raised:
        pets.build(dict(type="Cat", lives=10))
    assert isinstance(raised.value, ConfigError)
    with pytest.raises(ConfigError, match=r"^Cat: '>' not supported"):
        pets.build(dict(type="Cat", lives="nine"))


def test_unknown_type_is_a_key_error(pets):
    with pytest.raises(KeyError):
        pets.build(dict(type="Cow"))


def test_criteria_sum_or_pass_on():
    assert build_criteria(None)("prediction", None) == "prediction"

    @LOSSES.register_module("_TestLoss", force=True)
    class Loss:
        def __init__(self, weight):
            self.weight = weight

        def __call__(self, pred, target):
            return self.weight * (pred - target)

    both = build_criteria([dict(type="_TestLoss", weight=1), dict(type="_TestLoss", weight=2)])
    assert both(5, 3) == 6
    del LOSSES.module_dict["_TestLoss"]
