"""What an attack adds to a folder of photos: reading them at the translator's sizes, and the table of what
was reached."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from common import files, folder, images
from common.cli import UserError

SMALLEST = 8  # pixels a side: halvings by the translator must leave something to normalise
HEADER = ["file", "source", "width", "height", "linf", "l2"]


def read_photo(path: Path | str, image_size: int = 0) -> np.ndarray:
    """uint8 (H, W, 3); image_size > 0 resizes the short side to it and crops the centre square, 0 keeps the
    photo's size."""
    image = images.read_rgb(path)
    return np.asarray(images.center_crop_resize(image, 0, image_size) if image_size else image)


def load_batch(paths: Sequence[Path], image_size: int, device: torch.device) -> torch.Tensor:
    """float32 (N, 3, H, W) in [-1, 1]."""
    return torch.stack([images.to_float(read_photo(p, image_size)) for p in paths]).to(device)


def inspect(
    paths: Sequence[Path], image_size: int = 0, skip_damaged: bool = False, num_workers: int = 0
) -> tuple[dict[Path, tuple[int, int]], list[Path]]:
    """common.folder.inspect, with the sizes that read_photo gives.  Raises UserError also for a photo that is
    too small."""
    sizes, damaged = folder.inspect(paths, skip_damaged, num_workers)
    if image_size:
        sizes = dict.fromkeys(sizes, (image_size, image_size))
    for path, (h, w) in sizes.items():
        if min(h, w) < SMALLEST:
            raise UserError(
                f"{path}: {w} x {h} pixels, the translator needs at least {SMALLEST} a side; --image_size N"
                " enlarges it"
            )
    return sizes, damaged


def pad_to(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Reflect the right and lower border until H and W are multiples; crop with [..., :H, :W] afterwards."""
    h, w = x.shape[-2:]
    down, right = -h % multiple, -w % multiple
    return F.pad(x, (0, right, 0, down), mode="reflect") if down or right else x


class Output(folder.Output):
    """The output folder with attack.csv: what was reached, per file."""

    @property
    def table(self) -> Path:
        return self.folder / "attack.csv"

    def claim(self, sources: Iterable[Path]) -> list[Path]:
        """As common.folder's; what was reached on a photo that was replaced is forgotten with its image."""
        stale = super().claim(sources)
        if stale:
            rows = {name: row for name, row in self._rows().items() if (self.folder / name).exists()}
            self._write(rows)
        return stale

    def _rows(self):
        """{name of an image: its row of attack.csv}, of earlier runs."""
        try:
            text = self.table.read_bytes().decode("utf-8", "surrogateescape")
        except OSError:
            return {}
        return {r[0]: r for r in csv.reader(io.StringIO(text, "")) if len(r) == len(HEADER) and r != HEADER}

    def _write(self, rows):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([HEADER, *(rows[name] for name in sorted(rows))])
        files.write_atomic(self.table, text.getvalue())

    def save(self, sources: Sequence[Path], x: np.ndarray, x_adv: np.ndarray) -> list[list]:
        """Write the batch x_adv of uint8 (N, H, W, 3) and return its rows for attack.csv."""
        for path, image in zip(sources, x_adv, strict=True):
            self.save_image(path, image)
        return [self.row(*each) for each in zip(sources, x, x_adv, strict=True)]

    def row(self, source: Path, before: np.ndarray, after: np.ndarray) -> list:
        d = torch.from_numpy(after.astype(np.float32) - before.astype(np.float32)) / 127.5
        return [
            self.image_name(source),
            self.name(source),
            after.shape[1],
            after.shape[0],
            f"{float(d.abs().max()):.6f}",
            f"{float(d.square().mean()):.8f}",
        ]

    def report(self, sources: Sequence[Path], rows: Sequence[list], image_size: int) -> list[list]:
        """Write attack.csv for all sources: `rows` of this run, rows of earlier runs, measured again where a
        killed run left none."""
        known = {**self._rows(), **{r[0]: r for r in rows}}
        for source in sources:
            name = self.image_name(source)
            if name not in known:
                known[name] = self.row(
                    source, read_photo(source, image_size), images.load_png(self.path(source))
                )
        self._write(known)
        return [known[self.image_name(source)] for source in sources]
