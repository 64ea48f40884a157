"""Structural similarity by a separated window: the two-dimensional Gaussian is a product of two, so each
pixel costs 2 x 11 products in place of 11 x 11, and what belongs to one image alone is worked out once for
all images that are held against it."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F

SIGMA, RADIUS = 1.5, 5  # of the Gaussian window, pixels: 11 x 11
K1, K2 = 0.01, 0.03
DATA_RANGE = 2.0  # of images in [-1, 1]
CACHED = 400_000  # numbers that a CPU core keeps at hand while it goes over them again


@dataclass(frozen=True)
class Windowed:
    """Images as the window sees them, mirrored at the edges, (N, 3, H + 10, W + 10), with their mean and
    variance under the window at each pixel, (N, 3, H, W)."""

    image: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor) -> Self:
        """Of images x (N, 3, H, W) in [-1, 1], H and W above 5."""
        image = widened(x)
        mean, square = blur(torch.cat([image, image * image])).chunk(2)
        return cls(image, mean, (square - mean.square()).clamp_min(0))


def widened(x: torch.Tensor) -> torch.Tensor:
    """x (N, 3, H, W) -> (N, 3, H + 10, W + 10): the window fits at each pixel."""
    return F.pad(x.detach().float(), (RADIUS,) * 4, mode="reflect")


def blur(x: torch.Tensor) -> torch.Tensor:
    """Gaussian means (N, C, H - 10, W - 10) of x (N, C, H, W), along the rows, then along the columns."""
    if x.is_cuda:
        return _blur(x)
    return torch.cat([_blur(part) for part in x.split(max(1, CACHED // x[0].numel()))])


def _blur(x):
    half = torch.exp(-(torch.arange(RADIUS + 1) ** 2) / (2 * SIGMA**2))  # the centre and one side
    weights = (half / (2 * half.sum() - half[0])).tolist()
    for dim in (-1, -2):
        length = x.shape[dim] - 2 * RADIUS
        total = x.narrow(dim, RADIUS, length) * weights[0]
        for k in range(1, RADIUS + 1):
            pair = x.narrow(dim, RADIUS - k, length) + x.narrow(dim, RADIUS + k, length)
            total.add_(pair, alpha=weights[k])
        x = total
    return x


def ssim(image: torch.Tensor, reference: Windowed) -> torch.Tensor:
    """(N,) float32: the structural similarity of each image to its reference, mean over pixels and channels.

    It is not invariant under a shift, so the means are seen in [0, 2]: the usual value of 8-bit images, where
    mid-grey is not zero. Variances do not mind, and lose fewer digits in [-1, 1].

    Shape:  image (N, 3, H, W) in [-1, 1];  reference  of images of that shape
    Source: Wang et al. 2004, Eq. 13, Gaussian window of sigma 1.5; equal to torchmetrics' (in float64) within
            1e-5
    """
    own = widened(image)
    mean, square, product = blur(torch.cat([own, own * own, own * reference.image])).chunk(3)
    variances = (square - mean.square()).clamp_min(0) + reference.variance
    covariance = product - mean * reference.mean
    mine, theirs = mean + 1, reference.mean + 1
    c1, c2 = (K1 * DATA_RANGE) ** 2, (K2 * DATA_RANGE) ** 2
    pixels = (2 * mine * theirs + c1) * (2 * covariance + c2)
    pixels /= (mine.square() + theirs.square() + c1) * (variances + c2)
    return pixels.mean(dim=(1, 2, 3))
