"""The reformers as published and fixed."""

import pytest
import torch

from common import seeds
from common.cli import UserError
from models.dae.network import NETWORKS, create


def count(name):
    return sum(p.numel() for p in create(name).parameters())


def test_parameter_counts():
    assert [count(name) for name in NETWORKS] == [420, 252, 114_307, 119_171]


@pytest.mark.parametrize("name", NETWORKS)
def test_shape_and_range(name, faces):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = create(name)(faces(4)[0])
    assert y.shape == (4, 3, 32, 32)
    # a sigmoid cannot give the dark half
    assert y.max() <= 1 and y.min() >= (-1 if name.endswith("fixed") else 0)


@pytest.mark.parametrize("name", ["defensive-model-1", "defensive-model-2"])
def test_published_forms_do_not_see_the_dark_half(name, faces):
    network, x = create(name), faces(2)[0]
    darker = torch.where(x < 0, -torch.ones_like(x), x)
    assert not torch.equal(x, darker) and torch.equal(network(x), network(darker))


@pytest.mark.parametrize("name", ["defensive-model-1-fixed", "defensive-model-2-fixed"])
def test_fixed_forms_start_as_identity_and_learn_to_beat_it(name, faces):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create(name)
    x = faces(8, 16)[0]
    assert torch.equal(network(x), x)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(30):
        noisy = x + 0.05 * torch.randn(x.shape, generator=seeds.generator(step))
        loss = (network(noisy) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    noisy = x + 0.05 * torch.randn(x.shape, generator=seeds.generator("held out"))
    with torch.no_grad():
        assert (network(noisy) - x).square().mean() < 0.8 * (noisy - x).square().mean()
        assert (network(x) - x).square().mean() < 0.002


def test_unknown_name():
    with pytest.raises(UserError, match="defensive-model-1"):
        create("defensive-model-3")
