import math

import pytest
import torch
from torch import nn

from models.starganv2 import losses


class Linear(nn.Module):
    """A discriminator with the constant gradient `w` (3, H, W), and logits shifted by 10 per domain."""

    def __init__(self, w):
        super().__init__()
        self.w = w

    def forward(self, x, domain):
        return (x * self.w).sum(dim=(1, 2, 3)) + 10 * domain


def images(*values):
    return torch.stack([torch.full((3, 2, 2), v) for v in values])


def softplus(v):
    return math.log(1 + math.exp(v))


FIRST = torch.zeros(2, dtype=torch.long)


def test_adversarial_loss_is_binary_cross_entropy():
    logits = torch.tensor([2.0, -1.0])
    assert float(losses.adversarial(logits, True)) == pytest.approx((softplus(-2) + softplus(1)) / 2)
    assert float(losses.adversarial(logits, False)) == pytest.approx((softplus(2) + softplus(-1)) / 2)


def test_r1_of_a_linear_discriminator_is_half_its_squared_gradient():
    x = images(0.1, 0.9, -0.3).requires_grad_(True)
    w = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert float(losses.r1_penalty(Linear(w)(x, 0), x).detach()) == pytest.approx(
        0.5 * float(w.square().sum()), rel=1e-6
    )


def test_r1_is_per_image():
    x = images(0.5, 1.0).requires_grad_(True)
    found = losses.r1_penalty(0.5 * x.square().sum(dim=(1, 2, 3)), x)  # its gradient is x itself
    assert float(found.detach()) == pytest.approx(0.5 * (12 * 0.25 + 12 * 1.0) / 2)


def test_r1_trains_the_discriminator():
    w, x = nn.Parameter(torch.full((3, 2, 2), 0.5)), images(0.1).requires_grad_(True)
    losses.r1_penalty(Linear(w)(x, 0), x).backward()
    assert torch.allclose(w.grad, w.detach())


def test_discriminator_loss_by_hand():
    D = Linear(torch.full((3, 2, 2), 0.5))
    loss, parts = losses.discriminator_loss(D, images(1.0, 0.5), FIRST, images(-1.0, 0.0), FIRST + 1, 2.0)
    expected = {
        "d_real": (softplus(-6) + softplus(-3)) / 2,
        "d_fake": (softplus(4) + softplus(10)) / 2,
        "d_reg": 0.5 * 12 * 0.25,
    }
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(expected, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(expected["d_real"] + expected["d_fake"] + 2 * 1.5, rel=1e-5)


def test_the_discriminators_loss_does_not_reach_the_generator():
    fake, x = images(0.3, 0.1).requires_grad_(True), images(0.1, 0.2).requires_grad_(True)
    losses.discriminator_loss(Linear(nn.Parameter(torch.ones(3, 2, 2))), x, FIRST, fake, FIRST)[0].backward()
    assert fake.grad is None and x.grad is None


def shift(x, s):
    """A generator: the style's first value added."""
    return x + s[:, 0, None, None, None]


def mean_style(x, domain):
    """A style encoder: the mean of the photo, less 1 per domain."""
    return x.mean((1, 2, 3))[:, None] - domain[:, None]


def test_generator_loss_by_hand():
    """x 0.5 and 0 in domain 0, styles 1 and 0.25 of domain 1: the fakes are 1.5 and 1, their styles 0.5 and
    0; back again 2 and 1."""
    D, x = Linear(torch.full((3, 2, 2), 0.5)), images(0.5, 0.0)
    s, s2 = torch.ones(2, 1), torch.full((2, 1), 0.25)
    loss, parts = losses.generator_loss(shift, mean_style, D, x, FIRST, FIRST + 1, s, s2, 2.0, 3.0, 4.0)
    expected = {"g_fake": (softplus(-19) + softplus(-16)) / 2, "g_sty": 0.75, "g_ds": 0.75, "g_cyc": 1.25}
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(expected, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(
        expected["g_fake"] + 2 * 0.75 - 3 * 0.75 + 4 * 1.25, rel=1e-5
    )


def test_the_second_fake_of_the_diversity_is_a_constant():
    s, s2 = torch.ones(2, 1, requires_grad=True), torch.zeros(2, 1, requires_grad=True)
    losses.generator_loss(
        shift, mean_style, Linear(torch.zeros(3, 2, 2)), images(0.5, 0.0), FIRST, FIRST, s, s2, 0.0, 1.0, 0.0
    )[0].backward()
    # apart from each other: the loss falls with s
    assert s2.grad is None and torch.allclose(s.grad, torch.full((2, 1), -0.5))
