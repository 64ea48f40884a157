"""A picture of the cross tables: what each cure is worth where the attacker ignores it, guesses another one,
or guesses it."""

from matplotlib.figure import Figure

from common.figures import light_grid, new_figure, panel_title
from report.kinds.detector_cross import UNCURED, Cross, crosses_of
from report.kinds.detector_figures import CHANCE
from report.kinds.detector_rows import DetectorTable
from report.kinds.detector_words import test_words
from report.spread import spread_of

MARKS = {"ignored": ("o", "#2f7d4f"), "another guessed": (".", "#8a8f98"), "guessed": ("X", "#b3261e")}
PANELS = 4


def worst_guess(table: DetectorTable) -> Figure | None:
    """A line per cure between its accuracies under the attackers, a panel per test set, at the highest poison
    rate; None without a cure that was guessed."""
    crosses = [
        c for c in crosses_of(table.setting_tables) if any(c.own(label) is not None for label in c.rows)
    ]
    if not crosses:
        return None
    cross = crosses[-1]
    tests = [t for t in cross.tests if any(_points(cross, label, t) for label in cross.rows)][:PANELS]
    figure = new_figure(3.4 * len(tests) + 1.6, 0.34 * len(cross.rows) + 1.9)
    panels = figure.subplots(1, len(tests), sharey=True, squeeze=False)[0]
    labels, legend = list(cross.rows), {}
    for axes, test in zip(panels, tests, strict=True):
        for y, label in enumerate(labels):
            points = _points(cross, label, test)
            if len(points) > 1:
                values = [cell.value for _, cell in points]
                axes.plot([min(values), max(values)], [y, y], color="#c9ccd1", linewidth=2, zorder=1)
            for kind, cell in points:
                marker, color = MARKS[kind]
                low, high = spread_of(cell)
                legend[kind] = axes.errorbar(
                    cell.value,
                    y,
                    xerr=[[low], [high]],
                    color=color,
                    marker=marker,
                    markersize=7,
                    linestyle="none",
                    elinewidth=0.9,
                    capsize=2,
                )
        axes.axvline(CHANCE, color="#444444", linestyle=":", linewidth=1.2)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("accuracy")
        panel_title(axes, test_words(test) if test else "photos and fakes of C", 34)
        light_grid(axes)
    figure.suptitle(f"{cross.table.setting}, poison rate {cross.rate:g}", fontsize=10)
    figure.legend(
        legend.values(), legend.keys(), loc="outside lower center", ncols=3, fontsize=9, frameon=False
    )
    return figure


def _points(cross: Cross, label: str, test: str | None):
    """[(kind of MARKS, Cell)] of a row."""
    own, points = cross.own(label), []
    for i, attack in enumerate(cross.attacks):
        cell = cross.cell(label, i, test)
        if cell is None or cell.value is None:
            continue
        through = dict(attack).get("attack_through")
        points.append(("guessed" if i == own else "another guessed" if through else "ignored", cell))
    return points[:1] if label in UNCURED[:1] else points
