"""Caches of images, one PNG each, shared by all runs: what is there is never made again.

The folder's key is the sha256 of what defines one image's result, never of the file list, batch size, device
or --limit.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from common import ahead, files, images
from common.cli import UserError
from common.files import stem

FORMAT_VERSION = 1


class ImageCache:
    """<root>/<name>-<key8>/<stem>.png with the definition beside it; may be extended, two processes may fill
    it together.

    Args:  root        e.g. results/attacked/CelebA
           name        readable part of the folder name, e.g. "pgd-eps0.05"
           definition  JSON dict of all that decides one image's result
           sources     name -> fingerprint of the photo it is made from: an image of a photo that was replaced
                       is made again
    """

    def __init__(self, root: Path | str, name: str, definition: dict, sources: dict[str, str] | None = None):
        definition = {"cache_format": FORMAT_VERSION, **definition}
        self.key = files.key_of(definition)
        self.folder = Path(root) / f"{name}-{self.key[:8]}"
        self.definition, self.sources = definition, sources
        # stem and fingerprint of each image, appended when it is there
        self.listed = self.folder / "sources.tsv"
        self._check_owner()

    def _check_owner(self):
        """Raises UserError if the folder says that its images were made otherwise: renamed, or copied from
        other weights."""
        try:
            there = json.loads((self.folder / "definition.json").read_text())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as e:
            raise UserError(
                f"{self.folder / 'definition.json'}: cannot be read ({' '.join(str(e).split())[:60]}); delete"
                " the folder, its images are made again"
            ) from e
        mine, theirs = json.loads(json.dumps(self.definition)), there if isinstance(there, dict) else {}
        changed = [
            f"{k}: {theirs.get(k)!s:.24}, expected {mine.get(k)!s:.24}"
            for k in {**mine, **theirs}
            if theirs.get(k) != mine.get(k)
        ]
        if changed:
            raise UserError(
                f"{self.folder}: a cache that belongs to something else ({'; '.join(changed[:3])}); delete"
                " it, its images are made again"
            )

    def path(self, name: str) -> Path:
        return self.folder / f"{stem(name)}.png"

    def missing(self, names: Sequence[str]) -> list[str]:
        """The names that have no image yet, in their order."""
        there = set()
        files.sweep(self.folder)
        if self.folder.is_dir():
            with os.scandir(self.folder) as entries:  # a power cut leaves empty files
                there = {stem(e.name) for e in entries if e.name.endswith(".png") and e.stat().st_size}
        if self.sources is None:
            return [n for n in names if stem(n) not in there]
        made_from = {}
        if self.listed.exists():
            # of a damaged line the image is made again
            with open(self.listed, encoding="utf-8", errors="surrogateescape") as lines:
                made_from = dict(line.split("\t") for line in map(str.rstrip, lines) if line.count("\t") == 1)
        return [n for n in names if stem(n) not in there or made_from.get(stem(n)) != self.sources[n]]

    def save(
        self, names: Sequence[str], array: np.ndarray, notes: Sequence[dict | None] | None = None
    ) -> None:
        """uint8 (N, H, W, 3), one file each; notes: what goes with each image (common.images.save_png)."""
        if not self.folder.is_dir():
            files.make_folder(self.folder)
        if not (self.folder / "definition.json").exists():
            files.write_json(self.folder / "definition.json", self.definition)
        each = list(zip(names, array, notes or [None] * len(names), strict=True))
        ahead.each(lambda one: images.save_png(self.path(one[0]), *one[1:]), each)
        if self.sources is not None:
            files.append(self.listed, "".join(f"{stem(n)}\t{self.sources[n]}\n" for n in names))

    def load(self, names: Sequence[str]) -> np.ndarray:
        """uint8 (N, H, W, 3)."""
        return np.stack(ahead.each(lambda n: images.load_png(self.path(n)), names))

    def notes(self, names: Sequence[str]) -> list[dict | None]:
        """The note of each image, None where it has none."""
        return ahead.each(lambda n: images.read_note(self.path(n)), names)

    def floats(self, names: Sequence[str]) -> torch.Tensor:
        """float32 (N, 3, H, W) in [-1, 1]."""
        return images.to_float(self.load(names))
