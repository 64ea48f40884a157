"""The frozen StarGAN: official checkpoints and ours through one function."""

import re
from pathlib import Path
from typing import Any

import torch

from common import files
from common.cli import UserError
from models.stargan.fast import Fast
from models.stargan.network import Generator
from models.translators import Translator, check_attributes, filled, weights_of

# never used by the published code, see network.instance_norm
IGNORED = ("running_mean", "running_var", "num_batches_tracked")


class StarGAN(Translator):
    """G(x, c) of Choi et al. 2018; the condition is the target label set itself."""

    gan_type = "stargan"
    said = ("conv_dim", "c_dim", "repeat_num", "upsampling")

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.fast: Fast | None = None  # made when the first photo comes: the weights stay as they are

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        # torch.compile does its own fusing, and loses the gradient of Fast's functions
        plain = torch.compiler.is_compiling() or x.device.type != "cpu"
        # in bf16 the library's normalisation is the faster one
        plain = plain or torch.is_autocast_enabled("cpu")
        if plain or any(p.requires_grad for p in self.network.parameters()):
            return self.network(x, c)
        if self.fast is None:
            with torch.no_grad():
                self.fast = Fast(self.network)
        return self.fast(x, c)

    @classmethod
    def read(cls, path: Path | str, c_dim: int | None = None) -> "StarGAN":
        state, meta = weights_of(path, cls.gan_type)
        network = generator_from(state, path, c_dim)
        return cls(network, files.sha256(path), meta)


def network_options(state: dict[str, torch.Tensor]) -> dict[str, int | str]:
    """conv_dim, c_dim, repeat_num and upsampling from the shapes of a generator's state_dict."""
    first = state["main.0.weight"]
    blocks = {int(m.group(1)) for k in state if (m := re.match(r"main\.(\d+)\.main\.0\.weight$", k))}
    larger = state.get(f"main.{max(blocks, default=8) + 1}.weight")
    return {
        "conv_dim": first.shape[0],
        "c_dim": first.shape[1] - 3,
        "repeat_num": len(blocks),
        "upsampling": "resize" if larger is not None and larger.shape[-1] == 3 else "transposed",
    }


def generator_from(state: dict[str, torch.Tensor], path: Path | str, c_dim: int | None = None) -> Generator:
    """Rebuild the generator of a state_dict.  Raises UserError for another network or another number of
    attributes."""
    state = {k: v for k, v in state.items() if not k.endswith(IGNORED)}
    if "main.0.weight" not in state or state["main.0.weight"].ndim != 4 or "conv1.weight" in state:
        kind = (
            "a StarGAN discriminator (a -D.ckpt)"
            if "conv1.weight" in state
            else f"keys like {', '.join(list(state)[:3])}"
            if state
            else "no generator in it"
        )
        raise UserError(f"{path}: expected a StarGAN generator (200000-G.ckpt or one of ours), found {kind}")
    options = network_options(state)
    check_attributes(path, options["c_dim"], c_dim)
    return filled(
        Generator,
        options,
        state,
        path,
        f"a StarGAN generator of conv_dim {options['conv_dim']}, c_dim {options['c_dim']}, "
        f"{options['repeat_num']} residual blocks",
    )
