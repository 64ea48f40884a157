"""Fakes of the disrupted and of the purified photos against the fakes of the photos themselves, for every
photo and domain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common import distributed, progress
from common.distributed import Context
from faces.celeba import FaceFolder
from metrics.fid import Distance, Extractor
from metrics.images import by_group, image_rows, pair_rows, summarise
from models.conditions import targets
from models.translators import Translator

SIDES = ("disrupted", "purified", "clean_purified")
Source = Callable[[list[str]], torch.Tensor]  # names -> (N, 3, H, W) in [-1, 1]


@dataclass(frozen=True)
class Reference:
    """The fakes of a batch of photos in one domain: labels c (N, C), fake (N, 3, H, W), features or None."""

    c: torch.Tensor
    fake: torch.Tensor
    features: torch.Tensor | None


class Score:
    """Rows of all (photo, domain) pairs and of the photos themselves, gathered over the processes.

    Args:   translator  G(x, c), whose clean fakes are the reference;  extractor  metrics.fid.Extractor or
                        None
            standard    the ordinary translator where `translator` is an adversarially trained one, else None:
                        its distance to it is noted
            sides       those of SIDES that are scored here
            shared      a Score of the same translator and photos that scores other sides, for several:
                        result() has its sides, and its distance to the ordinary translator, too
    """

    def __init__(
        self,
        translator: Translator,
        attributes: Sequence[str],
        extractor: Extractor | None,
        seed: int,
        precision: str = "fp32",
        standard: Translator | None = None,
        sides: Sequence[str] = SIDES,
        shared: "Score | None" = None,
    ):
        self.translator, self.attributes, self.seed, self.precision, self.standard = (
            translator,
            attributes,
            seed,
            precision,
            standard,
        )
        self.extractor, self.sides, self.shared = extractor, sides, shared
        self.distances = {side: Distance(extractor, seed) for side in sides} if extractor else {}
        self._summarised = None
        self.pairs, self.photos = [], []  # (side, domain or None, names, {key: (N,) array}) of each batch

    def fakes(self, x: torch.Tensor, c: torch.Tensor, translator: Translator | None = None) -> torch.Tensor:
        with torch.no_grad(), distributed.autocast(x.device, self.precision):
            return (translator or self.translator)(x, c).float()

    def references(self, x: torch.Tensor, c_org: torch.Tensor) -> list[Reference]:
        """What the fakes of a batch are held against, in each domain.  x (N, 3, H, W), c_org (N, C) its
        labels."""

        def reference(c):
            fake = self.fakes(x, c)
            return Reference(c, fake, self.extractor(fake) if self.extractor else None)

        return [reference(c) for c in targets(self.translator, c_org, self.attributes)]

    def add(
        self,
        names: list[str],
        x: torch.Tensor,
        references: Sequence[Reference],
        versions: dict[str, list[torch.Tensor]],
    ) -> None:
        """Score one batch.

        Args: x (N, 3, H, W) photos;  references  of them
              versions  side -> list of (N, 3, H, W): one image for all domains, or one for each
        """
        for side in self.sides:
            rows = [image_rows(v, x) for v in versions[side]]
            mean = {
                k: (
                    torch.stack([r[k] for r in rows]).amax(0)
                    if k == "linf"
                    else torch.stack([r[k] for r in rows]).mean(0)
                )
                for k in rows[0]
            }
            self.photos.append((side, None, names, _arrays(mean)))
        for k, reference in enumerate(references):
            for side in self.sides:
                version = versions[side][k if len(versions[side]) > 1 else 0]
                fake = self.fakes(version, reference.c)
                rows = pair_rows(fake, reference.fake, x)
                self.pairs.append((side, self.attributes[k], names, _arrays(rows)))
                if self.extractor:
                    self.distances[side].update_features(reference.features, real=True)
                    self.distances[side].update(fake, real=False)
            if self.standard is not None:
                gap = reference.fake - self.fakes(x, reference.c, self.standard)
                gap = gap.square().mean(dim=(1, 2, 3))
                self.pairs.append(("standard", self.attributes[k], names, _arrays({"l2": gap})))

    def result(self, ctx: Context) -> tuple[dict, dict, int, int]:
        """(metrics, per_group, number of photos, number of pairs), the record's parts; call on every
        process."""
        metrics, groups = {"input": {}}, {name: {} for name in self.attributes}
        scores = [score for score in (self.shared, self) if score]
        for own, domains, _, _ in (score._summary(ctx) for score in scores):
            metrics["input"].update(own["input"])
            metrics.update({k: v for k, v in own.items() if k != "input"})
            for name, sides in domains.items():
                groups[name].update(sides)
        if "clean_fake_to_standard" in metrics:  # the last one, as records have it
            metrics["clean_fake_to_standard"] = metrics.pop("clean_fake_to_standard")
        return metrics, {"domain": groups}, *self._summary(ctx)[2:]

    def _summary(self, ctx):
        """(metrics, domain -> side -> metrics, photos, pairs) of what is scored here, worked out once."""
        if self._summarised is None:
            metrics, groups = {"input": {}}, {name: {} for name in self.attributes}
            pairs, photos = ctx.gather(self.pairs), ctx.gather(self.photos)
            for side in self.sides:
                rows, names, domains = _columns(pairs, side)
                metrics[side] = {**summarise(rows, names, self.seed), **self.distance(side)}
                for domain, values in by_group(rows, names, domains, self.seed).items():
                    groups[domain][side] = values
                metrics["input"][side] = summarise(*_columns(photos, side)[:2], self.seed)
            if self.standard is not None:
                gaps = _columns(pairs, "standard")[:2]
                metrics["clean_fake_to_standard"] = summarise(*gaps, self.seed)
            self._summarised = metrics, groups, len(set(names)), len(names)
        return self._summarised

    def distance(self, side: str) -> dict:
        """The distances between the two sets of fakes of a side; call on every process."""
        if not self.extractor:
            return {"fid": None, "kid": None, "frechet": None}
        return self.distances[side].compute()

    def rows(self, ctx: Context, side: str, of: str = "pairs") -> tuple[dict[str, np.ndarray], list[str]]:
        """({key: (N,) array}, (N,) names): the rows of one side's `pairs` or `photos`, of all processes; call
        on every process."""
        return _columns(ctx.gather(getattr(self, of)), side)[:2]


def _arrays(rows):
    return {k: v.double().cpu().numpy() for k, v in rows.items()}


def _columns(batches, side):
    """Rows of one side in the order of (name, domain), whatever process and batch they come from: (dict of
    (N,) arrays, names, domains)."""
    mine = [b for b in batches if b[0] == side]
    names = [n for _, _, batch, _ in mine for n in batch]
    domains = [d for _, d, batch, _ in mine for _ in batch]
    order = sorted(range(len(names)), key=lambda i: (names[i], domains[i] or ""))
    rows = {k: np.concatenate([b[3][k] for b in mine])[order] for k in mine[0][3]}
    return rows, [names[i] for i in order], [domains[i] for i in order]


def score_all(
    scores: Sequence[Score],
    faces: FaceFolder,
    disrupted: Sequence[Source],
    purified: Sequence[tuple[Sequence[Source], Source]],
    ctx: Context,
    batch_size: int,
) -> None:
    """Score every photo of `faces` (sharded) for several defences against one disruption.

    Args: scores     one a defence, with the sides purified and clean_purified; those of one translator share
                     the Score of the disrupted side (Score.shared), which is filled here
          disrupted  sources over domains, or one;  purified  of each score: such sources of the purified
                     photos, and the source of the purified clean ones
    """
    shared = list({id(score.shared): score.shared for score in scores}.values())
    for names, x, c_org in _batches(faces, ctx, batch_size, "score"):
        versions = {"disrupted": _load(disrupted, names, ctx)}
        references = {id(first): first.references(x, c_org) for first in shared}
        for first in shared:
            first.add(names, x, references[id(first)], versions)
        for score, (sources, clean) in zip(scores, purified, strict=True):
            own = {"purified": _load(sources, names, ctx), "clean_purified": _load([clean], names, ctx)}
            score.add(names, x, references[id(score.shared)], own)


def score_versions(
    score: Score,
    faces: FaceFolder,
    versions: Mapping[str, Sequence[Source]],
    ctx: Context,
    batch_size: int,
    what: str = "score",
) -> None:
    """Score every photo of `faces` (sharded).  versions: side -> list of names -> (N, 3, H, W), one for all
    domains or one for each."""
    for names, x, c_org in _batches(faces, ctx, batch_size, what):
        loaded = {side: _load(sources, names, ctx) for side, sources in versions.items()}
        score.add(names, x, score.references(x, c_org), loaded)


def _batches(faces, ctx, batch_size, what) -> Iterator[tuple[list[str], torch.Tensor, torch.Tensor]]:
    """(names, photos, labels) of this process's share, on its device."""
    index = {name: i for i, name in enumerate(faces.names)}
    mine = ctx.shard(faces.names)
    with progress.bar(len(mine), what, show=ctx.is_main) as bar:
        for start in range(0, len(mine), batch_size):
            names = mine[start : start + batch_size]
            rows = [index[n] for n in names]
            yield names, faces.floats(rows).to(ctx.device), faces.labels[rows].to(ctx.device)
            bar.update(len(names))


def _load(sources, names, ctx):
    return [load(names).to(ctx.device) for load in sources]
