"""What a kind of record declares, once: its schema, and how its records become tables, text, figures and
pages."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import registry
from common.figures import png
from report.comparison import Comparison, Runs
from report.rows import Table
from report.text import Grid, csv_text

# what a value of a wrong kind or size raises where it is shown
UNSHOWABLE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Csv:
    """A file of all tables of a kind.  lines  of some tables, one sequence of fields each;  always  without a
    table too"""

    file: str
    headings: Sequence[str]
    lines: Callable[[Sequence[Table]], Iterable[Sequence]]
    always: bool = False

    def text(self, tables: Sequence[Table]) -> str:
        return csv_text(self.headings, self.lines(tables))


@dataclass(frozen=True)
class Plot:
    """draw  "module:function" of a table -> matplotlib Figure, or None where there is nothing to draw;  wide:
    may hold two panels in a line"""

    draw: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Pictures:
    """Pictures that lie beside records.  files  [(path, alternative text, caption)], those that are there are
    shown;  summary  what they are: they are folded away under their number and it; "": in sight;  title
    above"""

    files: Sequence[tuple[Path, str, str]]
    summary: str = ""
    title: str = ""


@dataclass(frozen=True)
class Marker:
    """A marker of a Markdown file.  part  (comparison, data set, {option: value}) -> the text that it asks
    for;
    options  {name: (path, Record, value) -> whether the run stays};  help  what it writes"""

    part: Callable[[Comparison, str, dict], str]
    options: Mapping[str, Callable]
    help: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of record.

    schema    {"config", "metrics", "per_group", "cost", "provenance"}: what a record must hold
              (report.schema)
    tables    (runs, comparison so far) -> tables; None: its records are listed, and read by markers alone
    title     heading of its section; "" = a section for each table;  counted  what its tables are of
    markdown  a table as text with its footnotes;  grids  a table's parts for the page, under `intro`
    legends   Markdown paragraphs, once for all tables;  gaps  why a table has dashes, one line each
    names     of the files of each table's plots;  pictures  beside the records of a table
    """

    name: str
    schema: Mapping[str, Mapping]
    tables: Callable[[Runs, Comparison], list[Table]] | None = None
    title: str = ""
    counted: str = ""
    markdown: Callable[[Table], str] = str
    grids: Callable[[Table], list[Grid]] = lambda table: []
    intro: Callable[[Table], str] = lambda table: ""
    legends: Sequence[str] = ()
    gaps: Callable[[Table], list[str]] = lambda table: []
    csv: Csv | None = None
    plots: Mapping[str, Plot] = field(default_factory=dict)
    names: Callable[[Sequence[Table]], list[str]] = lambda tables: [t.name for t in tables]
    pictures: Callable[[Table], list[Pictures]] = lambda table: []
    markers: Mapping[str, Marker] = field(default_factory=dict)

    def shown(self, runs: Runs, comparison: Comparison) -> list[Table]:
        """The tables of these records; one that fits its schema and yet cannot be shown is listed as not
        read."""
        replaced = list(comparison.replaced)
        try:
            return self._written(runs, comparison)
        except UNSHOWABLE:
            comparison.replaced = replaced
        good = []
        for path, record in runs:
            try:
                self._written([(path, record)], Comparison(comparison.looks))
                good.append((path, record))
            except UNSHOWABLE as e:
                why = f"{type(e).__name__}: {' '.join(str(e).split())[:80]}"
                comparison.problems.append(f"{path}: cannot be shown ({why}); run that test again")
        return self.tables(good, comparison)

    def _written(self, runs, comparison):
        tables = self.tables(runs, comparison)
        for table in tables:
            self.markdown(table)
        return tables

    def draw(self, table: Table) -> dict[str, bytes]:
        """{plot name: PNG bytes} of all that can be drawn for a table."""
        figures = {name: registry.load(plot.draw)(table) for name, plot in self.plots.items()}
        return {name: png(figure) for name, figure in figures.items() if figure is not None}
