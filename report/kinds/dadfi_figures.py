"""Picture of a table of disruptions: l2 of the fakes by translator and attack.

The function takes a DisruptionTable of report.kinds.dadfi_rows and returns a matplotlib Figure, or None where
there is nothing to draw. Rows marked † are left out.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.figures import light_grid, log_scale, new_figure, panel_title, shades
from report.kinds.dadfi_rows import DisruptionRow, DisruptionTable
from report.looks import OTHER, look_of
from report.spread import L2, spread_of
from report.text import number

OWN = "#333333"  # made on the translator itself, whatever the attack


def styles(table: DisruptionTable, rows: Sequence[DisruptionRow]) -> dict[str, tuple]:
    """{label: colour} of rows of a table: what the attack declares, lighter for each one of that colour that
    follows."""
    labels = {}
    for row in reversed(rows):
        look = look_of(row.label, table.looks.attacks)
        labels.setdefault(OWN if row.own else look.colour if look else OTHER, []).append(row.label)
    return shades({colour: colour for colour in labels}, labels)


def l2_by_translator(table: DisruptionTable) -> Figure | None:
    """A group of bars for each translator, a bar for each attack, with intervals."""
    rows = [
        row
        for row in table.rows
        if not row.marks and any(row.of(name, "l2").value for name in table.translators)
    ]
    if len(rows) < 2:
        return None
    look, places = styles(table, rows), len(rows) + 1
    figure = new_figure(9.6, 0.21 * places * len(table.translators) + 1.2 + 0.2 * len(rows))
    axes, values = figure.add_subplot(), []
    bars = [
        (g * places + i, row, cell)
        for g, name in enumerate(table.translators)
        for i, row in enumerate(rows)
        if (cell := row.of(name, "l2")).value
    ]
    left = min(cell.value for *_, cell in bars) / 3
    for y, row, cell in bars:
        low, high = spread_of(cell)
        axes.barh(y, cell.value - left, left=left, color=look[row.label], height=0.85)
        axes.errorbar(cell.value, y, xerr=[[low], [high]], color="#111111", elinewidth=1, capsize=2)
        axes.annotate(
            number(cell.value),
            (cell.value + high, y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )
        values.append(cell.value)
    log_scale(axes.xaxis, values)
    axes.set_xlim(left, max(cell.value + spread_of(cell)[1] for *_, cell in bars) * 2.5)
    axes.set_yticks(
        [g * places + (len(rows) - 1) / 2 for g in range(len(table.translators))], table.translators
    )
    axes.set_ylim(places * len(table.translators) - 1.4, -0.6)
    axes.set_xlabel(f"{L2} (log scale)")
    panel_title(axes, table.name, 70)
    light_grid(axes)
    axes.grid(False, axis="y")
    figure.legend(
        handles=[Patch(color=look[row.label], label=row.label) for row in rows],
        loc="outside lower left",
        ncols=1,
        fontsize=8.5,
        frameon=False,
    )
    return figure
