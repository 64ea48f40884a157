"""Fakes of the disrupted and of the purified photos against the fakes of the photos themselves, for every
photo and domain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from common import distributed, progress
from common.ahead import ahead, parts
from common.cli import RunError
from common.distributed import Context, to_device
from common.images import to_bytes
from faces.celeba import FaceFolder
from metrics.fid import Distance, Extractor
from metrics.images import edited, image_rows, pair_rows, summarise_table
from metrics.ssim import Windowed
from models.conditions import targets
from models.translators import Translator

SIDES = ("disrupted", "purified", "clean_purified")
Source = Callable[[list[str]], torch.Tensor]  # names -> (N, 3, H, W) in [-1, 1]
Rows = dict[str, torch.Tensor]  # (N,) float64 each


@dataclass(frozen=True)
class Reference:
    """The fakes of a batch of photos in one domain, and what was found out about them.

    c (N, C) labels;  fake (N, 3, H, W);  features  of it or None;  mask (N, 1, H, W)  what it edits
    windowed  the fake, where SSIM is wanted
    judged  id of a version of the photos -> (that version, its fakes' rows, their features or None)
    """

    c: torch.Tensor
    fake: torch.Tensor
    features: torch.Tensor | None
    mask: torch.Tensor
    windowed: Windowed | None
    judged: dict[int, tuple[torch.Tensor, Rows, torch.Tensor | None]] = field(default_factory=dict)


class Score:
    """Rows of all (photo, domain) pairs and of the photos themselves, gathered over the processes: of each
    some numbers, so that memory hardly grows with the photos.

    Args:   translator  G(x, c), whose clean fakes are the reference;  extractor  metrics.fid.Extractor or
                        None
            standard    the ordinary translator where `translator` is an adversarially trained one, else None:
                        its distance to it is noted
            sides       those of SIDES that are scored here
            ssim        of the fakes, too; that of the photos is always measured
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
        ssim: bool = False,
        shared: "Score | None" = None,
    ):
        self.translator, self.attributes, self.seed, self.precision, self.standard = (
            translator,
            list(attributes),
            seed,
            precision,
            standard,
        )
        self.extractor, self.sides, self.ssim, self.shared = extractor, sides, ssim, shared
        self.distances = {side: Distance(extractor, seed) for side in sides} if extractor else {}
        self._summarised = None
        # of each side the batches: (names, {key: (N, domains) array}), and (names, {key: (N, 1) array})
        self.pairs = {side: [] for side in [*sides, *(["standard"] if standard is not None else [])]}
        self.photos = {side: [] for side in sides}

    def fakes(self, x: torch.Tensor, c: torch.Tensor, translator: Translator | None = None) -> torch.Tensor:
        with torch.no_grad(), distributed.autocast(x.device, self.precision):
            return (translator or self.translator)(x, c).float()

    def features(self, fake: torch.Tensor) -> torch.Tensor | None:
        """Of fakes (N, 3, H, W) as 8-bit images; None without an extractor.  Nothing waits for the device."""
        return self.extractor(to_bytes(fake)) if self.extractor else None

    def references(self, x: torch.Tensor, c_org: torch.Tensor) -> list[Reference]:
        """What the fakes of a batch are held against, in each domain.  x (N, 3, H, W), c_org (N, C) its
        labels."""

        def reference(c):
            fake = self.fakes(x, c)
            features = self.features(fake)
            windowed = Windowed.of(fake) if self.ssim else None
            return Reference(c, fake, features, edited(fake, x), windowed)

        return [reference(c) for c in targets(self.translator, c_org, self.attributes)]

    def judge(
        self, version: torch.Tensor, reference: Reference, x: torch.Tensor
    ) -> tuple[Rows, torch.Tensor | None]:
        """(rows, features) of the fakes of a version (N, 3, H, W) of the photos x in a reference's domain:
        made once for all sides and defences that have this very tensor."""
        if id(version) not in reference.judged:
            fake, features = reference.fake, reference.features
            if version is not x:
                fake = self.fakes(version, reference.c)
                features = self.features(fake)
            rows = pair_rows(fake, reference.fake, reference.mask, reference.windowed)
            reference.judged[id(version)] = version, rows, features
        return reference.judged[id(version)][1:]

    def add(
        self,
        names: list[str],
        x: torch.Tensor,
        references: Sequence[Reference],
        versions: dict[str, list[torch.Tensor]],
        windowed: Windowed | None = None,
    ) -> None:
        """Score one batch.

        Args: x (N, 3, H, W) photos;  references  of them;  windowed  of them, where it is at hand
              versions  side -> list of (N, 3, H, W): one image for all domains, or one for each
        """
        windowed = windowed or Windowed.of(x)
        for side in self.sides:
            rows = _stacked([image_rows(v, x, windowed) for v in versions[side]])
            self.photos[side].append((names, {k: _mean(k, row) for k, row in rows.items()}))
            several = len(versions[side]) > 1
            judged = [self.judge(versions[side][k * several], r, x) for k, r in enumerate(references)]
            self.pairs[side].append((names, _stacked([rows for rows, _ in judged])))
            if self.extractor:
                keys = [f"{name}/{attribute}" for attribute in self.attributes for name in names]
                distance = self.distances[side]
                distance.update_features(torch.cat([r.features for r in references]), True, keys)
                distance.update_features(torch.cat([features for _, features in judged]), False, keys)
        if self.standard is not None:
            gaps = [r.fake - self.fakes(x, r.c, self.standard) for r in references]
            rows = [{"l2": gap.square().mean(dim=(1, 2, 3)).double()} for gap in gaps]
            self.pairs["standard"].append((names, _stacked(rows)))

    def result(self, ctx: Context) -> tuple[dict, dict, int, int]:
        """(metrics, per_group, number of photos, number of pairs), the record's parts; call on every
        process.  Raises RunError if a fake is not finite."""
        metrics, groups = {"input": {}}, {name: {} for name in self.attributes}
        scores = [score for score in (self.shared, self) if score]
        for own, domains, _ in (score._summary(ctx) for score in scores):
            metrics["input"].update(own["input"])
            metrics.update({k: v for k, v in own.items() if k != "input"})
            for name, sides in domains.items():
                groups[name].update(sides)
        if "clean_fake_to_standard" in metrics:  # the last one, as records have it
            metrics["clean_fake_to_standard"] = metrics.pop("clean_fake_to_standard")
        num_images = self._summary(ctx)[2]
        return metrics, {"domain": groups}, num_images, num_images * len(self.attributes)

    def _summary(self, ctx):
        """(metrics, domain -> side -> metrics, photos) of what is scored here, worked out once."""
        if self._summarised is None:
            metrics, groups = {"input": {}}, {name: {} for name in self.attributes}
            for side in self.sides:
                names, rows = _table(ctx.gather(self.pairs[side]))
                if not np.isfinite(rows["l2"]).all():
                    bad = names[int(np.flatnonzero(~np.isfinite(rows["l2"]).all(1))[0])]
                    raise RunError(f"{bad}: its {side} fake is not finite; use --precision fp32")
                every, domains = summarise_table(rows, self.attributes, self.seed)
                unknown = {} if self.ssim else dict.fromkeys(("ssim", "ssim_std", "ssim_ci"))
                metrics[side] = {**every, **unknown, **self.distance(side)}
                for domain, values in domains.items():
                    groups[domain][side] = {**values, **unknown}
                photos = _table(ctx.gather(self.photos[side]))[1]
                metrics["input"][side] = summarise_table(photos, (), self.seed)[0]
            if self.standard is not None:
                gaps = _table(ctx.gather(self.pairs["standard"]))[1]
                metrics["clean_fake_to_standard"] = summarise_table(gaps, (), self.seed)[0]
            self._summarised = metrics, groups, len(names)
        return self._summarised

    def distance(self, side: str) -> dict:
        """The distances between the two sets of fakes of a side; call on every process."""
        if not self.extractor:
            return {"fid": None, "kid": None, "frechet": None}
        return self.distances[side].compute()

    def rows(self, ctx: Context, side: str, of: str = "pairs") -> tuple[dict[str, np.ndarray], list[str]]:
        """({key: (N,) array}, (N,) names): the rows of one side's `pairs` or `photos`, of all processes; call
        on every process."""
        names, rows = _table(ctx.gather(getattr(self, of)[side]))
        width = next(iter(rows.values())).shape[1]
        return {k: v.reshape(-1) for k, v in rows.items()}, [n for n in names for _ in range(width)]


