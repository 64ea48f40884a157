"""Fakes from the shared cache: one of each photo, in a target domain that changes its label, and none is made
twice."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from common import cache, distributed, images, progress, seeds
from common.ahead import Behind, ahead, each, parts
from common.cli import UserError
from common.distributed import Context
from models.conditions import create_labels, targets
from models.translators import Translator


def random_domains(
    names: Sequence[str], labels: torch.Tensor, attributes: Sequence[str], seed: int
) -> list[int]:
    """A target domain for each photo, drawn among those that change its label; it depends on (seed, name)
    alone.

    Args:    labels (N, C) in {0, 1}, the photos' own
    Returns: [index into attributes], length N
    Raises:  UserError for a photo that no domain would change
    """
    changes = (create_labels(labels, attributes) != labels).any(2).T  # (N, C)
    domains = []
    for name, row in zip(names, changes.tolist(), strict=True):
        choices = [k for k, changed in enumerate(row) if changed]
        if not choices:
            raise UserError(
                f"{name}: none of the target domains {', '.join(attributes)} changes its labels, so there is"
                " no fake of it; add one to --selected_attrs"
            )
        domains.append(choices[seeds.derive(seed, "domain", name) % len(choices)])
    return domains


class FakePhotos:
    """The translator's fakes of one kind of input photos, one domain each: a cache for each domain.

    Args:   translator  models.translators.Translator;  input_key, inputs  what the photos are, and names ->
                        (N, 3, H, W), as in pipeline.purified
            labels      {name: (C,) own labels};  domains  {name: index into attributes}
            root        e.g. results/fakes/CelebA;  gan  its readable name;  sources  {name: fingerprint of
                        the photo}
    """

    def __init__(
        self,
        translator: Translator,
        gan: str,
        attributes: Sequence[str],
        input_key: object,
        inputs: Callable[[Sequence[str]], torch.Tensor],
        labels: Mapping[str, torch.Tensor],
        domains: Mapping[str, int],
        root: Path | str,
        sources: Mapping[str, str],
        precision: str = "fp32",
    ):
        self.translator, self.attributes, self.inputs, self.precision = (
            translator,
            list(attributes),
            inputs,
            precision,
        )
        self.labels, self.domains = labels, domains
        # other labels make another fake
        told = {n: sources[n] + "-" + "".join(str(int(v)) for v in labels[n]) for n in domains}
        self.caches = [
            cache.ImageCache(
                root,
                f"{gan}-{domain}",
                {
                    "stage": "fakes",
                    "input": input_key,
                    "translator": translator.sha256,
                    "domain": domain,
                    "attributes": self.attributes,
                    "precision": precision,
                },
                told,
            )
            for domain in self.attributes
        ]

    @torch.no_grad()
    def fill(self, names: Sequence[str], ctx: Context, batch_size: int, what: str = "fake") -> None:
        """Translate what is missing, sharded over the processes."""
        todo = [
            (k, n)
            for k, cached in enumerate(self.caches)
            for n in cached.missing([n for n in names if self.domains[n] == k])
        ]
        # one list for all: what one has made must not shift the others' shares
        mine = ctx.shard(ctx.broadcast(todo))
        batches = []  # (k, names), of one domain each
        for k in range(len(self.caches)):
            wanted = [n for j, n in mine if j == k]
            batches += [(k, part) for part in parts(wanted, batch_size)]

        def save(cached, batch, fakes, finite):
            cached.save(batch, images.to_array(fakes, finite))

        with progress.bar(len(mine), what, show=ctx.is_main) as bar, Behind() as behind:
            for k, batch, x in ahead(batches, lambda part: (*part, self.inputs(part[1]))):
                c = torch.stack([self.labels[n] for n in batch]).to(ctx.device)
                condition = targets(self.translator, c, self.attributes)[k]
                with distributed.autocast(ctx.device, self.precision):
                    fakes = self.translator(x.to(ctx.device), condition).float()
                behind(save, self.caches[k], batch, images.to_bytes(fakes), images.are_finite(fakes))
                bar.update(len(batch))
        ctx.barrier()

    def load(self, names: Sequence[str]) -> np.ndarray:
        """uint8 (N, H, W, 3)."""
        paths = [self.caches[self.domains[n]].path(n) for n in names]
        return np.stack(each(images.load_png, paths))
