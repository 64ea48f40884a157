"""Randomness from (seed, step, global sample index) in training and (seed, file name) at test, never from
rank or batch."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

import torch

from common.distributed import to_device

VERSION = 2  # of the numbers that Streams give: in the key of what is drawn from them, and in training states
# SplitMix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators"), as int64
GAMMA, FIRST, SECOND = (n - (1 << 64) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
LAST = 1 - 2**-24  # the largest float32 below 1
BLOCK = {"cpu": 1 << 17, "cuda": 1 << 24}  # words drawn at a time: a CPU's cache, a GPU's memory


def derive(*keys: object) -> int:
    """A 63-bit seed from any printable keys; equal keys give the equal seed on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, keys)).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*keys: object) -> torch.Generator:
    """A CPU torch.Generator that depends on `keys` alone."""
    return torch.Generator().manual_seed(derive(*keys))


def draw_share(names: Sequence[str], rate: float, *keys: object) -> list[int]:
    """Positions, rising, of the share `rate` of the names: those with the smallest hash of (keys, name), so a
    higher rate adds to a lower one, and the order of the names means nothing."""
    order = sorted(range(len(names)), key=lambda i: derive(*keys, names[i]))
    return sorted(order[: round(rate * len(names))])


def _mix(z, scratch):
    """SplitMix64's finaliser, in place on int64; scratch as z. Shifts are logical, products wrap."""
    for shift, factor in ((30, FIRST), (27, SECOND), (31, None)):
        torch.bitwise_right_shift(z, shift, out=scratch).bitwise_and_((1 << (64 - shift)) - 1)
        z.bitwise_xor_(scratch)
        if factor is not None:
            z.mul_(factor)
    return z


class Streams:
    """One random stream per image of a batch, so that an image's draws do not depend on its neighbours.

    Word k of a stream is a hash of (its key, k), so a batch is drawn in one call, on the device where it is
    wanted. Integers and uniform numbers are the same on every device, normal ones up to rounding.

    Args:  keys  one printable key (or tuple) per image, e.g. (seed, "000001.jpg") or (seed, step, index), or
                 the 64-bit keys themselves, int64 (N,)
           later  the streams that the same images are purified with at test, where that is known; see later
    Every draw takes its shape (N, ...), device and dtype from `like`; row i comes from stream i.
    """

    def __init__(self, keys: Iterable[object] | torch.Tensor, later: "Streams | None" = None):
        if not torch.is_tensor(keys):
            told = [derive(*k) if isinstance(k, tuple) else derive(k) for k in keys]
            keys = torch.tensor(told, dtype=torch.int64)
        self.keys, self.used = keys, torch.zeros_like(keys)  # words that each stream has given
        self.rows, self.turns = torch.arange(len(keys)), torch.zeros_like(keys)
        self._later = later

    def __len__(self):
        return len(self.rows)

    def at(self, rows: Iterable[int] | torch.Tensor) -> "Streams":
        """The streams of some images (positions on the CPU): draws from them advance these images' streams
        and no other. A stream that is there twice gives each of its rows the next numbers."""
        some = Streams(self.keys, self._later)
        some.used, some.rows = self.used, self.rows[_int64(rows)]
        some.turns = (some.rows[:, None] == some.rows).tril(-1).sum(1)
        return some

    def apart(self, *purpose: object) -> "Streams":
        """Streams of the same images for one purpose, from their beginning: what is drawn from them depends
        neither on what these have given nor on other purposes."""
        z = self.keys[self.rows] + derive(*purpose)
        return Streams(_mix(z, torch.empty_like(z)), self.later() if self._later else None)

    def later(self) -> "Streams":
        """The streams that these images are purified with at test, from their beginning at each call.  Raises
        ValueError where nobody has told them."""
        if self._later is None:
            raise ValueError("the noise of the test is not known here")
        return Streams(self._later.keys[self.rows])

    def _advance(self, count):
        """(N,) int64: where the next `count` words of each stream begin."""
        begin = self.used[self.rows] + self.turns * count
        self.used.index_add_(0, self.rows, torch.full_like(self.rows, count))
        return self.keys[self.rows] + begin * GAMMA

    def _draw(self, like: torch.Tensor, number: Callable[[torch.Tensor, torch.Tensor], object]):
        """number(out float32, bits int32) turns each 32 random bits into a number, like for like."""
        if len(like) != len(self):
            raise ValueError(f"{len(like)} images but {len(self)} random streams")
        size = math.prod(like.shape[1:])
        count = -(-size // 2)
        begin, steps = (
            to_device(self._advance(count), like.device)[:, None],
            torch.arange(1, count + 1, device=like.device).mul_(GAMMA),
        )
        words = torch.empty(len(like), count, dtype=torch.int64, device=like.device)
        chunk = max(1, BLOCK[like.device.type] // max(1, count))
        scratch = torch.empty_like(words[:chunk])
        for z, starts in zip(words.split(chunk), begin.split(chunk), strict=True):
            _mix(torch.add(starts, steps, out=z), scratch[: len(z)])
            number(z.view(torch.float32), z.view(torch.int32))  # numbers stand where their bits stood
        return words.view(torch.float32)[:, :size].reshape(like.shape).to(like.dtype)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal, (N, ...) as `like`; float32's steps end it at 5.42."""

        def number(out, bits):
            out.copy_(bits).mul_(2**-31).clamp_(-LAST, LAST).erfinv_().mul_(math.sqrt(2))

        return self._draw(like, number)

    def uniform(self, like: torch.Tensor, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Uniform on [low, high), in float32 and up to its rounding; below 1 on [0, 1).  (N, ...) as
        `like`."""

        def number(out, bits):
            # 24 bits are what float32 can hold
            out.copy_(bits.bitwise_right_shift_(8)).mul_((high - low) * 2**-24).add_((low + high) / 2)

        return self._draw(like, number)

    def integers(self, high: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """(N,) int64 in [0, high); the bias is high / 2^63."""
        word = self._advance(1) + GAMMA
        return to_device(_mix(word, torch.empty_like(word)).bitwise_and_((1 << 63) - 1) % high, device)


def _int64(numbers):
    """A tensor of whole numbers as it is, or what holds them."""
    return torch.as_tensor(numbers if torch.is_tensor(numbers) else list(numbers), dtype=torch.int64)


def named(seed: int, names: Iterable[str], *purpose: object) -> Streams:
    """Streams for test time: one per file name, so that a photo's result depends on (seed, name) alone."""
    return Streams([(seed, *purpose, name) for name in names])


def attacking(seed: int, names: Sequence[str]) -> Streams:
    """Of attacks at test; they know, if asked, the noise that a purifier draws for the same photos."""
    return Streams(named(seed, names, "attack").keys, named(seed, names, "purify"))


def numbered(indices: Iterable[int] | torch.Tensor, *keys: object) -> Streams:
    """One stream per index (on the CPU), of (keys, index) alone."""
    z = (_int64(indices) + 1) * GAMMA + derive(*keys)
    return Streams(_mix(z, torch.empty_like(z)))


def stepped(seed: int, step: int, indices: Iterable[int] | torch.Tensor, *purpose: object) -> Streams:
    """Streams for training: one per global sample index of this step."""
    return numbered(indices, seed, *purpose, step)
