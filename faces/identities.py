"""CelebA's identity file: which photos show one person."""

from pathlib import Path

from common.cli import UserError
from common.errors import shown
from common.listing import canonical, is_photo, some
from faces.lists import cells_of, cut, has_index, read_lines, separator_of, text_of, with_blanks


def read_identities(path: Path, names: list[str]) -> dict[str, str]:
    """name -> identity for every name, from rows `name identity`.  Raises UserError for a bad row, photos
    without one, or a file that tells the official parts in place of people."""
    lines = read_lines(path, "rows `name identity`", "--identity_path ")
    first = 1 if lines[0].strip().isdigit() else 0  # a count
    separator = separator_of(lines[first]) if first < len(lines) else b" "
    header = cells_of(lines[first], separator) if first < len(lines) else []
    if header and not any(map(is_photo, header)):
        first += 1
    else:
        header = []
    body = lines[first:]
    people, rests = cut(body, separator, has_index(header))
    identities = {}
    for number, (name, rest) in enumerate(zip(people, rests, strict=True), first + 1):
        if separator == b" ":
            name, rest = with_blanks(name, rest, 1)
        name, cells = canonical(text_of(name)), text_of(rest).split()
        if not (name or cells):
            continue
        if len(cells) != 1 or identities.setdefault(name, cells[0]) != cells[0]:
            line = shown(text_of(body[number - first - 1]))
            raise UserError(
                f"{path}: line {number}: found {line!r:.80}, expected `name identity`, each photo once;"
                " correct that line"
            )
    if identities and set(identities.values()) <= {"0", "1", "2"}:
        raise UserError(
            f"{path}: knows no numbers but 0, 1 and 2, as CelebA's list_eval_partition, which tells training,"
            " validation and test; expected the number of a person; give identity_CelebA.txt"
        )
    bare = [n for n in names if canonical(n) not in identities]
    if bare:
        raise UserError(f"{path}: has no identity for {len(bare)} photos ({some(bare)}); complete it")
    return {n: identities[canonical(n)] for n in names}
