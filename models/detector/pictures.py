"""What a detector says about single photos: a grid of them, each under its verdict; common.figures.png makes
a file of it."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from common import images as image_forms
from common.figures import new_figure
from models.detector.network import THRESHOLD

# bluish green and vermilion, of unlike lightness: told apart by colour-blind eyes
RIGHT, WRONG, UNKNOWN = "#00734d", "#c2330a", "#222222"
CELL = 2.1  # inches from photo to photo
FONT = FontProperties(size=8)
# points (1/72 inch) that a name may take above a photo; letters of the thinnest that fits
NAME_ROOM, MOST_LETTERS = 134, 40


def shorten(name: str, room: float = NAME_ROOM) -> str:
    """A file name that takes at most `room` points at the size of a cell's title: of a longer one an ellipsis
    replaces the middle."""
    text, letters = name, min(len(name), MOST_LETTERS + 1)
    while letters > 2 and (
        len(text) > MOST_LETTERS or text_to_path.get_text_width_height_descent(text, FONT, False)[0] > room
    ):
        letters -= 1
        text = name[: -(-letters // 2)] + "…" + name[-(letters // 2) :]
    return text


def verdict(name: str, label: int | None, p: float) -> tuple[str, str]:
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


def prediction_grid(
    images: torch.Tensor,
    names: Sequence[str],
    labels: Sequence[int | None] | None,
    p: Sequence[float],
    columns: int = 4,
) -> Figure:
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


def score_grid(images: torch.Tensor, names: Sequence[str], p: Sequence[float], columns: int = 4) -> Figure:
    """prediction_grid of photos whose truth is not known."""
    return prediction_grid(images, names, None, p, columns)
