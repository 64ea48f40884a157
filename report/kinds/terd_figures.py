"""Picture of a table of scanned models: mean against variance of the divergence of the trigger found from
clean noise.

The function takes a ScanTable of report.kinds.terd_tables and returns a matplotlib Figure, or None where
there is nothing to draw. Models of the table's plan alone.
"""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.figures import light_grid, log_scale, new_figure, panel_title
from report.kinds.terd_rows import ATTACKS, UNKNOWN, attack_name
from report.kinds.terd_tables import ScanTable

MEAN, VARIANCE = "metrics.mean_kl", "metrics.var_kl"
HUES = {
    "benign": "#14843c",
    "baddiffusion": "#d62f2f",
    "trojdiff": "#1f6fc4",
    "villan": "#8451c9",
    "unknown": "#4d545c",
}
OTHER = "#b9863f"
MARKERS = {"benign": "o", "unknown": "s"}
CROSS = "x"
HARDER, STANDARD = 0.45, 1.0  # how strongly they are drawn


def limit(table: ScanTable) -> tuple:
    """(M_r, V_r, least M_r) of the benign rule, None each where the record has none; of the first standard
    model that may be compared."""
    row = next((row for row in table.models if row.standard and not row.marks), None)
    return tuple(row and row.get(f"metrics.limits.{key}") for key in ("mean_kl", "var_kl", "floor"))


def kl(table: ScanTable) -> Figure | None:
    """Benign models as circles, backdoored ones as crosses, harder ones paler and named; the region that the
    benign rule passes is grey."""
    rows = [
        row
        for row in table.rows
        if row.defence == table.plan and None not in (row.cell(MEAN).value, row.cell(VARIANCE).value)
    ]
    if len(rows) < 2:
        return None
    figure = new_figure(7.6, 5.2)
    axes = figure.add_subplot()
    lifted = {}  # a log axis has no place for 0
    for key in (MEAN, VARIANCE):
        least = min((v for row in rows if (v := row.cell(key).value) > 0), default=1.0)
        lifted[key] = [max(row.cell(key).value, least / 3) for row in rows]
    for row, x, y in zip(rows, lifted[MEAN], lifted[VARIANCE], strict=True):
        color, marker = HUES.get(row.kind, OTHER), MARKERS.get(row.kind, CROSS)
        hollow = "none" if row.unlike and marker != CROSS else color
        axes.plot(
            x,
            y,
            marker=marker,
            color=color,
            markerfacecolor=hollow,
            markersize=8,
            markeredgewidth=1.8,
            linestyle="none",
            alpha=HARDER if row.unlike else STANDARD,
        )
        words = ", ".join(filter(None, (row.unlike, row.wrong, row.label if row.kind == UNKNOWN else "")))
        # of the middle: the words stand on the other side
        right = x * x > min(lifted[MEAN]) * max(lifted[MEAN])
        axes.annotate(
            words,
            (x, y),
            xytext=(-7 if right else 7, -3),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=7,
            color=color,
        )
    _passed(axes, limit(table), lifted)
    axes.set_xlabel("M_r, mean divergence from clean noise (log scale)")
    axes.set_ylabel("V_r, its variance (log scale)")
    panel_title(axes, table.name, 80)
    light_grid(axes)
    kinds = [
        kind
        for kind in (*ATTACKS, *sorted({row.kind for row in rows} - {*ATTACKS}))
        if any(row.kind == kind for row in rows)
    ]
    handles = [
        Line2D(
            [],
            [],
            color=HUES.get(kind, OTHER),
            marker=MARKERS.get(kind, CROSS),
            markeredgewidth=1.8,
            linestyle="none",
            markersize=7,
        )
        for kind in kinds
    ]
    figure.legend(
        handles,
        [attack_name(kind) for kind in kinds],
        loc="outside lower left",
        ncols=len(kinds),
        fontsize=8.5,
        frameon=False,
    )
    return figure


def _passed(axes, limits, shown):
    """Axes that hold all points and the limit, and in grey what the rule passes: below the least M_r, or
    below both limits."""
    mean, variance, floor = limits
    for axis, values, ends in (
        (axes.xaxis, shown[MEAN], (mean, floor)),
        (axes.yaxis, shown[VARIANCE], (variance,)),
    ):
        log_scale(axis, [*values, *(end for end in ends if end)])
    if mean is None or variance is None:
        return
    (left, right), (low, high), floor = axes.get_xlim(), axes.get_ylim(), floor or 0
    axes.fill_between([left, max(left, floor)], low, high, color="#eceef1", linewidth=0, zorder=0)
    if mean > floor:
        axes.fill_between([max(left, floor), mean], low, variance, color="#eceef1", linewidth=0, zorder=0)
    corner = max(mean, floor)
    xs, ys = (
        ([floor, floor, corner, corner], [high, variance, variance, low])
        if floor > left
        else ([left, corner, corner], [variance, variance, low])
    )
    axes.plot(xs, ys, color="#444444", linestyle=":", linewidth=1.4)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
