"""CelebA's attribute file, text or csv: columns looked up by name, rows matched to photos by file name, every
fault one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common import files
from common.cli import UserError, nearest

if TYPE_CHECKING:
    import torch

FILE_NAMES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
# first header cells that are no attribute
NAME_COLUMNS = ("image_id", "image", "filename", "file_name", "file", "name")
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
            f"{spaced[0]!r}: a file name with white space cannot stand in {FILE_NAMES[0]}; rename the photo"
        )
    lines = [
        str(len(names)).encode(),
        " ".join(columns).encode(),
        *(name.encode() + b" " + row for name, row in zip(names, rows, strict=True)),
    ]
    return b"\n".join(lines) + b"\n"


def read_table(path: Path | str) -> Table:
    """The file's rows as text and as numbers; checks all but the match with the photos.  Raises UserError."""
    lines = _lines(path)
    announced = int(lines[0]) if lines[0].strip().isdigit() else None
    # line of the first row, from 0; the header stands before it
    first = 1 if announced is None else 2
    columns, separator = _header(path, lines, first)
    body = lines[first:]
    if announced not in (None, len(body)):
        raise UserError(
            f"{path}: line 1 announces {announced} rows, found {len(body)}; "
            "the file is cut or was edited: get it again, or correct line 1"
        )
    if not body:
        raise UserError(f"{path}: holds a header but no rows; expected one row per photo; get the file again")
    cut = [line.partition(separator) for line in body]
    rows = (
        [rest.replace(separator, b" ") for _, _, rest in cut]
        if separator != b" "
        else [rest for _, _, rest in cut]
    )
    values = _values(path, rows, columns, first + 1)
    names = b"\n".join(name.strip() for name, _, _ in cut).decode("utf-8", "surrogateescape").split("\n")
    _refuse_duplicates(path, names, first + 1)
    return Table(names, columns, rows, values)


def _lines(path):
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise UserError(
            f"{path}: cannot be read ({e.strerror}); expected CelebA's attribute file,"
            f" {' or '.join(FILE_NAMES)}"
        ) from e
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\t", b" ").replace(b'"', b"")
    if data.lstrip()[:1] == b"<":
        raise UserError(
            f"{path}: an HTML page saved under this name, expected an attribute file; download it again by"
            " hand"
        )
    if b"\0" in data[:65536]:
        raise UserError(f"{path}: not a text file, expected an attribute file in UTF-8; get it again")
    lines = data.rstrip().splitlines()
    if not lines:
        raise UserError(f"{path}: empty, expected count, header and rows; get the file again")
    return lines


def _header(path, lines, first):
    line = lines[first - 1].strip() if len(lines) >= first else b""
    separator = next((s for s in (b",", b";") if s in line), b" ")
    cells = [
        c.strip().decode("utf-8", "replace")
        for c in (line.split() if separator == b" " else line.split(separator))
    ]
    if not cells or len(cells) > 1 and all(c in ("-1", "0", "1") for c in cells[1:]):
        found = f"the row {' '.join(cells[:4])} ..." if cells else "nothing"
        raise UserError(
            f"{path}: line {first}: found {found}, expected the header with the attributes' names; "
            "put the header back (split_dataset.py writes it)"
        )
    if separator != b" " or cells[0].lower() in NAME_COLUMNS:
        cells = cells[1:]
    twice = [c for i, c in enumerate(cells) if c in cells[:i]]
    if twice or not cells:
        raise UserError(
            f"{path}: line {first}: the header"
            f" {f'names {twice[0]!r} twice' if twice else 'names no attribute'}; {AGAIN}"
        )
    return cells, separator


def _values(path, rows, columns, line):
    """Text of the values -> int8 (N, C), by bytes: 8 million cells would take a loop over them many seconds.
    `line`: the first row's."""
    data = np.frombuffer(b"\n".join(rows) + b"\n ", np.uint8)
    blank = data <= 32
    starts = np.flatnonzero(~blank & np.concatenate(([True], blank[:-1])))  # first byte of every cell
    ends = np.flatnonzero(data == 10)  # end of every row
    counts = np.diff(np.searchsorted(starts, ends), prepend=0)
    wrong = np.flatnonzero(counts != len(columns))
    if len(wrong):
        i = int(wrong[0])
        raise UserError(
            f"{path}: line {line + i}: found {counts[i]} values, expected {len(columns)}, one for each name"
            f" of the header; {AGAIN}"
            + (" (a file name with a space needs the .csv form)" if counts[i] > len(columns) else "")
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
        found = rows[i].split()[k].decode("utf-8", "replace")
        raise UserError(
            f"{path}: line {line + i}: found {found!r} for {columns[k]}, expected -1 or 1 (or 0 or 1);"
            f" {AGAIN}"
        )
    return (one.astype(np.int8) - minus.astype(np.int8)).reshape(len(rows), len(columns))


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
