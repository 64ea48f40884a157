"""Which files of a folder are photos, and what of it is left out, in one line. Needs no torch: the splitter
starts fast."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from common.errors import UserError, shown

# What Pillow decodes by itself, one picture from one file (a test holds it against Pillow's own list)
EXTENSIONS = tuple(
    ".jpg .jpeg .jpe .jfif .png .apng .bmp .dib .webp .tif .tiff .gif .avif .avifs .jp2 .j2k .j2c .jpc"
    " .jpf .jpx .ppm .pgm .pbm .pnm .tga .icb .vda .vst .ico .icns .cur .dds .pcx .dcx .sgi .rgb .rgba"
    " .bw .psd .qoi .im .msp .ras .xbm .xpm .blp .fli .flc".split()
)
HEIF = (".heic", ".heif", ".hif")
# what macOS, Windows and file servers leave beside photos
LITTER = set(
    ".ds_store thumbs.db ehthumbs.db desktop.ini .localized icon\r .directory"
    " __macosx @eadir .appledouble .thumbnails".split(" ")
)
NAMED = 3  # names in a line
COUNTED = 100_000  # photos in subfolders, counted no further


@dataclass(frozen=True)
class Listing:
    """photos  [(name below the folder, os.DirEntry)] by name;  left_out  one line, "" where all are photos"""

    folder: Path
    photos: list[tuple[str, os.DirEntry]]
    left_out: str

    def tell(self) -> None:
        """Print what is left out."""
        tell(self.left_out and f"{self.folder}: {self.left_out}")


def is_litter(name: str) -> bool:
    """Whether an operating system put a file of this name there: ._000001.jpg, .DS_Store, Thumbs.db."""
    return name.startswith("._") or name.lower() in LITTER


def _suffix(name):
    return os.path.splitext(name)[1].lower()


def is_photo(name: str) -> bool:
    """Whether a file of this name is one that can be decoded, by its extension."""
    suffix = _suffix(name)
    return not is_litter(name) and (
        suffix in EXTENSIONS or suffix in HEIF and find_spec("pillow_heif") is not None
    )


def some(names: Iterable[str]) -> str:
    """The first few names and an ellipsis for the others, fit for a terminal."""
    names = list(names)
    return ", ".join(map(shown, names[:NAMED])) + (", ..." if len(names) > NAMED else "")


def left_out(parts: Sequence[tuple[str, Sequence[str]]], more: str = "", count: int = 0) -> str:
    """`N files left out: ...` of parts (what they are, their names) and `count` further files that `more`
    tells of; "" for none."""
    count += sum(len(names) for _, names in parts)
    told = [f"{len(names)} {what} ({some(names)})" for what, names in parts if names]
    told += [more] if more else []
    return f"{count} file{'' if count == 1 else 's'} left out: {', '.join(told)}" if count else ""


def _walk(folder, prefix, recursive):
    """(name, DirEntry) of all files below a folder, and the names of the folders that were not entered."""
    with os.scandir(folder) as entries:
        entries = sorted(entries, key=lambda e: e.name)
    files, closed = [], []
    for e in entries:
        if not e.is_dir(follow_symlinks=not recursive):  # a link to a folder may lead in a circle
            files.append((prefix + e.name, e))
        elif recursive and not is_litter(e.name):
            inner, _ = _walk(e.path, f"{prefix}{e.name}/", True)
            files += inner
        else:
            closed.append(e.name)
    return files, closed


def _inside(folder):
    """Number of photos below a folder, COUNTED at most."""
    below = (name for _, _, names in os.walk(folder) for name in names if is_photo(name))
    return sum(1 for _ in islice(below, COUNTED))


def listing(
    folder: Path | str,
    recursive: bool = False,
    used: Iterable[str] = (),
    deeper: str = "which --recursive reads",
) -> Listing:
    """The photos of a folder, with `recursive` also those of its subfolders (named sub/a.jpg).

    Args:    used    names of files that are no photos and are read all the same
             deeper  what to say of photos in subfolders
    Raises:  UserError if the folder is missing, cannot be read or holds none
    """
    try:
        files, folders = _walk(folder, "", recursive)
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder; expected a folder of photos") from None
    except NotADirectoryError:
        raise UserError(f"{folder}: is a file, expected a folder of photos") from None
    except OSError as e:
        raise UserError(f"{e.filename or folder}: cannot be read ({e.strerror}); correct that") from e
    files.sort(key=lambda pair: pair[0])
    photos, litter, undecoded, others = [], [], [], []
    for name, e in files:
        if is_litter(e.name):
            litter.append(name)
        elif is_photo(e.name) and (e.is_symlink() or e.is_file()):  # not a pipe, which would wait for ever
            photos.append((name, e))
        elif _suffix(e.name) in HEIF:
            undecoded.append(name)
        elif name not in used:
            others.append(name)
    parts = [
        ("of the operating system", litter),
        ("without a decoder for HEIC, install pillow-heif", undecoded),
        ("not images", others),
    ]
    entered = [name for name in folders if not is_litter(name)]
    below = sum(_inside(Path(folder) / name) for name in entered)
    line = left_out(parts, f"{below} in the folders {some(entered)}, {deeper}" if below else "", below)
    if not photos:
        hint = f"; {line}" if line else ""
        if entered:
            hint = f"; it holds the folders {some(entered)}: give the one with the photos{hint}"
        raise UserError(f"{folder}: holds no images that can be read{hint or '; give a folder of photos'}")
    return Listing(Path(folder), photos, line)


def gone(path: Path | str) -> str:
    """What to say of a photo that is not where its name is: a link may have lost it."""
    if os.path.islink(path):
        return (
            f"{path}: cannot be read, a link to a photo that was moved ({os.readlink(path)} is not there);"
            " put the photo back, or link to where it is now (split_dataset.py makes a split again)"
        )
    return f"{path}: no such image; put it back, or correct the name"


def canonical(name: str) -> str:
    """One spelling of a file name, for comparing: accents composed (NFC), as macOS stores them apart."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def photos_of(place: Path | str, recursive: bool = False, limit: int | None = None) -> list[Path]:
    """The first photos of a folder by name, or the one file; tells what is left out.  Raises UserError."""
    place = Path(place)
    if os.path.islink(place) and not place.exists():
        raise UserError(gone(place))
    if place.is_file():
        return [place]
    found = listing(place, recursive)
    found.tell()
    return [place / name for name, _ in found.photos][:limit]


def relative(path: Path, place: Path | str) -> str:
    """The name of a photo of photos_of(place): its path below the folder, sub/a.jpg for example."""
    return (
        path.name if path.parent == Path(place) or path == Path(place) else path.relative_to(place).as_posix()
    )


def tell(*lines: str) -> None:
    """Print what has something to say, in the first of several processes alone."""
    if os.environ.get("RANK", "0") == "0":
        for line in filter(None, lines):
            print(shown(line), flush=True)
