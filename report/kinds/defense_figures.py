"""Pictures of a table of defences: l2 against eps, l2 by defence, photo against fake, cost
against fake.

Every function takes a Table of report.rows and returns a matplotlib Figure, or None where there is nothing to
draw. A defence has the same colour and marker in all pictures of a table; its family gives the hue.
"""

from dataclasses import dataclass

from matplotlib import colors, ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.figures import light_grid, log_scale, new_figure, panel_title
from report.looks import OTHER, look_of, natural
from report.rows import Table, attack_text, protocol_of
from report.spread import L2, spread_of
from report.text import mark, number

MARKERS = "osD^vP*X<>hp"
MOST_PANELS = 6


@dataclass(frozen=True)
class Style:
    color: tuple
    marker: str
    line: str


def styles(table: Table) -> dict[str, Style]:
    """{defence: Style}: the declared colour, lighter and with another marker for each further member of
    it."""
    declared, members, style = table.looks.defences, {}, {}
    for label in sorted({row.defence for row in table.rows}, key=lambda d: natural(d, declared)):
        look = look_of(label, declared)
        colour = look.colour if look else OTHER
        place = members[colour] = members.get(colour, -1) + 1
        light = min(0.22 * place, 0.55)
        style[label] = Style(
            tuple(c + (1 - c) * light for c in colors.to_rgb(colour)),
            MARKERS[place % len(MARKERS)],
            "--" if label.startswith("none") else "-",
        )
    return style


def legend(figure: Figure, look: dict[str, Style], labels: dict[str, str], line: bool = True) -> None:
    """The defences beside the panels, `labels` {defence: text}."""
    handles = [
        Line2D(
            [],
            [],
            color=look[d].color,
            marker=look[d].marker,
            linestyle=look[d].line if line else "none",
            markersize=6 if line else 8,
        )
        for d in labels
    ]
    figure.legend(handles, list(labels.values()), loc="outside right upper", fontsize=9, frameon=False)


def curves(table: Table) -> dict[tuple, dict[str, list]]:
    """{protocol: {defence: [(reached eps, Cell of l2), ...]}} of the attacks that do not go through a
    defence.

    eps 0 is the undisturbed photo. Where a defence ran on several numbers of photos, the number with most eps
    makes the curve; where some defences met several eps, those that met one have none.
    """
    rows = {}
    for row in table.rows:
        a = dict(row.attack)
        if (
            a["attack"] != "none"
            and "attack_through" not in a
            and row.cell("metrics.purified.l2").value is not None
        ):
            key = (protocol_of(row.attack), row.defence)
            rows.setdefault(key, {}).setdefault(row.get("config.num_images"), []).append(row)
    curves_of = {}
    for (protocol, defence), by_number in rows.items():
        mine = max(
            by_number.values(),
            key=lambda rs: (
                len({dict(r.attack).get("eps") for r in rs}),
                rs[0].get("config.num_images") or 0,
            ),
        )
        points = [
            (reached, row.cell("metrics.purified.l2"))
            for row in mine
            if (reached := row.cell("metrics.input.disrupted.linf").value or row.get("config.eps"))
            is not None
        ]
        clean = mine[0].cell("metrics.clean_purified.l2")
        points += [(0.0, clean)] if clean.value is not None else []
        curves_of.setdefault(protocol, {})[defence] = sorted(
            (p for p in points if p[1].value > 0), key=lambda p: p[0]
        )
    several = {
        p: long
        for p, c in curves_of.items()
        if (long := {d: points for d, points in c.items() if sum(eps > 0 for eps, _ in points) > 1})
    }
    return dict(list((several or curves_of).items())[:MOST_PANELS])


def l2_by_eps(table: Table) -> Figure | None:
    """l2 of the purified fakes against the eps that the attack reached, a panel per attack, a line per
    defence."""
    panels = {p: c for p, c in curves(table).items() if any(c.values())}
    if not panels:
        return None
    look, columns = styles(table), min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(5.4 * columns + 2.4, 4.3 * lines)
    for i, (protocol, by_defence) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        for defence in sorted(by_defence, key=lambda d: natural(d, table.looks.defences)):
            if not (points := by_defence[defence]):
                continue
            s = look[defence]
            low, high = zip(*(spread_of(cell) for _, cell in points), strict=True)
            axes.errorbar(
                [p[0] for p in points],
                [p[1].value for p in points],
                yerr=(low, high),
                color=s.color,
                marker=s.marker,
                linestyle=s.line,
                markersize=5,
                linewidth=1.6,
                elinewidth=0.9,
                capsize=2,
            )
        log_scale(axes.yaxis, [c.value for points in by_defence.values() for _, c in points])
        panel_title(axes, attack_text(protocol, eps=False))
        axes.set_xlabel("eps reached (L-inf, [-1,1] units; 0 = undisturbed)")
        axes.set_ylabel(L2)
        light_grid(axes)
    shown = sorted(
        {d for by_defence in panels.values() for d, points in by_defence.items() if points},
        key=lambda d: natural(d, table.looks.defences),
    )
    legend(figure, look, {d: d for d in shown})
    return figure


