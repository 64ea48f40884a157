"""What all attacks share: the ball, the image box, the release as an 8-bit image, and how they call the
translator."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from attacks.through import ThroughDefence
from common import distributed, images
from common.cli import EIGHT_BIT_STEP
from common.declared import Look, Parameter
from common.errors import RunError
from common.seeds import Streams


def grey_levels(eps: float) -> int:
    """Whole 8-bit levels inside an L-inf radius of [-1, 1] units: 0.05 -> 6 (of 6.375)."""
    return math.floor(127.5 * eps + 1e-6)


def on_grid(x: torch.Tensor, tolerance: float = 1e-4) -> bool:
    """True if every value of x is one of the 256 grey levels."""
    return bool((images.quantise(x) - x).abs().max() <= tolerance)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter gradients inside: the attack needs the input's gradient alone (a third of the backward
    pass is saved)."""
    parameters = [p for p in module.parameters() if p.requires_grad] if isinstance(module, nn.Module) else []
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


class Attack:
    """Disrupt photos so that the translator's fakes of them break. Subclasses implement `perturb` and
    `definition`.

    Args:   translator  G(x, c) -> fake, or ThroughDefence; its parameters get no gradients
            eps         L-inf radius, [-1, 1] image units; what is released uses floor(127.5 eps) whole grey
                        levels
            precision   fp32 | bf16 (autocast of the translator; losses and updates stay float32)
    Call:   attack(x, labels, rng): x (N, 3, H, W) float32 in [-1, 1] on the 8-bit grid; labels (N, K, C), the
            conditions of models.conditions; rng common.seeds.Streams, one per image -> the released x_adv,
            shape, range and grid of x. An image's result does not depend on the images beside it, up to float
            rounding.
    Raises: ValueError for images off [-1, 1] or off the 8-bit grid, labels of another shape, eps below one
            grey level
    """

    name = "attack"
    look: Look  # of a registered attack: how tables and plots show it
    parameters: tuple[Parameter, ...] = ()  # keyword arguments of the constructor that have a flag
    handed: tuple[str, ...] = ()  # those that callers give, of no flag of the attack's own
    uses_translator = True  # False: the translator has no say in the result
    differentiates = False  # True: it takes gradients of the translator, and so of a defence before it
    goes_through = False  # True: it can be optimised against translator and defence together
    ball = True  # eps is an L-inf radius
    only_for_tests: str | None = None  # why nothing may be trained on photos that it disrupted
    steps = 1  # gradients, of those that take some
    notes: list[dict] | None = None  # JSON, of each photo of the batch just attacked; None: it leaves none
    smallest_eps = EIGHT_BIT_STEP

    def __init__(self, translator: Callable[..., torch.Tensor] | None, eps: float, precision: str = "fp32"):
        if not (math.isfinite(eps) and self.smallest_eps <= eps + 1e-8):
            raise ValueError(
                f"eps {eps}: {self.name} needs at least {self.smallest_eps:.5f} in [-1, 1] units (one 8-bit"
                " step)"
            )
        self.translator, self.eps, self.precision = translator, float(eps), precision
        self.finite: list[torch.Tensor] = []  # whether each gradient of the batch just attacked was
        self.defence = translator if isinstance(translator, ThroughDefence) else None
        self.generator = self.defence.translator if self.defence else translator

    @classmethod
    def check_flags(cls, values: dict[str, object]) -> None:
        """Raises UserError for values of the parameters that cannot work, before any work is done."""

    def check_size(self, image_size: int) -> None:
        """Raises UserError if photos of this side, in pixels, are not what the attack was made for."""

    def __call__(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        images.check_range(x)
        if not on_grid(x):
            raise ValueError(
                "a photo is attacked as the 8-bit image that it is: round x to the grid first"
                " (common.images.quantise)"
            )
        if labels.ndim != 3 or len(labels) != len(x):
            raise ValueError(f"expected labels (N, K, C) for {len(x)} images, found {tuple(labels.shape)}")
        x_adv = self.disrupt(x, labels, rng)
        self.check_finite()
        return x_adv

    def check_finite(self) -> None:
        """Raises RunError if a gradient of the batch just attacked was not finite."""
        if not self.finite:
            return
        # asked once a batch, as the device is waited for
        told, self.finite = torch.stack(self.finite).tolist(), []
        if not all(told):
            step = told.index(False) % self.steps + 1
            raise RunError(
                f"{self.name}: the gradient of step {step} of {self.steps}{self.behind} is not finite"
            )

    def disrupt(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        """The same of photos and labels that are known to fit, for training steps: the checks wait for the
        device."""
        x = x.detach().contiguous(memory_format=self.memory_format(x))
        with frozen(self.translator):
            return self.release(x, self.perturb(x, labels.to(x.device, x.dtype), rng))

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        """The perturbation d before rounding, (N, 3, H, W), |d| <= eps and x + d in [-1, 1]."""
        raise NotImplementedError

    def definition(self) -> dict:
        """JSON dict of everything that decides the result, besides the photo, its labels and its random
        stream."""
        raise NotImplementedError

    @staticmethod
    def memory_format(x: torch.Tensor) -> torch.memory_format:
        return torch.channels_last if x.is_cuda else torch.contiguous_format

    def project(self, x: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        """Nearest d inside the ball |d| <= eps and the image box |x + d| <= 1."""
        return (x + d.clamp(-self.eps, self.eps)).clamp(-1, 1) - x

    @property
    def levels(self) -> int:
        """Largest change of a released pixel, in whole grey levels."""
        return grey_levels(self.eps)

    def release(self, x: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        """The 8-bit image that leaves the attacker's hands: x + clip(round(127.5 d), -n, n)/127.5, n =
        floor(127.5 eps), in [-1, 1].

        A plain rounding of x + d could leave the ball by half a grey level.
        """
        d = (127.5 * d).round().clamp(-self.levels, self.levels) / 127.5
        return images.quantise((x + d).clamp(-1, 1))  # bit-equal to the PNG read back

    def translate(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Fakes (N, 3, H, W) float32 of x by the undefended translator."""
        with distributed.autocast(x.device, self.precision):
            return self.generator(x, c).float()

    def defend(self, x: torch.Tensor, rng: Streams) -> torch.Tensor:
        """What the translator gets to see of x: one draw of the defence where there is one."""
        return self.defence.defend(x, rng) if self.defence else x

    @property
    def draws(self) -> int:
        """Draws of a random defence that the attack takes the mean over, 1 without."""
        return self.defence.draws if self.defence else 1

    @property
    def behind(self) -> str:
        """The defence, for messages."""
        return f" through {self.defence.purifier.name}" if self.defence else ""

    def reference(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Fakes of the clean photo, undefended and without gradients: what attacked fakes are compared
        with."""
        with torch.no_grad():
            return self.translate(x, c)
