import pytest
import torch

from models.stgan.network import Discriminator, Generator, SelectiveTransferUnit


def test_shapes_and_range(faces):
    x, c = faces(2)
    net = Generator(conv_dim=8, c_dim=5, num_layers=3)
    y = net(x, c)
    assert y.shape == x.shape and y.abs().max() <= 1
    assert net(torch.zeros(1, 3, 40, 24), c[:1]).shape == (1, 3, 40, 24)


def test_an_image_does_not_depend_on_its_neighbours_nor_on_the_mode(faces):
    x, c = faces(3)
    net = Generator(conv_dim=8, num_layers=3)
    assert torch.allclose(net(x, c)[:1], net(x[:1], c[:1]), atol=1e-5) and torch.equal(
        net.train()(x, c), net.eval()(x, c)
    )


def test_the_difference_of_attributes_is_heard(faces):
    x, c = faces(2)
    net = Generator(conv_dim=8, num_layers=3)
    assert (net(x, c) - net(x, -c)).abs().max() > 1e-3


def test_a_transfer_unit_whose_update_gate_is_shut_passes_the_state_on():
    unit = SelectiveTransferUnit(4, 3)
    f, state = torch.randn(1, 3, 8, 8), torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        unit.update.weight.zero_(), unit.update.bias.fill_(-100)
    selected, _ = unit(f, state)
    assert torch.allclose(selected, unit.up(state))
    with torch.no_grad():
        unit.update.bias.fill_(100), unit.reset.weight.zero_(), unit.reset.bias.fill_(-100)
    # gate open, memory forgotten: tanh(W [f, 0])
    selected, new = unit(f, state)
    assert (
        torch.allclose(selected, torch.tanh(unit.info(torch.cat([f, torch.zeros_like(f)], 1))))
        and new.abs().max() < 1e-30
    )


def test_the_published_size_halves_five_times_with_four_transfer_units():
    with torch.device("meta"):
        net, critic = Generator(64, 13, 5), Discriminator(128, 64, 13, 5)
        assert [len(net.encoder), len(net.transfer), len(net.decoder)] == [5, 4, 5] and net.encoder[-1][
            0
        ].out_channels == 1024
        source, logits = critic(torch.zeros(2, 3, 128, 128))
    assert source.shape == (2, 1) and logits.shape == (2, 13)


def test_a_discriminator_of_one_pixel_and_of_a_size_that_does_not_halve(faces):
    # its last layer is one pixel, which cannot be normalised
    source, logits = Discriminator(32, 4, 5, 5, 8)(faces(2)[0])
    assert source.shape == (2, 1) and logits.shape == (2, 5) and bool(torch.isfinite(source).all())
    with pytest.raises(ValueError, match="not divisible by 2"):
        Discriminator(24, 4, 5, 4)
