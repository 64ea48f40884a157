"""Pictures of a table of detectors: accuracy by training photos at one poison rate, and accuracy against the
poison rate.

Every function takes a DetectorTable of report.kinds.detector_rows and returns a matplotlib Figure, or None
where there is nothing to draw. Rows marked † are left out. A defence has the same colour and marker in both
pictures, those of its family among defences; after a filter it is darker, its bar hatched, its line dashed
and its marker the filter's.
"""

from dataclasses import replace

from matplotlib.figure import Figure

from common.figures import light_grid, new_figure, panel_title
from report.kinds import defense_figures
from report.kinds.defense_figures import Style
from report.kinds.detector_rows import DetectorTable
from report.kinds.detector_statistics import ACCURACY
from report.looks import natural
from report.spread import spread_of
from report.text import number

CHANCE = 0.5
REFERENCES = {
    "clean": Style("#a6adb6", "o", "-"),
    "disrupted": Style("#4d4d4d", "o", "--"),
    "filtered": Style("#c79a00", "D", "-"),
}
FILTERS = "DdHph8"  # markers
LABEL = "accuracy on clean photos and their fakes"


def styles(table: DetectorTable) -> dict[str, Style]:
    """{training photos: Style}: those of tables of defences for defences, fixed ones for the rest; each
    filter has a marker of its own."""
    plain = defense_figures.styles(
        replace(table, rows=[replace(row, defence=row.purifier) for row in table.rows])
    )
    filters = sorted({_filter_of(row) for row in table.rows if row.kept})
    style_of = {}
    for row in table.rows:
        look = REFERENCES.get(row.condition) or plain[row.purifier]
        if row.kept:
            look = replace(look, marker=FILTERS[filters.index(_filter_of(row)) % len(FILTERS)])
            look = (
                look
                if row.condition == "filtered"
                else replace(look, color=tuple(0.6 * c for c in look.color), line=(0, (4, 1.5)))
            )
        style_of[row.defence] = replace(look, line=":") if row.blended else look
    return style_of


def _filter_of(row):
    """What the labels of one filter's rows end in, whether its samples alone were dropped or the rest
    purified too."""
    return row.defence.partition("filtered")[2]


def _measured(rows):
    return [row for row in rows if row.cell(ACCURACY).value is not None]


def _limits(cells, room, far=1.0):
    """Ends of an accuracy axis that holds all spreads, and chance unless all lie above `far`; `room` beyond
    the highest is a share of the whole."""
    low, high = (min(c.value - spread_of(c)[0] for c in cells), max(c.value + spread_of(c)[1] for c in cells))
    low, high = low if low > far else min(low, CHANCE), max(high, CHANCE + 0.05)
    return low - 0.04 * (high - low), high + room * (high - low)


def accuracy(table: DetectorTable) -> Figure | None:
    """A bar from chance to the accuracy for the clean row and each row of the table's common poison rate;
    lines at clean and disrupted."""
    rows = _measured(
        row for row in table.unmarked if row.condition == "clean" or row.rate == table.common_rate
    )
    if len(rows) < 2:
        return None
    look, figure = styles(table), new_figure(8.6, 0.36 * len(rows) + 1.9)
    axes = figure.add_subplot()
    for y, row in enumerate(rows):
        cell, s = row.cell(ACCURACY), look[row.defence]
        low, high = spread_of(cell)
        axes.barh(
            y,
            cell.value - CHANCE,
            left=CHANCE,
            color=s.color,
            height=0.7,
            hatch="//" if row.kept and row.condition == "purified" else None,
            edgecolor="white",
            linewidth=0,
        )
        axes.errorbar(cell.value, y, xerr=[[low], [high]], color="#111111", elinewidth=1.1, capsize=3)
        axes.annotate(
            number(cell.value, "ssim"),
            (max(cell.value + high, CHANCE), y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
        if row.condition in ("clean", "disrupted"):
            axes.axvline(
                cell.value, color=s.color, linestyle=s.line, linewidth=1.2, zorder=1.5, label=row.condition
            )
    axes.axvline(CHANCE, color="#444444", linestyle=":", linewidth=1.4, label="chance")
    axes.set_xlim(*_limits([row.cell(ACCURACY) for row in rows], 0.1))
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(LABEL)
    panel_title(
        axes, f"{table.name}, poison rate {table.common_rate:g}" if table.common_rate else table.name, 52
    )
    light_grid(axes)
    axes.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def by_rate(table: DetectorTable) -> Figure | None:
    """Accuracy against the poison rate, a line per kind of training photos; None where there are no two rates
    above 0."""
    if len(table.rates) < 2:
        return None
    look, figure = styles(table), new_figure(8.6, 4.6)
    axes = figure.add_subplot()
    lines = {
        name: measured
        for name, rows in table.by_rate().items()
        if (measured := sorted(_measured(rows.values()), key=lambda row: row.rate))
    }
    shown = sorted(lines, key=lambda name: (name != "disrupted", natural(name, table.looks.defences)))
    for i, name in enumerate(shown):
        s, cells = look.get(name, REFERENCES["disrupted"]), [row.cell(ACCURACY) for row in lines[name]]
        low, high = zip(*map(spread_of, cells), strict=True)
        aside = 0.006 * (i - (len(shown) - 1) / 2)  # whiskers side by side
        axes.errorbar(
            [row.rate + aside for row in lines[name]],
            [c.value for c in cells],
            yerr=(low, high),
            color=s.color,
            marker=s.marker,
            linestyle=s.line,
            markersize=5,
            linewidth=1.6,
            elinewidth=0.9,
            capsize=2,
            label=name
            + (" (at 0: clean)" if name.startswith("disrupted") and lines[name][0].rate == 0 else ""),
        )
    axes.set_ylim(*_limits([row.cell(ACCURACY) for rows in lines.values() for row in rows], 0.04, far=0.65))
    if axes.get_ylim()[0] < CHANCE:
        # a line that the legend lists last
        axes.errorbar([], [], color="#444444", linestyle=":", linewidth=1.4, label="chance")
        axes.axhline(CHANCE, color="#444444", linestyle=":", linewidth=1.4)
    axes.set_xticks(
        ticks := sorted({row.rate for rows in lines.values() for row in rows}),
        [f"{rate:g}" for rate in ticks],
    )
    axes.set_xlabel("poison rate (share of the training photos that was disrupted)")
    axes.set_ylabel(LABEL)
    panel_title(axes, table.name, 48)
    light_grid(axes)
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    return figure
