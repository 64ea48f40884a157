"""What the purifiers with a diffusion network share: how they load it, and t*, where they begin."""

import argparse
from typing import Any, Self

from torch import nn

from common import cli
from common.declared import Parameter
from common.errors import UserError
from models.diffusion.denoiser import Denoiser
from purify.base import Purifier


def start_number(text: str) -> int | str:
    """t*: a whole number above 0, or `auto`."""
    if text == "auto":
        return text
    try:
        return cli.positive_int(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected a whole number above 0, or auto, found {text!r}"
        ) from None


START = Parameter(
    "start",
    "--ddpm_start_num",
    start_number,
    None,
    "noising steps t* that are taken back; auto = from each photo's own noise level (ddpm, one-step-plain)"
    " (default: DEFAULTS)",
    metavar="T|auto",
    lacking="has no start",
)


class Denoising(Purifier):
    """A purifier made of a models.diffusion.denoiser.Denoiser: its size and its sha256 are the network's."""

    trained_as = "ddpm"

    def __init__(self, denoiser: Denoiser, params: dict[str, Any], folder_name: str):
        super().__init__(params, folder_name)
        self.denoiser = denoiser
        self.sha256, self.size_multiple = denoiser.sha256, denoiser.size_multiple
        self.tile = denoiser.image_size

    def networks(self) -> list[nn.Module]:
        return [self.denoiser.network]

    @classmethod
    def make(cls, weights: str | None, device: object, precision: str, **parameters: Any) -> Self:
        """The purifier of a weight file: ours, guided-diffusion's or minDiffusion's, see Purifier.make."""
        from models.diffusion.build import load

        denoiser = load(weights, device, precision)
        cls.check_kind(denoiser.kind, weights)
        return cls(denoiser, **parameters)

    @classmethod
    def check_kind(cls, kind: str, weights: str | None) -> None:
        """Raises UserError for a network of another kind than the purifier needs."""
        if kind == "one-step":
            raise UserError(
                f"{weights}: fine-tuned for one evaluation, usable as --defense_model_type one-step only;"
                f" {cls.name} needs ordinary diffusion weights"
            )
