"""Adversarial examples as poison: images that a classifier mistakes, under the labels they had."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attacks.base import frozen, grey_levels
from attacks.poison.base import Poison
from common import cli, images
from common.cli import EIGHT_BIT_STEP
from common.declared import Parameter
from common.seeds import Streams
from faces.labelled import Labelled
from models.depois import classifier

BATCH = 512


class GradientPoison(Poison):
    """PGD against a classifier trained on the clean set; labels stay.

    targeted  minimise the loss of the next class, (y + 1) mod K: samples carry the features of another class
              than their label says
    otherwise maximise the loss of the label itself
    A step is 2.5 eps / steps (Madry et al. 2018), the start uniform in the ball, and the ball is the 8-bit
    one: floor(127.5 eps) grey levels.

    Args:   victim        network (n, C, H, W) in [-1, 1] -> logits (n, K) on `device`; None =
                          models.depois.classifier.fit on the set that is poisoned, anew at every call
            eps           L-inf radius, [-1, 1] units;  steps  one forward and backward pass each
            victim_steps  of the fit;  targeted  see above
    Raises: ValueError for eps below one grey level or steps below 1
    Source: Fowl et al. 2021, "Adversarial Examples Make Strong Poisons" (arXiv:2106.10807), whose
            class-targeted variant is the stronger one. They poison the whole set invisibly (8/255, 250
            steps); our eps is larger, for here a part of the set must do the harm.
    """

    name = "gradient"
    options = ("victim", "eps", "steps", "device", "victim_steps", "targeted")
    parameters = (
        Parameter("eps", "--gradient_eps", cli.radius, 0.6, "of gradient: L-inf radius, [-1,1] units"),
        Parameter(
            "victim_steps",
            "--poison_steps",
            cli.positive_int,
            None,
            "training steps of the networks that gradient and gan are made with (default: gradient 1000, gan"
            " 800)",
            metavar="N",
        ),
    )

    def __init__(
        self,
        victim: nn.Module | None = None,
        eps: float = 0.6,
        steps: int = 20,
        device: torch.device | str = "cpu",
        victim_steps: int = 1000,
        targeted: bool = True,
    ):
        if not EIGHT_BIT_STEP <= eps + 1e-8 < float("inf"):
            raise ValueError(
                f"eps {eps}: expected at least {EIGHT_BIT_STEP:.5f} in [-1, 1] units (one 8-bit step)"
            )
        if steps < 1 or victim_steps < 1:
            raise ValueError(f"expected steps >= 1 and victim_steps >= 1, found {steps} and {victim_steps}")
        self.victim, self.eps, self.steps, self.device, self.victim_steps, self.targeted = (
            victim,
            float(eps),
            steps,
            device,
            victim_steps,
            targeted,
        )

    @property
    def params(self) -> dict:
        return {
            "eps": self.eps,
            "steps": self.steps,
            "targeted": self.targeted,
            "victim_steps": self.victim_steps if self.victim is None else None,
        }

    def change(self, labelled: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        victim = (
            classifier.fit(labelled, seed, self.victim_steps, self.device)
            if self.victim is None
            else self.victim
        )
        labels = labelled.labels[torch.from_numpy(rows)]
        aims = (labels + 1) % len(labelled.classes) if self.targeted else labels
        perturbed = []
        with frozen(victim):
            for part in range(0, len(rows), BATCH):
                x = labelled.floats(rows[part : part + BATCH]).to(self.device)
                rng = self.streams(labelled, rows[part : part + BATCH], seed)
                perturbed.append(
                    self.perturb(victim, x, aims[part : part + BATCH].to(self.device), rng).cpu()
                )
        return images.to_uint8(torch.cat(perturbed)), labels

    def perturb(self, victim: nn.Module, x: torch.Tensor, aims: torch.Tensor, rng: Streams) -> torch.Tensor:
        """x + d, (n, C, H, W) in [-1, 1], |d| at most the whole grey levels inside eps: rounding to the grid
        cannot leave the ball."""
        radius = grey_levels(self.eps) * EIGHT_BIT_STEP
        towards = -1 if self.targeted else 1
        at = (x + rng.uniform(x, -radius, radius)).clamp(-1, 1)
        for _ in range(self.steps):
            at.requires_grad_(True)
            loss = F.cross_entropy(victim(at), aims, reduction="sum")  # sum: images stay independent
            (grad,) = torch.autograd.grad(loss, at)
            at = at.detach() + towards * 2.5 * self.eps / self.steps * grad.sign()
            at = (x + (at - x).clamp(-radius, radius)).clamp(-1, 1)
        return at
