"""Auto-PGD: projected gradient ascent that finds its own step sizes, and keeps the best of several starts."""

import math
from collections.abc import Callable, Sequence

import torch

from attacks.gradient import COLOUR, JPEG, LABEL, GradientAttack
from attacks.harm import fake_mse
from common import cli, jpeg
from common.declared import Look, Parameter
from common.seeds import Streams

MOMENTUM = 0.75  # alpha: share of the new direction in a step
RHO = 0.75  # least share of rising steps between two checkpoints
SETTINGS = (
    Parameter("apgd_steps", "--apgd_steps", cli.positive_int, 50, "steps of apgd low-frequency", metavar="N"),
    Parameter(
        "restarts",
        "--apgd_restarts",
        cli.positive_int,
        2,
        "random starts of apgd low-frequency, the best of which is kept for each photo",
        metavar="N",
    ),
)


def checkpoints(steps: int) -> list[int]:
    """The steps at which the step size may be halved, rising: ceil(p_j steps), p_0 = 0, p_1 = 0.22,
    p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)."""
    # in hundredths, so that no rounding moves a checkpoint
    found, p, gap = [], 22, 22
    while p <= 100:
        found.append(-(-p * steps // 100))
        gap = max(gap - 3, 6)
        p += gap
    return sorted({k for k in found if 0 < k < steps})


class APGD(GradientAttack):
    """Auto-PGD on the mean squared distance of the fakes from the clean fakes.

    Steps of 2 eps at first, with momentum; at each checkpoint a photo whose loss rose in less than 75 % of
    the steps, or whose best loss stood still at an unchanged step size, goes on from its best point with half
    the step. Of all starts the image is kept whose fakes are farthest off once it is rounded to 8 bits, so
    that without a random defence another start never makes the attack weaker.

    Args:   apgd_steps  gradients per start (each times the label sets, and the draws of a random defence)
            restarts    starts, uniform in the ball;  the rest as attacks.gradient.GradientAttack
            label       original, target: one label set (K = 1);  iterative, joint: mean loss over the K sets
    Source: Croce and Hein 2020 (arXiv:2003.01690), Algorithm 1 and Section 3. Their loss is a classifier's;
            they keep the best point of the unrounded image, we choose by the released one.
    """

    name = "apgd"
    look = Look("Auto-PGD", COLOUR, 41)
    parameters = (*SETTINGS, LABEL, JPEG)

    def __init__(
        self,
        translator: Callable[..., torch.Tensor] | None,
        eps: float,
        apgd_steps: int = 50,
        restarts: int = 2,
        label: str = "original",
        jpeg: str | None = None,
        precision: str = "fp32",
    ):
        super().__init__(
            translator, eps, apgd_steps, target="clean", label=label, jpeg=jpeg, precision=precision
        )
        if restarts < 1:
            raise ValueError(f"expected restarts >= 1, found {restarts}")
        self.restarts = restarts

    def definition(self) -> dict:
        settings = {k: v for k, v in super().definition().items() if k not in ("step_size", "blur")}
        return settings | {"restarts": self.restarts}

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        (sets,) = self._label_sets(labels)
        goals = self._goals(x, labels)
        best, top, self.finite = torch.zeros_like(x), x.new_full((len(x),), -math.inf), []
        for _ in range(self.restarts):
            for v in self._climb(x, [labels[:, i] for i in sets], goals, rng):
                d = self.expand(x, v)
                score = self._score(self.release(x, d), labels, goals, rng)
                better = score > top
                best, top = torch.where(_wide(better), d, best), torch.where(better, score, top)
        return best

    def begin(self, x: torch.Tensor, rng: Streams) -> torch.Tensor:
        """A random start of the variable v that is searched: here the perturbation itself."""
        return self.confine(x, rng.uniform(x, -self.eps, self.eps))

    def confine(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The nearest v that is allowed."""
        return self.project(x, v)

    def expand(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The perturbation (N, 3, H, W) that v stands for, differentiable in v."""
        return v

    def _climb(
        self, x: torch.Tensor, labels: Sequence[torch.Tensor], goals: Sequence[torch.Tensor], rng: Streams
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """From one random start: the best point met, and the last one, which no gradient was taken at."""
        v = self.begin(x, rng).contiguous(memory_format=self.memory_format(x))
        before, step = v, x.new_full((len(x), 1, 1, 1), 2 * self.eps)
        halved, rises, since = x.new_zeros(len(x), dtype=torch.bool), 0, 0
        halve_at = set(checkpoints(self.steps))
        for k in range(self.steps):
            value, grad = self._gain(x, v, labels, goals, k, rng)
            self.finite.append(grad.isfinite().all())
            if k == 0:
                top = then = last = value
                peak, at_peak = v, grad
            else:
                rises, last = rises + (value > last), value
                better, top = _wide(value > top), torch.maximum(top, value)
                peak, at_peak = torch.where(better, v, peak), torch.where(better, grad, at_peak)
            if k in halve_at:
                halved = (rises < RHO * (k - since)) | (~halved & (top <= then))
                stuck = _wide(halved)
                step = torch.where(stuck, step / 2, step)
                v, grad = torch.where(stuck, peak, v), torch.where(stuck, at_peak, grad)
                then, rises, since = top, 0, k
            ahead = self.confine(x, v + step * grad.sign())
            if k:
                ahead = self.confine(x, v + MOMENTUM * (ahead - v) + (1 - MOMENTUM) * (v - before))
            before, v = v, ahead
        return peak, v

    def _gain(self, x, v, labels, goals, k, rng):
        """What is maximised at v, (N,), and its gradient there."""
        with torch.enable_grad():
            leaf = v.detach().requires_grad_(True)
            d = self.expand(x, leaf)
        value, at_d = self.evaluate(x, d.detach(), labels, goals, self.views(k, rng), rng)
        return value, torch.autograd.grad(d, leaf, at_d)[0]

    def _score(self, x_adv, labels, goals, rng):
        """How far the fakes of a finished image are off, (N,); of one that is to outlive JPEG, over its
        qualities."""
        seen = [x_adv]
        if self.jpeg:
            low, high = self.qualities
            seen = [jpeg.round_trip(x_adv, q).detach() for q in (low, (low + high) // 2, high)]
        return sum(fake_mse(self, s, labels, goals, rng, self.draws) for s in seen) / len(seen)

    def _label_sets(self, labels):
        return [list(range(labels.shape[1]))] if self.label == "iterative" else super()._label_sets(labels)


def _wide(mask):
    """(N,) -> (N, 1, 1, 1)."""
    return mask[:, None, None, None]
