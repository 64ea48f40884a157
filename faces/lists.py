"""The one reader of list files, in which a row begins with a photo's name: CelebA's attributes and
identities.

Whoever wrote the file: UTF-8 with or without a mark, any line ends, blanks, tabs, commas or semicolons,
quotes, an index column in front (pandas), a last Ctrl-Z. Names are bytes: one that is no UTF-8 is kept as it
is.
"""

import re
from pathlib import Path

from common.cli import UserError
from common.listing import is_photo

# header cells above the names; the first ones may stand above an index column as well
INDEX_COLUMNS = ("", "unnamed: 0", "index", "level_0")
NAME_COLUMNS = ("image_id", "image", "filename", "file_name", "file", "name", "photo", "path")


def text_of(cell: bytes) -> str:
    """A cell as text; bytes that are no UTF-8 are kept, as in the names of files."""
    return cell.strip().decode("utf-8", "surrogateescape")


def read_lines(path: Path | str, expected: str, flag: str = "") -> list[bytes]:
    """The lines of a list file.  Raises UserError, `expected` says what it should be, if it is none."""
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise UserError(f"{flag}{path}: cannot be read ({e.strerror}); expected {expected}") from e
    data = data.removeprefix(b"\xef\xbb\xbf").rstrip(b"\x1a\r\n\t ")
    if data.lstrip()[:1] == b"<":
        raise UserError(
            f"{path}: an HTML page saved under this name, expected {expected}; download it again by hand"
        )
    if b"\0" in data[:65536]:
        raise UserError(f"{path}: not a text file, expected {expected} in UTF-8; get it again")
    lines = data.splitlines()
    if lines and re.fullmatch(rb"(?i)\s*\"?sep=.\"?\s*", lines[0]):  # for spreadsheets
        lines = lines[1:]
    if not lines:
        raise UserError(f"{path}: empty, expected {expected}; get the file again")
    return lines


def separator_of(line: bytes) -> bytes:
    """What divides the cells of a line."""
    return next((s for s in (b",", b";") if s in line), b" ")


def cells_of(line: bytes, separator: bytes) -> list[str]:
    """The cells of a header."""
    line = line.replace(b'"', b"")
    return [text_of(c) for c in (line.split() if separator == b" " else line.split(separator))]


def has_index(header: list[str]) -> bool:
    """Whether the first column only counts the rows, as pandas writes it unless told not to."""
    return len(header) > 1 and header[0].lower() in INDEX_COLUMNS and header[1].lower() in NAME_COLUMNS


def cut(lines: list[bytes], separator: bytes, index: bool = False) -> tuple[list[bytes], list[bytes]]:
    """Rows -> (names, what follows each, its cells with blanks between).  index  whether a column that counts
    the rows stands in front."""
    whole = b"\n".join(lines)
    if separator == b" " and (b"\t" in whole or b"\n " in whole or lines[:1] and lines[0][:1] == b" "):
        lines = [line.replace(b"\t", b" ").lstrip() for line in lines]
    if index:
        lines = [line.partition(separator)[2].lstrip() for line in lines]
    if b'"' in whole:
        pairs = [
            _quoted(line, separator) if line[:1] == b'"' else line.partition(separator)[::2] for line in lines
        ]
        pairs = [(name, rest.replace(b'"', b"")) for name, rest in pairs]
    else:
        pairs = [line.partition(separator)[::2] for line in lines]
    rests = [rest for _, rest in pairs]
    if separator != b" ":
        rests = [rest.replace(separator, b" ") for rest in rests]
    return [name.strip() for name, _ in pairs], rests


def _quoted(line, separator):
    match = re.match(rb'"((?:[^"]|"")*)"\s*', line)
    if not match:
        return line.partition(separator)[::2]
    return match[1].replace(b'""', b'"'), line[match.end() :].removeprefix(separator)


def with_blanks(name: bytes, rest: bytes, values: int) -> tuple[bytes, bytes]:
    """(name, values) of a row between blanks that was cut at its first one, where the name holds some."""
    line = name + b" " + rest
    words = line.rsplit(None, values)
    if len(words) != values + 1 or not is_photo(text_of(words[0])):
        return name, rest
    return words[0], b" ".join(words[1:])
