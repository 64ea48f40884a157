"""The attack on features of a network that is no translator."""

import pytest
import torch

import attacks
from attacks import build
from attacks.flags import add_attack_flags, attack_config, attack_from_flags, short_name
from common import cli, files, images, seeds
from common.cli import UserError
from models.classifier.network import SHIPPED
from weights import classifier, translator

NAMES = ["a", "b", "c", "d"]


def released(attack, x, names=NAMES):
    return attack(x, torch.zeros(len(x), 1, 5), seeds.named(0, names))


def test_what_is_released_stays_in_the_ball_and_on_the_grid(faces):
    x = faces(4)[0]
    x_adv = released(build("feature", None, 0.05, steps=3, step_size=0.02), x)
    assert (x_adv - x).abs().max() <= 6 / 127.5 + 1e-6 and torch.equal(images.quantise(x_adv), x_adv)


def test_it_moves_the_features_further_than_its_start_and_than_random_signs(faces):
    x = faces(4)[0]
    attack = build("feature", None, 0.05, steps=5)
    with torch.no_grad():
        moved, signs = (
            (attack.network.body(released(a, x)) - attack.network.body(x)).square().mean(dim=(1, 2, 3))
            for a in (attack, build("random-sign", None, 0.05))
        )
    assert (moved > 2 * signs).all()


def test_it_asks_no_translator_and_no_labels(faces, tiny_generator):
    x, c = faces(4)
    attack = build("feature", tiny_generator, 0.05, steps=2)
    assert attack.translator is None and attack.generator is None
    assert torch.equal(released(attack, x), attack(x, c[:, None], seeds.named(0, NAMES)))
    assert "feature" in attacks.WITHOUT_TRANSLATOR and "feature" not in attacks.GRADIENT
    assert "feature" in attacks.BALL and "feature" not in attacks.FOR_TESTS


def test_a_photo_does_not_depend_on_the_photos_beside_it(faces):
    x, attack = faces(4)[0], build("feature", None, 0.05, steps=3)
    together = released(attack, x)
    alone = torch.cat([released(attack, x[i : i + 1], NAMES[i : i + 1]) for i in range(4)])
    # a gradient of rounding size may have either sign
    assert ((together - alone).abs() < 1e-5).float().mean() > 0.99


def test_its_features_are_part_of_its_key(tmp_path):
    mine = str(classifier(tmp_path / "c.safetensors"))
    usual, other = (build("feature", None, 0.05, features=file).definition() for file in (None, mine))
    assert usual["features"] == files.sha256(SHIPPED) and other["features"] == files.sha256(mine)
    assert {k for k in usual if usual[k] != other[k]} == {"features"}


def test_flags(tmp_path):
    mine = str(classifier(tmp_path / "c.safetensors"))
    parser = cli.ArgumentParser()
    add_attack_flags(parser)

    def parsed(*words):
        return parser.parse_args(list(words))

    usual = parsed("--attack_type", "feature", "--attack_steps", "4")
    attack = attack_from_flags(usual, None)
    assert attack.steps == 4 and short_name(attack, usual) == "feature-eps0.05"
    config = attack_config(usual, attack)
    assert (config["attack_steps"], config["attack_target"], config["attack_features"]) == (4, None, None)
    own = parsed("--attack_type", "feature", "--attack_features", mine)
    assert attack_config(own, attack_from_flags(own, None))["attack_features"] == files.sha256(mine)
    with pytest.raises(UserError, match="--attack_features is for --attack_type feature, found"):
        attack_from_flags(parsed("--attack_features", mine), None)
    gan = str(translator(tmp_path / "g.safetensors"))
    with pytest.raises(UserError, match="expected an attribute classifier .* found stargan-generator"):
        attack_from_flags(parsed("--attack_type", "feature", "--attack_features", gan), None)


def test_values_that_cannot_work_are_refused():
    for options in ({"steps": 0}, {"step_size": 0.0}):
        with pytest.raises(ValueError, match="steps >= 1"):
            build("feature", None, 0.05, **options)
