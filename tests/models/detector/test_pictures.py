"""What stands in the grids is what was measured: names, truths, colours."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from common import images
from common.figures import png
from models.detector.pictures import RIGHT, UNKNOWN, WRONG, prediction_grid, score_grid, shorten, verdict


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
