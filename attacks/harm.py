"""What a disruption does to the fakes: the score by which attacks choose among finished images."""

from collections.abc import Sequence

import torch

from attacks.base import Attack
from common import images
from common.errors import RunError
from common.seeds import Streams


@torch.no_grad()
def fake_mse(
    attack: Attack,
    x_adv: torch.Tensor,
    labels: torch.Tensor,
    goals: Sequence[torch.Tensor],
    rng: Streams,
    draws: int = 1,
) -> torch.Tensor:
    """Mean squared distance of the fakes of x_adv, behind the attack's defence, from `goals`, per photo.

    Args:    attack  gives the translator and the defence;  x_adv (N, 3, H, W) in [-1, 1];  labels (N, K, C)
             goals   of each of the K label sets (N, 3, H, W), as a rule the clean fakes
             rng     one stream per photo, for a defence that draws;  draws  of it, meaned over
    Returns: (N,) float, squared [-1, 1] units, meaned over the label sets and the draws
    Raises:  RunError for fakes that are not finite numbers
    """
    total = x_adv.new_zeros(len(x_adv), dtype=torch.float32)
    for _ in range(draws):
        # a purified photo is an 8-bit image, too
        seen = images.quantise(attack.defend(x_adv, rng)) if attack.defence else x_adv
        for k, goal in enumerate(goals):
            total += (attack.translate(seen, labels[:, k]) - goal).square().mean(dim=(1, 2, 3))
    if not total.isfinite().all():
        raise RunError(f"{attack.name}: the fakes{attack.behind} are not finite numbers")
    return total / (draws * len(goals))