def _measured(table, attack):
    """The rows of an attack that have an l2; of a defence with several rows the unmarked ones, where there
    are any."""
    rows = [r for r in table.block(attack) if r.cell("metrics.purified.l2").value is not None]
    unmarked = {r.defence for r in rows if not r.marks}
    return sorted(
        (r for r in rows if not r.marks or r.defence not in unmarked),
        key=lambda r: natural(r.defence, table.looks.defences),
    )


def l2_by_defence(table: Table) -> Figure | None:
    """Bars of l2 with intervals at the eps of the main attack, a panel per attack of that eps with two
    defences or more."""
    eps = dict(table.main).get("eps")
    attacks = [
        a
        for a in table.attacks()
        if dict(a).get("eps") == eps and "attack_through" not in dict(a) and len(_measured(table, a)) > 1
    ][:MOST_PANELS]
    if not attacks:
        return None
    look, columns = styles(table), min(2, len(attacks))
    blocks = [_measured(table, a) for a in attacks]
    # bars of equal height in all panels of a line
    longest = [max(map(len, blocks[i : i + columns])) for i in range(0, len(blocks), columns)]
    lines, heights = len(longest), [0.32 * n + 1.1 for n in longest]
    figure = new_figure(7.4 * columns, sum(heights))
    panels = figure.subplots(lines, columns, squeeze=False, gridspec_kw={"height_ratios": heights}).ravel()
    for axes in panels[len(attacks) :]:
        axes.set_visible(False)
    all_cells = [r.cell("metrics.purified.l2") for rows in blocks for r in rows]
    positive = [c.value for c in all_cells if c.value > 0] or [1e-6]
    left, right = min(positive) / 3, max(c.value + spread_of(c)[1] for c in all_cells) * 4
    for i, (axes, attack, rows) in enumerate(zip(panels, attacks, blocks, strict=False)):
        pale = 0.45 if any(not r.marks for r in rows) else 1
        for y, row in enumerate(rows):
            cell = row.cell("metrics.purified.l2")
            low, high = spread_of(cell)
            axes.barh(
                y,
                max(cell.value, left),
                color=look[row.defence].color,
                alpha=pale if row.marks else 1,
                height=0.7,
            )
            if cell.value > 0:
                axes.errorbar(cell.value, y, xerr=[[low], [high]], color="#111111", elinewidth=1.1, capsize=3)
            axes.annotate(
                number(cell.value),
                (max(cell.value + high, left), y),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        log_scale(axes.xaxis, positive)
        axes.set_xlim(left, max(right, left * 10))
        axes.set_yticks(range(len(rows)), [r.defence + mark(r) for r in rows])
        axes.set_ylim(longest[i // columns] - 0.5, -0.5)
        panel_title(axes, attack_text(attack))
        axes.set_xlabel(L2 + " (log scale)")
        light_grid(axes)
        axes.grid(False, axis="y")
    return figure


def _scatter(table, x_key, x_label, log_x):
    rows = [
        r
        for r in _measured(table, table.main)
        if r.cell("metrics.purified.l2").value > 0
        and (v := r.cell(x_key).value) is not None
        and (v > 0 or not log_x)
    ]
    if len(rows) < 2:
        return None
    look, figure = styles(table), new_figure(7.8, 4.6)
    axes = figure.add_subplot()
    values = [r.cell(x_key).value for r in rows]
    for i, row in enumerate(rows):
        cell, s, x = row.cell("metrics.purified.l2"), look[row.defence], values[i]
        low, high = spread_of(cell)
        if not log_x:  # several defences share a whole number: side by side
            side = values[:i].count(x) - (values.count(x) - 1) / 2
            x = x + 0.1 * side if x < 1 else x * 1.07**side
        axes.errorbar(
            x,
            cell.value,
            yerr=[[low], [high]],
            color=s.color,
            marker=s.marker,
            linestyle="none",
            markersize=8,
            markeredgecolor="white",
            markeredgewidth=0.6,
            elinewidth=1,
        )
    if log_x:
        log_scale(axes.xaxis, values)
    else:
        ticks = [t for t in (0, 1, 3, 10, 30, 100, 300, 1000) if t <= max(values) * 1.3]
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_xlim(-0.45, max(max(values), 1) * 1.4)
    log_scale(axes.yaxis, [r.cell("metrics.purified.l2").value for r in rows])
    axes.set_xlabel(x_label)
    axes.set_ylabel(L2)
    panel_title(axes, attack_text(table.main), 40)  # the legend leaves these axes less room
    light_grid(axes)
    legend(figure, look, {r.defence: r.defence + mark(r) for r in rows}, line=False)
    return figure


def photo_against_fake(table: Table) -> Figure | None:
    """How well the photo comes back against how well the fake comes back, under the main attack; the lower
    left corner is best."""
    return _scatter(table, "metrics.input.purified.l2", "mean squared error of the purified photo", True)


def cost_against_fake(table: Table) -> Figure | None:
    """Network evaluations per photo against l2 of the fakes, under the main attack."""
    return _scatter(table, "cost.nfe", "network evaluations per photo", False)
