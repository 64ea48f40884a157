"""The low-rank patch of a translator, and how it folds."""

import pytest
import torch
from torch import nn

from models.stargan.lora import GATE, SCALE, LowRank, folded, patched
from models.stargan.network import Generator


@pytest.fixture
def disturbed(tiny_generator):
    """The tiny generator with a patch that does something."""
    network = patched(tiny_generator, 2, 0)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for m in network.modules():
            if isinstance(m, LowRank):
                m.up.normal_(0, 0.5)
                m.gate.normal_()
    return network


def test_a_fresh_patch_is_the_translator(faces, tiny_generator):
    x, c = faces(2)
    assert torch.equal(patched(tiny_generator, 2, 0)(x, c), tiny_generator(x, c))


def test_the_patch_alone_learns_and_leaves_the_translator_as_it_was(faces, tiny_generator):
    x, c = faces(2)
    before = {k: v.clone() for k, v in tiny_generator.state_dict().items()}
    network = patched(tiny_generator, 2, 0)
    network(x, c).square().mean().backward()
    learning = {n for n, p in network.named_parameters() if p.requires_grad}
    # every convolution of the first, two downward, two residual, two upward and the last layer
    assert len(learning) == 3 * 8 and all(n.rsplit(".", 1)[-1] in ("up", "down", "gate") for n in learning)
    assert all((p.grad is not None) == p.requires_grad for p in network.parameters())
    assert any(p.grad.abs().max() > 0 for p in network.parameters() if p.requires_grad)
    assert all(torch.equal(v, before[k]) for k, v in tiny_generator.state_dict().items())


def test_folded_it_is_an_ordinary_generator_of_the_same_function(faces, tiny_generator, disturbed):
    x, c = faces(2)
    plain = folded(disturbed)
    assert torch.equal(plain(x, c), disturbed(x, c))
    assert not torch.allclose(plain(x, c), tiny_generator(x, c), atol=1e-3)
    assert type(plain) is Generator and type(plain.main[0]) is nn.Conv2d
    assert {k: v.shape for k, v in plain.state_dict().items()} == {
        k: v.shape for k, v in tiny_generator.state_dict().items()
    }
    # what it was made of can be trained on
    disturbed(x, c).square().mean().backward()
    assert torch.equal(folded(disturbed)(x, c), plain(x, c))


@pytest.mark.parametrize("transposed", [False, True])
def test_the_change_of_a_weight_has_the_rank_of_the_patch(transposed):
    weight = torch.zeros(6, 5, 3, 3)
    patch = LowRank(weight, 2, transposed, torch.Generator().manual_seed(0))
    nn.init.normal_(patch.up)
    change = patch(weight)
    # outputs are the second dimension of a transposed convolution
    matrix = (change.transpose(0, 1) if transposed else change).flatten(1)
    assert torch.linalg.matrix_rank(matrix) == 2
    gate = torch.tensor(GATE).sigmoid()
    torch.testing.assert_close(matrix, gate * SCALE / 2**0.5 * patch.up @ patch.down)


def test_seeds_decide(tiny_generator):
    first, again, other = (patched(tiny_generator, 2, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(v, again[k]) for k, v in first.items())
    assert any(not torch.equal(v, other[k]) for k, v in first.items())
