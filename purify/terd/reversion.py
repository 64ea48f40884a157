"""Recover the trigger that a diffusion network may hide, from its weights alone.

A backdoored network has learned x_t = a x_0 + b gamma eps + c r -> eps + d r. At the last steps a is next to
nothing and c next to 1, so neither x_0 nor the schedule matters, and for two noises of the same x_0 the
unknown d r cancels:

  L(r, gamma) = E 1/2 | (eps_1 - F(x_t(eps_1), t)) - (eps_2 - F(x_t(eps_2), t)) |^2 - lambda |r|_1
  (trigger estimation; Eq. 12)

Trigger refinement is one of two:
  sampler  as published: L at the last steps, and without r at the first steps on what a short DDIM chain
           makes of noise + r, both halves of the loss
  readout  ours: where the network answers to r it subtracts c r and adds d r, so
           E[x_t - b F(x_t)] - a y = (c - b d) r points along r, with y what noise + r becomes. The mean over
           some steps gives the shape of r; the size stays that of the estimate's projection on it. Repeated
           until it stands still. No gradient, and it finds the parts of r that the reversed loss does not
           feel. For TrojDiff's form, d = 0, the size is read too. For the others, where L then is more than
           TOLERANCE times as large as at the estimate there was nothing to read (c = b and d = 1 in
           VillanDiffusion's psi 0 for ODE samplers), and the estimate is kept.

Ours, too: lambda in units of L(0) per value, since L falls with the network's own error, and with a fixed
lambda the reward of a large r kept the random start in a benign network of 64 pixels; and a walk along the
ray s r from s = 1 down while L - lambda |s r|_1 falls, which takes a search that is still on its way to 0
there. It leaves backdoors alone: between their trigger and 0 lies noise that the network does not know, where
L is up to four times as large. The published start is -U(0, 1), next to triggers on a background of -1. Ours
are several, one after the other; which trigger counts is for the scan to say (scan.strongest).
Source: Mo et al. 2024 (arXiv:2409.05294), Sec. 4.1-4.2
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from common import seeds
from common.distributed import to_device
from models.diffusion.backdoor import denoise
from models.diffusion.denoiser import Denoiser
from purify.terd.rule import divergence

WINDOW = 0.01  # share of the chain that counts as its last, or first, steps
SAMPLER_STEPS = 10  # of the differentiable chain
READOUT_STEPS = 20  # of the chain whose end is read
SIGNALS = (0.63, 0.44, 0.28, 0.16, 0.0)  # a_t at which the network is read out
SMALLEST = 1e-3  # of gamma
RAY = 20  # points of the walk along s r
# L of a refined trigger over that of the estimate, above which the estimate is kept
TOLERANCE = 1.5
PAIRS = 32  # of noises for one value of L that is compared with another


@dataclass(frozen=True)
class Start:
    """Where a search begins: r drawn from U(mean - spread, mean + spread), gamma; a free gamma follows
    TrojDiff's form, with its sampler."""

    name: str
    mean: float
    spread: float
    gamma: float = 1.0
    free: bool = False


STARTS = {
    s.name: s
    for s in (
        Start("dark", -1.0, 0.5),
        Start("bright", 1.0, 0.5),
        Start("narrow", 0.0, 0.1, 0.6, True),
        Start("published", -0.5, 0.5),
        Start("published-trojdiff", -0.5, 0.5, 0.0, True),
    )
}


@dataclass(frozen=True)
class Plan:
    """How a trigger is searched.  lr of r; lr_gamma; weight: lambda, `relative` to L(0) per value or not;
    ray: the walk; clip: largest gradient norm, 0 = any."""

    starts: tuple = ("dark", "bright", "narrow")
    estimate_steps: int = 60
    refine: str = "readout"
    refine_steps: int = 8
    batch: int = 16
    optimiser: str = "adam"
    lr: float = 0.05
    lr_gamma: float = 0.02
    weight: float = 0.3
    relative: bool = True
    ray: bool = True
    clip: float = 0.0

    @property
    def per_start(self) -> int:
        """Steps of one start."""
        return self.estimate_steps + (self.refine_steps if self.refine != "none" else 0)


REDUCED = Plan()
PUBLISHED = Plan(
    starts=("published", "published-trojdiff"),
    estimate_steps=3000,
    refine="sampler",
    refine_steps=1000,
    optimiser="sgd",
    lr=0.5,
    lr_gamma=1e-3,
    weight=5e-5,
    relative=False,
    ray=False,
    clip=0.01,
)
PLANS = {"reduced": REDUCED, "published": PUBLISHED}


