"""Pictures of the worst case: l2 against the attacker's steps, and each defence's worst figure against that
of an attacker who ignores it.

Every function takes a table of defences and returns a matplotlib Figure, or None where nothing can be drawn.
"""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.figures import light_grid, log_scale, new_figure, panel_title
from report.kinds.defense_figures import legend, styles
from report.kinds.defense_robustness import EPS, L2, knows, measured, retrained, variant
from report.kinds.defense_rows import DefenseTable
from report.looks import natural
from report.rows import Cell, attack_text
from report.spread import L2 as L2_LABEL
from report.spread import spread_of
from report.text import number

STEPPING = ("pgd", "apgd", "worst")


def curves(table: DefenseTable) -> tuple[tuple, dict[str, list[tuple[int, Cell]]]] | None:
    """(attack without its steps, {row's defence: [(steps, Cell of l2), ...]}) of the attack through the
    defence that most defences met with two numbers of steps or more; None where there is none.

    Of several ways through a defence the one with the largest l2. `none` may have one point.
    """
    groups: dict[tuple, dict[str, dict[int, Cell]]] = {}
    undefended = set()
    for row in measured(table):
        a = dict(variant(row))
        steps, cell = a.pop("attack_steps", None), row.cell(L2)
        if a["attack"] in STEPPING and steps and cell.value > 0 and knows(row) and not retrained(row):
            key = (tuple(a.items()), row.get("config.num_images"))
            points = groups.setdefault(key, {}).setdefault(row.defence, {})
            points[steps] = max(points.get(steps, cell), cell, key=lambda c: c.value)
            undefended |= {row.defence} if row.get("config.defense") == "none" else set()
    long = {key: [d for d, p in g.items() if len(p) > 1 and d not in undefended] for key, g in groups.items()}
    key = max(long, key=lambda k: (len(long[k]), -abs(dict(k[0])["eps"] - EPS), k[1] or 0), default=None)
    if key is None or not long[key]:
        return None
    return key[0], {d: sorted(p.items()) for d, p in groups[key].items() if d in {*long[key], *undefended}}


def l2_by_steps(table: DefenseTable) -> Figure | None:
    """l2 of the purified fakes against the steps of an attack that knows the defence, a line per defence; the
    undefended translator is dashed."""
    if (found := curves(table)) is None:
        return None
    (attack, by_defence), look = found, styles(table)
    by_defence = {
        d: by_defence[d] for d in sorted(by_defence, key=lambda d: natural(d, table.looks.defences))
    }
    figure = new_figure(9.6, 4.6)
    axes = figure.add_subplot()
    for defence, points in by_defence.items():
        s = look[defence]
        if len(points) == 1:
            axes.axhline(points[0][1].value, color=s.color, linestyle=s.line, linewidth=1.6)
            continue
        axes.errorbar(
            [steps for steps, _ in points],
            [cell.value for _, cell in points],
            yerr=tuple(zip(*(spread_of(cell) for _, cell in points), strict=True)),
            color=s.color,
            marker=s.marker,
            linestyle=s.line,
            markersize=5,
            linewidth=1.6,
            elinewidth=0.9,
            capsize=2,
        )
    steps = sorted({steps for points in by_defence.values() if len(points) > 1 for steps, _ in points})
    log_scale(axes.xaxis, steps)
    axes.set_xticks(steps, [f"{n:g}" for n in steps])
    log_scale(axes.yaxis, [cell.value for points in by_defence.values() for _, cell in points])
    panel_title(axes, f"{attack_text(attack)}, through the defence")
    axes.set_xlabel("steps of the attacker (log scale)")
    axes.set_ylabel(L2_LABEL)
    light_grid(axes)
    legend(figure, look, {d: d for d in by_defence})
    return figure


def worst_against_ignored(table: DefenseTable) -> Figure | None:
    """A dumbbell per defence: its l2 under the attacker who ignores it and under the worst case, the best of
    the worst on top."""
    robust = table.robustness
    if robust is None:
        return None
    pairs = [
        (line, *(line.cells[h].cell(L2) for h in ("ignored", robust.worst)))
        for line in robust.lines
        if {"ignored", robust.worst} <= line.cells.keys()
    ]
    pairs = [pair for pair in pairs if pair[1].value > 0 and pair[2].value > 0]
    if not pairs:
        return None
    look, figure = styles(table), new_figure(9.6, 0.42 * len(pairs) + 1.7)
    axes = figure.add_subplot()
    pale = 0.45 if any(not line.marks for line, *_ in pairs) else 1
    for y, (line, ignored, worst) in enumerate(pairs):
        colour, alpha = look[line.main.defence].color, pale if line.marks else 1
        axes.plot(
            [ignored.value, worst.value], [y, y], color=colour, alpha=0.5 * alpha, linewidth=2.5, zorder=1
        )
        low, high = spread_of(worst)
        axes.errorbar(
            worst.value, y, xerr=[[low], [high]], color=colour, alpha=alpha, elinewidth=1, capsize=3, zorder=2
        )
        for cell, face in ((ignored, "white"), (worst, colour)):
            axes.plot(
                cell.value,
                y,
                "o",
                color=colour,
                markerfacecolor=face,
                markeredgewidth=1.6,
                markersize=8,
                alpha=alpha,
                zorder=3,
            )
        axes.annotate(
            number(worst.value),
            (max(ignored.value, worst.value + high), y),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    values = [cell.value for _, *cells in pairs for cell in cells]
    log_scale(axes.xaxis, values)
    axes.set_xlim(min(values) / 1.6, max(values) * 3)
    axes.set_yticks(
        range(len(pairs)), [line.label + "".join(f" †{i}" for i in line.marks) for line, *_ in pairs]
    )
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    panel_title(axes, f"eps {robust.eps:g}, {robust.name}")
    axes.set_xlabel(L2_LABEL + " (log scale)")
    light_grid(axes)
    axes.grid(False, axis="y")
    handles = [
        Line2D([], [], color="#555555", marker="o", linestyle="none", markersize=8, markerfacecolor=face)
        for face in ("white", "#555555")
    ]
    said = ["ignores the defence", "knows the defence, worst of several"]
    figure.legend(handles, said, loc="outside lower right", ncols=2, fontsize=9, frameon=False)
    return figure
