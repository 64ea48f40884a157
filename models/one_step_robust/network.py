"""The network of one-step-robust: three convolutions at the photo's own scale, and beside them a branch of
half and quarter scale that sees more of the photo."""

import torch
import torch.nn.functional as F
from torch import nn

from models.dae.network import conv, start_at_zero

WIDTH, BLOCKS = 112, 3  # of a new network


class Blocks(nn.Module):
    """Residual pairs of 3x3 convolutions, h + b(silu(a(silu(h)))); (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int, pairs: int):
        super().__init__()
        self.convs = nn.ModuleList(conv(channels, channels) for _ in range(2 * pairs))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        for a, b in zip(self.convs[::2], self.convs[1::2], strict=True):
            h = h + b(F.silu(a(F.silu(h))))
        return h


class RobustNetwork(nn.Module):
    """DefensiveModel2Fixed, to whose middle layer a branch of lower resolution adds what it sees.

    The three convolutions see 7 pixels: an attack that changes more slowly than that passes them. The branch
    folds 2 x 2 pixels into channels, and 2 x 2 of these again, and begins by adding nothing: a new network is
    the identity, and one that begins from a trained autoencoder is that autoencoder.

    Args:  width   channels at the photo's scale; the branch has 6/7 of them at half, 8/7 at a quarter of it
           blocks  residual pairs at a quarter of the scale, 0 = no branch: the network is
                   DefensiveModel2Fixed
    Shape: x (N, 3, H, W) in [-1, 1], H and W multiples of 4 (any without a branch) -> same shape and range
    """

    def __init__(self, width: int = WIDTH, blocks: int = BLOCKS):
        super().__init__()
        self.convs = nn.ModuleList([conv(3, width), conv(width, width), conv(width, 3)])
        start_at_zero(self.convs[-1])
        self.size_multiple = 4 if blocks else 1
        self.branch = Branch(width, blocks) if blocks else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = self.convs
        h = b(F.silu(a(x)))
        if self.branch is not None:
            h = h + self.branch(x)
        return (x + c(F.silu(h))).clamp(-1, 1)


class Branch(nn.Module):
    """x (N, 3, H, W) -> (N, width, H, W), by way of half and a quarter of the scale; zero when new."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        half, quarter = width * 6 // 7, width * 8 // 7
        self.enter, self.before = conv(12, half), Blocks(half, 1)
        self.down, self.middle, self.up = (
            nn.Conv2d(4 * half, quarter, 1),
            Blocks(quarter, blocks),
            nn.Conv2d(quarter, 4 * half, 1),
        )
        self.after, self.leave = Blocks(half, 1), nn.Conv2d(half, 4 * width, 1)
        start_at_zero(self.leave)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.before(self.enter(F.pixel_unshuffle(x, 2)))
        q = self.middle(self.down(F.pixel_unshuffle(h, 2)))
        h = self.after(h + F.pixel_shuffle(self.up(F.silu(q)), 2))
        return F.pixel_shuffle(self.leave(F.silu(h)), 2)
