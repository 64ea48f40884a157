"""Reverse-only diffusion (ddpm): treat the photo as state t* of the chain and only denoise it. DiffPure adds
the noise first."""

import torch
from torch.utils.checkpoint import checkpoint

from purify.base import Purifier
from purify.level import Level, start_of


class ReverseOnly(Purifier):
    """t* ancestral steps down from the photo itself; no noise is added first and nothing is scaled.

    Args:   denoiser   models.diffusion.denoiser.Denoiser
            start      t*, noising steps to take back, or "auto": each photo's own, from its noise level (may
                       be 0)
            respacing  fewer steps, as in guided-diffusion ("30", "ddim25"): starts at the largest kept step
                       at or below t*
    Source: Anti-disrupt (WISA 2023); the step is Ho et al. 2020, Algorithm 2
    """

    name = "ddpm"
    stochastic = True

    def __init__(self, denoiser, start=10, respacing=""):
        if start != "auto":
            denoiser.check_start(start)
        chain = denoiser.respaced(respacing) if respacing else denoiser
        short = "auto" if start == "auto" else f"t{start}"
        super().__init__(
            {
                "start": start,
                **({"respacing": respacing} if respacing else {}),
                "max_timestep": denoiser.max_timestep,
            },
            f"{self.name}-{short}" + (f"-r{respacing}" if respacing else ""),
        )
        self.denoiser, self.chain, self.start = denoiser, chain, start
        self.sha256, self.size_multiple, self.tile = (
            denoiser.sha256,
            denoiser.size_multiple,
            denoiser.image_size,
        )
        self.level = Level(denoiser) if start == "auto" else None
        if start != "auto":
            chain.index_of(start)  # refuses a respacing that keeps nothing below t*

    def steps_for(self, x):
        """Reverse steps of each photo, a list of N numbers."""
        if self.level is None:
            return [self.chain.index_of(self.start) + 1] * len(x)
        with torch.no_grad():  # the start is a whole number: no gradient passes through it
            k, _ = self.level(x)
        starts = start_of(k, self.denoiser.stds, self.denoiser.max_timestep).tolist()
        return [self.chain.index_of(s) + 1 if s else 0 for s in starts]

    def begin(self, x, counts, rng):
        """State from which the photos are denoised."""
        return x

    def purify(self, x, rng):
        counts = self.steps_for(x)
        self.count(len(x), sum(counts) + (len(x) if self.level else 0))
        state = self.begin(x, counts, rng)
        for step in reversed(range(max(counts, default=0))):
            rows = [i for i, n in enumerate(counts) if n > step]  # a photo joins at its own start
            everyone = len(rows) == len(counts)
            index = None if everyone else torch.tensor(rows, device=x.device)
            part = state if everyone else state.index_select(0, index)
            # drawn for the photos that take the step, and no other
            noise = rng.at(rows).normal(part) if step else None
            part = self.reverse(part, step, noise)
            state = part if everyone else state.index_copy(0, index, part)
        return state.clamp(-1, 1)

    def reverse(self, x, step, noise):
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

    def begin(self, x, counts, rng):
        return self.chain.q_sample(x, counts[0] - 1, rng.normal(x))