def _stacked(columns):
    """[{key: (N,) tensor} of each column] -> {key: (N, columns) float64 array}, brought over in one piece."""
    keys = list(columns[0])
    whole = torch.stack([torch.stack([rows[k] for rows in columns], 1) for k in keys]).cpu().numpy()
    return dict(zip(keys, whole, strict=True))


def _mean(key, row):
    """(N, images of a photo) -> (N, 1): one row of a photo that has several."""
    return row.max(1, keepdims=True) if key == "linf" else row.mean(1, keepdims=True)


def _table(batches):
    """(names, {key: (N, columns) array}) in the order of names, whatever process and batch they come from."""
    names = [name for batch, _ in batches for name in batch]
    order = sorted(range(len(names)), key=names.__getitem__)
    rows = {k: np.concatenate([b[k] for _, b in batches])[order] for k in batches[0][1]}
    return [names[i] for i in order], rows


def score_all(
    scores: Sequence[Score],
    faces: FaceFolder,
    disrupted: Sequence[Source],
    purified: Sequence[tuple[Sequence[Source], Source]],
    ctx: Context,
    batch_size: int,
) -> None:
    """Score every photo of `faces` (sharded) for several defences against one disruption. A source that
    several name (that of a purifier which does nothing is its input's) is read, and its fakes made, once.

    Args: scores     one a defence, with the sides purified and clean_purified; those of one translator share
                     the Score of the disrupted side (Score.shared), which is filled here
          disrupted  sources over domains, or one;  purified  of each score: such sources of the purified
                     photos, and the source of the purified clean ones
    """
    shared = list({id(score.shared): score.shared for score in scores}.values())
    sources = [*disrupted, *(s for several, clean in purified for s in [*several, clean])]
    for names, x, c_org, loaded in _batches(faces, sources, ctx, batch_size, "score"):
        windowed = Windowed.of(x)
        versions = {"disrupted": [loaded[s] for s in disrupted]}
        references = {id(first): first.references(x, c_org) for first in shared}
        for first in shared:
            first.add(names, x, references[id(first)], versions, windowed)
        for score, (several, clean) in zip(scores, purified, strict=True):
            own = {"purified": [loaded[s] for s in several], "clean_purified": [loaded[clean]]}
            score.add(names, x, references[id(score.shared)], own, windowed)


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
    sources = [source for several in versions.values() for source in several]
    for names, x, c_org, loaded in _batches(faces, sources, ctx, batch_size, what):
        own = {side: [loaded[source] for source in several] for side, several in versions.items()}
        score.add(names, x, score.references(x, c_org), own)


def _batches(
    faces, sources, ctx, batch_size, what
) -> Iterator[tuple[list[str], torch.Tensor, torch.Tensor, dict[Source, torch.Tensor]]]:
    """(names, photos, labels, {source: its photos}) of this process's share, on its device; files are read
    while the batch before is scored."""
    index = {name: i for i, name in enumerate(faces.names)}
    mine = ctx.shard(faces.names)
    others = [source for source in dict.fromkeys(sources) if source != faces.named]

    def read(names):
        rows = [index[n] for n in names]
        return names, faces.floats(rows), faces.labels[rows], [source(names) for source in others]

    with progress.bar(len(mine), what, show=ctx.is_main) as bar:
        for names, x, c_org, read_of in ahead(parts(mine, batch_size), read):
            x, *versions = (to_device(t, ctx.device) for t in (x, *read_of))
            loaded = {faces.named: x, **dict(zip(others, versions, strict=True))}
            yield names, x, to_device(c_org, ctx.device), loaded
            bar.update(len(names))
