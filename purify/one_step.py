"""Purifiers of one network evaluation."""

from purify.base import Purifier
from purify.level import STEP, Level


class OneStep(Purifier):
    """The posterior mean of the clean photo from a network fine-tuned on disruptions of every strength.

    The network is always told t = 10: it learned to find the strength by itself, so neither the attack nor
    its eps is an input.
    """

    name = "one-step"

    def __init__(self, denoiser):
        super().__init__({"start": STEP + 1}, self.name)
        self.denoiser = denoiser
        self.sha256, self.size_multiple, self.tile = (
            denoiser.sha256,
            denoiser.size_multiple,
            denoiser.image_size,
        )

    def purify(self, x, rng):
        self.count(len(x), len(x))
        return self.denoiser.x0(x, STEP)


class OneStepPlain(Purifier):
    """One evaluation of the ordinary diffusion network, not fine-tuned: what one-step is measured against.

    Args:  start  t*: the posterior mean at that step, (x - sqrt(1 - abar) e) / sqrt(abar);
                  "auto": x - k e with the photo's own noise level k (see purify.level), from the same
                  evaluation e
    """

    name = "one-step-plain"

    def __init__(self, denoiser, start="auto"):
        if start != "auto":
            denoiser.check_start(start)
        super().__init__({"start": start}, f"{self.name}-" + ("auto" if start == "auto" else f"t{start}"))
        self.denoiser, self.start = denoiser, start
        self.sha256, self.size_multiple, self.tile = (
            denoiser.sha256,
            denoiser.size_multiple,
            denoiser.image_size,
        )
        self.level = Level(denoiser) if start == "auto" else None

    def purify(self, x, rng):
        self.count(len(x), len(x))
        if self.level is None:
            return self.denoiser.x0(x, self.start - 1)
        k, e = self.level(x)
        return (x - k.view(-1, 1, 1, 1) * e).clamp(-1, 1)