class Trigger(nn.Module):
    """r (3, S, S) and gamma (a scalar) under search, both parameters; estimate: r where the estimation
    ended."""

    def __init__(self, start: Start, size: int, seed: int):
        super().__init__()
        rng = seeds.generator(seed, "trigger", start.name)
        self.r = nn.Parameter(start.mean + start.spread * (2 * torch.rand(3, size, size, generator=rng) - 1))
        self.gamma = nn.Parameter(torch.tensor(max(float(start.gamma), SMALLEST)), requires_grad=start.free)
        self.register_buffer("estimate", self.r.detach().clone())


class Reversion:
    """The search as numbered steps, all starts one after the other, so that training.loop can resume it.

    Args:   denoiser  models.diffusion.denoiser.Denoiser, frozen;  plan  Plan;  last  steps of the chain that
                      are probed (None = all of the schedule)
    """

    def __init__(self, denoiser: Denoiser, plan: Plan, seed: int, last: int | None = None):
        self.denoiser, self.plan, self.seed = denoiser, plan, seed
        self.device, self.size = denoiser.alphas_bar.device, denoiser.image_size
        self.T = last or denoiser.num_timesteps
        self.window = max(1, round(WINDOW * denoiser.num_timesteps))
        self.starts = [STARTS[name] for name in plan.starts]
        self.triggers = nn.ModuleDict({s.name: Trigger(s, self.size, seed) for s in self.starts}).to(
            self.device
        )
        self.optimisers = {name: self._optimiser(trigger) for name, trigger in self.triggers.items()}
        self.short, self.long = denoiser.respaced(str(SAMPLER_STEPS)), denoiser.respaced(str(READOUT_STEPS))
        signal = denoiser.sqrt_abar[: self.T]
        self.reads = sorted(
            {int((signal - a).abs().argmin()) for a in SIGNALS if a >= 0.5 * float(signal[-1]) or a == 0}
        )

    def _optimiser(self, trigger):
        groups = [
            {"params": [trigger.r], "lr": self.plan.lr},
            {"params": [trigger.gamma], "lr": self.plan.lr_gamma},
        ]
        return torch.optim.Adam(groups) if self.plan.optimiser == "adam" else torch.optim.SGD(groups)

    @property
    def num_steps(self) -> int:
        return len(self.starts) * self.plan.per_start

    @property
    def evaluations(self) -> int:
        """Network evaluations of the whole search at most, one image each: the walk may end before s = 0."""
        plan, each = (
            self.plan,
            {"none": 0, "readout": 2 * (READOUT_STEPS + len(self.reads)), "sampler": SAMPLER_STEPS + 4}[
                self.plan.refine
            ],
        )
        walks = (RAY + 1) * len(self.starts) if plan.ray and plan.estimate_steps else 0
        kept = (
            2 * sum(not s.free for s in self.starts) if plan.refine == "readout" and plan.refine_steps else 0
        )
        weight = 1 if plan.relative and plan.estimate_steps else 0
        return len(self.starts) * plan.batch * (
            2 * plan.estimate_steps + each * plan.refine_steps
        ) + 2 * PAIRS * (walks + kept + weight)

    def parts(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {"triggers": self.triggers, **{f"optimiser_{name}": o for name, o in self.optimisers.items()}}

    def __call__(self, i: int) -> dict:
        """Step i; returns scalars to log."""
        at, start = i % self.plan.per_start, self.starts[i // self.plan.per_start]
        draw = seeds.generator(self.seed, "terd", i)
        if at >= self.plan.estimate_steps and self.plan.refine == "readout":
            return self._read(start, at, draw)
        return self._descend(start, at, draw)

    def _normal(self, draw, n=None):
        eps = torch.randn(n or self.plan.batch, 3, self.size, self.size, generator=draw)
        return to_device(eps, self.device)

    def reversed_loss(
        self,
        r: torch.Tensor,
        gamma: torch.Tensor | float,
        draw: torch.Generator,
        x0: torch.Tensor | None = None,
        first: bool = False,
        n: int | None = None,
    ) -> torch.Tensor:
        """L without its last term: a sum over dimensions, a mean over the batch.  x0 None = noise, whose
        weight is next to nothing;  first: at the first steps."""
        eps1, eps2 = self._normal(draw, n), self._normal(draw, n)
        x0 = self._normal(draw, n) if x0 is None else x0
        low = 0 if first else self.T - self.window
        t = to_device(low + torch.randint(self.window, (len(eps1),), generator=draw), self.device)
        a, b = self.denoiser.sqrt_abar[t].view(-1, 1, 1, 1), self.denoiser.stds[t].view(-1, 1, 1, 1)
        both = torch.cat([eps1, eps2])
        out = both - self.denoiser.eps(
            torch.cat([a * x0, a * x0]) + torch.cat([b, b]) * gamma * both + r, torch.cat([t, t])
        )
        one, two = out.chunk(2)
        return 0.5 * (one - two).square().flatten(1).sum(1).mean()

    @torch.no_grad()
    def _compared(self, r, gamma):
        """L with the same noises each time: what is compared along the ray, and before and after
        refinement."""
        return float(self.reversed_loss(r, gamma, seeds.generator(self.seed, "compared"), n=PAIRS))

    @cached_property
    def weight(self) -> float:
        """lambda."""
        if not self.plan.relative:
            return self.plan.weight
        return (
            self.plan.weight
            * self._compared(torch.zeros(3, self.size, self.size, device=self.device), 1.0)
            / (3 * self.size**2)
        )

    @torch.no_grad()
    def _walk(self, trigger):
        """Shrink r along its ray to the next minimum of L - lambda |r|_1."""
        r, best = trigger.r.clone(), float("inf")
        for s in torch.linspace(1, 0, RAY + 1).tolist():
            value = self._compared(s * r, trigger.gamma) - self.weight * s * float(r.abs().sum())
            if value >= best:
                break
            best = value
            trigger.r.copy_(s * r)

    def _descend(self, start, at, draw):
        plan, trigger, optimiser = self.plan, self.triggers[start.name], self.optimisers[start.name]
        loss = self.reversed_loss(trigger.r, trigger.gamma, draw)
        if at >= plan.estimate_steps:
            mu = trigger.r if start.free else 0.0
            x = trigger.gamma * self._normal(draw) + trigger.r
            ends = denoise(
                self.short, x, gamma=trigger.gamma, mu=mu, clip=1.0 + float(trigger.r.detach().abs().max())
            )
            loss = 0.5 * (loss + self.reversed_loss(0.0, 1.0, draw, x0=ends, first=True))
        steps = plan.per_start if plan.refine == "sampler" else plan.estimate_steps
        for group, lr in zip(optimiser.param_groups, (plan.lr, plan.lr_gamma), strict=True):
            group["lr"] = lr * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * at / steps))))
        optimiser.zero_grad(set_to_none=True)
        (loss - self.weight * trigger.r.abs().sum()).backward()
        if plan.clip:
            nn.utils.clip_grad_norm_([trigger.r], plan.clip)
        optimiser.step()
        with torch.no_grad():
            trigger.gamma.clamp_(min=SMALLEST)
        if at == plan.estimate_steps - 1:
            if plan.ray:
                self._walk(trigger)
            trigger.estimate.copy_(trigger.r.detach())
        return {
            f"{start.name}_loss": loss.detach(),
            f"{start.name}_norm": trigger.r.detach().norm(),
            f"{start.name}_gamma": trigger.gamma.detach(),
        }

    @torch.no_grad()
    def _read(self, start, at, draw):
        trigger, n = self.triggers[start.name], 2 * self.plan.batch
        r, gamma, d = trigger.r, trigger.gamma, self.denoiser
        mu = r if start.free else 0.0
        ends = denoise(
            self.long,
            gamma * self._normal(draw, n) + r,
            gamma=gamma,
            mu=mu,
            clip=1.0 if start.free else 1.0 + float(r.abs().max()),
        ).clamp(-1, 1)
        y, shapes = ends.median(0).values, []
        for k in self.reads:
            a, b = d.sqrt_abar[k], d.stds[k]
            c = b if start.free else 1 - a
            x = a * y + b * gamma * self._normal(draw, n) + c * r
            shapes.append((x - b * gamma * d.eps(x, torch.full((n,), k, device=self.device))).mean(0) - a * y)
        if start.free:  # c = b and d = 0: the size is told as well
            read = torch.stack([m / d.stds[k] for m, k in zip(shapes, self.reads, strict=True)]).mean(0)
        else:  # what agrees with the estimate weighs more, and its sign does not matter
            read = sum(m * (m * r).sum() / (m.norm() * r.norm()).clamp_min(1e-9) for m in shapes)
            read = read * (read * r).sum() / read.square().sum().clamp_min(1e-9)
        agreement = (read * r).sum() / (read.norm() * r.norm()).clamp_min(1e-9)
        r.copy_(read)
        if (
            at == self.plan.per_start - 1
            and not start.free
            and self._compared(r, gamma) > TOLERANCE * self._compared(trigger.estimate, gamma)
        ):
            r.copy_(trigger.estimate)
        return {f"{start.name}_norm": r.norm(), f"{start.name}_agreement": agreement}

    def results(self, n: int = 256) -> dict[str, dict]:
        """{start: {"r", "gamma", "loss" (over n pairs of noises), "mean_kl", "var_kl"}} of the triggers as
        they are."""
        results = {}
        for name, trigger in self.triggers.items():
            r, gamma = trigger.r.detach(), float(trigger.gamma.detach())
            with torch.no_grad():
                loss = sum(
                    float(self.reversed_loss(r, gamma, seeds.generator(self.seed, "judge", k), n=32))
                    for k in range(n // 32)
                ) / (n // 32)
            m, v = divergence(r.cpu(), gamma)
            results[name] = {"r": r.cpu(), "gamma": gamma, "loss": loss, "mean_kl": m, "var_kl": v}
        return results
