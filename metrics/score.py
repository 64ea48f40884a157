"""Fakes of the disrupted and of the purified photos against the fakes of the photos themselves, for every
photo and domain."""

import numpy as np
import torch

from common import distributed, progress
from metrics.fid import Distance
from metrics.images import by_group, image_rows, pair_rows, summarise
from models.conditions import targets

SIDES = ("disrupted", "purified", "clean_purified")


class Score:
    """Rows of all (photo, domain) pairs and of the photos themselves, gathered over the processes.

    Args:   translator  G(x, c), whose clean fakes are the reference;  extractor  metrics.fid.Extractor or
                        None
            standard    the ordinary translator where `translator` is an adversarially trained one, else None:
                        its distance to it is noted
            sides       those of SIDES that are scored
    """

    def __init__(self, translator, attributes, extractor, seed, precision="fp32", standard=None, sides=SIDES):
        self.translator, self.attributes, self.seed, self.precision, self.standard = (
            translator,
            attributes,
            seed,
            precision,
            standard,
        )
        self.extractor, self.sides = extractor, sides
        self.distances = {side: Distance(extractor, seed) for side in sides} if extractor else {}
        self.pairs, self.photos = [], []  # (side, domain or None, names, {key: (N,) array}) of each batch

    def fakes(self, x, c, translator=None):
        with torch.no_grad(), distributed.autocast(x.device, self.precision):
            return (translator or self.translator)(x, c).float()

    def add(self, names, x, c_org, versions):
        """Score one batch.

        Args: x (N, 3, H, W) photos; c_org (N, C) their labels
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
        for k, c in enumerate(targets(self.translator, c_org, self.attributes)):
            reference = self.fakes(x, c)
            features = self.extractor(reference) if self.extractor else None
            for side in self.sides:
                version = versions[side][k if len(versions[side]) > 1 else 0]
                fake = self.fakes(version, c)
                self.pairs.append((side, self.attributes[k], names, _arrays(pair_rows(fake, reference, x))))
                if self.extractor:
                    self.distances[side].update_features(features, real=True)
                    self.distances[side].update(fake, real=False)
            if self.standard is not None:
                gap = (reference - self.fakes(x, c, self.standard)).square().mean(dim=(1, 2, 3))
                self.pairs.append(("standard", self.attributes[k], names, _arrays({"l2": gap})))

    def result(self, ctx):
        """(metrics, per_group, number of photos, number of pairs), the record's parts; call on every
        process."""
        pairs, photos = ctx.gather(self.pairs), ctx.gather(self.photos)
        metrics, groups = {"input": {}}, {name: {} for name in self.attributes}
        for side in self.sides:
            rows, names, domains = _columns(pairs, side)
            distance = (
                self.distances[side].compute()
                if self.extractor
                else {"fid": None, "kid": None, "frechet": None}
            )
            metrics[side] = {**summarise(rows, names, self.seed), **distance}
            for domain, found in by_group(rows, names, domains, self.seed).items():
                groups[domain][side] = found
            metrics["input"][side] = summarise(*_columns(photos, side)[:2], self.seed)
        if self.standard is not None:
            metrics["clean_fake_to_standard"] = summarise(*_columns(pairs, "standard")[:2], self.seed)
        return metrics, {"domain": groups}, len(set(names)), len(names)

    def rows(self, ctx, side, of="pairs"):
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


def score_all(score, faces, attacked, purified, clean_purified, ctx, batch_size):
    """Score every photo of `faces` (sharded); `attacked` and `purified` are lists over domains, or of one, of
    names -> (N, 3, H, W)."""
    score_versions(
        score,
        faces,
        {"disrupted": attacked, "purified": purified, "clean_purified": [clean_purified]},
        ctx,
        batch_size,
    )


def score_versions(score, faces, versions, ctx, batch_size, what="score"):
    """Score every photo of `faces` (sharded).  versions: side -> list of names -> (N, 3, H, W), one for all
    domains or one for each."""
    index = {name: i for i, name in enumerate(faces.names)}
    mine = ctx.shard(faces.names)
    with progress.bar(len(mine), what, show=ctx.is_main) as bar:
        for start in range(0, len(mine), batch_size):
            names = mine[start : start + batch_size]
            rows = [index[n] for n in names]
            score.add(
                names,
                faces.floats(rows).to(ctx.device),
                faces.labels[rows].to(ctx.device),
                {
                    side: [load(names).to(ctx.device) for load in sources]
                    for side, sources in versions.items()
                },
            )
            bar.update(len(names))
