"""A folder of faces with its attribute file: checked as a whole before any work, then crops and labels by
index."""

import copy
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from common import ahead, images, seeds
from common.cli import UserError
from common.files import stem
from faces.attributes import Attributes, read_attributes, write_attributes
from faces.crops import CHUNK, RULE, CropCache, signatures
from faces.listing import find_attribute_file, list_photos, match

__all__ = ["Attributes", "FaceFolder", "held_out", "learned_and_held", "read_attributes", "write_attributes"]
T = TypeVar("T")


class FaceFolder:
    """Photos of one folder, in the order of their names, with labels looked up by file name.

    Args:    folder          photos; the attribute file stands in it or beside it (list_attr_celeba.txt|csv),
                             or is `attr_path`
             selected_attrs  names of C columns
             crop, size      centre crop in pixels of the photo (0 = all of it), then side of the square
             cache_dir       where the decoded crops are kept; default beside the folder
             limit           use the first `limit` names only
             skip_damaged    decode all now, leave damaged photos out and list them in .skipped; otherwise the
                             first one met is an error
             num_workers     threads that decode
    Raises:  UserError if the folder, the attribute file or a column is missing, the rows and the photos
             differ, a photo is empty, or two photos have one name but for the extension
    """

    def __init__(
        self,
        folder: Path | str,
        selected_attrs: Sequence[str],
        crop: int = 178,
        size: int = 128,
        cache_dir: Path | str | None = None,
        limit: int | None = None,
        skip_damaged: bool = False,
        num_workers: int = 0,
        attr_path: Path | str | None = None,
    ):
        self.folder, self.selected_attrs, self.crop, self.size = (
            Path(folder),
            list(selected_attrs),
            crop,
            size,
        )
        found = list_photos(folder)
        entries = found.photos
        names = [name for name, _ in entries]
        self.attr_path = find_attribute_file(folder, attr_path)
        table = read_attributes(self.attr_path)
        labels = table.select(self.selected_attrs)
        row_of = dict(zip(names, match(folder, names, self.attr_path, table.names), strict=True))
        stems = dict(zip(map(stem, names), names, strict=True))
        if len(stems) < len(names):
            first = next(n for n in names if stems[stem(n)] != n)
            raise UserError(
                f"{folder}: {first} and {stems[stem(first)]} differ in the extension alone, and results are"
                " named by the rest; rename one"
            )
        found.tell()
        images.check_crop([self.folder / name for name in names], crop)
        stats = self._stats(entries)
        empty = [name for name, stat in zip(names, stats, strict=True) if stat.st_size == 0]
        if empty and not skip_damaged:
            raise UserError(
                f"{self.folder / empty[0]}: damaged, an empty file ({len(empty)} such files in the folder); "
                "remove it with its row, or go on without it with --skip_damaged"
            )
        self.cache = CropCache(folder, names, signatures(stats), crop, size, cache_dir, num_workers)
        self._rows = np.arange(len(names) if limit is None else min(limit, len(names)))  # of the cache
        self.skipped = []
        if skip_damaged:
            self.prepare(show=True)
            bad = np.isin(self._rows, self.cache.damaged())
            self.skipped = [names[r] for r in self._rows[bad]]
            self._rows = self._rows[~bad]
            if not len(self._rows):
                raise UserError(
                    f"{folder}: all {len(bad)} photos are damaged, the first is {self.skipped[0]}"
                )
        self._prints = {}  # found so far, shared with subsets
        self.names = [names[r] for r in self._rows]
        self.labels = labels[[row_of[name] for name in self.names]]  # float32 (N, C) in {0, 1}

    def _stats(self, entries):
        try:
            return [e.stat() for _, e in entries]
        except OSError as e:
            raise UserError(f"{e.filename}: cannot be read ({e.strerror}); correct that") from e

    def __len__(self):
        return len(self.names)

    @property
    def preparation(self) -> dict:
        """What was done to each photo, for the keys of caches: JSON dict."""
        return {"crop": self.crop, "size": self.size, "resize": "bilinear", "crop_rule": RULE}

    def load(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Positions in .names -> uint8 (n, H, W, 3).  Raises UserError naming a damaged photo."""
        return self.cache.get(self._rows[np.asarray(indices, np.int64)])

    def floats(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Positions in .names -> float32 (n, 3, H, W) in [-1, 1]."""
        return images.to_float(self.load(indices))

    def named(self, names: Sequence[str]) -> torch.Tensor:
        """File names -> float32 (n, 3, H, W) in [-1, 1].  Raises KeyError for a name that is not there."""
        return self.floats([self._index[name] for name in names])

    @cached_property
    def _index(self):
        return dict(zip(self.names, range(len(self)), strict=True))

    def fingerprints(self) -> dict[str, str]:
        """{name: 16 hex digits of the sha256 of its crop}: tells a photo from another one under the same
        name."""
        self.prepare()
        new = [i for i, name in enumerate(self.names) if name not in self._prints]
        chunks = ahead.parts(new, CHUNK)
        for part, crops in zip(chunks, ahead.ahead(chunks, self.load), strict=True):
            for i, crop in zip(part, crops, strict=True):
                self._prints[self.names[i]] = hashlib.sha256(crop).hexdigest()[:16]
        return {name: self._prints[name] for name in self.names}

    def prepare(self, show: bool = False) -> None:
        """Decode every photo that is not in the crop cache yet; damaged ones are left for load() to name."""
        self.cache.fill(self._rows, show)

    def subset(self, names: Sequence[str]) -> "FaceFolder":
        """The photos `names`, in that order, over the same crop cache.  Raises ValueError for a name that is
        not there."""
        unknown = [name for name in names if name not in self._index]
        if unknown:
            raise ValueError(f"{self.folder}: has no photo {unknown[0]}")
        part, chosen = copy.copy(self), [self._index[name] for name in names]
        part.__dict__.pop("_index", None)  # of its own names, when asked for
        part.names, part._rows, part.labels = list(names), self._rows[chosen], self.labels[chosen]
        return part


def held_out(names: Sequence[str], seed: int = 0) -> tuple[list[str], list[str]]:
    """Split names into (kept, validation): the min(1999, 10 %) with the smallest seeded hash, both in their
    order.

    Depends on the set of names and the seed alone. 10 % is rounded up, but one name alone is kept.
    """
    count = min(1999, -(-len(names) // 10)) if len(names) > 1 else 0
    chosen = set(sorted(names, key=lambda name: seeds.derive(seed, "held out", name))[:count])
    return [n for n in names if n not in chosen], [n for n in names if n in chosen]


def learned_and_held(faces: T, seed: int) -> tuple[T, T]:
    """What a training learns from, and what it is validated on (held_out).

    Args:   faces  a FaceFolder, or anything else with `names` and `subset`
    Raises: UserError where there are too few for both
    """
    if len(faces) < 2:
        raise UserError(
            f"{len(faces)} photo to learn from is too few: expected at least 2, one is held out to validate"
            " on; give more, or a higher --limit"
        )
    kept, validation = held_out(faces.names, seed)
    return faces.subset(kept), faces.subset(validation)
