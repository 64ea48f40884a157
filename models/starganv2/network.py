"""StarGAN v2's four networks (Choi et al., CVPR 2020, Sec. A.4), with the parameter names of the official
checkpoints.

The official sizes at image_size S: dim_in = 2^14 / S, max_conv_dim = hidden_dim = 512, latent_dim 16,
style_dim 64, log2(S) - 4 halvings in the generator (one more with w_hpf > 0) and log2(S) - 2 in the style
encoder and the discriminator. All are arguments.
"""

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from models.stargan.network import instance_norm

SLOPE = 0.2  # of every leaky ReLU


def conv(dim_in: int, dim_out: int, size: int = 3, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(dim_in, dim_out, size, 1, size // 2, **kwargs)


def leaky(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, SLOPE)


def select(stacked: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
    """Row i's entry of its domain.  stacked (N, D, ...), domain (N,) int64 -> (N, ...)."""
    return stacked[torch.arange(len(stacked), device=stacked.device), domain]


def initialise(network: nn.Module) -> None:
    """He initialisation of every convolution and linear layer, zero biases, as published."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ResBlk(nn.Module):
    """Pre-activation residual block; halves the image where asked.  (N, dim_in, H, W) -> (N, dim_out, H or
    H/2, W or W/2)."""

    def __init__(self, dim_in: int, dim_out: int, normalize: bool = False, downsample: bool = False):
        super().__init__()
        self.downsample = downsample
        self.conv1, self.conv2 = conv(dim_in, dim_in), conv(dim_in, dim_out)
        self.norm1 = instance_norm(dim_in) if normalize else nn.Identity()
        self.norm2 = instance_norm(dim_in) if normalize else nn.Identity()
        self.conv1x1 = conv(dim_in, dim_out, 1, bias=False) if dim_in != dim_out else nn.Identity()

    def halve(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2) if self.downsample else x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.halve(self.conv1(leaky(self.norm1(x))))
        out = self.conv2(leaky(self.norm2(out)))
        return (self.halve(self.conv1x1(x)) + out) / math.sqrt(2)


class AdaIN(nn.Module):
    """Instance normalisation whose scale and shift come from a style.  x (N, C, H, W), s (N, style_dim) ->
    (N, C, H, W)."""

    def __init__(self, style_dim: int, channels: int):
        super().__init__()
        self.fc = nn.Linear(style_dim, 2 * channels)

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        gamma, beta = self.fc(s)[:, :, None, None].chunk(2, 1)
        return (1 + gamma) * F.instance_norm(x) + beta


class AdainResBlk(nn.Module):
    """Residual block of the decoder; doubles the image where asked. With w_hpf > 0 the published block has no
    shortcut, but its weights."""

    def __init__(self, dim_in: int, dim_out: int, style_dim: int, upsample: bool = False, w_hpf: float = 0):
        super().__init__()
        self.upsample, self.w_hpf = upsample, w_hpf
        self.conv1, self.conv2 = conv(dim_in, dim_out), conv(dim_out, dim_out)
        self.norm1, self.norm2 = AdaIN(style_dim, dim_in), AdaIN(style_dim, dim_out)
        self.conv1x1 = conv(dim_in, dim_out, 1, bias=False) if dim_in != dim_out else nn.Identity()

    def double(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.upsample else x

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        out = self.conv1(self.double(leaky(self.norm1(x, s))))
        out = self.conv2(leaky(self.norm2(out, s)))
        if self.w_hpf > 0:
            return out
        return (self.conv1x1(self.double(x)) + out) / math.sqrt(2)


class Generator(nn.Module):
    """G(x, s): the face x in the style s.

    Args:   dim_in  channels at full size, doubled at each of num_downs halvings up to max_conv_dim
            w_hpf   > 0: blocks of the official CelebA-HQ weights. Those were trained with high-passed encoder
                    features added under face masks of a landmark network (FAN), which needs weights of its
                    own; here they run without, so that fakes keep less of the face's outline than the
                    published ones
    Shape:  x (N, 3, H, W) in [-1, 1], H and W multiples of 2^num_downs; s (N, style_dim) -> (N, 3, H, W),
            near [-1, 1], unbounded
    """

    def __init__(
        self,
        dim_in: int = 64,
        max_conv_dim: int = 512,
        num_downs: int = 4,
        style_dim: int = 64,
        w_hpf: float = 0,
    ):
        super().__init__()
        self.options = {
            "dim_in": dim_in,
            "max_conv_dim": max_conv_dim,
            "num_downs": num_downs,
            "style_dim": style_dim,
            "w_hpf": w_hpf,
        }
        dims = [min(dim_in << k, max_conv_dim) if k else dim_in for k in range(num_downs + 1)]
        pairs = list(pairwise(dims))
        self.from_rgb = conv(3, dim_in)
        self.encode = nn.ModuleList([ResBlk(a, b, normalize=True, downsample=True) for a, b in pairs])
        self.encode.extend(ResBlk(dims[-1], dims[-1], normalize=True) for _ in range(2))
        self.decode = nn.ModuleList(AdainResBlk(dims[-1], dims[-1], style_dim, w_hpf=w_hpf) for _ in range(2))
        self.decode.extend(AdainResBlk(b, a, style_dim, True, w_hpf) for a, b in reversed(pairs))
        self.to_rgb = nn.Sequential(instance_norm(dim_in), nn.LeakyReLU(SLOPE), conv(dim_in, 3, 1))
        initialise(self)

    def set_w_hpf(self, w_hpf: float) -> None:
        """Change the kind of the decoder's blocks; their weights are the same."""
        self.options["w_hpf"] = w_hpf
        for block in self.decode:
            block.w_hpf = w_hpf

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        x = self.from_rgb(x)
        for block in self.encode:
            x = block(x)
        for block in self.decode:
            x = block(x, s)
        return self.to_rgb(x)


class MappingNetwork(nn.Module):
    """F(z, y): a style of domain y for the latent code z.  z (N, latent_dim) normal, y (N,) int64 -> (N,
    style_dim)."""

    def __init__(
        self, latent_dim: int = 16, style_dim: int = 64, num_domains: int = 2, hidden_dim: int = 512
    ):
        super().__init__()
        self.options = {
            "latent_dim": latent_dim,
            "style_dim": style_dim,
            "num_domains": num_domains,
            "hidden_dim": hidden_dim,
        }
        h = hidden_dim

        def layers(first):
            return [part for a in (first, h, h, h) for part in (nn.Linear(a, h), nn.ReLU())]

        self.shared = nn.Sequential(*layers(latent_dim))
        self.unshared = nn.ModuleList(
            nn.Sequential(*layers(h)[:6], nn.Linear(h, style_dim)) for _ in range(num_domains)
        )
        initialise(self)

    def every(self, z: torch.Tensor) -> torch.Tensor:
        """The styles of all domains, (N, D, style_dim)."""
        h = self.shared(z)
        return torch.stack([head(h) for head in self.unshared], 1)

    def forward(self, z: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        return select(self.every(z), domain)


def trunk(dim_in: int, max_conv_dim: int, num_downs: int) -> tuple[list[nn.Module], int]:
    """Layers (N, 3, S, S) -> (N, dim_out, 1, 1) at S = 4 * 2^num_downs, and dim_out."""
    dims = [min(dim_in << k, max_conv_dim) if k else dim_in for k in range(num_downs + 1)]
    layers = [conv(3, dim_in)] + [ResBlk(a, b, downsample=True) for a, b in pairwise(dims)]
    return layers + [nn.LeakyReLU(SLOPE), nn.Conv2d(dims[-1], dims[-1], 4), nn.LeakyReLU(SLOPE)], dims[-1]


class StyleEncoder(nn.Module):
    """E(x, y): the style of a photo of domain y.  x (N, 3, S, S) in [-1, 1], S = 4 * 2^num_downs, y (N,)
    int64 -> (N, style_dim)."""

    def __init__(
        self,
        dim_in: int = 64,
        max_conv_dim: int = 512,
        num_downs: int = 6,
        style_dim: int = 64,
        num_domains: int = 2,
    ):
        super().__init__()
        self.options = {
            "dim_in": dim_in,
            "max_conv_dim": max_conv_dim,
            "num_downs": num_downs,
            "style_dim": style_dim,
            "num_domains": num_domains,
        }
        layers, dim_out = trunk(dim_in, max_conv_dim, num_downs)
        self.shared = nn.Sequential(*layers)
        self.unshared = nn.ModuleList(nn.Linear(dim_out, style_dim) for _ in range(num_domains))
        initialise(self)

    def every(self, x: torch.Tensor) -> torch.Tensor:
        """The styles as photos of each domain, (N, D, style_dim)."""
        h = self.shared(x).flatten(1)
        return torch.stack([head(h) for head in self.unshared], 1)

    def forward(self, x: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        return select(self.every(x), domain)


class Discriminator(nn.Module):
    """D(x, y): logit that x is a real photo of domain y.  x (N, 3, S, S), S = 4 * 2^num_downs, y (N,) int64
    -> (N,)."""

    def __init__(self, dim_in: int = 64, max_conv_dim: int = 512, num_downs: int = 6, num_domains: int = 2):
        super().__init__()
        self.options = {
            "dim_in": dim_in,
            "max_conv_dim": max_conv_dim,
            "num_downs": num_downs,
            "num_domains": num_domains,
        }
        layers, dim_out = trunk(dim_in, max_conv_dim, num_downs)
        self.main = nn.Sequential(*layers, conv(dim_out, num_domains, 1))
        initialise(self)

    def forward(self, x: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        return select(self.main(x).flatten(1), domain)
