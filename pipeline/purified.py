"""Purified photos from the shared cache: no photo is purified twice by the same defence."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch

from common import cache, files, images, progress, seeds
from common.ahead import Behind, ahead, parts
from common.distributed import Context, to_device
from pipeline.costs import Costs, total


class Cleaner(Protocol):
    """What the pipeline asks of a purifier; see purify.base.Purifier."""

    name: str
    folder_name: str
    params: dict
    sha256: str | None
    stochastic: bool
    nfe: float

    def __call__(self, x: torch.Tensor, rng: seeds.Streams) -> torch.Tensor:
        """Purified photos of x (N, 3, H, W)."""
        ...

    passes: float

    def networks(self) -> list:
        """The networks that it asks, to be compiled."""
        ...

    def reset_count(self) -> None:
        """Forget the cost so far."""
        ...

    def found(self) -> list[float]:
        """Sums over the photos since reset_count of what it found out, [] for nothing."""
        ...

    def measured(self, found: list[float] | None = None) -> dict:
        """JSON dict of what it found out while working, or of such sums."""
        ...


class PurifiedPhotos:
    """What a purifier makes of one set of input images, rounded to 8 bits, one PNG each.

    Args:   purifier   a Cleaner
            input_key  what the inputs are: the key of their cache, or of the plain photos
            inputs     names -> float32 (N, 3, H, W) in [-1, 1]
            root       e.g. results/purified/CelebA;  seed  of the purifier's randomness;  sources  see
                       common.cache
    """

    def __init__(
        self,
        purifier: Cleaner,
        input_key: object,
        inputs: Callable[[Sequence[str]], torch.Tensor],
        root: Path | str,
        seed: int,
        precision: str = "fp32",
        sources: dict[str, str] | None = None,
    ):
        self.purifier, self.inputs, self.seed = purifier, inputs, seed
        definition = {
            "stage": "purified",
            "input": input_key,
            "defense": purifier.name,
            "params": dict(purifier.params),
            "weights": purifier.sha256,
            "precision": precision,
            "seed": seed if purifier.stochastic else None,
            **({"streams": seeds.VERSION} if purifier.stochastic else {}),
        }
        self.cache = cache.ImageCache(root, purifier.folder_name, definition, sources)

    @torch.no_grad()
    def fill(self, names: Sequence[str], ctx: Context, batch_size: int, what: str = "purify") -> None:
        """Purify what is missing, sharded over the processes, and note what it cost."""
        if self.purifier.name == "none":
            return
        mine = ctx.shard(ctx.broadcast(self._missing(names) if ctx.is_main else None))
        costs = Costs(self.cache.folder / f"cost-{ctx.rank}.json")
        batches = parts(mine, batch_size)
        with progress.bar(len(mine), what, show=ctx.is_main) as bar, Behind() as behind:
            for batch, x in zip(batches, ahead(batches, self.inputs), strict=True):
                x = to_device(x, ctx.device)
                self.purifier.reset_count()
                began = time.perf_counter()
                purified = images.to_uint8(self.purifier(x, seeds.named(self.seed, batch, "purify")))
                spent = time.perf_counter() - began
                cost = spent, self.purifier.nfe * len(batch), self.purifier.found()
                behind(self._save, costs, batch, cost, purified)
                bar.update(len(batch))
        ctx.barrier()

    def _missing(self, names):
        """The names to be made: those that are missing, and those with which one of them was being written
        when a process was killed."""
        missing, there = set(self.cache.missing(names)), self.cache.path
        for costs in self._costs():
            again = costs.settle(lambda name: there(name).exists() and name not in missing)
            missing.update(again)
            if again:
                files.write_json(costs.path, costs.made)
        return [name for name in names if name in missing]

    def _save(self, costs, batch, cost, purified):
        files.make_folder(self.cache.folder)
        costs.write(batch, *cost)
        self.cache.save(batch, purified)

    def _costs(self):
        """Of each process."""
        return [Costs(path) for path in sorted(self.cache.folder.glob("cost-*.json"))]

    def measured(self) -> dict:
        """What the purifier found out while it made these images: its noise levels, for those that find
        them."""
        costs = self._costs()
        if costs and all(c.old is not None for c in costs):  # as it was said when they were made
            return costs[0].old
        return self.purifier.measured(total([c.all for c in costs])["found"])

    def cost(self) -> tuple[float | None, float | None]:
        """(seconds per image of one process, network evaluations per image), as measured when the images were
        made; None if unknown."""
        if self.purifier.name == "none":
            return 0.0, 0.0
        spent = total([c.all for c in self._costs()])
        count = spent["images"]
        return (spent["seconds"] / count, spent["evaluations"] / count) if count else (None, None)

    @property
    def source(self) -> Callable[[Sequence[str]], torch.Tensor]:
        """names -> (N, 3, H, W) purified images on the 8-bit grid: the inputs' own source where nothing is
        done to them."""
        return self.inputs if self.purifier.name == "none" else self.cache.floats

    def floats(self, names: Sequence[str]) -> torch.Tensor:
        """(N, 3, H, W) purified images on the 8-bit grid."""
        return self.source(names)
