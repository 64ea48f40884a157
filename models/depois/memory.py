"""A fair sample of everything that a generator has made, which the critic goes on seeing."""

import math
from collections.abc import Sequence

import torch

from common.distributed import to_device

REMEMBERED = 4096  # images, or as many as
BYTES = 1 << 26  # take this much: they are part of every saved state


class Memory:
    """Images of a generator's whole past, each equally likely to be kept (reservoir sampling), 8 bits
    each; on the generator's device, so that neither waits for the other."""

    def __init__(self, shape: Sequence[int], device: torch.device | str = "cpu"):
        self.room = max(1, min(REMEMBERED, BYTES // math.prod(shape)))
        self.pixels, self.labels, self.seen = (
            torch.zeros((self.room, *shape), dtype=torch.uint8, device=device),
            torch.zeros(self.room, dtype=torch.long, device=device),
            0,
        )

    def add(self, x: torch.Tensor, y: torch.Tensor, draw: torch.Generator) -> None:
        """x (n, C, H, W) in [-1, 1], y (n,); `draw` a CPU torch.Generator."""
        x = x.detach().add(1).mul(127.5).round().to(torch.uint8)
        places = torch.arange(self.seen, self.seen + len(x))
        late = places >= self.room
        places[late] = (torch.rand(len(x), generator=draw) * (self.seen + torch.arange(len(x)) + 1)).long()[
            late
        ]
        # of two for one place the later one stays: a GPU would take the pixels of this and the label of that
        replaced = (places[:, None] == places).triu(1).any(1)
        kept = ((places < self.room) & ~replaced).nonzero()[:, 0]
        rows, kept = (to_device(t, self.pixels.device) for t in (places[kept], kept))
        self.pixels[rows], self.labels[rows] = x[kept], y[kept]
        self.seen += len(x)

    def draw(self, n: int, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """(x (n, C, H, W) in [-1, 1], y (n,))."""
        rows = torch.randint(min(self.seen, self.room), (n,), generator=draw)
        rows = to_device(rows, self.pixels.device)
        return self.pixels[rows].float().div(127.5).sub(1), self.labels[rows]

    def state_dict(self) -> dict:
        return {"pixels": self.pixels, "labels": self.labels, "seen": self.seen}

    def load_state_dict(self, state: dict) -> None:
        self.pixels.copy_(state["pixels"])
        self.labels.copy_(state["labels"])
        self.seen = state["seen"]
