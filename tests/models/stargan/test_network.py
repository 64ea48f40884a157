import pytest
import torch

from models.stargan.network import Discriminator, Generator, ResizeConv2d


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_sizes_of_the_published_networks():
    with torch.device("meta"):
        assert count(Generator(64, 5, 6)) == 8_430_528
        assert count(Discriminator(128, 64, 5, 6)) == 44_762_048
        assert count(Discriminator(256, 64, 5, 6)) == 44_884_928


def test_names_are_those_of_the_official_checkpoints():
    with torch.device("meta"):
        generator, discriminator = Generator(64, 5, 6).state_dict(), Discriminator(128, 64, 5, 6).state_dict()
    norms = [1, 4, 7, 16, 19]
    expected = {f"main.{i}.weight" for i in (0, 3, 6, 15, 18, 21)} | {
        f"main.{i}.{p}" for i in norms for p in ("weight", "bias")
    }
    for block in range(9, 15):
        expected |= {
            f"main.{block}.main.{name}"
            for name in ("0.weight", "1.weight", "1.bias", "3.weight", "4.weight", "4.bias")
        }
    assert set(generator) == expected
    assert generator["main.0.weight"].shape == (64, 8, 7, 7) and generator["main.9.main.3.weight"].shape == (
        256,
        256,
        3,
        3,
    )
    assert generator["main.15.weight"].shape == (256, 128, 4, 4) and generator["main.21.weight"].shape == (
        3,
        64,
        7,
        7,
    )
    assert set(discriminator) == {f"main.{i}.{p}" for i in range(0, 12, 2) for p in ("weight", "bias")} | {
        "conv1.weight",
        "conv2.weight",
    }
    assert discriminator["conv2.weight"].shape == (5, 2048, 2, 2) and discriminator[
        "main.10.weight"
    ].shape == (2048, 1024, 4, 4)


def test_training_and_evaluation_modes_are_the_same_function(tiny_generator, faces):
    x, c = faces(4)
    evaluated = tiny_generator.eval()(x, c)
    for _ in range(3):
        tiny_generator.train()(x, c)  # would move running statistics, if there were any
    assert torch.equal(tiny_generator.train()(x, c), evaluated) and torch.equal(
        tiny_generator.eval()(x, c), evaluated
    )
    assert not list(tiny_generator.buffers())


def test_an_image_does_not_see_its_neighbours(tiny_generator, faces):
    x, c = faces(4)
    assert torch.allclose(tiny_generator(x, c)[2:3], tiny_generator(x[2:3], c[2:3]), atol=1e-4)


def test_label_planes_matter(tiny_generator, faces):
    x, c = faces(2)
    for k in range(5):
        other = c.clone()
        other[:, k] = 1 - other[:, k]
        assert float((tiny_generator(x, c) - tiny_generator(x, other)).abs().mean()) > 1e-3


def test_shape_and_range(tiny_generator, faces):
    for size in (8, 20, 32):
        x, c = faces(2, size)
        y = tiny_generator(x, c)
        assert y.shape == x.shape and float(y.abs().max()) <= 1


def test_enlarging_and_convolving_leaves_a_flat_image_flat():
    """Away from the border; a transposed convolution of stride 2 makes a chequered pattern of it."""
    flat = torch.ones(1, 3, 8, 8)
    for layer, patterned in ((ResizeConv2d(3, 2), False), (torch.nn.ConvTranspose2d(3, 2, 4, 2, 1), True)):
        inside = layer(flat)[..., 2:-2, 2:-2]
        assert inside.shape == (1, 2, 12, 12)
        assert bool((inside.amax((2, 3)) - inside.amin((2, 3)) > 1e-3).all()) == patterned


def test_an_unknown_way_to_enlarge_is_an_error():
    with pytest.raises(ValueError, match="upsampling 'bicubic': one of transposed, resize"):
        Generator(4, 5, 1, "bicubic")


def test_discriminator_maps_and_logits(faces):
    x, _ = faces(2, 32)
    source, logits = Discriminator(32, 4, 5, 3)(x)
    assert source.shape == (2, 1, 4, 4) and logits.shape == (2, 5)


def test_discriminator_of_an_impossible_size():
    with pytest.raises(ValueError, match="96 is not divisible by 2.6"):
        Discriminator(96, 4, 5, 6)
