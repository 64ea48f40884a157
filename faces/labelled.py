"""Labelled images in memory, 8 bits each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common import images


@dataclass(frozen=True)
class Labelled:
    """names (N,) unique, labels int64 (N,) positions in `classes`, pixels uint8 (N, H, W, C), C = 1 or 3."""

    names: tuple
    labels: torch.Tensor
    pixels: np.ndarray
    classes: tuple

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        height, width, channels = self.pixels.shape[1:]
        return channels, height, width

    def floats(self, rows: Sequence[int] | None = None) -> torch.Tensor:
        """(n, C, H, W) float32 in [-1, 1], of all images or of some."""
        return images.to_float(self.pixels if rows is None else self.pixels[np.asarray(rows, np.int64)])

    def subset(self, rows: Sequence[int]) -> "Labelled":
        """The images at the positions `rows`, in that order."""
        rows = np.asarray(rows, np.int64)
        return Labelled(
            tuple(self.names[i] for i in rows),
            self.labels[torch.from_numpy(rows)],
            self.pixels[rows],
            self.classes,
        )
