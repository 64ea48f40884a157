import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.gradient import PGD
from common import distributed, seeds
from common.images import read_rgb, to_float
from faces.procedural import draw_folder
from models.stargan.fast import Fast
from models.stargan.frozen import StarGAN
from models.stargan.network import Generator
from models.translators import load_translator

DEMO = Path("models/stargan/demo.safetensors")


def gradient(translate, x, c, weight):
    x = x.clone().requires_grad_(True)
    fake = translate(x, c)
    return fake.detach(), torch.autograd.grad((fake.float() * weight).sum(), x)[0]


@pytest.fixture(params=["transposed", "resize"])
def generator(request):
    torch.manual_seed(3)
    network = (
        Generator(conv_dim=8, c_dim=5, repeat_num=2, upsampling=request.param).double().requires_grad_(False)
    )
    for p in network.parameters():
        p.add_(0.1 * torch.randn_like(p))  # weights and biases of the normalisation are of use
    return network.eval()


@pytest.mark.parametrize("size", [(32, 32), (16, 24)])
def test_it_is_the_generator_and_its_gradient(generator, faces, size):
    x, c = faces(3)
    x, weight = x[..., : size[0], : size[1]], torch.randn(3, 3, *size)
    exact = gradient(generator, x.double(), c.double(), weight.double())
    single = copy.deepcopy(generator).float()
    plain, fast = gradient(single, x, c, weight), gradient(Fast(single), x, c, weight)
    for got, usual, wanted in zip(fast, plain, exact, strict=True):
        allowed = 3 * (usual - wanted).abs().max() + 1e-6 * wanted.abs().max()
        assert (got - wanted).abs().max() <= allowed


def test_autocast_is_no_worse_than_the_plain_network(generator, faces):
    x, c = faces(3)
    weight, single = torch.randn(3, 3, 32, 32), copy.deepcopy(generator).float()
    exact = gradient(single, x, c, weight)
    with distributed.autocast("cpu", "bf16"):
        plain, fast = gradient(single, x, c, weight), gradient(StarGAN(single), x, c, weight)
    assert fast[0].dtype == torch.bfloat16 == plain[0].dtype
    for got, usual, wanted in zip(fast, plain, exact, strict=True):
        assert (got - wanted).square().mean() <= 1.2 * (usual - wanted).square().mean()


def test_labels_between_and_beyond_the_usual_ones(generator, faces):
    x, single = faces(2)[0], copy.deepcopy(generator).float()
    c = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0], [0.0] * 5])
    torch.testing.assert_close(Fast(single)(x, c), single(x, c), rtol=0, atol=1e-4)


def test_parameters_with_gradients_go_the_plain_way(generator, faces):
    x, c = faces(2)
    translator = StarGAN(copy.deepcopy(generator).float())
    translator(x, c)
    translator.network.requires_grad_(True)
    translator(x, c).sum().backward()
    assert all(p.grad is not None for p in translator.parameters())
    assert set(translator.state_dict()) == {f"network.{k}" for k in generator.state_dict()}


@pytest.mark.skipif(not DEMO.is_file(), reason="needs the shipped weights")
def test_the_attack_is_the_same_on_faces(tmp_path):
    draw_folder(tmp_path, 4, seed=0, num_workers=1)
    paths = sorted((tmp_path / "images").iterdir())[:4]
    x = to_float(np.stack([np.asarray(read_rgb(p).resize((64, 64))) for p in paths]))
    translator = load_translator(DEMO)
    c = torch.zeros(4, 1, translator.c_dim)
    fast, plain = (
        PGD(g, 0.05)(x, c, seeds.named(0, [p.name for p in paths], "attack"))
        for g in (translator, translator.network)
    )
    # the sign of a gradient near zero is a matter of rounding: in float64 it differs from both by as much
    assert (fast != plain).float().mean() <= 0.05
    reached = [
        float((translator(y, c[:, 0]) - translator(x, c[:, 0])).square().mean()) for y in (fast, plain)
    ]
    assert reached[0] == pytest.approx(reached[1], rel=0.01)
