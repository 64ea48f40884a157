"""Picture of a table of methods that find poisoned samples: AUROC by poison and method.

The function takes a FilterTable of report.kinds.depois_rows and returns a matplotlib Figure, or None where
there is nothing to draw. Rows that examined or trusted other samples than most are left out.
"""

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.figures import light_grid, new_figure, panel_title, shades
from report.kinds.depois_rows import FOUND_FROM, MISSED, FilterTable
from report.spread import spread_of
from report.text import number

CHANCE = 0.5
HUES = {
    "de-pois": "#14843c",
    "isolation-forest": "#e8850c",
    "one-class-svm": "#8451c9",
    "knn-labels": "#1f6fc4",
    "loss": "#4d545c",
}
OTHER = "#b9863f"


def styles(labels: Sequence[str]) -> dict[str, tuple]:
    """{method: colour}: hue of the kind of method, lighter for each one of its kind that follows."""
    kinds = {}
    for label in labels:
        kinds.setdefault(max((k for k in HUES if label.startswith(k)), key=len, default=""), []).append(label)
    return shades({kind: HUES.get(kind, OTHER) for kind in kinds}, kinds)


def auc_by_poison(table: FilterTable) -> Figure | None:
    """A group of bars from chance for each poison, a bar for each method that ends in a dot, so that one at
    chance shows too; a band for not found."""
    aucs = {}
    for row in sorted(table.rows, key=lambda row: bool(row.marks)):
        if not row.apart and row.auc.value is not None:
            # another boundary leaves the AUROC as it is
            aucs.setdefault((row.poison, row.label), row.auc)
    labels = [
        label
        for label in dict.fromkeys(row.label for row in table.rows)
        if any(mine == label for _, mine in aucs)
    ]
    poisons = [poison for poison in table.poisons if any(mine == poison for mine, _ in aucs)]
    if len(labels) < 2:
        return None
    groups = {poison: [label for label in labels if (poison, label) in aucs] for poison in poisons}
    look, y, centres = styles(labels), 0, []
    figure = new_figure(9.6, 0.185 * (len(aucs) + 1.2 * len(poisons)) + 1.3 + 0.2 * -(-len(labels) // 2))
    axes = figure.add_subplot()
    left = min(CHANCE - 0.06, *(cell.value - spread_of(cell)[0] - 0.03 for cell in aucs.values()))
    axes.axvspan(left, FOUND_FROM, color="#f0f1f3", zorder=0)
    for poison, members in groups.items():
        centres.append(y + (len(members) - 1) / 2)
        for label in members:
            cell = aucs[poison, label]
            low, high = spread_of(cell)
            axes.barh(y, cell.value - CHANCE, left=CHANCE, color=look[label], height=0.85)
            axes.errorbar(
                cell.value,
                y,
                xerr=[[low], [high]],
                color=look[label],
                marker="o",
                markersize=4,
                ecolor="#111111",
                elinewidth=1,
                capsize=2,
            )
            axes.annotate(
                number(cell.value, "ssim"),
                (max(cell.value + high, CHANCE), y),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
            y += 1
        y += 1.2
    axes.axvline(CHANCE, color="#444444", linestyle=":", linewidth=1.4)
    axes.text(FOUND_FROM, -1.2, f"{MISSED} ", ha="right", va="center", fontsize=8, color="#5b6068")
    axes.set_xlim(
        left, max(1.0, *(cell.value + spread_of(cell)[1] for cell in aucs.values())) + 0.07 * (1 - left)
    )
    axes.set_ylim(y - 1.4, -1.9)
    axes.set_yticks(centres, ["\n".join(textwrap.wrap(poison, 22)) for poison in poisons])
    axes.set_xticks([tick / 10 for tick in range(11) if tick / 10 >= left])
    axes.set_xlabel("AUROC (0.5 = chance)")
    panel_title(axes, table.name, 80)
    light_grid(axes)
    axes.grid(False, axis="y")
    figure.legend(
        handles=[Patch(color=look[label], label=label) for label in labels],
        loc="outside lower left",
        ncols=2,
        fontsize=8.5,
        frameon=False,
    )
    return figure
