"""Which photos a folder holds, where their attribute file is, and whether the two name the same photos. Needs
no torch: the splitter starts fast."""

import os
from collections.abc import Sequence
from pathlib import Path

from common.cli import UserError
from faces.attributes import FILE_NAMES

# equal to common.images.EXTENSIONS (a test says so), which costs torch's import
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_photos(folder: Path | str) -> list[tuple[str, os.DirEntry]]:
    """(name, os.DirEntry) of the images of a folder, sorted by name.  Raises UserError if it is missing or
    holds none."""
    try:
        with os.scandir(folder) as entries:
            entries = sorted(((e.name, e) for e in entries), key=lambda pair: pair[0])
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder; expected a folder of photos") from None
    except NotADirectoryError:
        raise UserError(f"{folder}: is a file, expected a folder of photos") from None
    except OSError as e:
        raise UserError(f"{folder}: cannot be read ({e.strerror})") from e
    photos = [(name, e) for name, e in entries if name.lower().endswith(EXTENSIONS)]
    if not photos:
        inside = [name for name, e in entries if e.is_dir() and not name.startswith(".")]
        hint = (
            f"it holds the folders {', '.join(inside[:3])}: give the one with the photos"
            if inside
            else "give a folder of photos"
        )
        raise UserError(f"{folder}: holds no images ({', '.join(EXTENSIONS)}); {hint}")
    return photos


def find_attribute_file(folder: Path | str, attr_path: Path | str | None = None) -> Path:
    """The attribute file of a folder of photos: `attr_path`, or list_attr_celeba.txt|csv in the folder or
    beside it.  Raises UserError."""
    if attr_path is not None:
        return Path(attr_path)
    places = [Path(where) / name for where in (folder, Path(folder).absolute().parent) for name in FILE_NAMES]
    there = [p for p in places if p.is_file()]
    if not there:
        raise UserError(
            f"{folder}: found no attribute file, expected {' or '.join(FILE_NAMES)} in it or beside it; "
            "copy it there or say where it is with --attr_path"
        )
    return there[0]


def match(folder: Path | str, names: Sequence[str], path: Path | str, rows: Sequence[str]) -> None:
    """Check that the photos of a folder and the rows of an attribute file are the same names.  Raises
    UserError with counts and 3 names."""
    photos, named = set(names), set(rows)
    if photos == named:
        return
    bare, absent = sorted(photos - named), sorted(named - photos)
    faults = [
        f"{len(some)} {what} ({', '.join(some[:3])}{', ...' if len(some) > 3 else ''})"
        for some, what in ((bare, "files without a row"), (absent, "rows without a file"))
        if some
    ]
    remedy = "complete the folder or the attribute file"
    if {Path(n).stem for n in names} == {Path(n).stem for n in rows}:
        remedy = (
            f"only the extensions differ ({Path(bare[0]).suffix} and {Path(absent[0]).suffix}): correct those"
            " in the attribute file"
        )
    raise UserError(
        f"{folder}: expected one row of {path} for each photo, found {' and '.join(faults)}; {remedy}"
    )
