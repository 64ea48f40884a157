"""What stands in the pictures is what was measured: names, truths, colours, curves."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from common.cli import UserError
from common.figures import png
from evaluation.detector_pictures import LINES, roc_curves, training_curves


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
