"""Disruptions that survive a blur: the attacker blurs the photo inside the loss (Ruiz et al. 2020, Sec.
3.4)."""

from collections.abc import Callable
from functools import partial

import torch

from common.blur import box_blur, gaussian_blur

MODES = ("none", "spread", "eot")
# The published sequence; its code never ran the first box filter (k = 3) after switching from the Gaussians,
# ours does.
BLURS = (
    *(partial(gaussian_blur, sigma=s, kernel_size=11) for s in (1.0, 1.5, 2.0, 2.5, 3.0)),
    *(partial(box_blur, k=k) for k in (3, 5, 7, 9)),
)


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


def views(mode: str, step: int) -> tuple[Callable[[torch.Tensor], torch.Tensor], ...]:
    """The transforms between photo and translator at an attack step; the loss is the mean over them.

    none    the photo itself
    spread  spread-spectrum: one blur a step, cycling through BLURS, at the cost of an ordinary step
    eot     expectation over blurs: the photo itself and all BLURS at every step, ten times the cost
    """
    if mode == "none":
        return (identity,)
    if mode == "spread":
        return (BLURS[step % len(BLURS)],)
    if mode == "eot":
        return (identity, *BLURS)
    raise ValueError(f"blur {mode!r}: one of {', '.join(MODES)}")
