"""Photos as a detector's maker has them: scraped, a share of them disrupted, then purified all alike or left
as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import seeds
from common.distributed import Context
from faces.celeba import FaceFolder
from pipeline.attacked import AttackedPhotos
from pipeline.purified import Cleaner, PurifiedPhotos


@dataclass(frozen=True)
class Part:
    """Photos of one origin: `floats` names -> (N, 3, H, W) in [-1, 1] on the 8-bit grid; `key` says how they
    were made, for the keys of caches."""

    names: list
    key: object
    floats: Callable


def disrupted_names(names: Sequence[str], rate: float, seed: int) -> set[str]:
    """The share `rate` of the names that carries a disruption: those with the smallest seeded hash, so a
    higher rate adds to a lower one."""
    return {names[i] for i in seeds.draw_share(names, rate, seed, "disrupted")}


class Scraped:
    """The photos of `faces`, a share of them disrupted, made once in the shared caches by `fill`.

    Args:   faces     faces.celeba.FaceFolder
            attacked  pipeline.attacked.AttackedPhotos of one image a photo over the same folder; may be None
                      where none is disrupted
            hit       names of the disrupted ones, see disrupted_names
            purifier  a Cleaner for all photos (nobody knows which are disrupted), or None
            root, seed, precision  of the purified cache, see pipeline.purified.PurifiedPhotos
    """

    def __init__(
        self,
        faces: FaceFolder,
        attacked: AttackedPhotos | None,
        hit: set[str],
        purifier: Cleaner | None,
        root: Path | str,
        seed: int,
        precision: str = "fp32",
    ):
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
                Part(p.names, photos.cache.key, photos.floats)
                for p, photos in zip(parts, self.purified, strict=True)
            ]
        self.parts = parts

    def fill(self, ctx: Context, batch_size: int) -> None:
        """Purify what is missing; the disrupted photos must be there (AttackedPhotos.fill)."""
        for photos, part in zip(self.purified, self.parts, strict=False):  # none without a purifier
            photos.fill(part.names, ctx, batch_size)
