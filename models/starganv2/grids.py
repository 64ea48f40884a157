"""Pictures of what a StarGAN v2 in training makes of photos."""

import numpy as np
import torch
from torch import nn

from common import images

RELEASED = ("generator", "mapping_network", "style_encoder")  # with a moving average each, when asked


@torch.no_grad()
def sample_grids(
    networks: dict[str, nn.Module], x: torch.Tensor, references: torch.Tensor, z: torch.Tensor
) -> dict[str, np.ndarray]:
    """uint8 pictures {"latent", "reference"}: photos x (N, 3, S, S), one per row, in each of the D domains.

    Args:   references (D, 3, S, S), one photo of each domain, shown on top;  z (1, latent_dim), one code for
            all domains
    """
    G, F, E = (networks[n] for n in RELEASED)
    every = torch.arange(len(references), device=x.device)
    blank = torch.ones_like(x[:1])
    grids = {}
    for kind, styles, top in (
        ("latent", F.every(z)[0], None),
        ("reference", E(references, every), references),
    ):
        columns = [x] + [G(x, s.expand(len(x), -1)).float().clamp(-1, 1) for s in styles]
        if top is not None:
            columns = [
                torch.cat([first, column])
                for first, column in zip([blank, *top[:, None]], columns, strict=True)
            ]
        grids[kind] = images.make_grid([list(row) for row in torch.stack(columns, 1).cpu()])
    return grids
