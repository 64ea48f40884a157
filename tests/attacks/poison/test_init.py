"""The registry of poisons."""

import json
from importlib import import_module

import pytest

from attacks.poison import POISONS, build, parameters
from common.cli import UserError


def test_an_unknown_poison_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean label-flip\?"):
        build("label-flp")


def test_options_of_other_poisons_are_left_out_and_unknown_ones_refused():
    assert build("noise", sigma=0.2, alpha=0.9, gan_steps=5).params == {"sigma": 0.2}
    with pytest.raises(TypeError, match="no poison has the option strength"):
        build("noise", strength=1)


def test_every_poison_carries_its_name_and_known_options():
    for name, place in POISONS.items():
        module, class_name = place.split(":")
        poison = getattr(import_module(module), class_name)
        assert poison.name == name
        assert parameters()[name] == poison.parameters
        assert {p.name for p in poison.parameters} <= set(poison.options)


@pytest.mark.parametrize("name", [name for name in POISONS if name != "bypass"])
def test_what_a_record_says_of_a_poison_is_json(name):
    params = build(name).params
    assert json.loads(json.dumps(params)) == params
