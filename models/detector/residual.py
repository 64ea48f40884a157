"""A detector that sees nothing but the finest detail of a photo, which compression takes first."""

import torch
import torch.nn.functional as F

from common.declared import Look
from models.detector.network import Meso4

# of Fridrich and Kodovsky's rich models: second differences over a square of 3 and of 5, and along a line;
# with what each is divided by
KERNELS = (
    ([[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]], 4),
    ([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]], 12),
    ([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, -2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], 2),
)
MOST = 3.0  # grey levels: what exceeds it is an edge of the picture, and no more telling for being larger


def residual(x: torch.Tensor) -> torch.Tensor:
    """What three fixed high-pass filters leave of each colour, in grey levels (of 255) and cut at MOST.

    (N, 3, H, W) in [-1, 1] -> (N, 9, H, W) float32 in [-MOST, MOST], the three of red first.
    """
    kernels = torch.tensor([k for k, _ in KERNELS], dtype=torch.float32, device=x.device)
    divisors = torch.tensor([d for _, d in KERNELS], dtype=torch.float32, device=x.device)
    # a residual is a small difference of large numbers: bfloat16 would round it away
    with torch.autocast(x.device.type, enabled=False):
        levels = F.pad((x.float() + 1) * 127.5, [2, 2, 2, 2], mode="reflect")
        found = F.conv2d(levels, kernels.repeat(3, 1, 1)[:, None], groups=3)
        return (found / divisors.repeat(3)[:, None, None]).clamp(-MOST, MOST)


class Residual(Meso4):
    """Meso4 behind `residual`: of the nine channels, none holds what a smooth face looks like.

    Source: filters of Fridrich and Kodovsky 2012, "Rich models for steganalysis of digital images", the three
            that Zhou et al. 2018 use (arXiv:1805.04953). Theirs mix the colours, ours see each
            apart: JPEG treats them differently.
    """

    look = Look("residual", "#0b8f9c", 4)
    channels = 9

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(residual(x))
