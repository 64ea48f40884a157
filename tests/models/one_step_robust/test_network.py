"""The network of one-step-robust: where it begins, and what it can take."""

import pytest
import torch

from models.dae.network import create
from models.one_step_robust.network import RobustNetwork


@pytest.mark.parametrize("blocks", [0, 2])
def test_a_new_network_is_the_identity(blocks):
    x = torch.rand(2, 3, 16, 12) * 2 - 1
    assert torch.equal(RobustNetwork(7, blocks)(x), x)


def test_with_an_autoencoders_weights_it_is_that_autoencoder_until_the_branch_learns():
    torch.manual_seed(0)
    autoencoder, network = create("defensive-model-2-fixed"), RobustNetwork(112, 1)
    for p in autoencoder.parameters():
        torch.nn.init.normal_(p, std=0.05)
    network.load_state_dict({**network.state_dict(), **autoencoder.state_dict()})
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(network(x), autoencoder(x)) and not torch.equal(network(x), x)
    torch.nn.init.normal_(network.branch.leave.weight)
    assert not torch.equal(network(x), autoencoder(x))


def test_without_a_branch_it_has_the_autoencoders_size_and_takes_any_side():
    small = RobustNetwork(112, 0)
    assert sum(p.numel() for p in small.parameters()) == 119171
    assert small.size_multiple == 1 and small(torch.zeros(1, 3, 7, 9)).shape == (1, 3, 7, 9)
    assert RobustNetwork(7, 1).size_multiple == 4


def test_the_branch_sees_further_than_seven_pixels():
    def reach(blocks):
        torch.manual_seed(0)
        network = RobustNetwork(7, blocks)
        for p in network.parameters():
            torch.nn.init.normal_(p, std=0.2)
        x = torch.zeros(1, 3, 64, 64, requires_grad=True)
        (grad,) = torch.autograd.grad(network(x)[0, :, 32, 32].sum(), x)
        rows = grad.abs().sum((0, 1, 3)).nonzero()
        return int(rows.max() - rows.min()) + 1

    assert reach(0) == 7 and reach(1) > 20
