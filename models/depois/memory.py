"""A fair sample of everything that a generator has made, which the critic goes on seeing."""

import math
from collections.abc import Sequence

import torch

REMEMBERED = 4096  # images, or as many as
BYTES = 1 << 26  # take this much: they are part of every saved state


class Memory:
    """Images of a generator's whole past, each equally likely to be kept (reservoir sampling), 8 bits
    each."""

    def __init__(self, shape: Sequence[int]):
        self.room = max(1, min(REMEMBERED, BYTES // math.prod(shape)))
        self.pixels, self.labels, self.seen = (
            torch.zeros((self.room, *shape), dtype=torch.uint8),
            torch.zeros(self.room, dtype=torch.long),
            0,
        )

    def add(self, x: torch.Tensor, y: torch.Tensor, draw: torch.Generator) -> None:
        """x (n, C, H, W) in [-1, 1], y (n,); `draw` a CPU torch.Generator."""
        x, y = x.detach().add(1).mul(127.5).round().to("cpu", torch.uint8), y.cpu()
        places = torch.arange(self.seen, self.seen + len(x))
        late = places >= self.room
        places[late] = (torch.rand(len(x), generator=draw) * (self.seen + torch.arange(len(x)) + 1)).long()[
            late
        ]
        kept = places < self.room
        self.pixels[places[kept]], self.labels[places[kept]] = x[kept], y[kept]
        self.seen += len(x)

    def draw(
        self, n: int, draw: torch.Generator, device: torch.device | str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(x (n, C, H, W) in [-1, 1], y (n,))."""
        rows = torch.randint(min(self.seen, self.room), (n,), generator=draw)
        return self.pixels[rows].to(device).float().div(127.5).sub(1), self.labels[rows].to(device)

    def state_dict(self) -> dict:
        return {"pixels": self.pixels, "labels": self.labels, "seen": self.seen}

    def load_state_dict(self, state: dict) -> None:
        self.pixels, self.labels, self.seen = state["pixels"].clone(), state["labels"].clone(), state["seen"]
