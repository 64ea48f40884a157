"""A poison is a file and one line: its flags come from what it declares."""

import argparse
import sys
from types import ModuleType

import numpy as np

from attacks.poison import POISONS, build, flags
from attacks.poison.base import Poison
from common import cli
from common.declared import Parameter
from models.depois import data


class Darken(Poison):
    """A toy that knows nothing of this repository but its base class."""

    name, options = "darken", ("share",)
    parameters = (Parameter("share", "--darken_share", cli.fraction, 0.5, "of darken: grey that is lost"),)

    def __init__(self, share=0.5):
        self.share = share

    def change(self, labelled, rows, seed):
        return (labelled.pixels[rows] * (1 - self.share)).astype(np.uint8), labelled.labels[list(rows)]


def parse(words):
    p = argparse.ArgumentParser()
    flags.add_poison_flags(p.add_argument_group("poison"))
    return p.parse_args(words)


def test_a_poison_of_ones_own_has_flags_and_is_built_from_them(monkeypatch):
    module = ModuleType("darken")
    module.Darken = Darken
    monkeypatch.setitem(sys.modules, "darken", module)
    monkeypatch.setitem(POISONS, "darken", "darken:Darken")
    assert flags.flags_taken_by("darken") == {"darken_share"}
    poison = flags.poison_from_flags("darken", parse(["--darken_share", "1"]), device="cpu")
    digits = data.digits()[0].subset(range(4))
    assert not poison(digits, [1], 0).pixels[1].any() and poison.params == {"share": 1.0}
    assert build("noise", sigma=0.2, share=1).params == {"sigma": 0.2}


def test_two_poisons_share_a_flag_under_names_of_their_own():
    options = parse(["--poison_steps", "7"])
    assert flags.poison_from_flags("gan", options).params["gan_steps"] == 7
    assert flags.poison_from_flags("gradient", options).params["victim_steps"] == 7
    assert flags.poison_from_flags("gan", parse([])).params["gan_steps"] == 800
    assert flags.flags_taken_by("label-flip") == flags.flags_taken_by("disruption") == set()
