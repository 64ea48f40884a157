"""One-step's training attack and loss."""

import pytest
import torch

from common import images, seeds
from models.one_step.train import Disrupter, photo_and_fake_loss


def test_loss_is_the_weighted_sum_of_both_errors():
    x, purified, c = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.1), torch.zeros(2, 5)
    loss, parts = photo_and_fake_loss(lambda x, c: 2 * x, purified, x, torch.zeros_like(x), c, 10.0, 3.0)
    assert float(parts["photo_mse"]) == pytest.approx(0.01) and float(parts["fake_mse"]) == pytest.approx(
        0.04
    )
    assert float(loss) == pytest.approx(10 * 0.01 + 3 * 0.04)


def test_radii_fill_the_range_and_depend_on_seed_and_step_alone():
    disrupter = Disrupter(None, 0.11, 0.1, 0.4, 1 / 127.5)
    radii = [disrupter.radius(0, i) for i in range(400)]
    assert 0 <= min(radii) < 0.01 and 0.1 < max(radii) <= 0.11
    assert radii == [disrupter.radius(0, i) for i in range(400)] and radii != [
        disrupter.radius(1, i) for i in range(400)
    ]


def test_shares_of_undisturbed_noisy_and_attacked_photos():
    seen = []

    def attack(eps):
        def disrupt(x, c, rng):
            assert len(x) == len(c) == len(rng) and c.ndim == 3
            seen.append(len(x))
            return x + 0.5

        return disrupt

    disrupter = Disrupter(attack, 0.11, 0.1, 0.4, 1 / 127.5)
    x, c = torch.zeros(600, 3, 8, 8), torch.zeros(600, 5)
    strong = next(i for i in range(100) if disrupter.radius(0, i) > 0.05)
    found = disrupter(x, c, seeds.Streams(list(range(600))), 0, strong)
    undisturbed, attacked = (found == 0).flatten(1).all(1), (found == 0.5).flatten(1).all(1)
    noisy = found[~undisturbed & ~attacked]
    assert (
        0.06 < float(undisturbed.float().mean()) < 0.14
        and 0.34 < len(noisy) / 600 < 0.46
        and seen == [int(attacked.sum())]
    )
    assert float(noisy.std()) == pytest.approx(disrupter.radius(0, strong), rel=0.02) and torch.equal(
        noisy, images.quantise(noisy)
    )


def test_without_noise_and_undisturbed_photos_all_are_attacked():
    disrupter = Disrupter(lambda eps: lambda x, c, rng: x + eps, 0.11, 0.0, 0.0, 1 / 127.5)
    x, c = torch.zeros(50, 3, 2, 2), torch.zeros(50, 5)
    strong, weak = (
        next(i for i in range(100) if disrupter.radius(0, i) > 0.05),
        next(i for i in range(1000) if disrupter.radius(0, i) < 1 / 127.5),
    )
    assert (disrupter(x, c, seeds.Streams(list(range(50))), 0, strong) == disrupter.radius(0, strong)).all()
    # a radius below a grey level disturbs nothing
    assert torch.equal(disrupter(x, c, seeds.Streams(list(range(50))), 0, weak), x)


def test_a_photo_is_disrupted_alike_in_any_batch():
    disrupter = Disrupter(
        lambda eps: lambda x, c, rng: x + eps * rng.uniform(x, -1, 1), 0.11, 0.1, 0.4, 1 / 127.5
    )
    x, c = torch.rand(12, 3, 4, 4, generator=seeds.generator("photos")), torch.zeros(12, 5)
    strong = next(i for i in range(100) if disrupter.radius(0, i) > 0.05)
    whole = disrupter(x, c, seeds.Streams(list(range(12))), 0, strong)
    halves = [
        disrupter(x[h], c[h], seeds.Streams(list(range(12))[h]), 0, strong)
        for h in (slice(0, 5), slice(5, 12))
    ]
    assert torch.equal(whole, torch.cat(halves))
