"""A low-rank patch on the convolutions of a frozen StarGAN, which folds into their weights: what comes out is
an ordinary generator."""

import copy
import math

import torch
from torch import nn
from torch.nn.utils import parametrize

from common import seeds
from models.stargan.network import Generator

SCALE = 2.0  # of the patch, over the root of its rank; that and GATE as in the published code
GATE = -1.0  # before the sigmoid


class LowRank(nn.Module):
    """weight -> weight + sigmoid(gate) SCALE / sqrt(rank) up down, seen as a matrix of output channels by all
    else.

    The gate is one number a layer and knows nothing of the input: that is why the patch can be folded.
    `up` begins at zero, so a fresh patch changes nothing.
    Shape:  weight (out, in, k, k), of a transposed convolution (in, out, k, k) -> same
    """

    def __init__(self, weight: torch.Tensor, rank: int, transposed: bool, generator: torch.Generator):
        super().__init__()
        self.transposed = transposed
        outputs, *rest = self._turned(weight).shape
        columns = math.prod(rest)
        reach = 1 / math.sqrt(columns)  # of He's uniform start with a = sqrt(5)
        self.scale = SCALE / math.sqrt(rank)
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.down = nn.Parameter((2 * torch.rand(rank, columns, generator=generator) - 1) * reach)
        self.gate = nn.Parameter(torch.tensor(GATE))

    def _turned(self, weight):
        return weight.transpose(0, 1) if self.transposed else weight

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        change = (self.up @ self.down).view(self._turned(weight).shape)
        return weight + self.gate.sigmoid() * self.scale * self._turned(change)


def patched(generator: Generator, rank: int, seed: int) -> Generator:
    """A copy of the generator whose convolutions bear a fresh patch; the patch alone is trainable."""
    network = copy.deepcopy(generator).requires_grad_(False)
    draws = seeds.generator(seed, "lora")
    for m in list(network.modules()):
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            patch = LowRank(m.weight, rank, isinstance(m, nn.ConvTranspose2d), draws)
            parametrize.register_parametrization(m, "weight", patch)
    return network


def folded(network: Generator) -> Generator:
    """The frozen ordinary generator of the same function, with the patch in its weights."""
    state = {k: v for k, v in network.state_dict().items() if ".parametrizations." not in k}
    with torch.no_grad():
        for name, m in network.named_modules():
            if parametrize.is_parametrized(m):
                state[f"{name}.weight"] = m.weight
    with torch.device("meta"):  # draws nothing
        plain = Generator(network.conv_dim, network.c_dim, network.repeat_num, network.upsampling)
    plain.load_state_dict(state, assign=True)
    return plain.requires_grad_(False)
