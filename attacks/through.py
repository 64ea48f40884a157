"""Adaptive attacks: the attacker knows the defence and differentiates through it."""

import torch
from torch import nn

from common.errors import UserError
from common.seeds import Streams
from models.translators import Translator

GRADIENTS = ("full", "bpda")
DRAWS = 20  # of a random defence: enough for a mean, where nothing else is said


class ThroughDefence(nn.Module):
    """G(purify(x), c): an attack that gets this as its translator is optimised against the defence.

    Args:   translator  G(x, c)
            purifier    purify.base.Purifier, called as purifier(x, rng)
            gradient    full  the chain rule through every step of the purifier, or through the surrogate
                              that it names
                        bpda  forward through the purifier, backward as if it were the identity (Athalye,
                              Carlini and Wagner 2018, Sec. 4.1): for purifiers without a useful gradient
            eot         draws of the purifier's randomness per attack step; gradients are averaged over them
                        (expectation over transformation, Athalye et al. 2018). A purifier without randomness
                        is drawn once.
            known_noise  the attacker knows the noise that the purifier will draw at test: each draw is that
                        one (Streams.later of the attack's streams)
    Call:   (x, c, rng) -> fakes (N, 3, H, W); each call is one draw, so a mean over calls estimates the
            expected fake
    """

    def __init__(
        self,
        translator: Translator,
        purifier: nn.Module,
        gradient: str = "full",
        eot: int = 1,
        known_noise: bool = False,
    ):
        super().__init__()
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient {gradient!r}: one of {', '.join(GRADIENTS)}")
        if eot < 1:
            raise ValueError(f"eot {eot}: at least one draw is needed")
        self.translator, self.purifier, self.gradient = translator, purifier, gradient
        self.eot, self.known_noise = eot, known_noise
        self.size_multiple = max(
            getattr(translator, "size_multiple", 1), getattr(purifier, "size_multiple", 1)
        )

    @property
    def draws(self) -> int:
        return self.eot if self.random else 1

    @property
    def random(self) -> bool:
        """Whether one draw is not as the next, to the attacker."""
        return self.purifier.stochastic and not self.known_noise

    def differentiated(self, gradient: str) -> "ThroughDefence":
        """The same defence, differentiated otherwise."""
        return ThroughDefence(self.translator, self.purifier, gradient, self.eot, self.known_noise)

    def defend(self, x: torch.Tensor, rng: Streams | None = None) -> torch.Tensor:
        """One purified draw of x (N, 3, H, W), with the gradient chosen.

        Raises UserError if the full gradient is asked of a purifier that has none.
        """
        if self.known_noise:
            rng = rng.later()
        if self.gradient == "bpda":
            with torch.no_grad():
                purified = self.purifier(x, rng)
            return purified + (x - x.detach())  # adds exactly zero, passes the gradient on unchanged
        purified = self.purifier(x, rng)
        if x.requires_grad and not purified.requires_grad:
            raise UserError(
                f"{self.purifier.name} passes no gradient: attack through it with --gradient bpda, or with"
                " --attack_type square, which needs none"
            )
        return purified

    def reference(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """The undefended translator's fake: what the attacked fake is compared with."""
        return self.translator(x, c)

    def forward(self, x: torch.Tensor, c: torch.Tensor, rng: Streams | None = None) -> torch.Tensor:
        return self.translator(self.defend(x, rng), c)

    def definition(self) -> dict:
        """JSON dict of the defence and of how it is differentiated, for cache keys."""
        surrogate = getattr(self.purifier, "surrogate", None) if self.gradient == "full" else None
        return {
            "purifier": self.purifier.name,
            "params": dict(self.purifier.params),
            "sha256": self.purifier.sha256,
            "gradient": self.gradient,
            "eot": self.draws,
            **({"known_noise": True} if self.known_noise else {}),
            **({"surrogate": surrogate} if surrogate else {}),
        }
