import math

import pytest
import torch
from torch import nn

from models.stargan import losses


class Linear(nn.Module):
    """A critic with the constant gradient `w` (3, H, W) and constant logits."""

    def __init__(self, w, logits):
        super().__init__()
        self.w, self.logits = w, logits

    def forward(self, x):
        source = (x * self.w).sum(dim=(1, 2, 3))
        return source[:, None, None, None], self.logits.expand(len(x), -1) + 0 * source[:, None]


def images(*values):
    return torch.stack([torch.full((3, 2, 2), v) for v in values])


def test_classification_sums_attributes_and_means_images():
    logits, labels = torch.zeros(4, 5), torch.ones(4, 5)
    assert float(losses.classification(logits, labels)) == pytest.approx(5 * math.log(2))
    one = losses.classification(torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0]]))
    assert float(one) == pytest.approx(math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1)))


@pytest.mark.parametrize("norm, penalty", [(1.0, 0.0), (3.0, 4.0), (0.5, 0.25)])
def test_gradient_penalty_of_a_linear_critic(norm, penalty):
    w = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))
    critic = Linear(w * norm / w.norm(), torch.zeros(1, 2))
    found = losses.gradient_penalty(critic, images(0.1, 0.9), images(-0.3, 0.2), torch.rand(2, 1, 1, 1))
    assert float(found) == pytest.approx(penalty, abs=1e-6)


def test_gradient_penalty_is_taken_between_real_and_fake_for_each_image():
    class Square(nn.Module):
        def forward(self, x):
            return 0.5 * x.square().sum(dim=(1, 2, 3), keepdim=True), None  # its gradient is x itself

    real, fake, alpha = images(1.0, 1.0), images(0.0, 0.0), torch.tensor([0.25, 0.5]).reshape(2, 1, 1, 1)
    expected = [(a * math.sqrt(12) - 1) ** 2 for a in (0.25, 0.5)]
    assert float(losses.gradient_penalty(Square(), real, fake, alpha)) == pytest.approx(sum(expected) / 2)


def test_the_penalty_trains_the_critic():
    w = nn.Parameter(torch.full((3, 2, 2), 1.0))
    losses.gradient_penalty(
        Linear(w, torch.zeros(1, 2)), images(0.1), images(0.2), torch.rand(1, 1, 1, 1)
    ).backward()
    norm = math.sqrt(12)
    assert torch.allclose(w.grad, torch.full_like(w, 2 * (norm - 1) / norm))


def test_discriminator_loss_by_hand():
    w = torch.full((3, 2, 2), 0.5)
    critic = Linear(w, torch.zeros(1, 2))
    real, fake = images(1.0, 0.5), images(-1.0, 0.0)
    loss, parts = losses.discriminator_loss(
        critic, real, fake, torch.ones(2, 2), torch.full((2, 1, 1, 1), 0.5), 2.0, 10.0
    )
    gp = (math.sqrt(3) - 1) ** 2
    expected = {"d_real": -4.5, "d_fake": -3.0, "d_cls": 2 * math.log(2), "d_gp": gp}
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(-4.5 - 3.0 + 2 * 2 * math.log(2) + 10 * gp, rel=1e-5)


def test_generator_loss_by_hand():
    critic = Linear(torch.full((3, 2, 2), 0.5), torch.zeros(1, 2))
    real, fake, back = images(1.0, 0.5), images(-1.0, 0.0), images(0.5, 0.75)
    loss, parts = losses.generator_loss(critic, fake, back, real, torch.ones(2, 2), 2.0, 10.0)
    expected = {"g_fake": 3.0, "g_rec": 0.375, "g_cls": 2 * math.log(2)}
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(3.0 + 10 * 0.375 + 2 * 2 * math.log(2), rel=1e-5)


def test_the_critics_loss_does_not_reach_the_generator():
    fake = images(0.3).requires_grad_(True)
    loss, _ = losses.discriminator_loss(
        Linear(nn.Parameter(torch.ones(3, 2, 2)), torch.zeros(1, 2)),
        images(0.1),
        fake,
        torch.ones(1, 2),
        torch.full((1, 1, 1, 1), 0.5),
    )
    loss.backward()
    assert fake.grad is None
