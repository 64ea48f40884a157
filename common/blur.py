"""Blur kernels shared by the blur defence and the attacks that evade it. Depthwise, reflected borders,
differentiable."""

import torch
import torch.nn.functional as F

from common.distributed import to_device


def gaussian_blur(x: torch.Tensor, sigma: float, kernel_size: int = 11) -> torch.Tensor:
    """Gaussian blur, kernel_size x kernel_size (odd), sigma in pixels.

    Shape:  x (N, 3, H, W), H and W above kernel_size // 2 -> shape, device, dtype and range of x
    Raises: ValueError for an even kernel, sigma <= 0 or an image smaller than the kernel's reach
    Source: the blur defence of Ruiz et al. 2020 (sigma 1.5, kernel 11)
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, found {sigma}")
    _check(x, kernel_size)
    at = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    weights = torch.exp(-at.square() / (2 * sigma * sigma))
    return _separable(x, weights / weights.sum())


def box_blur(x: torch.Tensor, k: int) -> torch.Tensor:
    """Mean over k x k pixels (k odd). Shape, errors and borders as gaussian_blur."""
    _check(x, k)
    return _separable(x, torch.full((k,), 1 / k, dtype=torch.float64))


def _check(x, kernel_size):
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"the kernel size must be odd, found {kernel_size}")
    if x.ndim != 4 or min(x.shape[-2:]) <= kernel_size // 2:
        raise ValueError(
            f"expected images (N, C, H, W) of more than {kernel_size // 2} pixels a side, found"
            f" {tuple(x.shape)}"
        )


def _separable(x, weights):
    """Convolve rows and columns with the same 1-D weights (k,)."""
    k, channels = len(weights), x.shape[1]
    weights = to_device(weights.to(x.dtype), x.device)
    pad = k // 2
    x = F.pad(x, (pad, pad, pad, pad), mode="reflect")
    x = F.conv2d(x, weights.view(1, 1, 1, k).expand(channels, 1, 1, k), groups=channels)
    return F.conv2d(x, weights.view(1, 1, k, 1).expand(channels, 1, k, 1), groups=channels)
