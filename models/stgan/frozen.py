"""The frozen STGAN: asked with the difference between the labels wanted and the photo's own."""

import re
from pathlib import Path

import torch
from torch import nn

from common import files
from common.cli import UserError
from models.stgan.network import Generator, difference
from models.translators import Translator, check_attributes, filled, weights_of


class STGAN(Translator):
    """G(x, target - source) of Liu et al. 2019; conditions are differences in {-1, 0, 1}, all zero where
    nothing is to change."""

    gan_type = "stgan"
    said = ("conv_dim", "c_dim", "num_layers")

    def __init__(self, network: nn.Module, sha256: str | None = None, meta: dict | None = None):
        super().__init__(network, sha256, meta)
        self.size_multiple = 1 << network.num_layers

    @classmethod
    def read(cls, path: Path | str, c_dim: int | None = None) -> "STGAN":
        state, meta = weights_of(path, cls.gan_type)
        return cls(generator_from(state, path, c_dim), files.sha256(path), meta)

    def condition(self, c_org: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return difference(c_org, target)


def generator_from(state: dict[str, torch.Tensor], path: Path | str, c_dim: int | None = None) -> Generator:
    """Rebuild the generator of a state_dict.  Raises UserError for another network or another number of
    attributes."""
    if "encoder.0.0.weight" not in state or "transfer.0.up.weight" not in state:
        raise UserError(
            f"{path}: expected an STGAN generator of this project, found"
            f" {'keys like ' + ', '.join(list(state)[:3]) if state else 'no generator in it'}"
        )
    try:
        options = network_options(state)
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"{path}: damaged, or another network than STGAN's generator (keys like"
            f" {', '.join(list(state)[:3])})"
        ) from None
    check_attributes(path, options["c_dim"], c_dim)
    told = ", ".join(f"{k} {v}" for k, v in options.items())
    return filled(Generator, options, state, path, f"an STGAN generator of {told}")


def network_options(state: dict[str, torch.Tensor]) -> dict[str, int]:
    """conv_dim, c_dim and num_layers from the shapes of a generator's state_dict.  Raises KeyError or
    IndexError for another network."""
    layers = len({m.group(1) for k in state if (m := re.match(r"encoder\.(\d+)\.0\.weight$", k))})
    c_dim = state["transfer.0.up.weight"].shape[0] - state[f"encoder.{layers - 1}.0.weight"].shape[0]
    return {"conv_dim": state["encoder.0.0.weight"].shape[0], "c_dim": c_dim, "num_layers": layers}
