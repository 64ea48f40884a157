"""Which photos a folder holds, where their attribute file is, and whether the two name the same photos. Needs
no torch: the splitter starts fast."""

from collections.abc import Sequence
from pathlib import Path

from common.cli import UserError
from common.files import stem
from common.listing import Listing, canonical, gone, listing, some
from faces.attributes import FILE_NAMES


def list_photos(folder: Path | str) -> Listing:
    """The photos of a folder that has an attribute file in it or beside it.  Raises UserError if it is
    missing or holds none, or a link of it leads nowhere."""
    found = listing(folder, used=FILE_NAMES, deeper="which are not read")
    for name, entry in found.photos:
        if entry.is_symlink() and not entry.is_file():
            raise UserError(gone(Path(folder) / name))
    return found


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


def match(
    folder: Path | str,
    names: Sequence[str],
    path: Path | str,
    rows: Sequence[str],
    subset: bool | None = None,
) -> list[int]:
    """The row of each photo of a folder in an attribute file, which must name the same photos; accents may be
    spelled in two ways.

    Args:    subset  True: -1 for a photo without a row, and rows without a photo do no harm; False: the error
                     says that --subset would allow them
    Raises:  UserError with counts and 3 names of those that lack the other
    """
    row_of = {canonical(name): i for i, name in enumerate(rows)}
    found = [row_of.get(canonical(name), -1) for name in names]
    bare = [name for name, row in zip(names, found, strict=True) if row < 0]
    photos = set(map(canonical, names))
    absent = sorted(rows[i] for name, i in row_of.items() if name not in photos)
    if not (bare or absent) or subset and len(bare) < len(names):
        return found
    faults = [
        f"{len(them)} {what} ({some(them)})"
        for them, what in ((bare, "files without a row"), (absent, "rows without a file"))
        if them
    ]
    remedy = "complete the folder or the attribute file"
    if {stem(n) for n in names} == {stem(n) for n in rows}:
        remedy = (
            f"only the extensions differ ({Path(bare[0]).suffix} and {Path(absent[0]).suffix}): correct those"
            " in the attribute file"
        )
    elif subset is False and len(bare) < len(names):
        remedy += ", or take what has both with --subset"
    raise UserError(
        f"{folder}: expected one row of {path} for each photo, found {' and '.join(faults)}; {remedy}"
    )
