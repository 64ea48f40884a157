"""StarGAN v2's losses (Choi et al. 2020, Eqs. 1-5): non-saturating with R1, style reconstruction, diversity,
cycle."""

import torch
import torch.nn.functional as F
from torch import nn


def adversarial(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Binary cross entropy of logits (N,) toward real (True) or fake (False), mean over images."""
    return F.softplus(-logits.float() if real else logits.float()).mean()


def r1_penalty(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """0.5 ||grad_x D(x)||_2^2, summed over an image, mean over images.  logits (N,) of x (N, 3, H, W).
    Mescheder et al. 2018, Eq. 9."""
    (grad,) = torch.autograd.grad(logits.float().sum(), x, create_graph=True)
    return 0.5 * grad.float().square().flatten(1).sum(1).mean()


def discriminator_loss(
    D: nn.Module,
    x: torch.Tensor,
    y_org: torch.Tensor,
    fake: torch.Tensor,
    y_trg: torch.Tensor,
    lambda_reg: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Eq. 1 with R1 on the real photos.  x, fake (N, 3, S, S), y (N,) domains.  Returns (loss, dict of
    scalars to log)."""
    x = x.detach().requires_grad_(True)
    logits = D(x, y_org)
    parts = {
        "d_real": adversarial(logits, True),
        "d_fake": adversarial(D(fake.detach(), y_trg), False),
        "d_reg": r1_penalty(logits, x),
    }
    loss = parts["d_real"] + parts["d_fake"] + lambda_reg * parts["d_reg"]
    return loss, {k: v.detach() for k, v in parts.items()}


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference, in float32."""
    return (a.float() - b.float()).abs().mean()


def generator_loss(
    G: nn.Module,
    E: nn.Module,
    D: nn.Module,
    x: torch.Tensor,
    y_org: torch.Tensor,
    y_trg: torch.Tensor,
    s_trg: torch.Tensor,
    s_trg2: torch.Tensor,
    lambda_sty: float = 1.0,
    lambda_ds: float = 1.0,
    lambda_cyc: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Eq. 5: adversarial + l_sty |E(fake, y) - s| - l_ds |fake - fake2| + l_cyc |x - G(fake, E(x, y_org))|,
    means.

    Args:    x (N, 3, S, S) in [-1, 1];  y_org, y_trg (N,) domains;  s_trg, s_trg2 (N, style_dim) two styles
             of y_trg. fake2 = G(x, s_trg2) is a constant, as in the official code.
    Returns: (loss, dict of scalars to log)
    """
    fake = G(x, s_trg)
    # after the pass with gradients: autocast keeps the weights that it rounded first, and theirs must have
    # them
    with torch.no_grad():
        fake2 = G(x, s_trg2)
    parts = {
        "g_fake": adversarial(D(fake, y_trg), True),
        "g_sty": distance(E(fake, y_trg), s_trg),
        "g_ds": distance(fake, fake2),
        "g_cyc": distance(G(fake, E(x, y_org)), x),
    }
    loss = (
        parts["g_fake"]
        + lambda_sty * parts["g_sty"]
        - lambda_ds * parts["g_ds"]
        + lambda_cyc * parts["g_cyc"]
    )
    return loss, {k: v.detach() for k, v in parts.items()}
