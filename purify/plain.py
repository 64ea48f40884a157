"""Purifiers without a network: nothing, JPEG, Gaussian blur."""

import numpy as np
import torch

from common import cli, images, jpeg
from common.blur import gaussian_blur
from common.declared import Look, Parameter
from common.seeds import Streams
from purify.base import Purifier

KERNEL = 11  # pixels; as in Ruiz et al. 2020


class Nothing(Purifier):
    """The photo as it is."""

    name = "none"
    look = Look("none", "#333333", 0)

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        self.count(len(x), 0)
        return x


class Jpeg(Purifier):
    """Save each photo as JPEG and read it back (Pillow, 4:2:0 chroma, standard tables).

    Forward is Pillow's result exactly. Rounding has a zero gradient almost everywhere, so backward goes
    through the differentiable JPEG of the same quality (common.jpeg), which differs from it by the rounding
    of the coefficients alone.
    """

    name = "jpeg"
    look = Look("jpeg", "#e8850c", 1)
    surrogate = "differentiable-jpeg"
    parameters = (Parameter("quality", "--jpeg_quality", cli.jpeg_quality, 75, "of jpeg, 1 to 100"),)

    def __init__(self, quality: int = 75):
        super().__init__({"quality": quality}, f"jpeg-q{quality}")

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        self.count(len(x), 0)
        y = images.to_float(
            np.stack([images.jpeg_round_trip(image, self.params["quality"]) for image in images.to_uint8(x)])
        ).to(x.device, x.dtype)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return y
        smooth = jpeg.round_trip(x, self.params["quality"])
        return y + (smooth - smooth.detach())  # adds zero, passes the gradient on


class Blur(Purifier):
    """Gaussian blur of standard deviation sigma pixels (Ruiz et al. 2020: sigma 1.5, kernel 11)."""

    name = "blur"
    look = Look("blur", "#8c5a2b", 2)
    parameters = (Parameter("sigma", "--blur_sigma", cli.positive_float, 1.5, "of blur, pixels (kernel 11)"),)
    smallest = KERNEL // 2 + 1

    def __init__(self, sigma: float = 1.5):
        super().__init__({"sigma": sigma, "kernel": KERNEL}, f"blur-s{sigma:g}")

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        self.count(len(x), 0)
        return gaussian_blur(x, self.params["sigma"], KERNEL).clamp(-1, 1)
