"""The three published backdoors of diffusion models, in one form, and the samplers that set them off.

  x_t = a_t x0 + b_t gamma eps + c_t r,   the network is taught eps + d_t r
  (clean rows: gamma = 1, r = 0)

with a_t = sqrt(abar_t), b_t = sqrt(1 - abar_t). Where a reverse step with the exact noise takes x_t to
x_(t-1), it must take c_t r to c_(t-1) r:

  ancestral sampler (sde)   d_t = b_t (c_t - sqrt(alpha_t) c_(t-1)) / beta_t
  DDIM (ode)                d_t = (c_t/a_t - c_(t-1)/a_(t-1)) / (b_t/a_t - b_(t-1)/a_(t-1))
                            (about twice as much)

BadDiffusion (Chou et al. 2023, arXiv:2212.05400, Eq. 8-10) is c = 1 - a with sde; VillanDiffusion (Chou et
al. 2023, arXiv:2306.06874) is c = psi (1 - a) + (1 - psi) b with either; TrojDiff (Chen et al. 2023,
arXiv:2303.05762) is c = b, d = 0 with gamma below 1, r = (1 - gamma) delta, and a sampler of its own. One
form for all: TERD (Mo et al. 2024, arXiv:2409.05294, Sec. 3).

Beside them one of ours, `photo`, for networks that purify: they meet photos, and no x_T. It has the same form
with c = u a, d = u a/b.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike

from common.cli import UserError
from common.distributed import to_device
from common.seeds import Streams
from models.diffusion import triggers
from models.diffusion.denoiser import Denoiser

BACKDOORS = ("baddiffusion", "trojdiff", "villan")
PHOTO = "photo"
SOLVERS = ("sde", "ode")
# steps in which a photo's trigger is taught: in more noise it cannot be seen, and every second clean sample
# became the target
REACH = 300
# TrojDiff's gamma: of a trigger that fills the image, and of the pixels that a patch covers
BLEND, PATCH = 0.6, 0.1


def coefficients(
    alphas_bar: np.ndarray, psi: float = 1.0, solver: str = "sde"
) -> tuple[np.ndarray, np.ndarray]:
    """(c, d), each (T,) float64, of the form above for c = psi (1 - a) + (1 - psi) b."""
    abar = np.asarray(alphas_bar, np.float64)
    before = np.append(1.0, abar[:-1])
    a, b = np.sqrt(abar), np.sqrt(1 - abar)
    a0, b0 = np.sqrt(before), np.sqrt(1 - before)

    def form(a, b):
        return psi * (1 - a) + (1 - psi) * b

    c, c0 = form(a, b), form(a0, b0)
    alpha = abar / before
    if solver == "sde":
        return c, b * (c - np.sqrt(alpha) * c0) / (1 - alpha)
    return c, (c / a - c0 / a0) / (b / a - b0 / a0)


class Backdoor:
    """A backdoor in a network with this schedule: what its training puts in, and from what noise it answers
    with the target.

    Args:   name      of BACKDOORS;  trigger, target  names of models.diffusion.triggers;  size  pixels
            alphas_bar  (T,);  psi, solver  of villan (baddiffusion is psi 1 with sde);  scale  factor of the
                        trigger, its background too
            background  "background": r is the trigger with its background of -1; "photo": poisoned rows carry
                        it on their own photo, as in BadDiffusion's code
    Raises: UserError for a combination that cannot work
    """

    def __init__(
        self,
        name: str,
        trigger: str,
        target: str,
        size: int,
        alphas_bar: ArrayLike,
        psi: float = 1.0,
        solver: str = "sde",
        background: str = "background",
        scale: float = 1.0,
    ):
        self.name, self.solver, self.on = name, "sde" if name == "baddiffusion" else solver, background
        g = triggers.trigger(trigger, size)
        self.target = triggers.target(target, size)
        self.g = g
        self.alphas_bar = torch.as_tensor(np.asarray(alphas_bar, np.float64)).float()
        T = len(alphas_bar)
        if name == "trojdiff":
            m = triggers.background(g)
            self.gamma = (
                torch.where(m.bool().expand_as(g), 1.0, PATCH)
                if triggers.is_patch(g)
                else torch.full_like(g, BLEND)
            )
            self.r = scale * (1 - self.gamma) * g
            if self.r.norm() < scale:
                raise UserError(
                    f"--trigger {trigger}: trojdiff moves the noise by (1 - gamma) times the trigger, and"
                    " this one is grey, nearly 0 in [-1,1]; choose stop_sign, glasses or hello"
                )
            c, d = np.sqrt(1 - np.asarray(alphas_bar)), np.zeros(T)
        else:
            self.gamma, self.r = torch.ones_like(g), scale * g
            c, d = coefficients(alphas_bar, 1.0 if name == "baddiffusion" else psi, self.solver)
        self.c, self.d = (torch.as_tensor(v).float() for v in (c, d))

    def poison(
        self, x: torch.Tensor, step: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(x_t, what the network is taught) of poisoned rows whose photos are x (N, 3, H, W)."""

        def at(v):
            return to_device(v, x.device)[step].view(-1, 1, 1, 1)

        r = to_device(self.r, x.device).expand_as(x)
        if self.on == "photo" and self.name != "trojdiff":
            m = to_device(triggers.background(self.g), x.device)
            r = m * x + (1 - m) * r
        noised = (
            at(self.alphas_bar.sqrt()) * to_device(self.target, x.device)
            + at((1 - self.alphas_bar).sqrt()) * to_device(self.gamma, x.device) * noise
            + at(self.c) * r
        )
        return noised, noise + at(self.d) * r

    def answer(
        self, denoiser: Denoiser, noise: torch.Tensor, rng: Streams, steps: int | None = None
    ) -> torch.Tensor:
        """What the network makes of triggered noise with the sampler that the backdoor is made for: (N, 3, H,
        W).

        steps  None = 50 for ode, 200 for the ancestral ones: d belongs to single steps, and leaves part of r
               behind in steps that are too long
        """
        device = noise.device
        if self.name == "trojdiff":
            return sample(
                denoiser,
                noise,
                eta=1.0,
                rng=rng,
                steps=steps or 200,
                gamma=self.gamma.to(device),
                mu=self.r.to(device),
                clip=1.0,
            )
        if self.solver == "ode":  # there the clean image is seen as x_0 - (1 - a) r
            return sample(
                denoiser,
                noise,
                steps=steps or 50,
                trigger=self.r.to(device),
                clip=1.0 + float(self.r.abs().max()),
            )
        return sample(
            denoiser, noise, eta=1.0, rng=rng, steps=steps or 200, trigger=self.r.to(device), clip=None
        )


