"""Tables as text: figures, Markdown for people, CSV for programs."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from report.rows import Cell, Row, Table

DASH = "–"
DECIMALS = {"share": 2, "decibel": 1, "points": 1, "ssim": 3}


@dataclass(frozen=True)
class Column:
    """key: dotted path in the record; style: how a figure is written; spread: with its interval or
    deviation; detail: folded away on the page at first."""

    heading: str
    key: str
    style: str
    spread: bool = False
    detail: bool = False


@dataclass
class Grid:
    """A table ready to be shown.

    headings, cells  texts, a list for each line;  left  how many of the first columns are words
    marked  of each line, whether it must not be compared;  best, missed  {(line, column)} to point out
    groups  of each line, what it shares with the lines that name their first column once; None: all name it
    detail  columns that the page folds away;  title, note  above the table;  italic  missed in Markdown too
    """

    headings: list[str]
    cells: list[list[str]]
    left: int
    marked: list[bool]
    best: set = field(default_factory=set)
    missed: set = field(default_factory=set)
    groups: list | None = None
    detail: set = field(default_factory=set)
    title: str = ""
    note: str = ""
    italic: bool = False

    def blocks(self) -> list[list[int]]:
        """The lines that follow one another and share their group."""
        blocks = []
        for i in range(len(self.cells)):
            if self.groups and i and self.groups[i] == self.groups[i - 1]:
                blocks[-1].append(i)
            else:
                blocks.append([i])
        return blocks

    def markdown(self) -> list[str]:
        """Lines of a Markdown table."""
        firsts = {block[0] for block in self.blocks()}

        def text(i, j, words):
            if j == 0 and i not in firsts:
                return ""
            if (i, j) in self.best:
                return bold(words)
            return bold(words).replace("**", "*") if self.italic and (i, j) in self.missed else words

        cells = [[text(i, j, words) for j, words in enumerate(line)] for i, line in enumerate(self.cells)]
        return markdown_table(self.headings, cells, self.left)


def number(value: float | None, style: str = "small") -> str:
    """A figure as text; a dash where it was not measured."""
    if value is None:
        return DASH
    if style == "count":
        return f"{value:.0f}"
    if style in DECIMALS:
        return f"{value:z.{DECIMALS[style]}f}"
    if value == 0:
        return "0"
    if style in ("short", "seconds"):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 1:
        return f"{value:.2f}"
    decimals = 4 if size >= 1e-3 else 5 if size >= 1e-4 else 6
    return f"{value:.{decimals}f}" if size >= 1e-5 else f"{value:.1e}"


def alike(value: float, text: str) -> str:
    """A spread with as many decimals as the figure `text` that it belongs to."""
    decimals = len(text.partition(".")[2])
    return f"{value:.1e}" if "e" in text else f"{value:z.{decimals or 4}f}"


def figure(row: Row, column: Column, table: Table | None = None) -> str:
    """The text of one cell."""
    if column.style == "distance":
        name, key = row.distance
        text = number(row.cell(key).value)
        return (
            text
            if table is None or len(_distances(table)) < 2 or text == DASH
            else f"{text} {name.split(' ')[0]}"
        )
    if column.style == "counts":
        return (
            f"{number(row.get('config.num_images'), 'count')} /"
            f" {number(row.get('config.num_pairs'), 'count')}"
        )
    cell = row.cell(column.key)
    text = number(cell.value, column.style)
    if (
        column.style == "seconds"
        and text != DASH
        and table is not None
        and len({r.get("cost.device") for r in table.rows}) > 1
    ):
        text += f" ({row.get('cost.device') or 'unknown device'})"  # of different machines
    if column.spread and cell.std is not None:
        text += f" ± {alike(cell.std, text)}"
    elif column.spread and cell.low is not None:
        text += f" [{alike(cell.low, text)}, {alike(cell.high, text)}]"
    return text


def _distances(table):
    return list(
        dict.fromkeys(row.distance[0] for row in table.rows if row.cell(row.distance[1]).value is not None)
    )


def heading(column: Column, table: Table) -> str:
    """A column's heading; that of the distance names its features."""
    return column.heading if column.style != "distance" else " or ".join(_distances(table)) or "frechet"


def mark(row: Row) -> str:
    """The signs of a row's footnotes."""
    return "".join(f" †{i}" for i in row.marks)


def seeds(row: Row) -> str:
    return ", ".join(map(str, row.seeds))


def why_marked(row: Row, table: Table) -> str:
    """The footnotes of a row, as text."""
    return "; ".join(table.notes[i - 1] for i in row.marks)


def deviation(cell: Cell | None, style: str) -> str:
    """A figure with its deviation over seeds, where it has one."""
    text = number(cell and cell.value, style)
    return text + (f" ± {alike(cell.std, text)}" if cell and cell.std is not None else "")


def escaped(markdown: str) -> str:
    """Markdown without tags and comments: what looks like one was a name."""
    return markdown.replace("<", "&lt;")


def markdown_table(headings: Sequence[str], cells: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of a Markdown table, padded so that it also reads as plain text; the first `left` columns are
    left-aligned."""
    texts = [[str(t).replace("|", "\\|") for t in line] for line in [headings, *cells]]
    widths = [max(3, *(len(line[i]) for line in texts)) for i in range(len(headings))]

    def line(words):
        return (
            "| "
            + " | ".join(
                w.ljust(n) if i < left else w.rjust(n)
                for i, (w, n) in enumerate(zip(words, widths, strict=True))
            )
            + " |"
        )

    rule = (
        "|"
        + "|".join(":" + "-" * (n + 1) if i < left else "-" * (n + 1) + ":" for i, n in enumerate(widths))
        + "|"
    )
    return [line(texts[0]), rule, *map(line, texts[1:])]


def bold(text: str) -> str:
    """The figure of a cell in bold, its spread as it is."""
    value, _, spread = text.partition(" ")
    return f"**{value}**" + (f" {spread}" if spread else "")


def footnotes(table: Table) -> list[str]:
    """Markdown lines below a table."""
    return [""] + [f"†{i} {note}.  " for i, note in enumerate(table.notes, 1)] if table.notes else []


def csv_text(headings: Iterable[str], lines: Iterable[Sequence]) -> str:
    """A CSV file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(lines)
    return out.getvalue()


def csv_headings(keys: Iterable[str]) -> list[str]:
    """Four fields for each figure."""
    return [key.removeprefix("metrics.") + end for key in keys for end in ("", "_low", "_high", "_seed_std")]


def csv_figures(cells: Iterable[Cell]) -> list[float | None]:
    """The fields of some figures under csv_headings: value, interval, deviation over seeds."""
    return [v for c in cells for v in (c.value, c.low, c.high, c.std)]
