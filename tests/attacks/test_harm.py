import pytest
import torch

from attacks import build
from attacks.harm import fake_mse
from attacks.through import ThroughDefence
from common import seeds
from common.errors import RunError


class Noisy:
    name, params, sha256, stochastic, size_multiple = "noisy", {}, None, True, 1

    def __call__(self, x, rng=None):
        return x + 0.1 * rng.normal(x)


def plus(x, c):
    """A translator whose fakes are the photo and the first label."""
    return x + c[:, :1, None, None]


def test_it_is_the_mean_over_pixels_and_label_sets(faces):
    x, c = faces(2, size=8)
    labels = torch.stack([torch.zeros_like(c), torch.ones_like(c)], dim=1)
    goals = [x, x + 3]
    found = fake_mse(build("pgd", plus, 0.05), x, labels, goals, seeds.named(0, "ab"))
    assert torch.allclose(found, torch.tensor([2.0, 2.0]))  # (0 + (1 - 3)^2) / 2


def test_a_random_defence_is_meaned_over_its_draws(faces):
    x, c = faces(2)
    attack = build("pgd", ThroughDefence(plus, Noisy()), 0.05)
    labels = torch.zeros_like(c)[:, None]
    rng = seeds.named(0, "ab")
    each = [fake_mse(attack, x, labels, [x], rng) for _ in range(3)]
    three = fake_mse(attack, x, labels, [x], seeds.named(0, "ab"), draws=3)
    assert torch.allclose(three, torch.stack(each).mean(0)) and not torch.equal(each[0], each[1])
    assert three == pytest.approx([0.01, 0.01], rel=0.1)


def test_it_takes_no_gradient_and_refuses_what_is_not_finite(faces, tiny_generator):
    x, c = faces(2)
    leaf = x.clone().requires_grad_(True)
    attack = build("pgd", tiny_generator, 0.05)
    assert not fake_mse(attack, leaf, c[:, None], [x], seeds.named(0, "ab")).requires_grad
    broken = build("pgd", ThroughDefence(lambda v, _: v / 0, Noisy()), 0.05)
    with pytest.raises(RunError, match="pgd: the fakes through noisy are not finite"):
        fake_mse(broken, x, c[:, None], [x], seeds.named(0, "ab"))
