"""What a diffusion network may learn from besides faces: scikit-learn's digits, or any folder of images
(CIFAR's layout, a folder per class, too)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common import images
from common.cli import UserError
from common.listing import photos_of, tell
from faces.celeba import learned_and_held
from faces.flags import open_faces
from models.depois import data as labelled
from models.diffusion.train_flags import Options


class Pictures:
    """names (N,) unique, pixels uint8 (N, H, W, 3); looks like a FaceFolder to faces.loader.Batches."""

    def __init__(self, names: Sequence[str], pixels: np.ndarray):
        self.names, self.pixels = list(names), pixels
        self.labels = torch.zeros(len(names), 0)

    def __len__(self):
        return len(self.names)

    def floats(self, rows: Sequence[int]) -> torch.Tensor:
        """(n, 3, H, W) float32 in [-1, 1]"""
        return images.to_float(self.pixels[np.asarray(rows, np.int64)])

    def subset(self, names: Sequence[str]) -> "Pictures":
        """The images `names`, in that order."""
        position = dict(zip(self.names, range(len(self)), strict=True))
        return Pictures(names, self.pixels[[position[name] for name in names]])


def digits(size: int) -> Pictures:
    """The digits as RGB images of size x size pixels."""
    training, test = labelled.digits()
    grey = np.concatenate([training.pixels, test.pixels])[..., 0]
    pixels = np.stack(
        [np.asarray(Image.fromarray(g).resize((size, size), Image.BILINEAR).convert("RGB")) for g in grey]
    )
    return Pictures([f"{i:05d}" for i in range(len(pixels))], pixels)


def of_folder(folder: Path | str, size: int, limit: int | None = None) -> Pictures:
    """Every image below a folder, whole, at size x size pixels.  Raises UserError if there is none, or for
    one that is damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--images {folder}: no such folder; give a folder of images, or `digits`")
    paths = sorted(photos_of(folder, recursive=True))[:limit]
    names, pixels, said = [str(p.relative_to(folder)) for p in paths], [], []
    for name, path in zip(names, paths, strict=True):
        image = images.read_rgb(path)
        said.append((name, image.info["remarks"]))
        pixels.append(np.asarray(image.resize((size, size), Image.BICUBIC)))
    tell(*images.remarks(said))
    return Pictures(names, np.stack(pixels))


def open_pictures(options: Options) -> tuple:
    """(training part, held-out part) of what the flags name: faces of --data_dir, or --images digits|DIR."""
    if options.images is None:
        every = open_faces(options)
    else:
        every = (
            digits(options.image_size)
            if options.images == "digits"
            else of_folder(options.images, options.image_size, options.limit)
        )
        every = every.subset(every.names[: options.limit])
    return learned_and_held(every, options.seed)
