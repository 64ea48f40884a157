"""FGSM, BIM, PGD and MIM: one loop, four settings."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from attacks import blur as blurs
from attacks.base import Attack
from common import cli, jpeg, seeds
from common.declared import Look, Parameter
from common.seeds import Streams
from models.conditions import RULES

TARGETS = ("gray", "clean", "input")
JITTER = 0.001  # start of fgsm, bim and mim against the clean fake, [-1, 1] units
COLOUR = "#1f6fc4"
STEPS = (
    Parameter(
        "steps",
        "--attack_steps",
        cli.positive_int,
        10,
        "steps of bim pgd mim feature; fgsm takes one",
        metavar="N",
    ),
    Parameter(
        "step_size",
        "--attack_step_size",
        cli.positive_float,
        0.01,
        "step of bim pgd mim feature, [-1,1] image units; fgsm steps by EPS",
        metavar="A",
    ),
)
# attacks.flags tells the rules that make sense in a script
LABEL = Parameter("label", "--attack_label", str, "original", "label sets of the attack", choices=RULES)
JPEG = Parameter(
    "jpeg",
    "--attack_jpeg",
    cli.quality_range,
    None,
    "outlive JPEG: a differentiable JPEG inside the loss, at each step of a quality drawn from LOW to HIGH",
    metavar="LOW-HIGH",
)
AIM = (
    Parameter(
        "target",
        "--attack_target",
        str,
        "gray",
        "gray: pull the fake towards mid-grey; clean: push it away from the clean fake; input: pull it to"
        " the unedited photo",
        choices=TARGETS,
    ),
    LABEL,
    Parameter(
        "blur",
        "--attack_blur",
        str,
        "none",
        "evade a blur: spread = another blur inside the loss at each step; eot = mean over all blurs, ten"
        " times the cost",
        choices=tuple(blurs.MODES),
    ),
    JPEG,
)


def check_label_sets(rule: str, number: int) -> None:
    """Raises ValueError for more than one label set per image where the rule has one."""
    if rule in ("original", "target") and number != 1:
        raise ValueError(f"label rule {rule} takes one label set per image, found K = {number}")


class GradientAttack(Attack):
    """Iterated sign steps on the translator's loss inside an L-inf ball.

    target  gray   minimise MSE(G(x + d, c), 0): pull the fake towards mid-grey, the original protocol
            clean  maximise MSE(G(x + d, c), G(x, c)): away from the clean fake (Ruiz et al. 2020, Eq. 2)
            input  minimise MSE(G(x + d, c), x): make the edit a no-op (Ruiz et al. 2020, Eq. 3)
    label   original, target: one label set (K = 1);  iterative: step k uses set k mod K;  joint: mean loss
            over the K sets
    blur    none | spread | eot, see attacks.blur
    jpeg    LOW-HIGH, qualities: between photo and translator (after a blur) stands a JPEG, at each step of
            another quality, which each photo draws from its stream

    Args:   eps, step_size  [-1, 1] image units
            steps           one forward and backward pass of G each (times K for joint, times eot and 10 for
                            an expectation over draws and over blurs);  the rest as attacks.base.Attack
    Source: Ruiz, Bargal and Sclaroff 2020 (arXiv:2003.01279) for targets, labels and blurs; Anti-disrupt's
            defaults. Its fgsm took one step of 0.01 whatever eps was; ours takes a step of eps.
    Raises: RunError at a gradient that is not finite
    """

    parameters = (*STEPS, *AIM)
    handed = ("precision",)
    differentiates = goes_through = True
    random_start = False
    momentum = None  # decay of the accumulated gradient, None = the gradient itself

    def __init__(
        self,
        translator: Callable[..., torch.Tensor] | None,
        eps: float,
        steps: int = 10,
        step_size: float = 0.01,
        target: str = "gray",
        label: str = "original",
        blur: str = "none",
        jpeg: str | None = None,
        precision: str = "fp32",
    ):
        super().__init__(translator, eps, precision)
        if target not in TARGETS:
            raise ValueError(f"target {target!r}: one of {', '.join(TARGETS)}")
        if label not in RULES:
            raise ValueError(f"label {label!r}: one of {', '.join(RULES)}")
        if steps < 1 or not step_size > 0:
            raise ValueError(f"expected steps >= 1 and step_size > 0, found {steps} and {step_size}")
        blurs.views(blur, 0)  # raises for an unknown mode
        self.steps, self.step_size, self.target, self.label, self.blur = steps, step_size, target, label, blur
        self.jpeg = jpeg and cli.quality_range(jpeg)
        self.qualities = tuple(map(int, self.jpeg.split("-"))) if self.jpeg else None

    def definition(self) -> dict:
        return {
            "attack": self.name,
            "eps": self.eps,
            "steps": self.steps,
            "step_size": self.step_size,
            "target": self.target,
            "label": self.label,
            "blur": self.blur,
            "precision": self.precision,
            "translator": getattr(self.generator, "sha256", None),
            "through": self.defence.definition() if self.defence else None,
            "streams": seeds.VERSION,
            **({"jpeg": self.jpeg} if self.jpeg else {}),
        }

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        per_step = self._label_sets(labels)
        goals = self._goals(x, labels)
        d = self.start(x, rng)
        velocity, self.finite = torch.zeros_like(d), []
        for k in range(self.steps):
            sets = per_step[k % len(per_step)]
            grad = self.ascent(
                x, d, [labels[:, i] for i in sets], [goals[i] for i in sets], self.views(k, rng), rng
            )
            self.finite.append(grad.isfinite().all())
            # Dong et al. 2018, Eq. 6: the accumulated gradient, each normalised by its L1 norm
            if self.momentum is not None:
                norm = grad.abs().sum(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(grad.dtype).tiny)
                grad = velocity = self.momentum * velocity + grad / norm
            d = self.project(x, d + self.step_size * grad.sign())
        return d

    def views(self, step: int, rng: Streams) -> Sequence[Callable[[torch.Tensor], torch.Tensor]]:
        """What stands between photo and translator at a step; the loss is the mean over it."""
        found = blurs.views(self.blur, step)
        if self.jpeg is None:
            return found
        low, high = self.qualities
        quality = low + rng.integers(high - low + 1)
        return [partial(_compressed, view, quality) for view in found]

    def start(self, x: torch.Tensor, rng: Streams) -> torch.Tensor:
        """Where the loop begins: uniform in the ball for pgd, the photo for the others.

        Against the clean fake the loss has its minimum at the photo, so its gradient there is exactly zero: a
        seeded jitter gives the attacks without a random start a way to go.
        """
        reach = self.eps if self.random_start else JITTER if self.target == "clean" else 0
        if not reach:
            return torch.zeros_like(x)
        return self.project(x, rng.uniform(x, -reach, reach).contiguous(memory_format=self.memory_format(x)))

    def ascent(
        self,
        x: torch.Tensor,
        d: torch.Tensor,
        labels: torch.Tensor,
        goals: Sequence[torch.Tensor],
        views: Sequence[Callable[[torch.Tensor], torch.Tensor]],
        rng: Streams,
    ) -> torch.Tensor:
        """The gradient of `evaluate`."""
        return self.evaluate(x, d, labels, goals, views, rng)[1]

    def evaluate(
        self,
        x: torch.Tensor,
        d: torch.Tensor,
        labels: torch.Tensor,
        goals: Sequence[torch.Tensor],
        views: Sequence[Callable[[torch.Tensor], torch.Tensor]],
        rng: Streams,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the attack maximises, (N,), and its gradient with respect to d, meaned over views, defence
        draws and label sets.

        Views and draws are taken one after the other, so the memory of one is enough; the label sets of a
        draw share its purified image, so the defence is run and differentiated once for all of them.
        """
        draws = self.draws
        total, value = torch.zeros_like(d), d.new_zeros(len(d))
        with torch.enable_grad():
            for view in views:
                for _ in range(draws):
                    leaf = d.detach().requires_grad_(True)
                    seen = self.defend(view(x + leaf), rng)
                    cut = seen.detach().requires_grad_(True)
                    at_cut = torch.zeros_like(cut)
                    for c, goal in zip(labels, goals, strict=True):
                        loss = (self.translate(cut, c) - goal).square().mean(dim=(1, 2, 3))
                        # sum: images stay independent
                        at_cut += torch.autograd.grad(loss.sum(), cut)[0]
                        value += loss.detach()
                    total += torch.autograd.grad(seen, leaf, at_cut)[0]
        share = (1 if self.target == "clean" else -1) / (len(views) * draws * len(labels))
        return value.mul_(share), total.mul_(share)

    def _label_sets(self, labels):
        """Indices of the label sets of each step, in a cycle.  Raises ValueError if the rule does not fit
        K."""
        number = labels.shape[1]
        if self.label == "joint":
            return [list(range(number))]
        check_label_sets(self.label, number)
        return [[i] for i in range(number)]

    def _goals(self, x, labels):
        """What the fakes of each label set are compared with, made once: (N, 3, H, W) or zero."""
        if self.target == "clean":
            return [self.reference(x, labels[:, i]) for i in range(labels.shape[1])]
        return [x if self.target == "input" else x.new_zeros(())] * labels.shape[1]


def _compressed(view, quality, x):
    return jpeg.round_trip(view(x), quality)


class BIM(GradientAttack):
    """Basic iterative method (Kurakin et al. 2017), I-FGSM in Ruiz et al.: no random start."""

    name = "bim"
    look = Look("bim", COLOUR, 40)


class PGD(GradientAttack):
    """Projected gradient descent (Madry et al. 2018, Sec. 2.1): start uniform in the ball."""

    name = "pgd"
    look = Look("pgd", COLOUR, 40)
    random_start = True


class MIM(GradientAttack):
    """Momentum iterative method (Dong et al. 2018, Algorithm 1), decay 1."""

    name = "mim"
    look = Look("mim", COLOUR, 40)
    momentum = 1.0


class FGSM(GradientAttack):
    """Fast gradient sign method (Goodfellow et al. 2015, Sec. 4): one step of size eps; steps and step_size
    are not its own."""

    name = "fgsm"
    look = Look("fgsm", COLOUR, 40)
    parameters = AIM

    def __init__(self, translator: Callable[..., torch.Tensor] | None, eps: float, **options: Any):
        super().__init__(translator, eps, steps=1, step_size=eps, **options)
