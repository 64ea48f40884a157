"""What of a perturbation gets through a purifier, by wavelength, and what that does to the fakes: figures of
single photos."""

import statistics
from collections.abc import Callable

import torch

from attacks.base import Attack
from common import seeds
from common.distributed import to_device
from purify.base import Purifier

EDGES = (16, 8, 5, 3)  # pixels, between the bands
BANDS = (">=16", "8-16", "5-8", "3-5", "<3")
REACH = 1e-6  # of the largest gradient: what is below does not count as dependence


def split(d: torch.Tensor) -> torch.Tensor:
    """The parts of d (N, C, H, W) in each of BANDS, (B, N, C, H, W): they add up to d, and their mean squares
    to its own.  The mean of d, of no wavelength, is with the coarsest.

    d is mirrored at its borders first: opposite borders have nothing to do with each other, and the step
    between them would be taken for fine detail.
    """
    h, w = d.shape[-2:]
    d = torch.cat([d, d.flip(-1)], -1)
    d = torch.cat([d, d.flip(-2)], -2).float()
    f = torch.hypot(
        torch.fft.fftfreq(2 * h, dtype=torch.float64)[:, None], torch.fft.rfftfreq(2 * w, dtype=torch.float64)
    )
    edges = torch.tensor([1 / edge + 1e-9 for edge in EDGES], dtype=torch.float64)
    band, spectrum = to_device(torch.bucketize(f, edges), d.device), torch.fft.rfft2(d)
    whole = (torch.fft.irfft2(spectrum * (band == b), d.shape[-2:]) for b in range(len(BANDS)))
    return torch.stack([part[..., :h, :w] for part in whole])


@torch.no_grad()
def effects(
    attack: Attack, x: torch.Tensor, x_adv: torch.Tensor, c: torch.Tensor, rng: Callable[[], seeds.Streams]
) -> dict[str, torch.Tensor]:
    """What of x_adv - x gets through the attack's defence, and what it does to the fakes of labels c (N, C).

    Args:    rng  makes the streams of the purifier's draws, from their beginning
    Returns: "in", "out" (N, B + 1): mean squares, the last of all bands;  "l2", "cumulative" (N, B + 1);
             "undisturbed" (N, 1);  float64 on the CPU
    """
    goal = attack.reference(x, c)
    calm, cured = (attack.defence.purifier(y, rng()) for y in (x, x_adv))
    enters, leaves = x_adv - x, cured - calm
    bands = split(leaves)

    def l2(y):
        return (attack.translate(y.clamp(-1, 1), c) - goal).square()

    found = {
        "in": [d.square() for d in (*split(enters), enters)],
        "out": [d.square() for d in (*bands, leaves)],
        "l2": [*(l2(calm + d) for d in bands), l2(cured)],
        "cumulative": [*(l2(calm + d) for d in bands.cumsum(0)), l2(cured)],
        "undisturbed": [l2(calm)],
    }
    return {k: torch.stack([d.double().mean((1, 2, 3)) for d in v], 1).cpu() for k, v in found.items()}


def measure_field(purifier: Purifier, x: torch.Tensor, rng: seeds.Streams) -> int | None:
    """Side in pixels of the square of input that the central output pixel depends on, median over photos x
    (N, 3, H, W); None where no photo has a gradient there (of a pixel that is clipped)."""
    x, (h, w) = x.detach().clone().requires_grad_(True), x.shape[-2:]
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(purifier(x, rng)[:, :, h // 2, w // 2].sum(), x)
    depends = [(g > REACH * g.max()).nonzero() for g in grad.abs().amax(1)]
    return statistics.median_low(
        [int((at.amax(0) - at.amin(0)).max()) + 1 for at in depends if len(at)] or [None]
    )
