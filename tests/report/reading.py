"""What tests of tables share: made-up records as tables, and the lines of a text."""

from report import docs
from report.comparison import Comparison
from report.record import Record
from report.rows import Row
from synthetic import compare_runs, detector, save


def comparison_of(folder, *records) -> Comparison:
    """The comparison of records, saved below a folder."""
    for record in records:
        save(folder, record)
    return compare_runs(folder)


def tables_of(kind, folder, *records) -> list:
    """Their tables of a kind."""
    return comparison_of(folder, *records).tables[kind]


def table_of(kind, folder, *records):
    """Their only table of a kind."""
    (table,) = tables_of(kind, folder, *records)
    return table


def cells_of(line) -> list[str]:
    """The cells of a line of a Markdown table; | in a cell becomes &."""
    return [cell.strip() for cell in line.replace("\\|", "&").strip("|").split("|")]


def blocks(text, heading="") -> list[list[list[str]]]:
    """The Markdown tables of a text that have a heading, each as lists of cells; "": those with nothing
    above."""
    return [
        [cells_of(line) for line in block.splitlines() if line.startswith("| ")]
        for block in text.split("\n\n")
        if (f"| {heading}" in block if heading else block.startswith("|"))
    ]


def line_of(text, start) -> dict[str, str]:
    """{heading: text} of the line of a Markdown table whose first cell is `start`."""
    lines = [cells_of(line) for line in text.splitlines() if line.startswith("|")]
    (line,) = [cells for cells in lines if cells[0] == start]
    return dict(zip(lines[0], line, strict=True))


def lines_of(grid) -> list[dict[str, str]]:
    """[{heading: cell text}] of a grid."""
    return [dict(zip(grid.headings, texts, strict=True)) for texts in grid.cells]


def rows_of(table) -> dict[tuple, Row]:
    """{(label, poison rate): row} of a table of detectors."""
    return {(row.label, row.rate): row for row in table.rows}


def seeds_of(name, *accuracies, **config) -> list[Record]:
    """Records of detectors that differ in the seed and its accuracy."""
    return [detector(name, accuracy, seed=i, **config) for i, accuracy in enumerate(accuracies)]


def write(tmp_path, text, *records) -> str:
    """README.md of this text with its markers filled by records, saved below tmp_path."""
    (tmp_path / "README.md").write_text(text)
    return docs.text_of(tmp_path / "README.md", comparison_of(tmp_path / "results", *records))


def lines(text) -> dict[str, list[str]]:
    """{first cell: the others} of the Markdown tables of a text."""
    return {
        cells[0]: cells[1:]
        for cells in (cells_of(line) for line in text.splitlines() if line.startswith("| "))
    }
