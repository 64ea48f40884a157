"""Pictures of a detector: how its training went, its ROC on several test sets, and what it says about single
photos.

Every function returns a matplotlib Figure, or None where there is nothing to draw; common.figures.png makes a
file of it.
"""

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import auc

from common import images as image_forms
from common.figures import light_grid, new_figure
from metrics.detection import THRESHOLD, equal_error_rate, roc

BLUE, ORANGE, GREY = "#1f6fc4", "#e8850c", "#777777"
# bluish green and vermilion, of unlike lightness: told apart by colour-blind eyes
RIGHT, WRONG, UNKNOWN = "#00734d", "#c2330a", "#222222"
SET_COLORS = {"clean": "#333333", "disrupted": "#d62f5f", "purified": BLUE}
OTHER_COLORS = (ORANGE, "#14843c", "#8451c9", "#8c5a2b")
LINES = ("-", "--", ":", "-.")
MOST_RATES = 4  # changes of the learning rate that are marked one by one
CELL = 2.1  # inches from photo to photo
FONT = FontProperties(size=8)
# points (1/72 inch) that a name may take above a photo; letters of the thinnest that fits
NAME_ROOM, MOST_LETTERS = 134, 40


def training_curves(history):
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
        for last, row in zip(rows, rows[1:], strict=False)
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


def roc_curves(sets):
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


def shorten(name, room=NAME_ROOM):
    """A file name that takes at most `room` points at the size of a cell's title: of a longer one an ellipsis
    replaces the middle."""
    text, letters = name, min(len(name), MOST_LETTERS + 1)
    while letters > 2 and (
        len(text) > MOST_LETTERS or text_to_path.get_text_width_height_descent(text, FONT, False)[0] > room
    ):
        letters -= 1
        text = name[: -(-letters // 2)] + "…" + name[-(letters // 2) :]
    return text


def verdict(name, label, p):
    """(text, colour) above a photo in a grid.

    Args:     name   file name, shortened where it is too long;  p  probability of fake, [0, 1]
              label  the truth, fake = 1, real = 0; None where it is not known
    Returns:  label given: name, tick or cross, the predicted class with *its* probability, the truth; RIGHT
              or WRONG. label None: name and "fake" with the probability of fake; UNKNOWN.
    """
    if label is None:
        return f"{shorten(name)}\nfake {p:.2f}", UNKNOWN
    fake = p >= THRESHOLD
    right = fake == bool(label)
    predicted = f"fake {p:.2f}" if fake else f"real {1 - p:.2f}"
    return (
        (
            f"{shorten(name)}\n{'✓' if right else '✗'} predicted {predicted}\ntruth:"
            f" {'fake' if label else 'real'}"
        ),
        RIGHT if right else WRONG,
    )


def prediction_grid(images, names, labels, p, columns=4):
    """Photos in the order given, each under its verdict.

    Args:    images  (N, 3, H, W) float in [-1, 1];  names, labels, p  (N,) as for verdict, labels may be None
                     for all or for some
    Raises:  ValueError if the lengths differ, or images are none or outside [-1, 1]
    """
    labels = [None] * len(names) if labels is None else labels
    lengths = [len(images), len(names), len(labels), len(p)]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(
            f"expected equal, non-zero numbers of images, names, labels and probabilities, found {lengths}"
        )
    image_forms.check_range(images)
    columns = min(columns, len(names))
    lines = -(-len(names) // columns)
    # inches of text above a photo
    head = 0.48 if any(label is not None for label in labels) else 0.34
    figure = new_figure(CELL * columns, (CELL * images.shape[-2] / images.shape[-1] + head) * lines)
    cells = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in cells[len(names) :]:
        axes.set_visible(False)
    for axes, pixels, name, label, value in zip(
        cells, image_forms.to_uint8(images), names, labels, p, strict=False
    ):
        text, color = verdict(name, None if label is None else int(label), float(value))
        axes.imshow(pixels)
        axes.set_title(text, fontproperties=FONT, color=color, parse_math=False)  # a name may hold $
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set(color=color, linewidth=1.8)
    return figure


def score_grid(images, names, p, columns=4):
    """prediction_grid of photos whose truth is not known."""
    return prediction_grid(images, names, None, p, columns)
