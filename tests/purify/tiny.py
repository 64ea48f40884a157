"""Tiny denoisers for the tests of purifiers: a seeded network, and analytic ones that know the answer."""

import pytest
import torch
from torch import nn

from common import seeds
from models.diffusion import build, official

META = {"kind": "diffusion", "options": dict(official.DIFFUSION), "max_timestep": 300}


class ConvNoise(nn.Module):
    """A small seeded network of any size of image; smooth, so that gradients can be compared with finite
    differences."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 3, 3, 1, 1)
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(torch.randn(p.shape, generator=seeds.generator("tiny", i)) * 0.3)

    def forward(self, x, t):
        return self.b(torch.tanh(self.a(x) + 0.01 * t.view(-1, 1, 1, 1).to(x.dtype)))


class GaussianNoise(nn.Module):
    """The exact noise prediction for photos ~ N(mean, var I): eps = std (x - sqrt(abar) mean) / (abar var +
    std^2)."""

    def __init__(self, mean, var):
        super().__init__()
        self.mean, self.var = mean, var
        self.register_buffer("abar", torch.tensor(build.create_diffusion().alphas_cumprod))

    def forward(self, x, t):
        abar = self.abar[t.long()].view(-1, 1, 1, 1).to(x.dtype)
        return (1 - abar).sqrt() * (x - abar.sqrt() * self.mean) / (abar * self.var + 1 - abar)


def denoiser(network=None, size=8, multiple=4, **meta):
    """A Denoiser over `network` with the schedule of our weights and max_timestep 300."""
    network = network or ConvNoise()
    network.options, network.size_multiple = {"image_size": size, "learn_sigma": False}, multiple
    list(network.parameters()) or network.register_parameter("unused", nn.Parameter(torch.zeros(())))
    return build.denoiser(network, {**META, **meta}).eval().requires_grad_(False)


def weights_file(path, kind="diffusion", image_size=8, **more):
    """A real weight file of the smallest UNet."""
    from common import checkpoint

    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = build.options_for(image_size, num_channels=32, channel_mult="1,1")
        network = build.create_network(options)
        for p in network.out.parameters():
            nn.init.normal_(p, std=0.05)
    checkpoint.save_weights(
        path, network.state_dict(), {"kind": kind, "options": options, "max_timestep": 300, **more}
    )
    return path


def robust_file(path, width=7, blocks=1, **more):
    """Weights of a small one-step-robust, seeded, that change the photo."""
    from common import checkpoint
    from models.one_step_robust.network import RobustNetwork

    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = RobustNetwork(width, blocks)
        for p in network.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.1)
    meta = {"kind": "one-step-robust", "options": {"width": width, "blocks": blocks}, **more}
    checkpoint.save_weights(path, network.state_dict(), meta)
    return path


def check_gradient(purify, x):
    """The gradient of purify(x), (N, 3, H, W) float64, matches finite differences in a random direction."""
    weights, direction = (
        torch.randn(x.shape, generator=seeds.generator(k), dtype=torch.float64) for k in ("w", "d")
    )

    def value(y):
        return (purify(y) * weights).sum()

    x.requires_grad_(True)
    (grad,) = torch.autograd.grad(value(x), x)
    with torch.no_grad():
        h = 1e-6
        slope = (value(x + h * direction) - value(x - h * direction)) / (2 * h)
    assert float((grad * direction).sum()) == pytest.approx(float(slope), rel=1e-5)
