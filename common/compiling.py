"""torch.compile of networks for batches of one shape: --compile auto|on|off."""

import importlib.util
import os
import shutil
from typing import Any

import torch
from torch import nn

from common.distributed import Context
from common.errors import UserError

# A graph takes about a minute to compile, forward and backward, and saves some milliseconds of a full batch.
WORTH = 5000  # calls of a network from which `auto` compiles


class Fixed:
    """A network's forward, compiled for full batches of the first size of image; all others go eagerly.

    An odd last batch would be compiled anew, or for any shape, which is slower for all. Autocast regions and
    gradients are as they are without it.
    """

    def __init__(self, forward: Any, rows: int):
        self.forward, self.rows, self.shape = forward, rows, None
        # The default mode: CUDA graphs (reduce-overhead) would overwrite fakes that an attack keeps over its
        # steps, and max-autotune takes minutes for convolutions that cuDNN has tuned already.
        self.compiled = torch.compile(forward, dynamic=False)

    def __call__(self, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if self.shape is None and len(x) == self.rows:
            self.shape = x.shape
        return (self.compiled if x.shape == self.shape else self.forward)(x, *rest)


def lacking(device: torch.device) -> str | None:
    """What torch.compile needs on this device and this machine does not have, or None."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the Python package triton"
    named = [os.environ[name] for name in ("CXX", "CC") if name in os.environ]
    if not any(map(shutil.which, named or ["g++", "gcc", "clang++", "clang"])):
        return f"a C++ compiler ({', '.join(named) or 'g++ or clang++'})"
    return None


def check(choice: str, device: torch.device) -> None:
    """Raises UserError for --compile on where torch.compile cannot work."""
    if choice == "on" and (missing := lacking(device)):
        raise UserError(f"--compile on: needs {missing}, which is not there; install it, or --compile off")


def fix(networks: list[nn.Module], choice: str, ctx: Context, rows: int, calls: float) -> None:
    """Compile the forward of networks in place for batches of `rows` images, where --compile has it so.

    Weights, their names and copies that were made before are left alone; a network is compiled once.

    Args:   choice  auto: on a GPU, from WORTH calls on
            calls   about how often each network will be asked for a full batch
    Raises: UserError as check
    """
    check(choice, ctx.device)
    if choice == "off" or choice == "auto" and (ctx.device.type != "cuda" or calls < WORTH):
        return
    if choice == "auto" and (missing := lacking(ctx.device)):
        ctx.print(f"--compile auto: off, there is no {missing.removeprefix('a ').removeprefix('the ')}")
        return
    for network in networks:
        if not isinstance(network.forward, Fixed):
            network.forward = Fixed(network.forward, rows)
