"""The parts of Markdown files that are written from records, so that no figure in them is typed.

Between a marker and `<!-- /table -->` stands what the marker asks for:

  <!-- MARKER:DATASET [OPTION=VALUE ...] -->

Each kind of record declares its markers (report/kinds/<kind>.py); their options leave some runs: photos=64
those on so many, gan=stargan those of one translator, under=demo_full those below a folder of that name,
radius=0.05 those of one eps; legend=no writes tables alone. A value of several words has + for a space.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from common.errors import UserError
from report import kinds
from report.comparison import Comparison
from report.markers import NoRecords, options_of
from report.text import escaped

END = "<!-- /table -->"


def markdown_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files among `paths`, and of its folders the *.md directly in them that hold a marker, by name.

    Raises: UserError for a folder that has none
    """
    files = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        held = [file for file in sorted(path.glob("*.md")) if END in file.read_text(encoding="utf-8")]
        if not held:
            raise UserError(f"{path}: no Markdown file in it holds a <!-- table:NAME --> marker")
        files += held
    return list(dict.fromkeys(files))


def text_of(path: str | Path, comparison: Comparison, kept: list[str] | None = None) -> str:
    """The Markdown file's text with everything between its markers rewritten.

    Args:    kept  a list: markers that ask for what has no records are appended to it and keep their text;
                   None: they are an error
    Raises:  UserError if the file cannot be read, holds no marker, or a marker has no end or asks for what
             has no records.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or 'not UTF-8 text'})") from e
    markers = {name: marker for kind in kinds.load_all() for name, marker in kind.markers.items()}
    pattern = re.compile(rf"<!--\s*({'|'.join(markers)}):(\S+)((?:\s+\w+=\S+)*)\s*-->")
    pieces, at = [], 0
    while match := pattern.search(text, at):
        end, following = text.find(END, match.end()), pattern.search(text, match.end())
        if end < 0 or (following and following.start() < end):
            raise UserError(f"{path}: the marker {match[0]} has no {END} after it")
        marker = markers[match[1]]
        try:
            part = marker.part(comparison, match[2], options_of(match[3], marker.options))
            body = f"\n{escaped(part)}\n"
        except UserError as e:
            if kept is None or not isinstance(e, NoRecords):
                raise UserError(f"{path}: the marker {match[0]} {e}") from e
            kept.append(match[0])
            body = text[match.end() : end]
        pieces += [text[at : match.end()], body]
        at = end
    if not pieces:
        raise UserError(f"{path}: holds no <!-- table:NAME --> marker")
    return "".join(pieces) + text[at:]
