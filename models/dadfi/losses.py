"""DADFI's losses (Yang et al. 2024, E3-E10), and one of ours. Logits are maps of patches; every mean is over
images and patches."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

FORMS = ("nonsaturating", "saturating")
SMALLEST = 1e-3  # share below which the distance's gradient no longer grows


def recogniser_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """-(E log Ide(real) + E log(1 - Ide(fake))): what a recogniser minimises of E3 or E7.  Logits in, scalar
    out."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def generator_loss(fake: torch.Tensor, form: str = "nonsaturating") -> torch.Tensor:
    """What Gen minimises of E3 or E7.

    saturating     E log(1 - Ide(fake)), as printed: its gradient vanishes where the recogniser is sure
    nonsaturating  -E log Ide(fake), the usual replacement (Goodfellow et al. 2014, Sec. 3), with the same
                   fixed point
    """
    if form not in FORMS:
        raise ValueError(f"form {form!r}: one of {', '.join(FORMS)}")
    return F.softplus(-fake.float()).mean() if form == "nonsaturating" else -F.softplus(fake.float()).mean()


def hinge_loss(p: torch.Tensor, lim: float) -> torch.Tensor:
    """E4: E max(0, ||p||_inf - lim).  p (N, 3, H, W) in [-1, 1] units -> scalar."""
    return (p.abs().amax(dim=(1, 2, 3)) - lim).clamp_min(0).mean()


def distance_loss(
    fake_adv: torch.Tensor,
    fake: torch.Tensor,
    broken: torch.Tensor,
    mean: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.detach,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ours: -log of the share MSE(mod(x + p), mod(x)) / MSE(mod(x'), mod(x)), what is reached of what PGD
    reaches on the same photos.

    The paper reaches for broken fakes through Ide_y alone. Summed over translators this maximises the product
    of their shares: one that hardly breaks has the same say as one that breaks at once, which a sum of
    distances, or of shares, leaves alone.

    Args:    fake_adv, fake, broken  (N, 3, H, W) fakes of x + p, x and x';  mean  of a scalar over all
                                     processes: the share is that of the whole batch
    Returns: (loss, share), scalars
    """
    reached, aim = ((fakes.float() - fake.float()).square().mean() for fakes in (fake_adv, broken))
    # the whole batch's value, this process's gradient
    reached = reached + (mean(reached) - reached.detach())
    share = reached / mean(aim).clamp_min(1e-6)
    return -torch.log(share + SMALLEST), share


def total_loss(
    x_loss: torch.Tensor,
    y_losses: Sequence[torch.Tensor],
    hinge: torch.Tensor,
    distances: Sequence[torch.Tensor],
    lambda_x: float = 1.0,
    lambda_y: float = 1.0,
    lambda_hinge: float = 0.5,
    lambda_distance: float = 0.0,
) -> torch.Tensor:
    """E10 (= E14): L_x + L_y + mu L_hinge with mu = 0.5, which the paper's text names and its equation lacks;
    plus our distance.

    Args:  y_losses   one scalar per victim, summed as E9 says; empty without the fine-tuning module
           distances  one scalar per victim, summed as L_y is
    """
    return (
        lambda_x * x_loss
        + lambda_y * _sum(y_losses)
        + lambda_hinge * hinge
        + lambda_distance * _sum(distances)
    )


def _sum(scalars):
    return torch.stack(list(scalars)).sum() if scalars else 0.0
