"""JPEG that a gradient passes through: the rounding of its coefficients is replaced by a smooth one."""

import torch


def round_trip(x: torch.Tensor, quality: float | torch.Tensor) -> torch.Tensor:
    """What Pillow's JPEG (4:2:0 chroma, standard tables) makes of x, up to the smooth rounding, with a
    gradient.

    Args:   x        (N, 3, H, W) in [-1, 1], sides of any length (those that are no multiple of 16 are
                     continued by their last pixels and cropped back)
            quality  1 to 100, one for all or (N,), on the CPU so that no device is waited for
    Source: Shin and Song 2017; kornia's implementation of Reich et al. 2024
    """
    from kornia.enhance import jpeg_codec_differentiable  # half a second, of use to few commands

    quality = torch.as_tensor(quality, dtype=x.dtype).reshape(-1)
    return jpeg_codec_differentiable((x + 1) / 2, quality).mul(2).sub(1).clamp(-1, 1)
