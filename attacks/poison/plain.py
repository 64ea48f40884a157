"""Poisons that need no network: flipped labels, noise, and blends of two images."""

import numpy as np
import torch

from attacks.poison.base import Poison
from common import cli, images
from common.cli import UserError
from common.declared import Parameter
from faces.labelled import Labelled


class LabelFlip(Poison):
    """Every row gets the label of another class, drawn uniformly; its pixels stay.

    Raises: UserError for a set of one class
    Source: Biggio et al. 2011, "Support Vector Machines Under Adversarial Label Noise": its random flips,
            here with more than two classes
    """

    name = "label-flip"

    def change(self, labelled: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        if len(labelled.classes) < 2:
            raise UserError(
                f"labels are flipped between classes: the set has {len(labelled.classes)}"
                f" ({', '.join(labelled.classes)}), expected two at least"
            )
        old = labelled.labels[torch.from_numpy(rows)]
        shift = 1 + self.streams(labelled, rows, seed).integers(len(labelled.classes) - 1)
        return labelled.pixels[rows], (old + shift) % len(labelled.classes)


class Noise(Poison):
    """White Gaussian noise on every pixel, cut off at the image box; labels stay.

    Args:   sigma  its standard deviation, [-1, 1] units
    Raises: ValueError unless sigma > 0
    """

    name = "noise"
    options = ("sigma",)
    parameters = (
        Parameter(
            "sigma", "--noise_sigma", cli.positive_float, 0.6, "of noise: standard deviation, [-1,1] units"
        ),
    )

    def __init__(self, sigma: float = 0.6) -> None:
        if not 0 < sigma < float("inf"):
            raise ValueError(f"sigma {sigma}: expected a standard deviation above 0, [-1, 1] units")
        self.sigma = float(sigma)

    def change(self, labelled: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        x = labelled.floats(rows)
        return (
            images.to_uint8(x + self.sigma * self.streams(labelled, rows, seed).normal(x)),
            labelled.labels[torch.from_numpy(rows)],
        )


class Blend(Poison):
    """Mix an image with one of another class, drawn uniformly from the set: alpha k + (1 - alpha) x; labels
    stay.

    Args:   alpha  weight of the other image, in (0, 1]
    Raises: ValueError for another alpha, UserError for a set whose images are all of one class
    Source: blended injection, Chen et al. 2017 (arXiv:1712.05526), whose pattern k is one fixed picture and
            whose samples get the label of the backdoor; here the pattern is another sample, and the label is
            the sample's own: harm, not a backdoor
    """

    name = "blend"
    options = ("alpha",)
    parameters = (
        Parameter(
            "alpha", "--blend_alpha", cli.fraction, 0.5, "of blend: weight of the other image, above 0"
        ),
    )

    def __init__(self, alpha: float = 0.5) -> None:
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha {alpha}: expected a weight in (0, 1]")
        self.alpha = float(alpha)

    def change(self, labelled: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        own = labelled.labels[torch.from_numpy(rows)]
        others = {label: torch.nonzero(labelled.labels != label).flatten() for label in own.unique().tolist()}
        if not all(map(len, others.values())):
            raise UserError(
                f"an image is blended with one of another class: all {len(labelled)} are of class"
                f" {labelled.classes[int(own[0])]}"
            )
        at = self.streams(labelled, rows, seed).uniform(torch.empty(len(rows), dtype=torch.float64)).tolist()
        patterns = [
            int(others[label][int(u * len(others[label]))]) for label, u in zip(own.tolist(), at, strict=True)
        ]
        return (
            images.to_uint8(
                self.alpha * labelled.floats(patterns) + (1 - self.alpha) * labelled.floats(rows)
            ),
            own,
        )
