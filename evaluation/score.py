"""Fakes of the disrupted and of the purified photos against the fakes of the photos themselves, for every photo and domain."""
import numpy as np
import torch

from common import distributed, progress
from evaluation.fid import Distance
from evaluation.image_metrics import by_group, image_rows, pair_rows, summarise
from models.stargan.labels import create_labels

SIDES = ("disrupted", "purified", "clean_purified")


class Score:
    """Rows of all (photo, domain) pairs and of the photos themselves, gathered over the processes.

    Args:   translator  G(x, c), whose clean fakes are the reference;  extractor  evaluation.fid.Extractor or None
            standard    the ordinary translator where `translator` is an adversarially trained one, else None: its distance to it is noted
    """

    def __init__(self, translator, attributes, extractor, seed, precision="fp32", standard=None):
        self.translator, self.attributes, self.seed, self.precision, self.standard = translator, attributes, seed, precision, standard
        self.extractor = extractor
        self.distances = {side: Distance(extractor, seed) for side in SIDES} if extractor else {}
        self.pairs, self.photos = [], []      # one dict a row

    def fakes(self, x, c, translator=None):
        with torch.no_grad(), distributed.autocast(x.device, self.precision):
            return (translator or self.translator)(x, c).float()

    def add(self, names, x, c_org, versions):
        """Score one batch.

        Args: x (N, 3, H, W) photos; c_org (N, C) their labels
              versions  side -> list of (N, 3, H, W): one image for all domains, or one for each
        """
        for side in SIDES:
            rows = [image_rows(v, x) for v in versions[side]]
            mean = {k: torch.stack([r[k] for r in rows]).amax(0) if k == "linf" else torch.stack([r[k] for r in rows]).mean(0) for k in rows[0]}
            self._note(self.photos, names, side, mean)
        for k, c in enumerate(create_labels(c_org, self.attributes)):
            reference = self.fakes(x, c)
            features = self.extractor(reference) if self.extractor else None
            for side in SIDES:
                version = versions[side][k if len(versions[side]) > 1 else 0]
                fake = self.fakes(version, c)
                self._note(self.pairs, names, side, pair_rows(fake, reference, x), domain=self.attributes[k])
                if self.extractor:
                    self.distances[side].update_features(features, real=True)
                    self.distances[side].update(fake, real=False)
            if self.standard is not None:
                gap = (reference - self.fakes(x, c, self.standard)).square().mean(dim=(1, 2, 3)).cpu()
                self._note(self.pairs, names, "standard", {"l2": gap}, domain=self.attributes[k])

    @staticmethod
    def _note(table, names, side, rows, **more):
        for i, name in enumerate(names):
            table.append({"name": name, "side": side, **more, **{k: float(v[i]) for k, v in rows.items()}})

    def result(self, ctx):
        """(metrics, per_group, number of photos, number of pairs), the record's parts; call on every process."""
        pairs = sorted(ctx.gather(self.pairs), key=lambda r: (r["name"], r.get("domain", "")))
        photos = sorted(ctx.gather(self.photos), key=lambda r: r["name"])
        metrics, groups = {"input": {}}, {name: {} for name in self.attributes}
        for side in SIDES:
            rows, names, domains = _columns([r for r in pairs if r["side"] == side])
            distance = self.distances[side].compute() if self.extractor else {"fid": None, "kid": None, "frechet": None}
            metrics[side] = {**summarise(rows, names, self.seed), **distance}
            for domain, found in by_group(rows, names, domains, self.seed).items():
                groups[domain][side] = found
            rows, names, _ = _columns([r for r in photos if r["side"] == side])
            metrics["input"][side] = summarise(rows, names, self.seed)
        if self.standard is not None:
            rows, names, _ = _columns([r for r in pairs if r["side"] == "standard"])
            metrics["clean_fake_to_standard"] = summarise({"l2": rows["l2"]}, names, self.seed)
        return metrics, {"domain": groups}, len({r["name"] for r in pairs}), sum(r["side"] == SIDES[0] for r in pairs)


def _columns(rows):
    """List of row dicts -> (dict of (N,) arrays, names, domains)."""
    keys = [k for k in rows[0] if k not in ("name", "side", "domain")]
    return {k: np.array([r[k] for r in rows]) for k in keys}, [r["name"] for r in rows], [r.get("domain") for r in rows]


def score_all(score, faces, attacked, purified, clean_purified, ctx, batch_size):
    """Score every photo of `faces` (sharded); `attacked` and `purified` are lists over domains, or of one; things with .floats(names)."""
    index = {name: i for i, name in enumerate(faces.names)}
    mine = ctx.shard(faces.names)
    with progress.bar(len(mine), "score", show=ctx.is_main) as bar:
        for start in range(0, len(mine), batch_size):
            names = mine[start:start + batch_size]
            rows = [index[n] for n in names]
            load = lambda source: source(names).to(ctx.device)
            score.add(names, load(lambda n: faces.floats(rows)), faces.labels[rows].to(ctx.device),
                      {"disrupted": [load(a) for a in attacked], "purified": [load(p) for p in purified],
                       "clean_purified": [load(clean_purified)]})
            bar.update(len(names))
