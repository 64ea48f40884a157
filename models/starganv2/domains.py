"""Domains of StarGAN v2, the combinations of attributes that occur, and what a training step draws from
them."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch

from common import seeds
from common.cli import UserError
from common.distributed import to_device
from faces.celeba import FaceFolder
from faces.loader import Batches
from models.conditions import HAIR_COLOURS


def has_domain(labels: torch.Tensor, attributes: Sequence[str]) -> torch.Tensor:
    """(N,) bool: whether the labels (N, C) in {0, 1} can be a domain. Hair colours exclude each other:
    exactly one, where any is selected."""
    hair = [i for i, name in enumerate(attributes) if name in HAIR_COLOURS]
    return labels[:, hair].sum(1) == 1 if hair else torch.ones(len(labels), dtype=torch.bool)


def domain_table(labels: torch.Tensor, attributes: Sequence[str], min_photos: int = 10) -> list[list[int]]:
    """Every combination of attributes that at least min_photos of the photos have, sorted: [[0/1] * C] * D.
    Raises UserError if D < 2."""
    counts = Counter(tuple(int(v) for v in row) for row in labels[has_domain(labels, attributes)].tolist())
    table = sorted(list(row) for row, n in counts.items() if n >= min_photos)
    if len(table) < 2:
        found = ", ".join(f"{''.join(map(str, row))} x {n}" for row, n in counts.most_common(4)) or "none"
        raise UserError(
            f"--selected_attrs {' '.join(attributes)}: {len(table)} combinations have --min_domain_photos"
            f" {min_photos} photos or more, expected at least 2 domains (found: {found}); give more photos,"
            " other attributes or a smaller --min_domain_photos"
        )
    return table


def domains_of(labels: torch.Tensor, table: list[list[int]]) -> torch.Tensor:
    """(N,) int64: the row of the table that equals the labels (N, C), -1 for none."""
    equal = (labels[:, None] == torch.tensor(table, dtype=labels.dtype)).all(2)
    return torch.where(equal.any(1), equal.int().argmax(1), -1)


class Draws(NamedTuple):
    """What one step trains on, b samples."""

    x: torch.Tensor  # (b, 3, S, S) in [-1, 1] photos
    y_org: torch.Tensor  # (b,) their domains
    y_trg: torch.Tensor  # (b,) target domains
    z: torch.Tensor  # (2, b, latent_dim) normal, two latent codes
    references: torch.Tensor  # (2, b, 3, S, S) two photos of the target domain


class Sampler:
    """Photos drawn with every domain equally often, as the official loaders do; from (seed, step, global
    sample index) alone.

    Args:   faces  FaceFolder, all of whose photos have a domain;  domains (N,) int64, theirs;  batches
                   faces.loader.Batches
    """

    def __init__(
        self, faces: FaceFolder, domains: torch.Tensor, batches: Batches, seed: int, latent_dim: int
    ):
        self.faces, self.batches, self.seed, self.latent_dim = faces, batches, seed, latent_dim
        self.members = [(domains == k).nonzero()[:, 0] for k in range(int(domains.max()) + 1)]
        self.counts = torch.tensor([len(m) for m in self.members])
        # one domain's members after the other's
        self.all, self.first = torch.cat(self.members), self.counts.cumsum(0) - self.counts

    def photos(self, domains: torch.Tensor, u: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
        """A photo of each domain (b,): where u (b,) in [0, 1) falls among its photos, seen mirrored where
        mirrored (b,) says so."""
        places = (u.double() * self.counts[domains]).long()
        x = self.faces.floats(self.all[self.first[domains] + places].numpy())
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x)

    def draw(self, step: int) -> Draws:
        """Draws of this process, on its device."""
        positions = self.batches.positions(step)
        streams = seeds.stepped(self.seed, step, positions, "starganv2")
        y_org, y_trg = streams.integers(len(self.members)), streams.integers(len(self.members))
        u = streams.uniform(torch.empty(len(positions), 6))
        z = streams.normal(torch.empty(len(positions), 2, self.latent_dim)).transpose(0, 1)
        x, first, second = (
            self.photos(y, u[:, 2 * k], u[:, 2 * k + 1] < 0.5) for k, y in enumerate((y_org, y_trg, y_trg))
        )
        return Draws(
            *(
                to_device(t, self.batches.ctx.device)
                for t in (x, y_org, y_trg, z, torch.stack([first, second]))
            )
        )
