"""A new purifier is a file and a line of the registry: names, flags, looks and test_defense.py follow."""

import sys
from types import ModuleType

import test_defense
from common import cli
from common.declared import Look, Parameter
from purify import PURIFIERS, build
from purify.base import Purifier
from purify.defences import looks, parse


class Dim(Purifier):
    name = "dim"
    look = Look("dim", "#123456", 20)
    parameters = (Parameter("factor", "--dim_factor", cli.positive_float, 0.5, "of dim"),)

    def __init__(self, factor=0.5):
        super().__init__({"factor": factor}, f"dim-f{factor:g}")

    def purify(self, x, rng):
        self.count(len(x), 0)
        return x * self.params["factor"]


def test_a_purifier_from_outside_is_used_by_its_name(monkeypatch, faces):
    module = ModuleType("outside")
    module.Dim = Dim
    monkeypatch.setitem(sys.modules, "outside", module)
    monkeypatch.setitem(PURIFIERS, "dim", "outside:Dim")
    assert (build("dim")(faces(1)[0]) == faces(1)[0] * 0.5).all()
    assert dict(parse("dim-0.25").params) == {"factor": 0.25} and str(parse("dim-0.25")) == "dim-0.25"
    assert looks()["dim"] == Look("dim", "#123456", 20)
    for words in ("dim-0.25", "dim --dim_factor 0.25"):
        (options,) = test_defense.parse_args(f"--gan_weights g --defense_model_type {words}".split())
        assert (options.defense_model_type, options.dim_factor) == ("dim", 0.25)
    none, _ = test_defense.parse_args("--gan_weights g --defense_model_type none dim".split())
    assert not hasattr(none, "dim_factor")  # older runs of other defences still resume
