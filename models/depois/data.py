"""Labelled images and how a defender sees them: a small trusted part, and a part to be examined that somebody
may have poisoned."""

import gzip
import hashlib
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common import seeds
from common.cli import UserError
from faces.labelled import Labelled

DIGITS = tuple("0123456789")
HELD_SHARE = 1 / 6  # of the trusted images: they set the boundary, and no network sees them


@dataclass(frozen=True)
class Task:
    """What De-Pois is given.  trusted: what networks learn from; held: trusted too, sets the boundary;
    examined: clean until a poison is put in; test: clean, for the accuracy of a classifier trained on what
    was kept.  No image is in two of them."""

    name: str
    trusted: Labelled
    held: Labelled
    examined: Labelled
    test: Labelled | None


def digits() -> tuple[Labelled, Labelled]:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey: (training, test), 80 % and 20 % by a fixed draw.
    Part of the library, no download."""
    from sklearn.datasets import load_digits  # on use: scikit-learn takes half a second to load

    bundle = load_digits()
    pixels = np.rint(bundle.images * (255 / 16)).astype(np.uint8)[..., None]
    every = Labelled(
        tuple(f"{i:05d}" for i in range(len(pixels))), torch.from_numpy(bundle.target).long(), pixels, DIGITS
    )
    order = torch.randperm(len(every), generator=seeds.generator("digits")).numpy()
    at = round(0.8 * len(every))
    return every.subset(order[:at]), every.subset(order[at:])


def mnist(data_root: Path | str) -> tuple[Labelled, Labelled]:
    """MNIST through torchvision, 28 x 28 grey: (60,000 for training, 10,000 for testing).

    Reads <data_root>/MNIST/raw, where the four files may be as published (.gz) or unpacked; nothing is
    downloaded and nothing written there.

    Raises: UserError if files are missing or damaged
    """
    from torchvision.datasets import MNIST  # on use: the digits need no torchvision

    raw = Path(data_root) / "MNIST" / "raw"
    names = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    missing = [name for name in names if not (raw / name).is_file() and not (raw / f"{name}.gz").is_file()]
    if missing:
        raise UserError(
            f"{raw}: lacks {missing[0]}{'' if len(missing) == 1 else f' and {len(missing) - 1} more files'}"
            " of MNIST (unpacked or .gz); --data_root names the folder that holds MNIST/raw"
        )
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "MNIST" / "raw"
        packed.mkdir(parents=True)
        try:
            for name in names:
                plain = (raw / name).is_file()
                with (
                    open(raw / name, "rb") if plain else gzip.open(raw / f"{name}.gz") as source,
                    open(packed / name, "wb") as target,
                ):
                    shutil.copyfileobj(source, target)
            parts = [MNIST(folder, train=train, download=False) for train in (True, False)]
        except (OSError, EOFError, RuntimeError, ValueError, AssertionError) as e:
            raise UserError(
                f"{raw}: MNIST cannot be read ({' '.join(str(e).split())[:80] or type(e).__name__}); copy its"
                " files again"
            ) from e
    return tuple(
        Labelled(
            tuple(f"{part}/{i:05d}" for i in range(len(mnist_part.data))),
            mnist_part.targets.long(),
            mnist_part.data.numpy()[..., None],
            DIGITS,
        )
        for part, mnist_part in zip(("train", "test"), parts, strict=True)
    )


def divide(
    name: str,
    training: Labelled,
    test: Labelled | None,
    trusted_share: float,
    seed: int,
    limit: int | None = None,
) -> Task:
    """The Task of a data set whose training part is trusted in a share `trusted_share`, drawn by `seed`, and
    examined otherwise (the first `limit` of it).

    Raises: UserError as check
    """
    order = torch.randperm(len(training), generator=seeds.generator(seed, "trusted", name)).numpy()
    at = round(trusted_share * len(order))
    trusted, held = hold_out(training.subset(order[:at]), seed)
    return check(Task(name, trusted, held, training.subset(order[at:][:limit]), test), by_pixels=False)


def hold_out(trusted: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """(to learn from, held out): HELD_SHARE of the images of every class are held out, drawn by `seed`; one
    at least where a class has two.

    Images that share the last part of their names, as a photo and its fake do, stay together.
    """
    groups = defaultdict(list)
    for i, name in enumerate(trusted.names):
        groups[name.rpartition("/")[2]].append(i)
    strata = defaultdict(list)
    for rows in groups.values():
        strata[tuple(sorted(trusted.labels[rows].tolist()))].append(rows)
    chosen, others = set(), []
    for key, mine in sorted(strata.items()):
        order = torch.randperm(len(mine), generator=seeds.generator(seed, "held", key)).tolist()
        count = max(1, round(HELD_SHARE * len(mine))) if len(mine) > 1 else 0
        chosen.update(i for place in order[:count] for i in mine[place])
        others += [mine[place] for place in order[count:]]
    for label in range(len(trusted.classes)):  # of a class whose images are all of different strata
        rows = set(torch.nonzero(trusted.labels == label).flatten().tolist())
        spare = next((group for group in sorted(others, key=len) if rows & set(group)), None)
        if spare and len(rows) > 1 and not rows & chosen:
            chosen.update(spare)
    return trusted.subset([i for i in range(len(trusted)) if i not in chosen]), trusted.subset(sorted(chosen))


def check(task: Task, by_pixels: bool = True) -> Task:
    """The task itself.

    Args:   by_pixels  whether images are compared; parts of one data set are disjoint, though two of its
                       images may be equal
    Raises: UserError where its trusted images lack a class, are of another size, or are among those examined
            (whatever their names)
    """
    trusted, examined, classes = task.trusted, task.examined, task.examined.classes
    known = len(trusted) + len(task.held)
    if known < 2 * len(classes):
        raise UserError(
            f"{task.name}: {known} trusted images for {len(classes)} classes, expected two of each at least"
            " (one to learn from, one held out); trust more images"
        )
    for part in (trusted, task.held):
        absent = [c for k, c in enumerate(classes) if not bool((part.labels == k).any())]
        if absent:
            raise UserError(
                f"{task.name}: no trusted image of class {absent[0]} (classes: {', '.join(classes)}),"
                " expected two at least; trust more images"
            )
    if not len(examined):
        raise UserError(f"{task.name}: no image is left to examine; trust fewer")
    if trusted.shape != examined.shape:
        raise UserError(
            f"{task.name}: trusted images are {size_text(trusted.shape)}, those to examine"
            f" {size_text(examined.shape)}; expected one size"
        )
    known = set(fingerprints(trusted) + fingerprints(task.held))
    shared = (
        [name for name, one in zip(examined.names, fingerprints(examined), strict=True) if one in known]
        if by_pixels
        else []
    )
    if shared:
        raise UserError(
            f"{task.name}: {len(shared)} images are trusted and examined at once ({shared[0]:.60}, ...);"
            " expected two sets that share none"
        )
    return task


def fingerprints(labelled: Labelled) -> list[str]:
    """A hash of the pixels of every image: equal images are found whatever their names."""
    return [hashlib.sha256(p.tobytes()).hexdigest() for p in labelled.pixels]


def content(labelled: Labelled) -> str:
    """One hash of all names, labels and pixels, in their order."""
    digest = hashlib.sha256("\n".join(labelled.names).encode("utf-8", "surrogateescape"))
    digest.update(labelled.labels.numpy().tobytes() + labelled.pixels.tobytes())
    return digest.hexdigest()


def size_text(shape: tuple[int, int, int]) -> str:
    """`64 x 48 pixels in 3 channels` of (C, H, W)."""
    channels, height, width = shape
    return f"{width} x {height} pixels in {channels} channel{'s' if channels > 1 else ''}"
