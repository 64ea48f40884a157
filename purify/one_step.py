"""Purifiers of one network evaluation."""

from pathlib import Path
from typing import Self

import torch

from common import checkpoint, files, state_dicts
from common.declared import Look
from common.errors import UserError
from common.seeds import Streams
from models.diffusion.denoiser import Denoiser
from models.one_step_robust.network import RobustNetwork
from purify.dae import DefensiveModel
from purify.denoising import START, Denoising
from purify.level import STEP, Level


class OneStep(Denoising):
    """The posterior mean of the clean photo from a network fine-tuned on disruptions of every strength.

    The network is always told t = 10: it learned to find the strength by itself, so neither the attack nor
    its eps is an input.
    """

    name = "one-step"
    look = Look("one-step", "#14843c", 8)
    trained_as = "one-step"
    training_flags = " --gan_weights FILE"

    def __init__(self, denoiser: Denoiser):
        super().__init__(denoiser, {"start": STEP + 1}, self.name)

    @classmethod
    def check_kind(cls, kind: str, weights: Path | str) -> None:
        if kind != "one-step":
            raise UserError(
                f"{weights}: an ordinary diffusion network; one-step needs one fine-tuned for it"
                f" ({cls.training()}), one-step-plain, ddpm, diffpure and gridpure take this"
                " one"
            )

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        self.count(len(x), len(x))
        return self.denoiser.x0(x, STEP)


class OneStepPlain(Denoising):
    """One evaluation of the ordinary diffusion network, not fine-tuned: what one-step is measured against.

    Args:  start  t*: the posterior mean at that step, (x - sqrt(1 - abar) e) / sqrt(abar);
                  "auto": x - k e with the photo's own noise level k (see purify.level), from the same
                  evaluation e
    """

    name = "one-step-plain"
    look = Look("one-step-plain", "#9aa51c", 7)
    parameters = (START,)
    defaults = {"start": "auto"}

    def __init__(self, denoiser: Denoiser, start: int | str = "auto"):
        if start != "auto":
            denoiser.check_start(start)
        short = "auto" if start == "auto" else f"t{start}"
        super().__init__(denoiser, {"start": start}, f"{self.name}-{short}")
        self.start = start
        self.level = Level(denoiser) if start == "auto" else None

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        self.count(len(x), len(x))
        if self.level is None:
            return self.denoiser.x0(x, self.start - 1)
        k, e = self.level(x)
        return (x - k.view(-1, 1, 1, 1) * e).clamp(-1, 1)


class OneStepRobust(DefensiveModel):
    """A network that learned from attacks through itself (models.one_step.train): one evaluation, no noise,
    told neither the attack nor its eps."""

    name = trained_as = "one-step-robust"
    look = Look("one-step-robust", "#0b5d2a", 8)
    training_flags = " --gan_weights FILE"

    @classmethod
    def make(cls, weights: Path | str, device: torch.device | str, precision: str) -> Self:
        """Frozen, from weights.safetensors.  Raises UserError for a damaged file or another network."""
        network, meta = load_robust(weights)
        network = network.eval().requires_grad_(False).to(device)
        purifier = cls(network, files.sha256(weights), precision)
        purifier.made_for = meta.get("gan_sha256")
        return purifier


def load_robust(weights: Path | str) -> tuple[RobustNetwork, dict]:
    """(network, metadata) of weights of one-step-robust.  Raises UserError for a damaged file or another
    network."""
    state, meta = checkpoint.read_weights(Path(weights))
    if meta.get("kind") != "one-step-robust":
        found = meta.get("kind") or f"tensors named {', '.join(list(state)[:3])}"
        raise UserError(f"{weights}: expected weights of one-step-robust, found {found}")
    options = meta.get("options", {})
    return state_dicts.rebuilt(RobustNetwork, options, state, weights, "weights of one-step-robust"), meta
