"""One-step's training attack and loss."""
import pytest
import torch

from common import seeds
from models.one_step.train import Disrupter, photo_and_fake_loss


def test_loss_is_the_weighted_sum_of_both_errors():
    x, purified, c = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.1), torch.zeros(2, 5)
    loss, parts = photo_and_fake_loss(lambda x, c: 2 * x, purified, x, torch.zeros_like(x), c, 10.0)
    assert float(parts["photo_mse"]) == pytest.approx(0.01) and float(parts["fake_mse"]) == pytest.approx(0.04)
    assert float(loss) == pytest.approx(0.14)


def test_radii_fill_the_range_and_depend_on_seed_and_step_alone():
    disrupter = Disrupter(None, 0.11, 0.1, 1 / 127.5)
    radii = [disrupter.radius(0, i) for i in range(400)]
    assert 0 <= min(radii) < 0.01 and 0.1 < max(radii) <= 0.11
    assert radii == [disrupter.radius(0, i) for i in range(400)] and radii != [disrupter.radius(1, i) for i in range(400)]


def test_a_share_stays_undisturbed_and_radii_below_a_grey_level_disturb_nothing():
    attack = lambda eps: lambda x, c, rng: x + eps
    disrupter = Disrupter(attack, 0.11, 0.1, 1 / 127.5)
    x, c = torch.zeros(500, 3, 2, 2), torch.zeros(500, 5)
    strong = next(i for i in range(100) if disrupter.radius(0, i) > 0.05)
    weak = next(i for i in range(1000) if disrupter.radius(0, i) < 1 / 127.5)
    moved = (disrupter(x, c, seeds.Streams(list(range(500))), 0, strong) != 0).flatten(1).any(1)
    assert 0.84 < float(moved.float().mean()) < 0.95
    assert torch.equal(disrupter(x, c, seeds.Streams(list(range(500))), 0, weak), x)
