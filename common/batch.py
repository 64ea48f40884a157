"""`--batch_size auto`: how many photos at a time, where the result does not depend on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import torch

from common.cli import AUTO
from common.distributed import Context
from common.errors import RunError

T = TypeVar("T")
MOST = 512  # photos at a time on a GPU, which is busy long before
SHARE = 0.8  # of the memory that is free: the rest is for what grows otherwise than photos do
# On a CPU memory is seldom short, and larger batches than its caches hold gain nothing: in one thread 5 steps
# of PGD on the StarGAN that ships took 187, 161, 151, 142, 140, 145 ms a photo of 64 x 64 in batches of 1, 2,
# 4, 8, 16, 32.
CPU_PIXELS = 8 * 64 * 64


def largest_fitting(measure: Callable[[int], int], limit: float, most: int = MOST) -> int:
    """The largest power of two of photos whose memory fits, by a straight line through that of 2 and of 4.

    Args: measure  photos -> bytes that they took at most, weights included; may raise torch.OutOfMemoryError
          limit    bytes;  most  photos; the first power of two that holds so many is enough
    """
    sizes = {}
    for photos in (2, 4):
        try:
            sizes[photos] = measure(photos)
        except torch.OutOfMemoryError:
            return photos // 2
    each = max(0, (sizes[4] - sizes[2]) / 2)
    size = 1
    while size < min(most, MOST) and sizes[2] + each * (2 * size - 2) <= limit:
        size *= 2
    return size


def on_cpu(pixels: int) -> int:
    """The largest power of two of photos of so many pixels that CPU_PIXELS holds, at least 1."""
    return 1 << max(0, (CPU_PIXELS // pixels).bit_length() - 1)


def measured(rehearse: Callable[[int], object], device: torch.device) -> tuple[Callable[[int], int], float]:
    """(photos -> bytes of the GPU that `rehearse` took at most, bytes that may be taken)."""

    def measure(photos):
        torch.cuda.reset_peak_memory_stats(device)
        rehearse(photos)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)

    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return measure, torch.cuda.memory_allocated(device) + SHARE * free


@dataclass(frozen=True)
class PhotosAtATime:
    """What a flag asks for: a number of photos at a time, or `auto` for one that suits the device.

    asked  the flag's value;  photos  that a process has, and `pixels` of the largest;  flag  for messages
    """

    asked: int | str
    photos: int
    pixels: int
    flag: str = "--batch_size"

    @classmethod
    def of(cls, asked: int | str, sizes: Mapping[Path, tuple[int, int]], ctx: Context) -> Self:
        """Of a folder of photos, `sizes` {path: (H, W)} of those that are left to do."""
        return cls(asked, -(-len(sizes) // ctx.world), max((h * w for h, w in sizes.values()), default=1))

    def choose(self, ctx: Context, rehearse: Callable[[int], object]) -> int:
        """The number, equal on all processes and no more than there are photos, told where it was chosen.
        rehearse: n -> does to n photos what will be done to all, and keeps nothing of it."""
        if self.asked != AUTO or not self.photos:
            return 1 if self.asked == AUTO else min(self.asked, max(1, self.photos))
        if ctx.device.type == "cuda":
            size = min(ctx.gather([largest_fitting(*measured(rehearse, ctx.device), self.photos)]))
            torch.cuda.empty_cache()
        else:
            size = on_cpu(self.pixels)
        ctx.print(f"{self.flag} auto: {size} photos at a time")
        return size

    def run(self, ctx: Context, rehearse: Callable[[int], object], work: Callable[[int], T]) -> T:
        """work(number); where a number that was chosen takes too much after all, once more with half of it,
        in one process: work that is done again goes on with what is not made yet.

        Raises: RunError where the memory of the GPU is not enough
        """
        size = self.choose(ctx, rehearse)
        try:
            return work(size)
        except torch.OutOfMemoryError as e:
            if self.asked != AUTO or ctx.world > 1 or size == 1:
                raise self.too_small(size) from e
        torch.cuda.empty_cache()  # here the failed batch is no longer held
        ctx.print(f"{self.flag} auto: out of memory, {size // 2} photos at a time")
        try:
            return work(size // 2)
        except torch.OutOfMemoryError as e:
            raise self.too_small(size // 2) from e

    def too_small(self, size: int) -> RunError:
        """What is told where the memory of the GPU is not enough for `size` photos at a time."""
        if size == 1:
            hint = "use one with more memory, or --device cpu"
        elif self.asked == AUTO:
            hint = f"give {self.flag} {size // 2}"
        else:
            hint = f"give {self.flag} auto, which finds what fits, or a smaller number"
        return RunError(f"the memory of the GPU is too small for {self.flag} {size}: {hint}")
