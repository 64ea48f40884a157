"""Randomness from (seed, step, global sample index) in training and (seed, file name) at test, never from
rank or batch."""

import hashlib
from collections.abc import Iterable, Sequence

import torch


def derive(*keys: object) -> int:
    """A 63-bit seed from any printable keys; equal keys give the equal seed on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*keys: object) -> torch.Generator:
    """A CPU torch.Generator that depends on `keys` alone."""
    return torch.Generator().manual_seed(derive(*keys))


def draw_share(names: Sequence[str], rate: float, *keys: object) -> list[int]:
    """Positions, rising, of the share `rate` of the names: those with the smallest hash of (keys, name), so a
    higher rate adds to a lower one, and the order of the names means nothing."""
    order = sorted(range(len(names)), key=lambda i: derive(*keys, names[i]))
    return sorted(order[: round(rate * len(names))])


class Streams:
    """One random stream per image of a batch, so that an image's draws do not depend on its neighbours.

    Args:  keys  one printable key (or tuple) per image, e.g. (seed, "000001.jpg") or (seed, step, index)
    Every draw takes its shape (N, ...), device and dtype from `like`; row i comes from stream i.
    """

    def __init__(self, keys: Iterable[object]):
        self.generators = [generator(*k) if isinstance(k, tuple) else generator(k) for k in keys]

    def __len__(self):
        return len(self.generators)

    def at(self, rows: Iterable[int]) -> "Streams":
        """The streams of some images: draws from them advance these images' streams and no other."""
        some = Streams([])
        some.generators = [self.generators[i] for i in rows]
        return some

    def _rows(self, like, draw):
        if len(like) != len(self.generators):
            raise ValueError(f"{len(like)} images but {len(self.generators)} random streams")
        rows = [draw(row.shape, g) for row, g in zip(like, self.generators, strict=True)]
        return torch.stack(rows).to(like.device, like.dtype)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal, (N, ...) as `like`."""
        return self._rows(like, lambda shape, g: torch.randn(shape, generator=g))

    def uniform(self, like: torch.Tensor, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Uniform on [low, high), (N, ...) as `like`."""
        return self._rows(like, lambda shape, g: torch.rand(shape, generator=g) * (high - low) + low)

    def integers(self, high: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """(N,) int64 in [0, high)."""
        return torch.tensor(
            [int(torch.randint(high, (), generator=g)) for g in self.generators], device=device
        )


def named(seed: int, names: Iterable[str], *purpose: object) -> Streams:
    """Streams for test time: one per file name, so that a photo's result depends on (seed, name) alone."""
    return Streams([(seed, *purpose, name) for name in names])


def stepped(seed: int, step: int, indices: Iterable[int], *purpose: object) -> Streams:
    """Streams for training: one per global sample index of this step."""
    return Streams([(seed, *purpose, step, int(i)) for i in indices])
