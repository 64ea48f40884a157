"""The two reformers of MagNet as Anti-disrupt uses them, as published and in a form that can work on [-1, 1]
RGB."""

import torch
import torch.nn.functional as F
from torch import nn

from common.cli import UserError


def conv(d_in: int, d_out: int) -> nn.Conv2d:
    return nn.Conv2d(d_in, d_out, 3, 1, 1)


class DefensiveModel1(nn.Module):
    """Five 3x3 convolutions of 3 channels with sigmoids, one halving and one doubling; 420 parameters.

    Shape:  x (N, 3, H, W) in [-1, 1], H and W even -> (N, 3, H, W) in [0, 1]
    Source: Meng and Chen 2017 (MagNet, MNIST form), as in Anti-disrupt (WISA 2023). Made for images in [0,
            1]: the clamp deletes the dark half of a [-1, 1] image and the sigmoid cannot give it back. Kept
            so that the table can show it.
    """

    size_multiple = 2

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(conv(3, 3) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c, d, e = self.convs
        x = F.avg_pool2d(torch.sigmoid(a(x.clamp(0, 1))), 2)
        x = torch.sigmoid(c(torch.sigmoid(b(x))))
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return torch.sigmoid(e(torch.sigmoid(d(x))))


class DefensiveModel2(nn.Module):
    """Three 3x3 convolutions of 3 channels with sigmoids; 252 parameters.  Shapes and source as
    DefensiveModel1 (CIFAR form)."""

    size_multiple = 1

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(conv(3, 3) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clamp(0, 1)
        for layer in self.convs:
            x = torch.sigmoid(layer(x))
        return x


class DefensiveModel1Fixed(nn.Module):
    """DefensiveModel1's five layers, 64 wide, with SiLU, predicting the correction to the photo; 114,307
    parameters.

    Shape:  x (N, 3, H, W) in [-1, 1], H and W even -> same shape and range. A new network is the identity.
    """

    size_multiple = 2

    def __init__(self, width: int = 64):
        super().__init__()
        self.convs = nn.ModuleList(
            [conv(3, width), conv(width, width), conv(width, width), conv(width, width), conv(width, 3)]
        )
        start_at_zero(self.convs[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c, d, e = self.convs
        full = F.silu(a(x))
        half = F.silu(c(F.silu(b(F.avg_pool2d(full, 2)))))
        # the halving alone would blur the photo
        joined = full + F.interpolate(half, scale_factor=2, mode="nearest")
        return (x + e(F.silu(d(joined)))).clamp(-1, 1)


class DefensiveModel2Fixed(nn.Module):
    """DefensiveModel2's three layers, 112 wide, with SiLU, predicting the correction to the photo; 119,171
    parameters.

    Shape:  x (N, 3, H, W) in [-1, 1] -> same shape and range. A new network is the identity.
    """

    size_multiple = 1

    def __init__(self, width: int = 112):
        super().__init__()
        self.convs = nn.ModuleList([conv(3, width), conv(width, width), conv(width, 3)])
        start_at_zero(self.convs[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = self.convs
        return (x + c(F.silu(b(F.silu(a(x)))))).clamp(-1, 1)


def start_at_zero(layer: nn.Module) -> None:
    """Zero weights and biases: the layer adds nothing yet."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


NETWORKS = {
    "defensive-model-1": DefensiveModel1,
    "defensive-model-2": DefensiveModel2,
    "defensive-model-1-fixed": DefensiveModel1Fixed,
    "defensive-model-2-fixed": DefensiveModel2Fixed,
}


def create(name: str) -> nn.Module:
    """A new network by its --defense_model_type; parameters from torch's global generator.  Raises UserError
    for another name."""
    if name not in NETWORKS:
        raise UserError(f"{name}: not an autoencoder; one of {', '.join(NETWORKS)}")
    return NETWORKS[name]()
