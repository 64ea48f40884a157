import pytest
import torch

import weights
from attacks import build
from attacks.joint import JointPGD
from common import seeds
from common.errors import RunError
from models.victims import load_victims


@pytest.fixture
def victims(tmp_path):
    files = [
        f"stargan={weights.translator(tmp_path / 'a.safetensors')}",
        f"stgan={weights.stgan(tmp_path / 'b.safetensors')}",
    ]
    return load_victims(files, weights.ATTRIBUTES, 32, "fp32", "cpu")[0]


def harm(victim, x, x_adv, labels):
    with torch.no_grad():
        return float(
            torch.stack(
                [(victim(x_adv, c) - victim(x, c)).square().mean() for c in victim.conditions(labels)]
            ).mean()
        )


def test_one_image_breaks_every_victim_inside_the_ball(victims, faces):
    # the columns of load_victims are these five, in alphabetical order
    x, labels = faces(4)
    x_adv = JointPGD(victims, 0.05)(x, labels[:, None], seeds.named(0, "abcd"))
    signs = build("random-sign", None, 0.05)(x, labels[:, None], seeds.named(0, "abcd"))
    assert (x_adv - x).abs().max() <= 6 / 127.5 + 1e-6 and x_adv.abs().max() <= 1
    for victim in victims:
        assert harm(victim, x, x_adv, labels) > 3 * harm(victim, x, signs, labels)


def test_each_victim_keeps_a_share_of_what_an_image_of_its_own_reaches(victims, faces):
    x, labels = faces(4)

    def rng():
        return seeds.named(0, "abcd")

    both = JointPGD(victims, 0.05)(x, labels[:, None], rng())
    for victim, other in (victims, victims[::-1]):
        alone, others = (JointPGD([v], 0.05)(x, labels[:, None], rng()) for v in (victim, other))
        assert (
            harm(victim, x, others, labels)
            < harm(victim, x, both, labels)
            <= 1.05 * harm(victim, x, alone, labels)
        )


def test_its_definition_names_the_victims(victims):
    both, one = (JointPGD(v, 0.05).definition() for v in (victims, victims[:1]))
    assert (
        both["victims"] == {v.name: v.translator.sha256 for v in victims}
        and both != one
        and both["attack"] == "pgd"
    )
    with pytest.raises(ValueError, match="steps >= 1"):
        JointPGD(victims, 0.05, steps=0)


def test_a_gradient_that_is_not_finite_stops_it(victims, faces):
    x, _ = faces(2)
    victims[1].translator.forward = lambda x, c: x * float("inf")
    with pytest.raises(RunError, match="pgd: the gradient of step 1 of 2 is not finite"):
        JointPGD(victims, 0.05, 2)(x, torch.ones(2, 1, 5), seeds.Streams([0, 1]))
