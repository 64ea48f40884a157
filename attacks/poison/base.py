"""What all poisons share: which samples are hit, and that all others stay as they are."""

from collections.abc import Sequence

import numpy as np
import torch

from common import seeds
from common.cli import UserError
from common.declared import Parameter
from faces.labelled import Labelled


def poisoned_rows(labelled: Labelled, rate: float, seed: int) -> np.ndarray:
    """Positions (n,) int64, rising, of the share `rate` of the samples: those with the smallest seeded hash,
    so a higher rate adds to a lower one.

    Raises: ValueError for a rate outside [0, 1), UserError for a rate above 0 that comes to no sample
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate {rate}: expected a share in [0, 1)")
    rows = seeds.draw_share(labelled.names, rate, seed, "poisoned")
    if rate and not rows:
        raise UserError(
            f"a poisoning rate of {rate:g} comes to none of {len(labelled)} samples; expected one at least:"
            " raise the rate or take more samples"
        )
    return np.array(rows, np.int64)


class Poison:
    """Change some samples of a labelled set.  Subclasses implement `change`.

    Call:   poison(labelled, rows, seed): faces.labelled.Labelled, positions (n,) without repeats ->
            Labelled of the same names in the same order, in which exactly these rows are poisoned.
            Randomness comes from (seed, poison, sample name): which other rows are poisoned does not matter.
    Raises: ValueError for rows that are not distinct positions of the set
    """

    name = "poison"
    options = ()  # keyword arguments of the constructor, see attacks.poison.build
    parameters: tuple[Parameter, ...] = ()  # those of them that are flags

    @property
    def params(self) -> dict:
        """JSON dict of what decides the poison besides the set, the rows and the seed."""
        return {option: getattr(self, option) for option in self.options}

    def __call__(self, labelled: Labelled, rows: Sequence[int] | np.ndarray, seed: int) -> Labelled:
        rows = _positions(rows, len(labelled))
        if not len(rows):
            return labelled
        pixels, labels = labelled.pixels.copy(), labelled.labels.clone()
        pixels[rows], labels[torch.from_numpy(rows)] = self.change(labelled, rows, seed)
        return Labelled(labelled.names, labels, pixels, labelled.classes)

    def change(self, labelled: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        """(pixels uint8 (n, H, W, C), labels int64 (n,)) of the poisoned rows; n > 0."""
        raise NotImplementedError

    def streams(self, labelled: Labelled, rows: np.ndarray, seed: int) -> seeds.Streams:
        """One random stream for each of the rows."""
        return seeds.named(seed, [labelled.names[i] for i in rows], self.name)


def _positions(rows, length):
    """rows as an int64 array.  Raises ValueError unless they are distinct positions below `length`."""
    positions = np.asarray(rows)
    if not positions.size:
        return np.empty(0, np.int64)
    if (
        positions.ndim != 1
        or not np.issubdtype(positions.dtype, np.integer)
        or len(np.unique(positions)) < len(positions)
        or positions.min() < 0
        or positions.max() >= length
    ):
        raise ValueError(
            f"expected distinct positions among {length} samples, found {positions.dtype} {positions.shape}:"
            f" {str(positions[:5])}"
        )
    return positions.astype(np.int64)
