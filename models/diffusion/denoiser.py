"""A noise-predicting network with its own schedule and time convention, ready to purify: noise, clean image,
one reverse step.

Steps are 0-based everywhere: step s is the state after s + 1 noising steps, and t* (`start`, 1-based) counts
noising steps.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import numpy as np
import torch
from torch import nn

from common import distributed
from common.cli import UserError


@cache
def _frequencies(half, max_period, device):
    values = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32) / half)
    return distributed.to_device(values, device)


def embed(timesteps: torch.Tensor, dim: int, max_period: int = 10000) -> torch.Tensor:
    """guided-diffusion's timestep_embedding, (N,) -> (N, dim), with its frequencies sent to the device once
    instead of at each evaluation."""
    args = timesteps[:, None].float() * _frequencies(dim // 2, max_period, timesteps.device)
    embedding = torch.cat([args.cos(), args.sin()], -1)
    return torch.nn.functional.pad(embedding, (0, dim % 2))


class Denoiser(nn.Module):
    """What purifiers and fine-tuning see of a diffusion model, whichever family its weights come from.

    Args:   network        module (x (N, 3, H, W), times (N,)) -> (N, 3 or 6, H, W); 6 = predicted noise and
                           variance
            tables         respacing text -> dict of arrays over the kept steps: kept (original steps), times
                           (what the network is given), alphas_bar, mean_x0, mean_x (mean of the reverse step
                           = mean_x0 x0 + mean_x x), log_variance, and log_variance_small where the network
                           predicts the variance
            family         "ours", "guided-diffusion" or "mindiffusion"
            image_size     side of the images that it was trained on; size_multiple: sides it can take are
                           multiples of it
            max_timestep   largest t* that it was trained for (original steps)
            clip           clip the predicted clean image to [-1, 1] inside a reverse step
    Shape:  x (N, 3, H, W) in [-1, 1] plus noise; step an int or a LongTensor (N,) of indices into the kept
            steps
    Source: Ho et al. 2020 (arXiv:2006.11239), equations 4, 7, 11, 15; learned variance of Nichol and Dhariwal
            2021, equation 15
    """

    def __init__(
        self,
        network: nn.Module,
        tables: Callable[[str], dict],
        *,
        family: str,
        image_size: int,
        size_multiple: int,
        max_timestep: int | None = None,
        clip: bool = True,
        precision: str = "fp32",
        sha256: str | None = None,
        meta: dict | None = None,
        respacing: str = "",
    ):
        super().__init__()
        self.network, self._tables = network, tables
        self.family, self.image_size, self.size_multiple = family, image_size, size_multiple
        self.clip, self.precision, self.sha256, self.meta, self.respacing = (
            clip,
            precision,
            sha256,
            meta or {},
            respacing,
        )
        arrays = tables(respacing)
        self.kept = [int(s) for s in arrays["kept"]]
        self.num_timesteps = len(self.kept)
        self.max_timestep = max_timestep or self.kept[-1] + 1
        self.learned_variance = "log_variance_small" in arrays
        abar = np.asarray(arrays["alphas_bar"], np.float64)
        constants = {
            **{k: v for k, v in arrays.items() if k != "kept"},
            "sqrt_abar": np.sqrt(abar),
            "stds": np.sqrt(1 - abar),
            "recip_sqrt_abar": np.sqrt(1 / abar),
            "recip_std": np.sqrt(1 / abar - 1),
        }
        # rounded from float64 once, and on the device before any loop
        for name, values in constants.items():
            self.register_buffer(
                name, torch.as_tensor(np.asarray(values, np.float64)).float(), persistent=False
            )

    @property
    def kind(self) -> str:
        """`diffusion` (usable at every step) or `one-step` (fine-tuned for one)."""
        return self.meta.get("kind", "diffusion")

    def respaced(self, respacing: str) -> "Denoiser":
        """The same network over fewer steps ("30", "ddim25", "10,15,20"); original step numbers in
        `.kept`."""
        other = Denoiser(
            self.network,
            self._tables,
            family=self.family,
            image_size=self.image_size,
            size_multiple=self.size_multiple,
            max_timestep=self.max_timestep,
            clip=self.clip,
            precision=self.precision,
            sha256=self.sha256,
            meta=self.meta,
            respacing=respacing,
        )
        return other.to(self.alphas_bar.device)

    def index_of(self, start: int) -> int:
        """Index of the largest kept step that lies at most t* = `start` noising steps up.  Raises UserError
        if there is none."""
        reached = [i for i, s in enumerate(self.kept) if s <= start - 1]
        if not reached:
            raise UserError(
                f"--respacing {self.respacing}: keeps no step at or below --ddpm_start_num {start}; keep more"
                " steps"
            )
        return reached[-1]

    def check_start(self, start: int) -> None:
        """Raises UserError for a t* outside what the network was trained for."""
        if not 1 <= start <= self.max_timestep:
            raise UserError(
                f"--ddpm_start_num {start}: this purifier was trained for starts from 1 to"
                f" {self.max_timestep} (--max_timestep of its training); choose one of them, or train again"
                " with a larger --max_timestep"
            )

    def _at(self, name, step):
        value = getattr(self, name)[step]
        return value.view(-1, 1, 1, 1) if value.ndim else value

    def _output(self, x, step):
        times = self.times[step].expand(len(x))
        # fp32 enters no region at all: a trainer's own autocast around this call stays in force.
        with distributed.autocast(x.device, "bf16") if self.precision == "bf16" else nullcontext():
            out = self.network(x, times)
        return out.to(x.dtype)

    def eps(self, x: torch.Tensor, step: int | torch.Tensor) -> torch.Tensor:
        """Predicted noise of unit variance, (N, 3, H, W)."""
        return self._output(x, step)[:, :3]

    def _clean(self, x, step, eps):
        return self._at("recip_sqrt_abar", step) * x - self._at("recip_std", step) * eps

    def x0(self, x: torch.Tensor, step: int | torch.Tensor, clip: bool = True) -> torch.Tensor:
        """Posterior mean of the clean image given x at this step: one network evaluation."""
        clean = self._clean(x, step, self.eps(x, step))
        return clean.clamp(-1, 1) if clip else clean

    def reverse_step(
        self, x: torch.Tensor, step: int | torch.Tensor, noise: torch.Tensor | None
    ) -> torch.Tensor:
        """One ancestral step from `step` to `step - 1`; noise (N, 3, H, W) standard normal, not used where
        step is 0 (may be None)."""
        out = self._output(x, step)
        clean = self._clean(x, step, out[:, :3])
        if self.clip:
            clean = clean.clamp(-1, 1)
        mean = self._at("mean_x0", step) * clean + self._at("mean_x", step) * x
        if noise is None or (isinstance(step, int) and step == 0):
            return mean
        log_variance = self._at("log_variance", step)
        if self.learned_variance:
            v = (out[:, 3:] + 1) / 2
            log_variance = v * log_variance + (1 - v) * self._at("log_variance_small", step)
        spread = torch.exp(0.5 * log_variance)
        if torch.is_tensor(step):
            spread = spread * (step > 0).view(-1, 1, 1, 1)
        return mean + spread * noise

    def q_sample(self, x: torch.Tensor, step: int | torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x after step + 1 noising steps."""
        return self._at("sqrt_abar", step) * x + self._at("stds", step) * noise
