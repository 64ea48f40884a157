"""What stands in the pictures is what was measured: names, truths, colours, curves."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from common import images
from common.cli import UserError
from common.figures import png
from evaluation.detector_pictures import (
    LINES,
    RIGHT,
    UNKNOWN,
    WRONG,
    prediction_grid,
    roc_curves,
    score_grid,
    shorten,
    training_curves,
    verdict,
)


def history(epochs, rates=(0.001, 0.0001)):
    """A training of `epochs` whose learning rate changes at epoch 2."""
    return [
        {
            "epoch": i,
            "loss": 1 / (i + 1),
            "accuracy": 1 - 0.5 / (i + 1),
            "val_loss": 1.2 / (i + 1),
            "val_accuracy": 1 - 0.6 / (i + 1),
            "lr": rates[i >= 2],
        }
        for i in range(epochs)
    ]


def opened(figure):
    """The picture as it is saved; a warning, of a letter that the font lacks for example, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Image.open(io.BytesIO(png(figure)))


def titles(figure):
    return [(axes.get_title(), axes.title.get_color()) for axes in figure.axes if axes.get_visible()]


@pytest.mark.parametrize(
    "label, p, text, colour",
    [
        (1, 0.97, "✓ predicted fake 0.97\ntruth: fake", RIGHT),
        (0, 0.97, "✗ predicted fake 0.97\ntruth: real", WRONG),
        (0, 0.12, "✓ predicted real 0.88\ntruth: real", RIGHT),
        (1, 0.12, "✗ predicted real 0.88\ntruth: fake", WRONG),
        (1, 0.5, "✓ predicted fake 0.50\ntruth: fake", RIGHT),
        (None, 0.12, "fake 0.12", UNKNOWN),
    ],
)
def test_verdict(label, p, text, colour):
    assert verdict("000001.jpg", label, p) == ("000001.jpg\n" + text, colour)


def test_each_cell_holds_its_photo_name_and_truth(faces):
    x, _ = faces(n=6)
    names, labels, p = (
        [f"{i:06d}.jpg" for i in (7, 3, 5, 1, 9, 2)],
        [0, 1, 1, 0, 1, 0],
        np.array([0.1, 0.9, 0.2, 0.8, 0.6, 0.4]),
    )
    figure = prediction_grid(x, names, labels, p)
    cells = [axes for axes in figure.axes if axes.get_visible()]
    # two lines of four, two cells of them empty
    assert len(figure.axes) == 8 and len(cells) == 6
    for i, axes in enumerate(cells):
        name, predicted, truth = axes.get_title().split("\n")
        assert name == names[i] and truth == ("truth: fake" if labels[i] else "truth: real")
        assert ("fake" in predicted) == (p[i] >= 0.5)
        assert (axes.images[0].get_array() == images.to_uint8(x[i])).all()
    assert [colour for _, colour in titles(figure)] == [RIGHT, RIGHT, WRONG, WRONG, RIGHT, RIGHT]
    assert min(opened(figure).size) > 400


def test_scores_without_truth_keep_their_order(faces):
    x, _ = faces(n=3)
    found = titles(score_grid(x, ["c.png", "a.png", "b.png"], [0.25, 0.75, 0.5], columns=2))
    assert found == [
        ("c.png\nfake 0.25", UNKNOWN),
        ("a.png\nfake 0.75", UNKNOWN),
        ("b.png\nfake 0.50", UNKNOWN),
    ]


def test_names_that_read_like_formulas_are_drawn_as_they_are(faces):
    x, _ = faces(n=2)
    figure = score_grid(x, ["$\\frac$.png", "a_b$c^$.png"], [0.5, 0.5])
    assert titles(figure)[0][0].startswith("$\\frac$.png") and opened(figure)


@pytest.mark.parametrize(
    "name", ["M" * 60 + ".png", "i" * 300 + ".png", "holiday_in_the_mountains_with_family_2019_final(2).png"]
)
def test_long_names_lose_their_middle_and_stay_above_their_photo(faces, name):
    short = shorten(name)
    start, end = short.split("…")
    assert name.startswith(start) and name.endswith(end) and end.endswith(".png") and len(start) > 5
    figure = score_grid(faces(n=2)[0], [name, name], [0.5, 0.5])
    opened(figure)  # lays it out
    for axes in figure.axes:
        text, photo = axes.title.get_window_extent(), axes.get_window_extent()
        assert photo.x0 <= text.x0 and text.x1 <= photo.x1


def test_short_names_stay():
    assert shorten("000001.jpg") == "000001.jpg" and shorten("") == ""


def test_grids_refuse_what_does_not_fit(faces):
    x, _ = faces(n=2)
    with pytest.raises(ValueError, match="equal"):
        prediction_grid(x, ["a", "b"], [1], [0.5, 0.5])
    with pytest.raises(ValueError, match="non-zero"):
        score_grid(x[:0], [], [])
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        score_grid(x * 100, ["a", "b"], [0.5, 0.5])


def test_training_curves_hold_both_sets_and_mark_the_learning_rate():
    figure = training_curves(history(4))
    loss, accuracy = figure.axes
    assert loss.lines[0].get_ydata().tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert accuracy.lines[1].get_ydata().tolist() == pytest.approx([0.4, 0.7, 0.8, 0.85])
    assert [t.get_text().strip() for t in loss.texts] == ["lr 0.0001"] and loss.texts[0].xy[0] == 2
    assert opened(figure).size[0] > 800


def test_training_curves_tell_seeds_apart_and_bear_gaps():
    broken = history(3)[:2] + [{"epoch": 2, "loss": 0.3, "accuracy": 0.9, "val_loss": None}]
    figure = training_curves({0: history(3, rates=(0.001, 0.001)), 5: broken, 7: []})
    assert [line.get_linestyle() for line in figure.axes[0].lines] == [LINES[0]] * 2 + [LINES[1]] * 2
    assert np.isnan(figure.axes[0].lines[3].get_ydata()[2])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "training",
        "validation",
        "seed 0",
        "seed 5",
    ]
    assert not figure.axes[0].texts and opened(training_curves(history(1)))


def test_a_learning_rate_that_changes_every_epoch_is_said_once():
    rows = [{**row, "lr": 0.001 * (1 - row["epoch"] / 10)} for row in history(10)]
    figure = training_curves(rows)
    assert not figure.axes[0].texts and "9 changes of lr,\nlast to 0.0001" in [
        t.get_text() for t in figure.legends[0].get_texts()
    ]


def test_roc_curves_say_auc_and_eer():
    figure = roc_curves(
        {
            "clean": ([0, 1], [0.1, 0.9]),
            "disrupted": ([0, 0, 1, 1], [0.2, 0.5, 0.5, 0.9]),
            "other": ([0, 1], [0.9, 0.1]),
        }
    )
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == [
        "chance: AUC 0.500, EER 0.500",
        "clean: AUC 1.000, EER 0.000",
        "disrupted: AUC 0.875, EER 0.250",
        "other: AUC 0.000, EER 1.000",
    ]
    assert opened(figure)
    with pytest.raises(UserError, match="real"):
        roc_curves({"clean": ([0, 0], [0.1, 0.9])})


def test_nothing_to_draw():
    assert training_curves([]) is None and training_curves({0: []}) is None and roc_curves({}) is None
