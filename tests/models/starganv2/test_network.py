import math

import pytest
import torch
import torch.nn.functional as F

from models.starganv2.network import (
    AdaIN,
    AdainResBlk,
    Discriminator,
    Generator,
    MappingNetwork,
    ResBlk,
    StyleEncoder,
)


def count(network):
    return sum(p.numel() for p in network.parameters())


def seeded(kind, *args, **kwargs):
    torch.manual_seed(0)
    return kind(*args, **kwargs).requires_grad_(False)


def pair(prefix):
    return {f"{prefix}.weight", f"{prefix}.bias"}


def block(prefix, norms=(), shortcut=False):
    names = (
        pair(f"{prefix}.conv1")
        | pair(f"{prefix}.conv2")
        | ({f"{prefix}.conv1x1.weight"} if shortcut else set())
    )
    return names.union(*(pair(f"{prefix}.{norm}") for norm in norms))


def test_sizes_of_the_published_networks():
    """As the official code prints them for CelebA-HQ (w_hpf 1, 2 domains) and AFHQ (w_hpf 0) at 256 x 256."""
    with torch.device("meta"):
        assert (
            count(Generator(64, 512, 5, 64, w_hpf=1)) == 43_467_395
            and count(Generator(64, 512, 4, 64)) == 33_892_995
        )
        assert count(MappingNetwork(16, 64, 2, 512)) == 2_438_272
        assert (
            count(StyleEncoder(64, 512, 6, 64, 2)) == 20_916_928
            and count(Discriminator(64, 512, 6, 2)) == 20_852_290
        )


@pytest.mark.parametrize("num_downs", [4, 5])
def test_names_of_the_official_generator(num_downs):
    with torch.device("meta"):
        state = Generator(64, 512, num_downs, 64, w_hpf=num_downs - 4).state_dict()
    # 64 -> 128 -> 256 -> 512, then constant
    wider = 3
    expected = pair("from_rgb") | pair("to_rgb.0") | pair("to_rgb.2")
    for n in range(num_downs + 2):
        expected |= block(f"encode.{n}", ("norm1", "norm2"), n < wider)
        expected |= block(f"decode.{n}", ("norm1.fc", "norm2.fc"), n >= num_downs + 2 - wider)
    assert set(state) == expected
    assert state["from_rgb.weight"].shape == (64, 3, 3, 3) and state["encode.0.conv1.weight"].shape == (
        64,
        64,
        3,
        3,
    )
    assert state["encode.0.conv2.weight"].shape == (128, 64, 3, 3) and state[
        "encode.0.norm2.weight"
    ].shape == (64,)
    last = f"decode.{num_downs + 1}"
    assert state[f"{last}.conv1.weight"].shape == (64, 128, 3, 3) and state[f"{last}.conv2.weight"].shape == (
        64,
        64,
        3,
        3,
    )
    assert state[f"{last}.norm1.fc.weight"].shape == (256, 64) and state[f"{last}.norm2.fc.weight"].shape == (
        128,
        64,
    )
    assert state["decode.0.conv1.weight"].shape == (512, 512, 3, 3) and state["to_rgb.2.weight"].shape == (
        3,
        64,
        1,
        1,
    )


def test_names_of_the_other_official_networks():
    with torch.device("meta"):
        mapping, encoder = (
            MappingNetwork(16, 64, 2, 512).state_dict(),
            StyleEncoder(64, 512, 6, 64, 2).state_dict(),
        )
        discriminator = Discriminator(64, 512, 6, 2).state_dict()
    layers = (0, 2, 4, 6)
    assert set(mapping) == set().union(
        *(pair(f"{part}.{n}") for part in ("shared", "unshared.0", "unshared.1") for n in layers)
    )
    assert mapping["shared.0.weight"].shape == (512, 16) and mapping["unshared.1.6.weight"].shape == (64, 512)

    def trunk(name):
        return pair(f"{name}.0").union(
            *(block(f"{name}.{n}", shortcut=n <= 3) for n in range(1, 7)), pair(f"{name}.8")
        )

    assert set(encoder) == trunk("shared") | pair("unshared.0") | pair("unshared.1")
    assert set(discriminator) == trunk("main") | pair("main.10")
    assert encoder["shared.8.weight"].shape == (512, 512, 4, 4) and encoder["unshared.0.weight"].shape == (
        64,
        512,
    )
    assert discriminator["main.10.weight"].shape == (2, 512, 1, 1)


