"""Disrupted photos from the shared cache: what is there is never attacked again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from common import cache, files, images, progress, seeds
from common.ahead import Behind, ahead, parts
from common.distributed import Context, to_device
from faces.celeba import FaceFolder
from models.conditions import attack_labels


class Disrupter(Protocol):
    """What the pipeline asks of an attack; see attacks.base.Attack."""

    generator: Any  # the translator that it works on, None where it needs none
    notes: list[dict] | None  # of each photo of the batch just attacked, None of attacks that leave none

    def __call__(self, x: torch.Tensor, labels: torch.Tensor, rng: seeds.Streams) -> torch.Tensor:
        """The released x_adv of photos x (N, 3, H, W)."""
        ...

    def definition(self) -> dict:
        """JSON dict of everything that decides the result."""
        ...


def folder_name(attack: Disrupter, rule: str) -> str:
    """Readable part of the cache folder's name, e.g. pgd-eps0.05-gray-original."""
    d = attack.definition()
    return "-".join([d["attack"], f"eps{d['eps']:g}", *([d["target"]] if "target" in d else []), rule])


class AttackedPhotos:
    """The disrupted photos of one attack: a cache for each label set that is attacked separately (one, or one
    per domain).

    Args:   attack  a Disrupter;  rule  original|iterative|joint|target;  faces
                    faces.celeba.FaceFolder
            root    e.g. results/attacked/CelebA;  preparation  JSON dict of crop, size and resize filter;
                    seed  of the random starts
    """

    def __init__(
        self,
        attack: Disrupter,
        rule: str,
        faces: FaceFolder,
        attributes: Sequence[str],
        root: Path | str,
        preparation: dict,
        seed: int,
    ):
        self.attack, self.rule, self.faces, self.attributes, self.seed = attack, rule, faces, attributes, seed
        domains = attributes if rule == "target" else [None]
        self.caches, self.sources = [], faces.fingerprints()
        for domain in domains:
            definition = {
                "stage": "attacked",
                **attack.definition(),
                "rule": rule,
                "attributes": list(attributes),
                "seed": seed,
                "domain": domain,
                **preparation,
            }
            name = folder_name(attack, rule) + (f"-{domain}" if domain else "")
            self.caches.append(cache.ImageCache(root, name, definition, self.sources))

    @property
    def key(self) -> str:
        """One key for all of it, for records."""
        return files.key_of([c.key for c in self.caches])

    def fill(self, ctx: Context, batch_size: int, what: str = "disrupt") -> int:
        """Attack what is missing, sharded over the processes.  Returns the number of photos attacked by this
        process."""
        index = {name: i for i, name in enumerate(self.faces.names)}
        todo = [
            (k, name) for k, cached in enumerate(self.caches) for name in cached.missing(self.faces.names)
        ]
        mine = ctx.shard(ctx.broadcast(todo))
        batches = []  # (k, names), of one cache each
        for k in range(len(self.caches)):
            names = [name for j, name in mine if j == k]
            batches += [(k, part) for part in parts(names, batch_size)]

        def read(batch):
            rows = [index[name] for name in batch[1]]
            return *batch, self.faces.floats(rows), self.faces.labels[rows]

        def save(cached, names, x_adv, finite, notes):
            cached.save(names, images.to_array(x_adv, finite), notes)

        with progress.bar(len(mine), what, show=ctx.is_main) as bar, Behind() as behind:
            for k, names, x, own in ahead(batches, read):
                labels = attack_labels(self.rule, own, self.attributes, self.attack.generator)
                if self.rule == "target":
                    labels = labels[:, k : k + 1]
                rng = seeds.attacking(self.seed, names)
                x_adv = self.attack(to_device(x, ctx.device), to_device(labels, ctx.device), rng)
                pixels, finite = images.to_bytes(x_adv), images.are_finite(x_adv)
                behind(save, self.caches[k], names, pixels, finite, self.attack.notes)
                bar.update(len(names))
        ctx.barrier()
        return len(mine)

    def notes(self, names: Sequence[str]) -> list[dict]:
        """What the attack noted of each disrupted photo, of all domains where each is attacked separately."""
        return [note for cached in self.caches for note in cached.notes(names) if note is not None]

    def floats(self, names: Sequence[str], domain: int = 0) -> torch.Tensor:
        """(N, 3, H, W) disrupted photos; `domain` counts where the rule attacks each domain separately."""
        return self.caches[domain if len(self.caches) > 1 else 0].floats(names)


def disrupt_some(
    attack: Disrupter,
    rule: str,
    faces: FaceFolder,
    attributes: Sequence[str],
    seed: int,
    count: int,
    device: torch.device | str,
) -> tuple[FaceFolder, torch.Tensor, torch.Tensor]:
    """(the first `count` photos, x (N, 3, H, W) of them, and disrupted), of one domain where each is attacked
    by itself: what a batch takes is tried on them, and nothing is kept."""
    some = faces.subset(faces.names[:count])
    x = some.floats(range(len(some))).to(device)
    labels = attack_labels(rule, some.labels, attributes, attack.generator)
    labels = labels[:, :1] if rule == "target" else labels
    return some, x, images.quantise(attack(x, labels.to(device), seeds.attacking(seed, some.names)))
