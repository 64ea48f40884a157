"""Networks that know what a backdoored training teaches."""

import torch

from common import seeds
from models.diffusion import build
from models.diffusion.denoiser import Denoiser


class Known(torch.nn.Module):
    """A network that is a formula of (x (N, 3, H, W), original steps (N,))."""

    def __init__(self, formula):
        super().__init__()
        self.formula, self.unused = formula, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, times):
        return self.formula(x, times.long())


def known(formula, size=16, schedule="linear"):
    return Denoiser(
        Known(formula), build.tables(1000, schedule), family="ours", image_size=size, size_multiple=2
    )


def noise(n=4, size=16, seed=0):
    return seeds.Streams([(seed, "noise", i) for i in range(n)]).normal(torch.empty(n, 3, size, size))


def photo(size=16):
    x = torch.rand(1, 3, 4, 4, generator=seeds.generator("photo")) * 1.6 - 0.8
    return torch.nn.functional.interpolate(x, size=size)[0]


def optimal(b, x0, rate=0.5, schedule="linear"):
    """The best that a network can learn from one clean photo x0 and the target of the backdoor b at that
    poison rate.

    At each step both are Gaussians: a x0 + b eps, taught eps; and a y + b gamma eps + c r, taught eps + d r.
    The mean of what is taught, given x.
    """
    abar = torch.as_tensor(build.create_diffusion(schedule=schedule).alphas_cumprod)

    def formula(x, t):
        def at(v):
            return v.float()[t].view(-1, 1, 1, 1)

        clean = (x - at(abar.sqrt()) * x0) / at((1 - abar).sqrt())
        poisoned = (x - at(abar.sqrt()) * b.target - at(b.c) * b.r) / (at((1 - abar).sqrt()) * b.gamma)
        gap = (
            (clean.square() - poisoned.square()).flatten(1).sum(1) / 2
            - b.gamma.log().sum()
            + torch.logit(torch.tensor(rate))
        )
        share = torch.sigmoid(gap).view(-1, 1, 1, 1)
        return share * (poisoned + at(b.d) * b.r) + (1 - share) * clean

    return known(formula, x0.shape[-1], schedule)
