"""All records below some folders as tables of their kinds, and the whole as Markdown.

Knows no kind: what a kind is, its file in report/kinds declares.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError, shown
from report import kinds
from report.looks import Looks
from report.record import Record, read_all
from report.text import escaped

Runs = Sequence[tuple[Path, Record]]


@dataclass
class Comparison:
    """What some folders of runs hold."""

    looks: Looks
    tables: dict[str, list] = field(default_factory=dict)  # {kind: [Table]} of the kinds that have tables
    others: list = field(default_factory=list)  # [(path, Record)] of kinds that have none
    unknown: list = field(default_factory=list)  # [(path, kind)] of kinds that nobody has declared
    problems: list = field(default_factory=list)  # one line per record.json that could not be read
    replaced: list = field(default_factory=list)  # paths of older runs that a repeated run replaced


def compare(*folders: str | Path, looks: Callable[[], Looks]) -> Comparison:
    """Read every record below the folders.

    Args:    looks  called once they are read, as it may load much: a wrong folder is told at once
    Raises:  UserError if a folder has no record or none can be read
    """
    records, problems, undeclared = {}, [], []
    for folder in folders:
        readable, unread, unknown = read_all(folder)
        # a folder inside another counts once
        records |= {path.resolve(): (path, record) for path, record in readable}
        problems += [p for p in unread if p not in problems]
        undeclared += [u for u in unknown if u not in undeclared]
    if not records and not undeclared:
        raise UserError(
            f"{', '.join(map(str, folders))}: none of its {len(problems)} records can be read; the"
            f" first: {problems[0]}"
        )
    comparison = Comparison(looks(), problems=problems, unknown=undeclared)
    by_kind = defaultdict(list)
    for path, record in records.values():
        by_kind[record.kind].append((path, record))
    for kind in kinds.load_all():
        if kind.tables:
            comparison.tables[kind.name] = kind.shown(by_kind.pop(kind.name, []), comparison)
    comparison.others = [pair for runs in by_kind.values() for pair in runs]
    return comparison


def markdown(comparison: Comparison) -> str:
    """The whole comparison as a Markdown document."""
    parts = ["# Comparison"]
    for kind in kinds.load_all():
        tables = comparison.tables.get(kind.name)
        if not tables:
            continue
        parts += [f"## {kind.title}"] if kind.title else []
        for table in tables:
            parts += [f"{'###' if kind.title else '##'} {table.name}", kind.markdown(table)]
        parts += kind.legends
    for title, lines in remarks(comparison):
        parts += [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    # what runs are called comes from files: no markup of theirs goes through
    return escaped("\n\n".join(parts)) + "\n"


def remarks(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """What else the folders hold, as (title, lines): records without a table, gaps, replaced runs, unreadable
    files."""
    others = [f"{record.kind}: {record.name} ({path})" for path, record in comparison.others]
    others += [f"not compared: kind {kind} ({path})" for path, kind in comparison.unknown]
    gaps = {}
    for kind in kinds.load_all():
        lines = [line for table in comparison.tables.get(kind.name, []) for line in kind.gaps(table)]
        gaps[f"Missing from the tables of {kind.counted}"] = lines
    replaced = [str(path) for path in comparison.replaced]
    sections = {
        "Other records": others,
        **gaps,
        "Older runs, replaced by a repetition": replaced,
        "Not read": comparison.problems,
    }
    return [(title, [shown(line) for line in lines]) for title, lines in sections.items() if lines]
