"""The flags that say which photos a script works on and where its results go, one spelling for every
script."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import cli
from faces.celeba import FaceFolder, held_out

# of the official 5-attribute checkpoints
ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The values of add_data_flags; `dataset` is resolved, see dataset_name."""

    data_dir: str
    dataset: str
    result_dir: str
    cache_dir: str | None
    selected_attrs: list[str]
    celeba_crop_size: int
    image_size: int
    skip_damaged: bool


def add_data_flags(
    parser: argparse.ArgumentParser,
    part: str = "a",
    image_size: int = 128,
    default_dir: str | None = "dataset/CelebA",
    named: bool = True,
) -> argparse._ArgumentGroup:
    """Add the group "data" and return it.

    Args: part  the split that is read, for the help;  named  with --dataset, the name in the result folder
    """
    g = parser.add_argument_group("data")
    g.add_argument("--data_dir", default=default_dir, help=f"folder that holds images_{part}")
    if named:
        g.add_argument(
            "--dataset", default=None, help="name in the result folder; default: the data folder's own"
        )
    g.add_argument("--result_dir", default="results", help="where run folders and caches go")
    g.add_argument(
        "--cache_dir", default=None, help="where decoded crops are kept; default: beside the split"
    )
    g.add_argument(
        "--selected_attrs",
        nargs="+",
        default=ATTRIBUTES,
        metavar="NAME",
        help="attribute columns, one domain each, as the translator was trained",
    )
    g.add_argument(
        "--celeba_crop_size",
        type=cli.natural_int,
        default=178,
        help="centre crop of a photo, pixels; 0 = none",
    )
    g.add_argument(
        "--image_size", type=cli.positive_int, default=image_size, help="side of the images, pixels"
    )
    g.add_argument("--skip_damaged", action="store_true", help="go on without damaged photos and list them")
    return g


def dataset_name(parsed: argparse.Namespace) -> str:
    """--dataset, else the name of the data folder."""
    # `.` has no name of its own
    return parsed.dataset or Path(os.path.abspath(parsed.data_dir)).name


def open_faces(
    options: DataOptions, part: str = "a", columns: Sequence[str] | None = None, whole: bool = False
) -> FaceFolder:
    """The photos that the flags describe, checked as a whole.

    Args:   options  with limit and num_workers, which each command has as it needs them
            columns  other attributes than --selected_attrs;  whole  all of them whatever --limit says, for
                     who leaves some out first
    Raises: UserError
    """
    return FaceFolder(
        Path(options.data_dir) / f"images_{part}",
        columns or options.selected_attrs,
        options.celeba_crop_size,
        options.image_size,
        cache_dir=options.cache_dir,
        limit=None if whole else options.limit,
        skip_damaged=options.skip_damaged,
        num_workers=options.num_workers,
    )


def open_judged(options: DataOptions, part: str) -> FaceFolder:
    """The photos that a test may look at: all of B or C; of A only what trainings with seed 0 hold out, so
    that nothing is judged on what it learned."""
    if part != "a":
        return open_faces(options, part)
    faces = open_faces(options, part, whole=True)
    return faces.subset(held_out(faces.names)[1][: options.limit])
