"""Photos as a detector's maker has them: scraped, a share of them disrupted, then purified all alike or left
as they are."""

from collections.abc import Callable
from dataclasses import dataclass

from common import seeds
from pipeline.purified import PurifiedPhotos


@dataclass(frozen=True)
class Part:
    """Photos of one origin: `floats` names -> (N, 3, H, W) in [-1, 1] on the 8-bit grid; `key` says how they
    were made, for the keys of caches."""

    names: list
    key: object
    floats: Callable


def disrupted_names(names, rate, seed):
    """The share `rate` of the names that carries a disruption: those with the smallest seeded hash, so a
    higher rate adds to a lower one."""
    order = sorted(names, key=lambda name: seeds.derive(seed, "disrupted", name))
    return set(order[: round(rate * len(names))])


class Scraped:
    """The photos of `faces`, a share of them disrupted, made once in the shared caches by `fill`.

    Args:   faces     faces.celeba.FaceFolder
            attacked  pipeline.attacked.AttackedPhotos of one image a photo over the same folder; may be None
                      where none is disrupted
            hit       names of the disrupted ones, see disrupted_names
            purifier  purify.base.Purifier for all photos (nobody knows which are disrupted), or None
            root, seed, precision  of the purified cache, see pipeline.purified.PurifiedPhotos
    """

    def __init__(self, faces, attacked, hit, purifier, root, seed, precision="fp32"):
        position = {name: i for i, name in enumerate(faces.names)}
        plain = Part(
            [n for n in faces.names if n not in hit],
            {"photos": faces.preparation},
            lambda names: faces.floats([position[n] for n in names]),
        )
        parts = [plain] if plain.names else []
        if hit:
            cached = attacked.caches[0]
            parts.append(Part([n for n in faces.names if n in hit], cached.key, cached.floats))
        self.purified = []
        if purifier is not None and purifier.name != "none":
            sources = faces.fingerprints()
            self.purified = [
                PurifiedPhotos(purifier, p.key, p.floats, root, seed, precision, sources) for p in parts
            ]
            parts = [
                Part(p.names, made.cache.key, made.floats)
                for p, made in zip(parts, self.purified, strict=True)
            ]
        self.parts = parts

    def fill(self, ctx, batch_size):
        """Purify what is missing; the disrupted photos must be there (AttackedPhotos.fill)."""
        for made, part in zip(self.purified, self.parts, strict=bool(self.purified)):
            made.fill(part.names, ctx, batch_size)
