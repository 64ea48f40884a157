"""Pictures of a detector: how its training went, and its ROC on several test sets.

Every function returns a matplotlib Figure, or None where there is nothing to draw; common.figures.png makes a
file of it. What it says about single photos is drawn by models.detector.pictures.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import auc

from common.figures import light_grid, new_figure
from metrics.detection import equal_error_rate, roc

BLUE, ORANGE, GREY = "#1f6fc4", "#e8850c", "#777777"
SET_COLORS = {"clean": "#333333", "disrupted": "#d62f5f", "purified": BLUE}
OTHER_COLORS = (ORANGE, "#14843c", "#8451c9", "#8c5a2b")
LINES = ("-", "--", ":", "-.")
MOST_RATES = 4  # changes of the learning rate that are marked one by one


def training_curves(history: Sequence[dict] | Mapping[int, Sequence[dict]]) -> Figure | None:
    """Loss and accuracy of training (blue) and validation (orange) by epoch, a line style per seed; changes
    of the learning rate in grey.

    Args:  history  [{"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"}] of one training, or
                    {seed: such a list}; a value that is missing or None leaves a gap
    """
    runs = {
        seed: rows
        for seed, rows in (history.items() if isinstance(history, dict) else [(None, history)])
        if rows
    }
    if not runs:
        return None
    figure = new_figure(10.4, 4.0)
    changes = _rate_changes(max(runs.values(), key=len))
    every = [row["epoch"] for rows in runs.values() for row in rows]
    # loss from 0, accuracy from chance to 1 at least
    for axes, key, seen in zip(figure.subplots(1, 2), ("loss", "accuracy"), ((0,), (0.5, 1)), strict=True):
        for i, rows in enumerate(runs.values()):
            epochs = [row["epoch"] for row in rows]
            for column, color in ((key, BLUE), (f"val_{key}", ORANGE)):
                values = np.asarray([row.get(column) for row in rows], dtype=float)  # None becomes NaN
                axes.plot(
                    epochs,
                    values,
                    color=color,
                    linestyle=LINES[i % len(LINES)],
                    linewidth=1.6,
                    marker="o" if len(rows) < 25 else None,
                    markersize=3.5,
                )
        for epoch, rate in changes if len(changes) <= MOST_RATES else []:
            axes.axvline(epoch, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7, zorder=0.5)
            axes.annotate(
                f" lr {rate:g}",
                (epoch, 1),
                xycoords=axes.get_xaxis_transform(),
                va="bottom",
                ha="left",
                fontsize=7.5,
                color=GREY,
            )
        axes.set(xlabel="epoch", ylabel=key)
        axes.set_xlim(min(every) - 0.5, max(every) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.update_datalim([(every[0], value) for value in seen])
        axes.autoscale_view(scalex=False)
        light_grid(axes)
    _training_legend(figure, runs, changes)
    return figure


def _rate_changes(rows):
    """[(epoch, new learning rate)]."""
    return [
        (row["epoch"], row["lr"])
        for last, row in pairwise(rows)
        if row.get("lr") is not None and row["lr"] != last.get("lr")
    ]


def _training_legend(figure, runs, changes):
    handles = [Line2D([], [], color=BLUE, label="training"), Line2D([], [], color=ORANGE, label="validation")]
    if len(runs) > 1:
        handles += [
            Line2D([], [], color=GREY, linestyle=LINES[i % len(LINES)], label=f"seed {seed}")
            for i, seed in enumerate(runs)
        ]
    if len(changes) > MOST_RATES:
        handles.append(
            Line2D(
                [], [], linestyle="none", label=f"{len(changes)} changes of lr,\nlast to {changes[-1][1]:.3g}"
            )
        )
    figure.legend(handles=handles, loc="outside right upper", fontsize=9, frameon=False)


def roc_curves(sets: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure | None:
    """ROC of one detector on several test sets, AUC and EER in the legend.

    Args:    sets  {label, "clean" for example: (labels (N,) fake = 1, p (N,) probability of fake)}
    Raises:  ValueError and UserError as metrics.detection.roc
    """
    if not sets:
        return None
    figure = new_figure(5.4, 5.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="chance: AUC 0.500, EER 0.500")
    others = iter(OTHER_COLORS * len(sets))
    for i, (label, (labels, p)) in enumerate(sets.items()):
        fpr, tpr = roc(labels, p)
        error = equal_error_rate(fpr, tpr)
        color = SET_COLORS.get(label) or next(others)
        axes.plot(
            fpr,
            tpr,
            color=color,
            linestyle=LINES[i % len(LINES)],
            linewidth=1.8,
            label=f"{label}: AUC {auc(fpr, tpr):.3f}, EER {error:.3f}",
        )
        axes.plot(
            error, 1 - error, color=color, marker="o", markersize=6, markeredgecolor="white", clip_on=False
        )
    axes.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
        xlabel="real photos taken for fakes (false positive rate)",
        ylabel="fakes found (true positive rate)",
    )
    axes.legend(loc="lower right", fontsize=9, edgecolor="none")
    light_grid(axes)
    return figure
