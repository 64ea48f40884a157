"""The denoising autoencoders as purifiers: one pass, weights of train_defense.py."""

from pathlib import Path
from typing import Self

import torch
from torch import nn

from common import checkpoint, distributed, files
from common.declared import Look
from common.errors import UserError
from common.seeds import Streams
from models.dae.network import NETWORKS, create
from purify.base import Purifier


class DefensiveModel(Purifier):
    """A network x -> x in one pass: defensive-model-1 or -2, as published or -fixed (models.dae.network says
    what differs), and one-step-robust."""

    def __init__(self, network: nn.Module, sha256: str | None = None, precision: str = "fp32"):
        super().__init__({}, self.name)
        self.network, self.sha256, self.precision, self.size_multiple = (
            network,
            sha256,
            precision,
            network.size_multiple,
        )

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        self.count(len(x), len(x))
        with distributed.autocast(x.device, self.precision):
            y = self.network(x)
        return y.to(x.dtype).clamp(-1, 1)

    def networks(self) -> list[nn.Module]:
        return [self.network]

    @classmethod
    def make(cls, weights: Path | str, device: torch.device | str, precision: str) -> Self:
        """Frozen, from weights.safetensors or last.pt.  Raises UserError for a damaged file or another
        network."""
        network = load(Path(weights), cls.name).eval().requires_grad_(False)
        return cls(network.to(device), files.sha256(weights), precision)


class DefensiveModel1(DefensiveModel):
    name = trained_as = "defensive-model-1"
    look = Look("defensive-model-1", "#d62f5f", 3)


class DefensiveModel2(DefensiveModel):
    name = trained_as = "defensive-model-2"
    look = Look("defensive-model-2", "#d62f5f", 4)


class DefensiveModel1Fixed(DefensiveModel):
    name = trained_as = "defensive-model-1-fixed"
    look = Look("defensive-model-1-fixed", "#d62f5f", 3)


class DefensiveModel2Fixed(DefensiveModel):
    name = trained_as = "defensive-model-2-fixed"
    look = Look("defensive-model-2-fixed", "#d62f5f", 4)


def load(path: Path | str, name: str) -> nn.Module:
    """The network `name` of models.dae.network from weights.safetensors or last.pt.  Raises UserError for a
    damaged file or another network."""
    if path.name == "last.pt":
        saved = checkpoint.load_state(path)
        state = checkpoint.part_of(saved, path, "average", "network")
        named = saved["options"].get("defense_model_type")
    else:
        state, meta = checkpoint.read_weights(path)
        named = meta.get("name") if meta.get("kind") == "dae" else meta.get("kind")
    with torch.device("meta"):
        network = create(name)
    wanted = network.state_dict()
    if named not in (name, None) or {k: v.shape for k, v in wanted.items()} != {
        k: v.shape for k, v in state.items()
    }:
        fits = [n for n, make in NETWORKS.items() if n == named]
        raise UserError(
            f"{path}: expected weights of {name}, found"
            f" {named or 'tensors named ' + ', '.join(list(state)[:3])}"
            + (f"; give --defense_model_type {fits[0]}" if fits and named != name else "")
        )
    network.load_state_dict(state, assign=True)
    return network
