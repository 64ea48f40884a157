"""Flags of what is measured of fakes, which several commands share."""

import argparse
from dataclasses import dataclass

import torch

from metrics.fid import Extractor, load_extractor


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """The values of add_measure_flags."""

    inception_weights: str | None
    features: str
    ssim: str

    def extractor(self, device: torch.device | str) -> Extractor | None:
        """The features that sets of fakes are compared by, None for none.  Raises UserError for a wrong
        file."""
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
