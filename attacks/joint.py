"""PGD against several translators at once: one image of a photo that is to break all of them."""

from collections.abc import Sequence

import torch

from attacks.base import Attack
from common import seeds
from common.seeds import Streams
from models.victims import Victim


class JointPGD(Attack):
    """Sign steps on the sum of the victims' losses, each gradient scaled to a mean size of 1, so that no
    victim outweighs another.

    Moves each victim's fake away from its clean fake; step k asks for target domain k mod K of that victim.
    What a generator that is trained against several translators can be held against: each image of plain PGD
    serves one of them.

    Args:  victims  models.victims.Victim, one or more; the rest as attacks.gradient.PGD
    Call:  labels (N, 1, all columns) in {0, 1}, the photos' own, of which each victim takes its columns
    """

    name = "pgd"

    def __init__(self, victims: Sequence[Victim], eps: float, steps: int = 10, step_size: float = 0.01):
        super().__init__(None, eps)
        if steps < 1 or not step_size > 0:
            raise ValueError(f"expected steps >= 1 and step_size > 0, found {steps} and {step_size}")
        self.victims, self.steps, self.step_size = list(victims), steps, step_size

    def definition(self) -> dict:
        return {
            "attack": self.name,
            "eps": self.eps,
            "steps": self.steps,
            "step_size": self.step_size,
            "target": "clean",
            "label": "iterative",
            "victims": {v.name: v.translator.sha256 for v in self.victims},
            "precision": [v.precision for v in self.victims],
            "streams": seeds.VERSION,
        }

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        conditions = [victim.conditions(labels[:, 0]) for victim in self.victims]
        with torch.no_grad():
            goals = [
                [victim(x, c) for c in asked] for victim, asked in zip(self.victims, conditions, strict=True)
            ]
        d, self.finite = self.project(x, rng.uniform(x, -self.eps, self.eps)), []
        for k in range(self.steps):
            total = torch.zeros_like(d)
            for victim, asked, clean in zip(self.victims, conditions, goals, strict=True):
                leaf = d.detach().requires_grad_(True)
                with torch.enable_grad():
                    loss = (
                        (victim(x + leaf, asked[k % len(asked)]) - clean[k % len(asked)])
                        .square()
                        .mean(dim=(1, 2, 3))
                        .sum()
                    )
                (grad,) = torch.autograd.grad(loss, leaf)
                total += grad / grad.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(
                    torch.finfo(grad.dtype).tiny
                )
            self.finite.append(total.isfinite().all())
            d = self.project(x, d + self.step_size * total.sign())
        return d
