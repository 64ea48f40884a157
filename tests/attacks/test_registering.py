"""An attack registered from outside: a file and a line of the registry, and every command has it."""

import sys

import pytest
import torch
import yaml

import attacks
import test_defense
from attacks.__main__ import main
from attacks.__main__ import parse_args as parse_attacks
from attacks.flags import add_attack_flags, attack_from_flags, short_name
from attacks.through import ThroughDefence
from common import cli, images, runs, seeds
from common.cli import UserError
from common.declared import Look, Parameter
from evaluation import disruption

TOY = """
from attacks.base import Attack
from common import cli
from common.declared import Look, Parameter


class Brighten(Attack):
    name = "brighten"
    look = Look("brightened", "#123456", 15)
    parameters = (Parameter("share", "--attack_share", cli.fraction, 0.5, "share of EPS", metavar="S"),)
    uses_translator = False
    only_for_tests = "it is a toy"

    def __init__(self, translator, eps, share=0.5):
        super().__init__(None, eps)
        self.share = share

    def perturb(self, x, labels, rng):
        return self.project(x, x.new_full((), self.eps * self.share).expand_as(x))

    def definition(self):
        return {"attack": self.name, "eps": self.eps, "share": self.share}
"""


@pytest.fixture(autouse=True)
def brighten(tmp_path, monkeypatch):
    (tmp_path / "toy_brighten.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(attacks.ATTACKS, "brighten", "toy_brighten:Brighten")
    yield
    sys.modules.pop("toy_brighten", None)


def test_it_is_built_by_name_and_what_follows_from_it_follows(faces):
    x, c = faces(2)
    attack = attacks.build("brighten", None, 0.05, share=1.0, steps=3)
    x_adv = attack(x, c[:, None], seeds.named(0, "ab"))
    assert (x_adv - x).max() == pytest.approx(6 / 127.5, abs=1e-6) and (x_adv - x).min() >= 0
    assert attacks.looks()["brighten"] == Look("brightened", "#123456", 15)
    assert "brighten" in attacks.WITHOUT_TRANSLATOR and "brighten" in attacks.BALL
    assert "brighten" not in attacks.GRADIENT and attacks.FOR_TESTS["brighten"] == "it is a toy"
    assert "share" in attacks.OPTIONS and attacks.takers("--attack_share") == ["brighten"]


def test_flags_know_its_name_and_its_parameter():
    parser = cli.ArgumentParser()
    add_attack_flags(parser)
    words = ["--attack_type", "brighten", "--attack_share", "0.25"]
    parsed = parser.parse_args(words)
    attack = attack_from_flags(parsed, None)
    assert attack.share == 0.25 and short_name(attack, parsed) == "brighten-eps0.05"
    assert "--attack_share S" in parser.format_help()
    with pytest.raises(UserError, match="--attack_share: expected a number from 0 to 1"):
        parser.parse_args(["--attack_share", "2"])
    with pytest.raises(UserError, match="brighten: expected a radius"):
        attack_from_flags(parser.parse_args([*words, "--test_noise_var", "0.001"]), None)

    class Purifier:
        name, params, sha256, stochastic, size_multiple = "p", {}, None, False, 1

    with pytest.raises(UserError, match="--attack_type brighten cannot go through a defence"):
        attack_from_flags(parsed, ThroughDefence(None, Purifier()))


def test_commands_take_it_by_name(face_folder, tmp_path):
    words = ["--attack_type", "brighten", "--attack_share", "1"]
    options = parse_attacks(["--input", "a", "--output", "b", *words])
    assert options.attack_share == 1 and runs.options_of(options)["attack_share"] == 1
    photos, out = face_folder(2), tmp_path / "out"
    main(["--input", str(photos), "--output", str(out), "--device", "cpu", "--num_workers", "0", *words])
    change = torch.from_numpy(
        images.load_png(out / "000001.png").astype(int) - images.load_png(photos / "000001.png").astype(int)
    )
    assert (change.min(), change.max()) == (0, 6) or (change == 6).all()
    saved = yaml.safe_load((out / "attack.yaml").read_text())["parameters"]
    assert (saved["attack"], saved["share"]) == ("brighten", 1.0)

    assert disruption.parse_args(["--victims", "stargan=G.ckpt", *words]).attack_share == 1
    defence = ["--defense_model_type", "none", "--gan_weights", "G.ckpt", *words]
    assert test_defense.parse_args(defence)[0].attack_share == 1


def test_a_flag_that_two_attacks_declare_differently_is_told(monkeypatch):
    other = Parameter("steps", "--attack_steps", cli.positive_int, 1, "something else")
    monkeypatch.setattr(attacks.declared()["brighten"], "parameters", (other,))
    with pytest.raises(ValueError, match="--attack_steps: declared twice, differently"):
        add_attack_flags(cli.ArgumentParser())
