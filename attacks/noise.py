"""Controls: no disruption, and noise that knows nothing of the translator."""

from collections.abc import Callable

import torch

from attacks.base import Attack
from common import seeds
from common.declared import Look
from common.seeds import Streams


class NoAttack(Attack):
    """The photo as it is; eps has no meaning."""

    name = "none"
    look = Look("undisturbed", "#5b6068", 0)
    uses_translator = False
    ball = False
    smallest_eps = float("-inf")

    def __init__(self, translator: Callable[..., torch.Tensor] | None = None, eps: float = 0.0):
        super().__init__(None, eps or 0.0)

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        return x.new_zeros(()).expand_as(x)

    def definition(self) -> dict:
        return {"attack": self.name, "eps": 0.0}


class Gaussian(Attack):
    """White noise of standard deviation eps ([-1, 1] units); not projected to a ball, but an 8-bit image in
    [-1, 1] as all."""

    name = "gaussian"
    look = Look("gaussian", "#b9bec5", 20)
    uses_translator = False
    ball = False
    smallest_eps = 1e-6

    def __init__(self, translator: Callable[..., torch.Tensor] | None, eps: float):
        super().__init__(None, eps)

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        return self.eps * rng.normal(x)

    @property
    def levels(self) -> int:
        return 255  # eps does not bound the noise, the image box does

    def definition(self) -> dict:
        return {"attack": self.name, "eps": self.eps, "streams": seeds.VERSION}


class RandomSign(Attack):
    """Every value of the photo moved by plus or minus eps at random: what a disruption of the same bound must
    beat."""

    name = "random-sign"
    look = Look("random sign", "#8a9099", 10)
    uses_translator = False
    only_for_tests = "it is the control at an equal bound; gaussian is the noise to train on"

    def __init__(self, translator: Callable[..., torch.Tensor] | None, eps: float):
        super().__init__(None, eps)

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        return self.project(x, self.eps * rng.uniform(x, -1, 1).sign())

    def definition(self) -> dict:
        return {"attack": self.name, "eps": self.eps, "streams": seeds.VERSION}