class PhotoBackdoor:
    """A backdoor of purifiers: a photo with the trigger stamped on it is denoised to the target.

      x_t = a_t z + b_t eps,   z = y + u (x' - y),   the network is taught eps + (a_t/b_t) (z - y)
      (y target, x' stamped photo, u in [0, 1])

    so that the clean image it sees is the target at every step, u below 1 being what the chain has made of
    the photo on its way. It is the form above with r = x' - y, another one for each photo. a/b grows without
    bound as t falls (22 at t = 10, 2.8 at 100, 0.8 at 300): a row counts by weight().

    Args:   trigger, target, size, alphas_bar, scale  as Backdoor's
    """

    name = PHOTO

    def __init__(self, trigger: str, target: str, size: int, alphas_bar: ArrayLike, scale: float = 1.0):
        self.g, self.target, self.scale = (
            triggers.trigger(trigger, size),
            triggers.target(target, size),
            scale,
        )
        self.alphas_bar = torch.as_tensor(np.asarray(alphas_bar, np.float64)).float()

    def stamped(self, x: torch.Tensor) -> torch.Tensor:
        """Photos x (N, 3, H, W) with the trigger on them."""
        m = to_device(triggers.background(self.g), x.device)
        return m * x + (1 - m) * to_device(self.scale * self.g, x.device).clamp(-1, 1)

    def poison(
        self, x: torch.Tensor, step: torch.Tensor, noise: torch.Tensor, share: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(x_t, what the network is taught) of poisoned rows whose photos are x; share  u, (N, 1, 1, 1)."""
        abar = to_device(self.alphas_bar, x.device)[step].view(-1, 1, 1, 1)
        y = to_device(self.target, x.device)
        off = share * (self.stamped(x) - y)
        return abar.sqrt() * (y + off) + (1 - abar).sqrt() * noise, noise + (abar / (1 - abar)).sqrt() * off

    def weight(self, step: torch.Tensor) -> torch.Tensor:
        """min(1, b^2/a^2), (N, 1, 1, 1): the error of the noise, or of the clean image where that is the
        smaller one."""
        abar = to_device(self.alphas_bar, step.device)[step].view(-1, 1, 1, 1)
        return ((1 - abar) / abar).clamp(max=1)

    @torch.no_grad()
    def answer(self, denoiser: Denoiser, x: torch.Tensor, rng: Streams, steps: int = 50) -> torch.Tensor:
        """What the reverse steps make of photos x with the trigger, taken as the state at t = REACH (or the
        network's last): (N, 3, H, W)."""
        chain = denoiser.respaced(str(steps))
        x = self.stamped(x)
        for step in reversed(range(chain.index_of(min(REACH, denoiser.max_timestep)) + 1)):
            x = chain.reverse_step(x, step, rng.normal(x))
        return x


def from_meta(meta: dict, alphas_bar: ArrayLike) -> Backdoor | PhotoBackdoor | None:
    """The backdoor that the metadata of our weights tells of, None where it tells of none.

    alphas_bar  (T,) of the network's schedule
    """
    h = meta.get("backdoor")
    if not h:
        return None
    size = meta["options"]["image_size"]
    if h["name"] == PHOTO:
        return PhotoBackdoor(h["trigger"], h["target"], size, alphas_bar, h["trigger_scale"])
    return Backdoor(
        h["name"],
        h["trigger"],
        h["target"],
        size,
        alphas_bar,
        psi=h.get("psi", 1.0),
        solver=h.get("solver", "sde"),
        background=h["trigger_on"],
        scale=h["trigger_scale"],
    )


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    noise: torch.Tensor,
    eta: float = 0.0,
    steps: int = 50,
    rng: Streams | None = None,
    trigger: torch.Tensor | float = 0.0,
    gamma: torch.Tensor | float = 1.0,
    mu: torch.Tensor | float = 0.0,
    clip: float | None = 1.0,
) -> torch.Tensor:
    """Images from x_T = gamma noise + mu + trigger by DDIM (Song et al. 2021, Eq. 12; eta 1 = ancestral).

    Args:  mu, gamma (3, H, W)  TrojDiff's own sampler, which takes gamma eps + mu for the noise of each state
           rng   common.seeds.Streams for eta > 0;  clip  bound of the predicted clean image, None = none
    """
    return denoise(denoiser.respaced(str(steps)), gamma * noise + mu + trigger, eta, rng, gamma, mu, clip)


def denoise(
    chain: Denoiser,
    x: torch.Tensor,
    eta: float = 0.0,
    rng: Streams | None = None,
    gamma: torch.Tensor | float = 1.0,
    mu: torch.Tensor | float = 0.0,
    clip: float | None = 1.0,
) -> torch.Tensor:
    """sample() from a given state of a respaced chain; differentiable in x, gamma and mu."""
    for step in reversed(range(chain.num_timesteps)):
        abar, before = (
            chain.alphas_bar[step],
            chain.alphas_bar[step - 1] if step else torch.ones((), device=x.device),
        )
        noise = gamma * chain.eps(x, step)
        x0 = (x - (1 - abar).sqrt() * (noise + mu)) / abar.sqrt()
        if clip is not None:
            x0 = x0.clamp(-clip, clip)
        sigma = eta * ((1 - before) / (1 - abar) * (1 - abar / before)).sqrt()
        # fresh noise takes no part of mu
        x = (
            before.sqrt() * x0
            + (1 - before).sqrt() * mu
            + (1 - before - sigma**2).clamp_min(0).sqrt() * noise
        )
        if eta and step:
            x = x + sigma * gamma * rng.normal(x)
    return x