def test_initial_weights_are_those_of_he():
    net = seeded(Generator, 32, 64, 2, 16)
    assert all(float(p.abs().max()) == 0 for n, p in net.named_parameters() if n.endswith("bias"))
    for weight in (net.encode[1].conv2.weight, net.decode[0].norm1.fc.weight):
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / weight[0].numel()), rel=0.1)


def test_a_residual_block_by_hand():
    net, x = (
        seeded(ResBlk, 4, 6, downsample=True),
        torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
    )
    branch = F.avg_pool2d(net.conv1(F.leaky_relu(x, 0.2)), 2)
    shortcut = F.avg_pool2d(net.conv1x1(x), 2)
    assert torch.allclose(net(x), (shortcut + net.conv2(F.leaky_relu(branch, 0.2))) / math.sqrt(2)) and net(
        x
    ).shape == (2, 6, 4, 4)
    zero = ResBlk(4, 4)
    for p in zero.parameters():
        torch.nn.init.zeros_(p)
    assert torch.allclose(zero(x), x / math.sqrt(2))  # its shortcut alone


def test_adaptive_normalisation_sets_mean_and_spread():
    net = AdaIN(2, 3)
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.weight[:3, 0], net.fc.weight[3:, 1] = 1.0, 1.0
        net.fc.bias.zero_()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 5 + 7
    out = net(x, torch.tensor([[0.0, 0.0], [2.0, -1.0]]))
    assert torch.allclose(out.mean((2, 3)), torch.tensor([[0.0] * 3, [-1.0] * 3]), atol=1e-4)
    assert torch.allclose(out.std((2, 3), correction=0), torch.tensor([[1.0] * 3, [3.0] * 3]), atol=1e-3)


def test_the_decoder_block_has_no_shortcut_with_high_pass():
    net, x, s = seeded(AdainResBlk, 6, 4, 5, upsample=True), torch.randn(2, 6, 4, 4), torch.randn(2, 5)
    half = net(x, s)
    net.w_hpf = 1
    residual = net(x, s)
    shortcut = net.conv1x1(F.interpolate(x, scale_factor=2))
    assert half.shape == (2, 4, 8, 8) and torch.allclose(
        half, (shortcut + residual) / math.sqrt(2), atol=1e-6
    )


def test_shapes():
    x, z, y = torch.rand(3, 3, 32, 32) * 2 - 1, torch.randn(3, 4), torch.tensor([0, 2, 1])
    mapping, encoder = seeded(MappingNetwork, 4, 6, 3, 8), seeded(StyleEncoder, 4, 8, 3, 6, 3)
    generator, discriminator = seeded(Generator, 4, 8, 2, 6), seeded(Discriminator, 4, 8, 3, 3)
    assert mapping(z, y).shape == encoder(x, y).shape == (3, 6) and discriminator(x, y).shape == (3,)
    assert generator(x, mapping(z, y)).shape == x.shape and generator(
        x[:, :, :20, :12], mapping(z, y)
    ).shape == (3, 3, 20, 12)


def test_each_image_gets_the_head_of_its_domain():
    x, z = torch.rand(3, 3, 16, 16), torch.randn(3, 4)
    for net, given in ((seeded(MappingNetwork, 4, 6, 3, 8), z), (seeded(StyleEncoder, 4, 8, 2, 6, 3), x)):
        every = net.every(given)
        assert every.shape == (3, 3, 6) and torch.equal(
            net(given, torch.tensor([2, 0, 1])), torch.stack([every[0, 2], every[1, 0], every[2, 1]])
        )
        assert float((every[:, 0] - every[:, 1]).abs().max()) > 1e-3
    discriminator = seeded(Discriminator, 4, 8, 2, 3)
    logits = torch.stack([discriminator(x, torch.full((3,), k)) for k in range(3)], 1)
    assert torch.equal(
        discriminator(x, torch.tensor([2, 0, 1])), torch.stack([logits[0, 2], logits[1, 0], logits[2, 1]])
    )


def test_modes_are_one_function_and_the_style_matters():
    net, x = seeded(Generator, 4, 8, 2, 6), torch.rand(2, 3, 16, 16) * 2 - 1
    s = torch.randn(2, 6)
    evaluated = net.eval()(x, s)
    assert torch.equal(net.train()(x, s), evaluated) and not list(net.buffers())
    assert float((net(x, s.flip(0)) - evaluated).abs().mean()) > 1e-3
    assert torch.allclose(net(x[1:], s[1:]), evaluated[1:], atol=1e-4)
