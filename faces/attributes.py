"""CelebA's attribute file, text or csv: columns looked up by name, rows matched to photos by file name, every
fault one line."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common import files
from common.cli import UserError, nearest
from common.errors import shown
from common.listing import is_photo
from faces.lists import NAME_COLUMNS, cells_of, cut, has_index, read_lines, separator_of, text_of, with_blanks

if TYPE_CHECKING:
    import torch

FILE_NAMES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
VALUE = re.compile(r"(?i)[+-]?[01](\.0*)?|true|false")
AGAIN = "get the file again or correct that line"


@dataclass
class Attributes:
    """names list[str] (N,); columns list[str] (C,); values int8 (N, C) in {0, 1}; path, for messages."""

    names: list
    columns: list
    values: np.ndarray
    path: str = "the attribute table"

    def select(self, columns: Sequence[str]) -> "torch.Tensor":
        """float32 tensor (N, len(columns)) in {0, 1}.  Raises UserError naming a column that is not there."""
        import torch  # here, because the splitter reads attribute files and needs no torch

        missing = [c for c in columns if c not in self.columns]
        if missing:
            raise UserError(
                f"{self.path}: has no column {missing[0]!r}{nearest(missing[0], self.columns)}; its"
                f" {len(self.columns)} columns are {', '.join(self.columns[:3])}, ...; correct"
                " --selected_attrs"
            )
        return torch.from_numpy(self.values[:, [self.columns.index(c) for c in columns]].astype(np.float32))


@dataclass
class Table:
    """An attribute file as it was written: rows[i] holds the values of names[i] as text, values int8 (N, C)
    in {-1, 0, 1}."""

    names: list
    columns: list
    rows: list
    values: np.ndarray


def read_attributes(path: Path | str) -> Attributes:
    """A .txt (count, header, rows) or .csv (header, rows) file with values -1/1 or 0/1 -> Attributes.

    Raises UserError, with path and line, if there is no header, the count is wrong, a row is cut or named
    twice, or a value is neither.
    """
    table = read_table(path)
    return Attributes(table.names, table.columns, (table.values > 0).astype(np.int8), str(path))


def write_attributes(path: Path | str, attributes: Attributes) -> None:
    """Write the official text format: count, header, one row of 1/-1 per name; the file appears whole or not
    at all."""
    rows = [b" ".join(row) for row in np.where(attributes.values > 0, b" 1", b"-1").tolist()]
    files.write_atomic(path, format_table(attributes.names, attributes.columns, rows))


def format_table(names: Sequence[str], columns: Sequence[str], rows: Sequence[bytes]) -> bytes:
    """The bytes of a text attribute file.  Raises UserError for a file name with white space, which the
    format cannot hold."""
    spaced = [name for name in names if len(name.split()) != 1]
    if spaced:
        raise UserError(
            f"{shown(spaced[0])!r}: a file name with white space cannot stand in {FILE_NAMES[0]}; rename the"
            f" photo, or write {FILE_NAMES[1]}"
        )
    lines = [
        str(len(names)).encode(),
        " ".join(columns).encode("utf-8", "surrogateescape"),
        *(os.fsencode(name) + b" " + row for name, row in zip(names, rows, strict=True)),
    ]
    return b"\n".join(lines) + b"\n"


def format_csv(names: Sequence[str], columns: Sequence[str], rows: Sequence[bytes]) -> bytes:
    """The bytes of a CSV attribute file, for names that the text form cannot hold.  Raises UserError for one
    with a line break."""
    broken = [name for name in names if len(name.splitlines()) != 1]
    if broken:
        raise UserError(
            f"{shown(broken[0])}: a file name with a line break cannot stand in a list; rename the photo"
        )
    header = ",".join(["image_id", *columns]).encode("utf-8", "surrogateescape")
    quoted = (b'"%s"' % os.fsencode(name).replace(b'"', b'""') for name in names)
    body = (b",".join([name, *row.split()]) for name, row in zip(quoted, rows, strict=True))
    return b"\n".join([header, *body]) + b"\n"


def needs_csv(names: Sequence[str]) -> bool:
    """Whether some name holds white space or begins with a quote, which the text form cannot have."""
    return any(len(name.split()) != 1 or name[0] == '"' for name in names)


def read_table(path: Path | str, whole: bool = True) -> Table:
    """The file's rows as text and as numbers; checks all but the match with the photos.  Raises UserError.

    Args: whole  whether the number of rows must be the one that the first line tells
    """
    lines = read_lines(path, f"CelebA's attribute file, {' or '.join(FILE_NAMES)} (header, a row per photo)")
    count = lines[0].strip(b' \t"')
    announced = int(count) if count.isdigit() else None
    # line of the first row, from 0; the header stands before it
    first = 1 if announced is None else 2
    columns, separator, index = _header(path, lines, first)
    body = lines[first:]
    if whole and announced not in (None, len(body)):
        raise UserError(
            f"{path}: line 1 announces {announced} rows, found {len(body)}; "
            "the file is cut or was edited: get it again, or correct line 1"
        )
    if not body:
        raise UserError(f"{path}: holds a header but no rows; expected one row per photo; get the file again")
    names, rows = cut(body, separator, index)
    if separator == b" " and not is_photo(text_of(names[0])) and is_photo(text_of(rows[0].split(None, 1)[0])):
        names, rows = cut(body, separator, index=True)  # its header is blank, which blanks do not tell
    rows, values = _values(path, names, rows, columns, first + 1, separator)
    names = b"\n".join(names).decode("utf-8", "surrogateescape").split("\n")
    _refuse_duplicates(path, names, first + 1)
    return Table(names, columns, rows, values)


def _header(path, lines, first):
    """(columns, separator, whether an index column stands in front)"""
    line = lines[first - 1].strip() if len(lines) >= first else b""
    separator = separator_of(line)
    cells = cells_of(line, separator)
    if not any(cells) or is_photo(cells[0]) or len(cells) > 1 and all(map(VALUE.fullmatch, cells[1:])):
        found = f"the row {' '.join(cells[:4])} ..." if cells else "nothing"
        raise UserError(
            f"{path}: line {first}: found {shown(found)}, expected the header with the attributes' names; "
            "put the header back (split_dataset.py writes it)"
        )
    index = has_index(cells)
    if index:
        cells = cells[2:]
    elif separator != b" " or cells[0].lower() in NAME_COLUMNS:
        cells = cells[1:]
    twice = [c for i, c in enumerate(cells) if c in cells[:i]]
    if twice or not cells:
        raise UserError(
            f"{path}: line {first}: the header"
            f" {f'names {shown(twice[0])!r} twice' if twice else 'names no attribute'}; {AGAIN}"
        )
    return cells, separator, index


def _cells(rows):
    """The values of rows as bytes (uint8), where each cell starts, and how many each row has."""
    data = np.frombuffer(b"\n".join(rows) + b"\n ", np.uint8)
    blank = data <= 32
    starts = np.flatnonzero(~blank & np.concatenate(([True], blank[:-1])))  # first byte of every cell
    ends = np.flatnonzero(data == 10)  # end of every row
    return data, blank, starts, np.diff(np.searchsorted(starts, ends), prepend=0)


def _values(path, names, rows, columns, line, separator):
    """Text of the values -> the same as -1, 0 and 1, and int8 (N, C), by bytes: 8 million cells would take a
    loop over them many seconds.  Names that hold blanks are completed in place. `line`: the first row's."""
    data, blank, starts, counts = _cells(rows)
    wrong = np.flatnonzero(counts != len(columns)) if separator == b" " else ()
    for i in wrong:
        names[i], rows[i] = with_blanks(names[i], rows[i], len(columns))
    plain = _plain(rows, data)
    if len(wrong) or plain is not rows:
        rows = plain
        data, blank, starts, counts = _cells(rows)
    wrong = np.flatnonzero(counts != len(columns))
    if len(wrong):
        i = int(wrong[0])
        raise UserError(
            f"{path}: line {line + i}: found {counts[i]} values, expected {len(columns)}, one for each name"
            f" of the header; {AGAIN}"
        )
    single = blank[starts + 1]
    one, zero = single & (data[starts] == ord("1")), single & (data[starts] == ord("0"))
    minus = (
        (data[starts] == ord("-"))
        & (data[starts + 1] == ord("1"))
        & blank[np.minimum(starts + 2, len(data) - 1)]
    )
    wrong = np.flatnonzero(~(one | zero | minus))
    if len(wrong):
        i, k = divmod(int(wrong[0]), len(columns))
        found = shown(text_of(rows[i].split()[k]))
        raise UserError(
            f"{path}: line {line + i}: found {found!r} for {columns[k]}, expected -1 or 1 (or 0 or 1);"
            f" {AGAIN}"
        )
    return rows, (one.astype(np.int8) - minus.astype(np.int8)).reshape(len(rows), len(columns))


def _plain(rows, data):
    """Rows with 1.0, True and False, as tables that were read and written again have them, as whole
    numbers."""
    if not any((data == byte).any() for byte in b".eE"):
        return rows
    text = re.sub(rb"(?<!\S)([+-]?[01])\.0*(?!\S)", rb"\1", b"\n".join(rows))
    text = re.sub(rb"(?i)(?<!\S)true(?!\S)", b"1", text)
    return re.sub(rb"(?i)(?<!\S)false(?!\S)", b"-1", text).split(b"\n")


def _refuse_duplicates(path, names, line):
    if len(set(names)) == len(names):
        return
    seen = {}
    for i, name in enumerate(names):
        if name in seen:
            raise UserError(
                f"{path}: line {line + i}: {name} has a row already, line {line + seen[name]}; expected one"
                " row per photo; remove one"
            )
        seen[name] = i
