"""The plain order of work that the benchmark is measured against, written from the description of the
published experiment.

Nothing here is used by a run: it is what a run would cost if every step were done where it comes up.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision import transforms

from common import images
from common.seeds import Streams
from models.translators import Translator


def attack_per_domain(
    translator: Translator,
    x: torch.Tensor,
    c_org: torch.Tensor,
    num_domains: int,
    eps: float,
    steps: int,
    step_size: float,
    starts: Sequence[Streams],
) -> list[torch.Tensor]:
    """PGD towards mid-grey, done anew for each target domain although neither loss nor labels depend on it.

    The translator's parameters collect gradients in every step (a plain loss.backward()), which nobody reads.

    Args:    translator  G(x, c);  x (N, 3, H, W) in [-1, 1];  c_org (N, C) the photos' own labels
             eps, step_size  [-1, 1] units;  starts  num_domains random streams of N (common.seeds.Streams)
    Returns: num_domains tensors (N, 3, H, W), |x_adv - x| <= eps, in [-1, 1]; not rounded to 8 bits
    Source:  Anti-disrupt (WISA 2023): pgd, 10 steps of 0.01 in a ball of 0.05, one attack per photo and
             target domain
    """
    frozen = [p for p in translator.parameters() if not p.requires_grad]
    for p in frozen:
        p.requires_grad_(True)
    attacked = []
    for k in range(num_domains):
        x_adv = (x + starts[k].uniform(x, -eps, eps)).clamp(-1, 1)
        for _ in range(steps):
            x_adv = x_adv.detach().requires_grad_(True)
            fake = translator(x_adv, c_org)
            translator.zero_grad()
            loss = -F.mse_loss(fake, torch.zeros_like(fake))
            loss.backward()
            with torch.no_grad():
                moved = x_adv + step_size * x_adv.grad.sign()
                x_adv = (x + (moved - x).clamp(-eps, eps)).clamp(-1, 1)
        attacked.append(x_adv.detach())
    translator.zero_grad()
    for p in frozen:
        p.requires_grad_(False)
    return attacked


def decode_epoch(paths: Sequence[Path], crop: int, size: int, batch_size: int) -> Iterator[torch.Tensor]:
    """One pass over photo files, each decoded, cropped and resized when its batch comes up.

    Yields float32 (n, 3, size, size) in [-1, 1].
    """
    prepare = transforms.Compose(
        [
            transforms.CenterCrop(crop),
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    for start in range(0, len(paths), batch_size):
        yield torch.stack([prepare(images.read_rgb(path)) for path in paths[start : start + batch_size]])
