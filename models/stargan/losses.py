"""StarGAN's losses (Choi et al. 2018, Eqs. 1-6): Wasserstein with gradient penalty, attribute classification,
cycle."""

import torch
import torch.nn.functional as F
from torch import nn


def classification(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy summed over attributes, mean over images (the official scale).  (N, C), (N, C) ->
    scalar."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum") / len(logits)


def gradient_penalty(
    discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor, alpha: torch.Tensor
) -> torch.Tensor:
    """mean (||grad_x D_src(x)||_2 - 1)^2 at x = alpha real + (1 - alpha) fake.  alpha (N, 1, 1, 1) in [0, 1].
    Eq. 6, last term."""
    mix = (alpha * real + (1 - alpha) * fake).detach().requires_grad_(True)
    source, _ = discriminator(mix)
    (grad,) = torch.autograd.grad(source.float().sum(), mix, create_graph=True)
    return (grad.flatten(1).norm(dim=1) - 1).square().mean()


def discriminator_loss(
    discriminator: nn.Module,
    real: torch.Tensor,
    fake: torch.Tensor,
    labels: torch.Tensor,
    alpha: torch.Tensor,
    lambda_cls: float = 1.0,
    lambda_gp: float = 10.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Eq. 5 with Eq. 6: -D(x) + D(G(x,c')) + l_cls BCE(x, c) + l_gp penalty.  Returns (loss, dict of floats
    to log)."""
    source_real, logits = discriminator(real)
    source_fake, _ = discriminator(fake.detach())
    parts = {
        "d_real": -source_real.float().mean(),
        "d_fake": source_fake.float().mean(),
        "d_cls": classification(logits, labels),
        "d_gp": gradient_penalty(discriminator, real, fake.detach(), alpha),
    }
    loss = parts["d_real"] + parts["d_fake"] + lambda_cls * parts["d_cls"] + lambda_gp * parts["d_gp"]
    return loss, {k: v.detach() for k, v in parts.items()}


def generator_loss(
    discriminator: nn.Module,
    fake: torch.Tensor,
    reconstruction: torch.Tensor,
    real: torch.Tensor,
    target_labels: torch.Tensor,
    lambda_cls: float = 1.0,
    lambda_rec: float = 10.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Eq. 6's generator side: -D(G(x,c')) + l_rec |x - G(G(x,c'),c)|_1 + l_cls BCE(G(x,c'), c')."""
    source, logits = discriminator(fake)
    parts = {
        "g_fake": -source.float().mean(),
        "g_rec": (real - reconstruction.float()).abs().mean(),
        "g_cls": classification(logits, target_labels),
    }
    loss = parts["g_fake"] + lambda_rec * parts["g_rec"] + lambda_cls * parts["g_cls"]
    return loss, {k: v.detach() for k, v in parts.items()}
