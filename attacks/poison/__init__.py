"""Poisons of a labelled training set: what De-Pois must find. Names -> classes, imported on use.

A poison changes some samples of a set (`poisoned_rows` draws which) and leaves names, order and all other
samples as they are, so that what a defence flags can be compared with what was changed.
"""

import numpy as np
import torch

from common import images, registry, seeds
from common.cli import UserError
from models.depois.data import Labelled

POISONS = {
    "label-flip": "attacks.poison:LabelFlip",
    "noise": "attacks.poison:Noise",
    "blend": "attacks.poison:Blend",
    "gradient": "attacks.poison.gradient:GradientPoison",
    "gan": "attacks.poison.gan:GanPoison",
    "bypass": "attacks.poison.bypass:Bypass",
}
OPTIONS = (
    "sigma",
    "alpha",
    "victim",
    "eps",
    "steps",
    "targeted",
    "victim_steps",
    "generator",
    "realism",
    "share",
    "gan_steps",
    "base",
    "critic",
    "classifier",
    "mode",
    "device",
)


def build(name, **options):
    """Make a poison by name.

    Args:    options  of OPTIONS; those that do not concern this poison are left out, so that callers may pass
                      one set to all
    Returns: Poison
    Raises:  UserError for an unknown name, TypeError for an option that no poison has, ValueError for a value
             out of range
    """
    return registry.make("poison", POISONS, OPTIONS, name, **options)


def poisoned_rows(labelled, rate, seed):
    """Positions (n,) int64, rising, of the share `rate` of the samples: those with the smallest seeded hash,
    so a higher rate adds to a lower one.

    Raises: ValueError for a rate outside [0, 1), UserError for a rate above 0 that comes to no sample
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate {rate}: expected a share in [0, 1)")
    number = round(rate * len(labelled))
    if rate and not number:
        raise UserError(
            f"a poisoning rate of {rate:g} comes to none of {len(labelled)} samples; expected one at least:"
            " raise the rate or take more samples"
        )
    order = sorted(range(len(labelled)), key=lambda i: seeds.derive(seed, "poisoned", labelled.names[i]))
    return np.array(sorted(order[:number]), np.int64)


class Poison:
    """Change some samples of a labelled set.  Subclasses implement `change`.

    Call:   poison(labelled, rows, seed): models.depois.data.Labelled, positions (n,) without repeats ->
            Labelled of the same names in the same order, in which exactly these rows are poisoned.
            Randomness comes from (seed, poison, sample name): which other rows are poisoned does not matter.
    Raises: ValueError for rows that are not distinct positions of the set
    """

    name = "poison"
    options = ()  # keyword arguments of the constructor, see build

    @property
    def params(self):
        """JSON dict of what decides the poison besides the set, the rows and the seed."""
        return {option: getattr(self, option) for option in self.options}

    def __call__(self, labelled, rows, seed):
        rows = _positions(rows, len(labelled))
        if not len(rows):
            return labelled
        pixels, labels = labelled.pixels.copy(), labelled.labels.clone()
        pixels[rows], labels[torch.from_numpy(rows)] = self.change(labelled, rows, seed)
        return Labelled(labelled.names, labels, pixels, labelled.classes)

    def change(self, labelled, rows, seed):
        """(pixels uint8 (n, H, W, C), labels int64 (n,)) of the poisoned rows; n > 0."""
        raise NotImplementedError

    def streams(self, labelled, rows, seed):
        """One random stream for each of the rows."""
        return seeds.named(seed, [labelled.names[i] for i in rows], self.name)


class LabelFlip(Poison):
    """Every row gets the label of another class, drawn uniformly; its pixels stay.

    Raises: UserError for a set of one class
    Source: Biggio et al. 2011, "Support Vector Machines Under Adversarial Label Noise": its random flips,
            here with more than two classes
    """

    name = "label-flip"

    def change(self, labelled, rows, seed):
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

    def __init__(self, sigma=0.6):
        if not 0 < sigma < float("inf"):
            raise ValueError(f"sigma {sigma}: expected a standard deviation above 0, [-1, 1] units")
        self.sigma = float(sigma)

    def change(self, labelled, rows, seed):
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

    def __init__(self, alpha=0.5):
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha {alpha}: expected a weight in (0, 1]")
        self.alpha = float(alpha)

    def change(self, labelled, rows, seed):
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


def _positions(rows, length):
    """rows as an int64 array.  Raises ValueError unless they are distinct positions below `length`."""
    found = np.asarray(rows)
    if not found.size:
        return np.empty(0, np.int64)
    if (
        found.ndim != 1
        or not np.issubdtype(found.dtype, np.integer)
        or len(np.unique(found)) < len(found)
        or found.min() < 0
        or found.max() >= length
    ):
        raise ValueError(
            f"expected distinct positions among {length} samples, found {found.dtype} {found.shape}:"
            f" {str(found[:5])}"
        )
    return found.astype(np.int64)
