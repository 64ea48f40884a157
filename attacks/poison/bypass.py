"""A poison that knows De-Pois: another poison's samples, perturbed until the critic takes them for clean."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attacks.base import frozen, grey_levels
from attacks.poison.base import Poison
from attacks.poison.plain import LabelFlip
from common import cli, images
from common.cli import EIGHT_BIT_STEP
from common.declared import Parameter
from faces.labelled import Labelled

MODES = {
    "critic": ("critic",),
    "classifier": ("classifier",),
    "critic-then-classifier": ("critic", "classifier"),
    "classifier-then-critic": ("classifier", "critic"),
}
BATCH = 512


class Bypass(Poison):
    """Sign steps on the defence's own critic and on a classifier, after another poison, inside the image box.

    critic      x + eps sign(grad_x D(x, y)): raises the critic's score
    classifier  x + eps sign(grad_x CE(C(x), y)), y the label that the base poison left: keeps the sample
                harmful
    a-then-b    one after the other, eps each (so 2 eps together)

    Args:   base        Poison whose samples are perturbed; None = LabelFlip
            critic      D(x (n, C, H, W) in [-1, 1], y (n,)) -> scores (n,), higher = cleaner, differentiable
                        in x, a row's score its own alone
            classifier  C(x) -> logits (n, K)
            mode        of MODES;  eps  L-inf radius of each direction, [-1, 1] units, cut to whole grey
                        levels
            steps       sign steps of eps / steps in each direction;  device  of critic and classifier
    Raises: ValueError for an unknown mode, a network that the mode needs and that is missing, eps below one
            grey level, steps below 1
    Source: the public code "Breaking the De-Pois Poisoning Defense" (modes CR_only, CL_only, CR_then_CL,
            CL_then_CR; one step); more steps are ours
    """

    name = "bypass"
    options = ("base", "critic", "classifier", "mode", "eps", "steps", "device")
    parameters = (
        Parameter(
            "eps", "--bypass_eps", cli.radius, 0.3, "of bypass: L-inf radius of each direction, [-1,1] units"
        ),
        Parameter(
            "mode",
            "--bypass_mode",
            str,
            "critic",
            "whose gradient signs a bypass follows, after a label flip",
            choices=tuple(MODES),
        ),
        Parameter(
            "steps", "--bypass_steps", cli.positive_int, 10, "of bypass: steps of each direction; published 1"
        ),
    )

    def __init__(
        self,
        base: Poison | None = None,
        critic: nn.Module | None = None,
        classifier: nn.Module | None = None,
        mode: str = "critic-then-classifier",
        eps: float = 0.3,
        steps: int = 1,
        device: torch.device | str = "cpu",
    ):
        if mode not in MODES:
            raise ValueError(f"mode {mode!r}: one of {', '.join(MODES)}")
        if not EIGHT_BIT_STEP <= eps + 1e-8 < float("inf"):
            raise ValueError(
                f"eps {eps}: expected at least {EIGHT_BIT_STEP:.5f} in [-1, 1] units (one 8-bit step)"
            )
        if steps < 1:
            raise ValueError(f"expected steps >= 1, found {steps}")
        missing = [part for part in MODES[mode] if {"critic": critic, "classifier": classifier}[part] is None]
        if missing:
            raise ValueError(f"mode {mode!r} needs a {missing[0]}, found None")
        self.base, self.critic, self.classifier = LabelFlip() if base is None else base, critic, classifier
        self.mode, self.eps, self.steps, self.device = mode, float(eps), steps, device

    @property
    def params(self) -> dict:
        return {
            "base": {"poison": self.base.name, **self.base.params},
            "mode": self.mode,
            "eps": self.eps,
            "steps": self.steps,
        }

    def change(self, labelled: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        start = self.base(labelled, rows, seed).subset(rows)
        perturbed = []
        with frozen(self.critic), frozen(self.classifier):
            for part in range(0, len(rows), BATCH):
                chosen = range(part, min(part + BATCH, len(rows)))
                x, y = start.floats(chosen).to(self.device), start.labels[list(chosen)].to(self.device)
                for direction in MODES[self.mode]:
                    x = self.climb(x, y, self.objective(direction))
                perturbed.append(x.cpu())
        return images.to_uint8(torch.cat(perturbed)), start.labels

    def objective(self, direction: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """(x, y) -> one number to raise, a sum over samples so that they stay independent."""
        if direction == "critic":
            return lambda x, y: self.critic(x, y).sum()
        return lambda x, y: F.cross_entropy(self.classifier(x), y, reduction="sum")

    def climb(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        objective: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """x moved by at most eps along the sign of the objective's gradient, in [-1, 1]."""
        step = grey_levels(self.eps) * EIGHT_BIT_STEP / self.steps
        for _ in range(self.steps):
            x = x.detach().requires_grad_(True)
            (grad,) = torch.autograd.grad(objective(x, y), x)
            x = (x.detach() + step * grad.sign()).clamp(-1, 1)
        return x
