"""Picture of a table of disruptions: l2 of the fakes by translator and attack.

The function takes a DisruptionTable of report.kinds.dadfi_rows and returns a matplotlib Figure, or None where
there is nothing to draw. Rows marked † are left out.
"""

from matplotlib.patches import Patch

from common.figures import light_grid, log_scale, new_figure, panel_title, shades
from report.spread import L2, spread_of
from report.text import number

HUES = {
    "random sign": "#8a9099",
    "gaussian": "#b9bec5",
    "universal": "#e8850c",
    "DADFI": "#14843c",
    "own": "#333333",
}
OTHER = "#1f6fc4"  # made on one translator


def styles(rows):
    """{label: colour}: hue of the kind of attack, lighter for each one of its kind that follows."""
    kinds = {}
    for row in reversed(rows):
        kinds.setdefault(
            "own" if row.own else max((k for k in HUES if row.label.startswith(k)), key=len, default=""), []
        ).append(row.label)
    return shades({kind: HUES.get(kind, OTHER) for kind in kinds}, kinds)


def l2_by_translator(table):
    """A group of bars for each translator, a bar for each attack, with intervals."""
    rows = [
        row
        for row in table.rows
        if not row.marks and any(row.of(name, "l2").value for name in table.translators)
    ]
    if len(rows) < 2:
        return None
    look, places = styles(rows), len(rows) + 1
    figure = new_figure(9.6, 0.21 * places * len(table.translators) + 1.2 + 0.2 * len(rows))
    axes, values = figure.add_subplot(), []
    found = [
        (g * places + i, row, cell)
        for g, name in enumerate(table.translators)
        for i, row in enumerate(rows)
        if (cell := row.of(name, "l2")).value
    ]
    left = min(cell.value for *_, cell in found) / 3
    for y, row, cell in found:
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
    axes.set_xlim(left, max(cell.value + spread_of(cell)[1] for *_, cell in found) * 2.5)
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
