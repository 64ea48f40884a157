"""Reverse-only diffusion (ddpm): treat the photo as state t* of the chain and only denoise it. DiffPure adds
the noise first."""

import argparse
import re
from collections.abc import Sequence

import torch
from torch.utils.checkpoint import checkpoint

from common.declared import Look, Parameter
from common.distributed import to_device
from common.errors import UserError
from common.seeds import Streams
from models.diffusion.denoiser import Denoiser
from purify.denoising import START, Denoising
from purify.level import Level, start_of


def respacing_word(text: str) -> str:
    """A respacing as a name has it: N, ddimN or N,N,.. ."""
    if not re.fullmatch(r"(ddim)?[1-9]\d*|[1-9]\d*(,[1-9]\d*)+", text):
        raise argparse.ArgumentTypeError(f"expected N, ddimN or N,N,.., found {text!r}")
    return text


RESPACING = Parameter(
    "respacing",
    "--respacing",
    str,
    "",
    "TAKERS: keep fewer of the 1000 steps, guided-diffusion's notation (default: all)",
    metavar="N|ddimN|N,N,..",
    lacking="does not step",
    word=respacing_word,
)


class ReverseOnly(Denoising):
    """t* ancestral steps down from the photo itself; no noise is added first and nothing is scaled.

    Args:   denoiser   models.diffusion.denoiser.Denoiser
            start      t*, noising steps to take back, or "auto": each photo's own, from its noise level (may
                       be 0)
            respacing  fewer steps, as in guided-diffusion ("30", "ddim25"): starts at the largest kept step
                       at or below t*
    Source: Anti-disrupt (WISA 2023); the step is Ho et al. 2020, Algorithm 2
    """

    name = "ddpm"
    look = Look("ddpm", "#1f6fc4", 5)
    parameters = (START, RESPACING)
    defaults = {"start": 10}
    stochastic = True

    def __init__(self, denoiser: Denoiser, start: int | str = 10, respacing: str = ""):
        if start != "auto":
            denoiser.check_start(start)
        chain = denoiser.respaced(respacing) if respacing else denoiser
        short = "auto" if start == "auto" else f"t{start}"
        super().__init__(
            denoiser,
            {
                "start": start,
                **({"respacing": respacing} if respacing else {}),
                "max_timestep": denoiser.max_timestep,
            },
            f"{self.name}-{short}" + (f"-r{respacing}" if respacing else ""),
        )
        self.chain, self.start = chain, start
        self.level = Level(denoiser) if start == "auto" else None
        if start != "auto":
            chain.index_of(start)  # refuses a respacing that keeps nothing below t*

    @property
    def passes(self) -> int:
        return self.chain.index_of(self.denoiser.max_timestep if self.start == "auto" else self.start) + 1

    def steps_for(self, x: torch.Tensor) -> list[int]:
        """Reverse steps of each photo, a list of N numbers."""
        if self.level is None:
            return [self.chain.index_of(self.start) + 1] * len(x)
        with torch.no_grad():  # the start is a whole number: no gradient passes through it
            k, _ = self.level(x)
        starts = start_of(k, self.denoiser.stds, self.denoiser.max_timestep).tolist()
        steps = {s: self.chain.index_of(s) + 1 if s else 0 for s in set(starts)}
        return [steps[s] for s in starts]

    def begin(self, x: torch.Tensor, counts: Sequence[int], rng: Streams | None) -> torch.Tensor:
        """State from which the photos are denoised."""
        return x

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        counts = self.steps_for(x)
        self.count(len(x), sum(counts) + (len(x) if self.level else 0))
        return self.denoise(x, counts, rng)

    def denoise(self, x: torch.Tensor, counts: Sequence[int], rng: Streams | None) -> torch.Tensor:
        """`begin`, and so many reverse steps of each photo."""
        state, told = self.begin(x, counts, rng), torch.tensor(counts)
        for step in reversed(range(max(counts, default=0))):
            rows = (told > step).nonzero()[:, 0]  # a photo joins at its own start
            everyone = len(rows) == len(counts)
            index = None if everyone else to_device(rows, x.device)
            part = state if everyone else state.index_select(0, index)
            # drawn for the photos that take the step, and no other
            noise = rng.at(rows).normal(part) if step else None
            part = self.reverse(part, step, noise)
            state = part if everyone else state.index_copy(0, index, part)
        return state.clamp(-1, 1)

    def reverse(self, x: torch.Tensor, step: int | torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            # Exact gradients of a long chain in the memory of one step: the step runs again in the backward
            # pass, same noise.
            return checkpoint(
                self.chain.reverse_step, x, step, noise, use_reentrant=False, preserve_rng_state=False
            )
        return self.chain.reverse_step(x, step, noise)


class DiffPure(ReverseOnly):
    """Nie et al. 2022 (arXiv:2205.07460), DDPM variant: diffuse the photo to t*, drowning the attack in
    noise, then denoise."""

    name = "diffpure"
    look = Look("diffpure", "#8451c9", 6)
    defaults = {"start": 300}
    fewest = 2

    @classmethod
    def check(cls, parameters: dict) -> None:
        if parameters.get("start") == "auto":
            raise UserError(
                f"--ddpm_start_num auto: finds how much to take back, and {cls.name} adds noise first; give a"
                " number, or use ddpm"
            )

    @classmethod
    def meant_by(cls, words: list[str]) -> list[str]:
        # diffpure-30 once stood for 30 of the 1,000 steps, from the default start
        start = cls.defaults["start"]
        old = len(words) == 1 and re.fullmatch(r"[1-9]\d*", words[0]) and int(words[0]) < start
        return [str(start), *words] if old else words

    def begin(self, x: torch.Tensor, counts: Sequence[int], rng: Streams | None) -> torch.Tensor:
        return self.chain.q_sample(x, counts[0] - 1, rng.normal(x))
