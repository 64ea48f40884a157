"""DADFI: the perturbation of a photo from one pass of a trained generator (Yang et al. 2024)."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from attacks.base import Attack
from common.cli import RunError, UserError
from common.declared import Look, Parameter
from common.seeds import Streams
from models.dadfi.network import load_perturber

OTHER_SIZES = ("refuse", "resize")


class DADFI(Attack):
    """Add what a generator of `python -m models.dadfi.train` makes of the photo; no translator is needed any
    more.

    Args:   weights      its weights.safetensors; eps must be the bound that it was trained for
            other_sizes  refuse  photos of another size than it was trained at are an error
                         resize  the perturbation is made of the photo shrunk so that its short side has that
                                 size, then enlarged to the photo: what a translator sees that shrinks the
                                 photo likewise
    """

    name = "dadfi"
    look = Look("DADFI", "#14843c", 90)
    parameters = (
        Parameter(
            "weights",
            "--attack_weights",
            str,
            None,
            "for dadfi: a trained perturbation generator (python -m models.dadfi.train)",
            metavar="FILE",
        ),
    )
    handed = ("other_sizes",)
    uses_translator = False
    only_for_tests = "its generator is what purifiers are tested against"

    def __init__(
        self,
        translator: Callable[..., torch.Tensor] | None,
        eps: float,
        weights: Path | str | None = None,
        other_sizes: str = "refuse",
    ):
        super().__init__(None, eps)
        if weights is None:
            raise UserError("dadfi needs --attack_weights FILE, made by `python -m models.dadfi.train`")
        if other_sizes not in OTHER_SIZES:
            raise ValueError(f"other_sizes {other_sizes!r}: one of {', '.join(OTHER_SIZES)}")
        self.path, self.network, self.other_sizes = weights, load_perturber(weights), other_sizes
        if abs(self.network.lim - self.eps) > 1e-9:
            raise UserError(
                f"{weights} was trained for a bound of {self.network.lim:g}, --test_noise_var is"
                f" {self.eps:g}: give --test_noise_var {self.network.lim:g}, or weights of that bound"
            )

    @classmethod
    def check_flags(cls, values: dict[str, object]) -> None:
        if values["weights"] is None:
            raise UserError(
                "--attack_type dadfi needs --attack_weights FILE, a trained perturbation generator: python -m"
                " models.dadfi.train"
            )

    def check_size(self, image_size: int) -> None:
        if self.other_sizes == "refuse" and image_size != self.network.image_size:
            raise UserError(
                f"{self.path} was trained on photos of {self.network.image_size} pixels, --image_size"
                f" is {image_size}: give --image_size {self.network.image_size}"
            )

    @torch.no_grad()
    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        h, w = x.shape[-2:]
        size, network = self.network.image_size, self.network.to(x.device)
        if (h, w) == (size, size) or min(h, w) == size and self.other_sizes == "resize":
            p = network.perturbation(x)
        elif self.other_sizes == "refuse":
            raise UserError(
                f"{self.path} was trained on photos of {size} x {size} pixels, these have {w} x {h}: give"
                f" --image_size {size}"
            )
        else:
            small = F.interpolate(
                x, size=shrunk(h, w, size), mode="bilinear", align_corners=False, antialias=True
            ).clamp(-1, 1)
            p = F.interpolate(network.perturbation(small), size=(h, w), mode="bilinear", align_corners=False)
        if not torch.isfinite(p).all():
            raise RunError(
                f"{self.path}: its perturbation is not finite; train it again, or take an earlier one"
            )
        return self.project(x, p)

    def definition(self) -> dict:
        return {
            "attack": self.name,
            "eps": self.eps,
            "weights": self.network.sha256,
            "other_sizes": self.other_sizes,
        }


def shrunk(h: int, w: int, size: int) -> tuple[int, int]:
    """(h, w) scaled so that the short side is `size`, the long one rounded."""
    return (size, round(w * size / h)) if h <= w else (round(h * size / w), size)
