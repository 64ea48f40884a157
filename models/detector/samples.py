"""Labelled images in memory: real photos (0) and their fakes (1), 8 bits each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common import images
from common.cli import UserError
from models.detector.network import CLASSES

REAL, FAKE = range(len(CLASSES))


@dataclass
class Samples:
    """names[i] is the photo that image i is, or is a fake of; domains[i] the fake's target attribute, None
    for a real photo and for a fake that no translator made.

    pixels  uint8 (N, H, W, 3);  labels  int64 (N,), fake = 1
    """

    names: list
    domains: list
    labels: torch.Tensor
    pixels: np.ndarray

    def __len__(self):
        return len(self.names)

    @property
    def ids(self) -> list[str]:
        """What files of kept samples call them, see sample_id."""
        return [sample_id(name, label) for name, label in zip(self.names, self.labels.tolist(), strict=True)]

    def floats(self, rows: Sequence[int]) -> torch.Tensor:
        """(n, 3, H, W) in [-1, 1]."""
        return images.to_float(self.pixels[np.asarray(rows, np.int64)])

    def batches(self, batch_size: int) -> Iterator[torch.Tensor]:
        """All images in their order."""
        return (
            self.floats(range(k, min(k + batch_size, len(self)))) for k in range(0, len(self), batch_size)
        )

    def subset(self, keep: Sequence[int]) -> "Samples":
        """The images at the positions `keep`, in that order."""
        return Samples(
            [self.names[i] for i in keep],
            [self.domains[i] for i in keep],
            self.labels[list(keep)],
            self.pixels[list(keep)],
        )


def recompressed(samples: Samples, quality: int) -> Samples:
    """The same with every image saved as JPEG of that quality (1 to 100) and read back."""
    pixels = np.stack([images.jpeg_round_trip(image, quality) for image in samples.pixels])
    return Samples(samples.names, samples.domains, samples.labels, pixels)


def join(parts: Sequence[Samples]) -> Samples:
    """Several Samples as one, in the order of (name, label), whatever the order they come in."""
    where = sorted(
        (name, label, k, i)
        for k, p in enumerate(parts)
        for i, (name, label) in enumerate(zip(p.names, p.labels.tolist(), strict=True))
    )
    # row by row: at full size a second copy would not fit
    pixels = np.empty((len(where), *parts[0].pixels.shape[1:]), np.uint8)
    for row, (_, _, k, i) in enumerate(where):
        pixels[row] = parts[k].pixels[i]
    return Samples(
        [name for name, *_ in where],
        [parts[k].domains[i] for _, _, k, i in where],
        torch.tensor([label for _, label, *_ in where]),
        pixels,
    )


def sample_id(name: str, label: int) -> str:
    """A sample's name in a file of kept samples: real/000001.jpg or fake/000001.jpg."""
    return f"{CLASSES[label]}/{name}"


def read_kept(path: Path | str, names: Sequence[str]) -> set[str]:
    """Ids of the samples that a filter has kept: a line each, a bare name stands for the photo and its fake;
    lines that begin with # are comments.

    Raises UserError for a file that is missing, is no text, names a photo that is not in `names`, or keeps
    nothing.
    """
    known, kept = {sample_id(name, label) for name in names for label in (REAL, FAKE)}, set()
    for number, line in enumerate(_lines(path), 1):
        ids = [line] if "/" in line else [sample_id(line, REAL), sample_id(line, FAKE)]
        if line and not line.startswith("#"):
            if ids[0] not in known:
                raise UserError(
                    f"--kept_names {path}: line {number} names {line!r:.60}, which is none of the"
                    f" {len(names)} photos here (after --limit and --skip_damaged); expected lines like "
                    + min(known)
                )
            kept.update(ids)
    if not kept:
        raise UserError(f"--kept_names {path}: keeps no sample, so there is nothing to train on")
    return kept


def kept_filter(path: Path | str) -> str | None:
    """Name of the filter that wrote a file of kept samples, from a comment `# filter: NAME` above the first
    sample; None without one."""
    for line in _lines(path):
        if line and not line.startswith("#"):
            return None
        key, _, name = line.lstrip("# ").partition(":")
        if key.strip() == "filter" and name.strip():
            return " ".join(name.split())
    return None


def _lines(path):
    """The lines of a file of kept samples without space around them.  Raises UserError if it cannot be
    read."""
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise UserError(f"--kept_names {path}: cannot be read ({e.strerror})") from e
    if b"\0" in data:
        raise UserError(f"--kept_names {path}: cannot be read (not UTF-8 text)")
    # names are bytes, and only \n and \r end a line: str.splitlines knows more that may stand in a name
    data = data.removeprefix(b"\xef\xbb\xbf").rstrip(b"\x1a\r\n\t ")
    return [line.strip().decode("utf-8", "surrogateescape") for line in data.splitlines()]
