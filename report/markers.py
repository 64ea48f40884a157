"""What markers of Markdown files share: their options, the runs that those leave, and parts of a table."""

from collections.abc import Callable, Mapping, Sequence

from common.errors import UserError
from report.rows import Run, Table


class NoRecords(UserError):
    """A marker asks for what has no records."""


OPTIONS = {  # (path, Record, value asked for) -> whether the run stays
    "photos": lambda path, record, n: record.config["num_images"] == n,
    "gan": lambda path, record, name: record.config["gan"] == name,
    "radius": lambda path, record, eps: record.config["eps"] == eps,
    "under": lambda path, record, folder: folder in path.parts,
}
# leaves no run out
LEGEND = {"legend": lambda path, record, word: True}
NUMBERS = {"photos", "radius", "rate", "size"}


def options_of(words: str, known: Mapping[str, Callable]) -> dict:
    """ " photos=500 gan=stargan" -> {"photos": 500.0, "gan": "stargan"}.  Raises UserError for a key not in
    `known`, or a number that is none."""
    options = dict(word.split("=", 1) for word in words.split())
    if unknown := [key for key in options if key not in known]:
        raise UserError(f"has the unknown option {unknown[0]}; one of: {', '.join(known)}")
    for key in options.keys() & NUMBERS:
        try:
            options[key] = float(options[key])
        except ValueError:
            raise UserError(f"has {key}={options[key]}: expected a number") from None
    return options


def runs_left(
    tables: Sequence[Table], dataset: str, options: Mapping, known: Mapping[str, Callable]
) -> list[tuple[Table, list[Run]]]:
    """[(table, its runs that the options leave)] of the data set, where some are left.  Raises NoRecords if
    nothing is."""
    runs = [
        (
            t,
            [
                run
                for row in t.rows
                for run in row.runs
                if all(known[key](*run, value) for key, value in options.items())
            ],
        )
        for t in tables
        if t.dataset == dataset
    ]
    if not any(mine for _, mine in runs):
        names = ", ".join(dict.fromkeys(t.dataset for t in tables)) or "none"
        raise NoRecords(f"asks for rows that no record has (data sets found: {names})")
    return [(table, mine) for table, mine in runs if mine]


def joined(tables: Sequence[Table], text_of_table: Callable[[Table], str]) -> str:
    """The tables' texts one after the other, under their names where there are several."""
    return "\n\n".join((f"**{t.name}**\n\n" if len(tables) > 1 else "") + text_of_table(t) for t in tables)


def parts_of(options: Mapping, known: Sequence[str]) -> tuple[str, ...]:
    """The parts that part= asks for, all where it is absent.  Raises UserError for one that is not known."""
    if (part := options.get("part")) not in (None, *known):
        raise UserError(f"has part={part}: one of {', '.join(known)}")
    return (part,) if part else tuple(known)


def with_legends(options: Mapping, text: str, *legends: str) -> str:
    """The text with the legends after it, unless legend=no."""
    return "\n\n".join([text, *(legends if options.get("legend") != "no" else ())])
