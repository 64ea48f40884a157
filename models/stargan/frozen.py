"""Load a translator for use: official StarGAN checkpoints and ours through one function; parameters frozen."""
import re
from pathlib import Path

import torch
from torch import nn

from common import checkpoint, files
from common.cli import UserError
from models.stargan.network import Generator

IGNORED = ("running_mean", "running_var", "num_batches_tracked")   # never used by the published code, see network.instance_norm


class Translator(nn.Module):
    """A frozen G(x, c) with where it came from.  x (N, 3, H, W) in [-1, 1], c (N, c_dim) in {0, 1} -> (N, 3, H, W) in [-1, 1]."""

    size_multiple = 4

    def __init__(self, network, sha256=None, meta=None):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.sha256, self.meta = sha256, meta or {}
        self.c_dim, self.conv_dim = network.c_dim, network.conv_dim
        self.attributes, self.image_size = self.meta.get("attributes"), self.meta.get("image_size")

    def forward(self, x, c):
        return self.network(x, c)


def network_options(state):
    """conv_dim, c_dim and repeat_num from the shapes of a generator's state_dict."""
    first = state["main.0.weight"]
    blocks = {int(m.group(1)) for k in state if (m := re.match(r"main\.(\d+)\.main\.0\.weight$", k))}
    return {"conv_dim": first.shape[0], "c_dim": first.shape[1] - 3, "repeat_num": len(blocks)}


def generator_from(state, path, c_dim=None):
    """Rebuild the generator of a state_dict.  Raises UserError for another network or another number of attributes."""
    state = {k: v for k, v in state.items() if not k.endswith(IGNORED)}
    if "main.0.weight" not in state or state["main.0.weight"].ndim != 4 or "conv1.weight" in state:
        kind = ("a StarGAN discriminator (a -D.ckpt)" if "conv1.weight" in state else
                f"keys like {', '.join(list(state)[:3])}" if state else "no generator in it")
        raise UserError(f"{path}: expected a StarGAN generator (200000-G.ckpt or one of ours), found {kind}")
    options = network_options(state)
    if c_dim is not None and options["c_dim"] != c_dim:
        raise UserError(f"{path}: this translator knows {options['c_dim']} attributes, --selected_attrs names {c_dim}")
    network = Generator(**options)
    wanted = network.state_dict()
    wrong = sorted(set(wanted) ^ set(state)) or [k for k in wanted if wanted[k].shape != state[k].shape]
    if wrong:
        raise UserError(f"{path}: not a StarGAN generator of conv_dim {options['conv_dim']}, c_dim {options['c_dim']}, "
                        f"{options['repeat_num']} residual blocks: {len(wrong)} tensors differ, first {wrong[0]}")
    network.load_state_dict(state)
    return network


def load_translator(path, device="cpu", c_dim=None):
    """Read a generator checkpoint (official, ours, or a training's last.pt) and freeze it.

    Raises UserError for a file that is missing, damaged, hostile, of another network or of another number of attributes.
    """
    path = Path(path)
    if path.name == "last.pt":
        state, meta = checkpoint.load_state(path)["parts"].get("generator", {}), {}
    else:
        state, meta = checkpoint.read_weights(path)
    network = generator_from(state, path, c_dim)
    translator = Translator(network, files.sha256(path), meta).to(device)
    if torch.device(device).type == "cuda":
        translator = translator.to(memory_format=torch.channels_last)
    return translator
