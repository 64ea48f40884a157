"""Shapes, the seed, and what a critic must not depend on."""

from functools import partial

import pytest
import torch

from common import checkpoint
from common.cli import UserError
from models.depois.classifier import Classifier
from models.depois.network import KIND, LATENT, Critic, Generator, load_mimic, seeded

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 64, 64), (3, 50, 44))


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_ranges(shape):
    generator, critic, judge = (
        seeded(partial(make, shape, 3, 4), 0) for make in (Generator, Critic, Classifier)
    )
    y = torch.tensor([0, 2])
    x = generator(torch.randn(2, LATENT, generator=torch.Generator().manual_seed(0)), y)
    assert x.shape == (2, *shape) and x.abs().max() <= 1
    assert critic(x, y).shape == (2,) and judge(x).shape == (2, 3) and judge.features(x).shape == (2, 128)


@pytest.mark.parametrize("make", (Critic, Generator))
def test_a_result_does_not_depend_on_its_neighbours(make):
    network, y = seeded(lambda: make((3, 64, 64), 2, 4), 0), torch.tensor([0, 1, 1, 0])
    x = torch.randn(4, LATENT) if make is Generator else torch.rand(4, 3, 64, 64) * 2 - 1
    together = network(x, y)
    alone = torch.cat([network(x[k : k + 1], y[k : k + 1]) for k in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_label_decides_the_score():
    critic = seeded(lambda: Critic((1, 8, 8), 3), 0)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert (
        critic(x, torch.zeros(5, dtype=torch.long)) - critic(x, torch.ones(5, dtype=torch.long))
    ).abs().min() > 1e-4


def test_weights_depend_on_the_seed_alone_and_not_on_the_global_one():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, again, other = (seeded(lambda: Critic((1, 8, 8), 3), key) for key in (0, 0, 1))
    assert torch.equal(one.head.weight, again.head.weight) and not torch.equal(
        one.head.weight, other.head.weight
    )
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_saved_critic_is_read_back_and_others_are_refused(tmp_path):
    critic, path = seeded(lambda: Critic((1, 8, 8), 2), 0), tmp_path / "weights.safetensors"
    meta = {"kind": KIND, "options": critic.options, "classes": ["a", "b"]}
    checkpoint.save_weights(path, critic.state_dict(), meta)
    read, found = load_mimic(path, shape=(1, 8, 8), classes=("a", "b"))
    x, y = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 0])
    assert (
        torch.equal(read(x, y), critic(x, y))
        and found["kind"] == KIND
        and not any(p.requires_grad for p in read.parameters())
    )
    with pytest.raises(UserError, match="expected .3, 64, 64."):
        load_mimic(path, shape=(3, 64, 64))
    with pytest.raises(UserError, match="a critic of the classes a, b, expected real, fake"):
        load_mimic(path, classes=("real", "fake"))
    checkpoint.save_weights(path, critic.state_dict(), {**meta, "kind": "detector"})
    with pytest.raises(UserError, match="holds detector, expected depois-mimic"):
        load_mimic(path)
