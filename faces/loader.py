"""Training batches by step number: what step k sees depends on the seed and k alone, so a resumed run sees
what it would have seen."""

from collections.abc import Sequence
from typing import Protocol

import torch

from common import seeds
from common.cli import UserError
from common.distributed import Context, to_device


class Photos(Protocol):
    """What batches are drawn from: faces.celeba.FaceFolder, or labelled images in memory."""

    labels: torch.Tensor  # (N,) or (N, C)

    def __len__(self) -> int: ...

    def floats(self, rows: Sequence[int]) -> torch.Tensor:
        """float32 (n, 3, H, W) in [-1, 1] of these positions."""
        ...


class Batches:
    """Random access to the batches of an endless shuffled pass over `faces`, each process its part.

    Sample position p (counted from 0 over the whole training) is photo p mod N of the permutation of epoch p
    div N; batch k holds the positions k * batch_size ... (k + 1) * batch_size - 1, and process r the r-th of
    `world` equal slices of them.

    Args:    faces       Photos
             batch_size  photos per step over all processes
             ctx         common.distributed.Context
             flip        mirror half of the photos, drawn from (seed, position)
    Raises:  UserError if batch_size cannot be divided among the processes
    """

    def __init__(self, faces: Photos, batch_size: int, seed: int, ctx: Context, flip: bool = True):
        if batch_size % ctx.world:
            lower = max(ctx.world, batch_size // ctx.world * ctx.world)
            raise UserError(
                f"--batch_size {batch_size}: cannot be divided among {ctx.world} processes; expected a"
                f" multiple, {lower} for example"
            )
        if not len(faces):
            raise UserError("no photos to train on; give a larger folder or --limit")
        self.faces, self.batch_size, self.seed, self.ctx, self.flip = faces, batch_size, seed, ctx, flip
        self._orders = {}  # epoch -> permutation (N,); a batch touches few epochs

    def _order(self, epoch):
        if epoch not in self._orders:
            if len(self._orders) > 3:
                self._orders.clear()
            self._orders[epoch] = torch.randperm(
                len(self.faces), generator=seeds.generator(self.seed, "epoch", epoch)
            )
        return self._orders[epoch]

    def positions(self, step: int) -> torch.Tensor:
        """(b,) int64: this process's global sample positions of a step."""
        share = self.batch_size // self.ctx.world
        return step * self.batch_size + self.ctx.rank * share + torch.arange(share)

    def rows(self, step: int) -> torch.Tensor:
        """(b,) int64: which photos of `faces` they are."""
        n, share = len(self.faces), self.batch_size // self.ctx.world
        first = step * self.batch_size + self.ctx.rank * share
        epochs = range(first // n, (first + share - 1) // n + 1)
        return torch.cat([self._order(e)[max(0, first - e * n) : first + share - e * n] for e in epochs])

    def mirrored(self, positions: torch.Tensor) -> torch.Tensor:
        """(b,) bool: which samples are seen mirrored, half of them."""
        return seeds.numbered(positions, self.seed, "flip").integers(2).bool()

    def get(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x float32 (b, 3, H, W) in [-1, 1] and labels (b, C) on this process's device, positions (b,) int64
        on the CPU."""
        positions, rows = self.positions(step), self.rows(step)
        x = self.faces.floats(rows.numpy())
        if self.flip:
            mirrored = self.mirrored(positions)
            x[mirrored] = x[mirrored].flip(-1)
        return (*(to_device(t, self.ctx.device) for t in (x, self.faces.labels[rows])), positions)
