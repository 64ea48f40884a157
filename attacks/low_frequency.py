"""A smooth disruption: a coarse grid of colours, enlarged to the photo."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from attacks.apgd import APGD
from attacks.gradient import COLOUR
from common import cli
from common.cli import UserError
from common.declared import Look, Parameter
from common.seeds import Streams


class LowFrequency(APGD):
    """Auto-PGD on the N x N cells of a perturbation that is enlarged bilinearly: what purifiers that take
    fine patterns away leave standing.

    Args:   grid  cells of each side, 1 to the photo's shorter side (its own pixels: apgd);  the rest as
                  attacks.apgd.APGD
    Raises: UserError for photos of fewer pixels than cells
    """

    name = "low-frequency"
    look = Look("low-frequency", COLOUR, 43)
    parameters = (
        *APGD.parameters,
        Parameter(
            "grid",
            "--attack_grid",
            cli.positive_int,
            8,
            "cells of each side of low-frequency's perturbation",
            metavar="N",
        ),
    )

    def __init__(
        self, translator: Callable[..., torch.Tensor] | None, eps: float, grid: int = 8, **options: Any
    ):
        super().__init__(translator, eps, **options)
        if grid < 1:
            raise ValueError(f"expected grid >= 1, found {grid}")
        self.grid = grid

    def definition(self) -> dict:
        return super().definition() | {"grid": self.grid}

    def check_size(self, image_size: int) -> None:
        if self.grid > image_size:
            raise UserError(f"--attack_grid {self.grid}: photos of {image_size} pixels have fewer than that")

    def begin(self, x: torch.Tensor, rng: Streams) -> torch.Tensor:
        self.check_size(min(x.shape[-2:]))
        return rng.uniform(x.new_empty(len(x), x.shape[1], self.grid, self.grid), -self.eps, self.eps)

    def confine(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return v.clamp(-self.eps, self.eps)

    def expand(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # a mean of cells stays in the ball by itself; the ball's clamp would stop gradients at its border
        d = F.interpolate(v, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return (x + d).clamp(-1, 1) - x
