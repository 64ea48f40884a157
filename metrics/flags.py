"""Flags of what is measured of fakes, which several commands share."""

import argparse
from dataclasses import dataclass

import torch

from common.cli import UserError
from metrics.fid import Extractor, load_extractor
from metrics.ssim import RADIUS


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """The values of add_measure_flags."""

    inception_weights: str | None
    features: str
    ssim: str
    image_size: int

    def extractor(self, device: torch.device | str) -> Extractor | None:
        """The features that sets of fakes are compared by, None for none.  Raises UserError for a wrong
        file, and for images too small to be measured."""
        if self.image_size <= RADIUS:
            raise UserError(
                f"--image_size {self.image_size}: too small for the window of SSIM; expected at least"
                f" {RADIUS + 1} pixels"
            )
        return load_extractor(self.inception_weights, device=device) if self.features == "auto" else None


def add_measure_flags(g: argparse._ArgumentGroup) -> None:
    g.add_argument(
        "--inception_weights",
        default=None,
        metavar="FILE",
        help="standard Inception weights; with them FID and KID are measured",
    )
    g.add_argument(
        "--features",
        choices=["auto", "none"],
        default="auto",
        help="none: measure no distance between sets of fakes",
    )
    g.add_argument(
        "--ssim",
        choices=["photos", "fakes"],
        default="photos",
        help="fakes: measure the SSIM of the fakes, too, for comparison.csv; it costs more than all other"
        " distances",
    )
