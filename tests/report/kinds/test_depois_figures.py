"""The picture of finders of poisoned samples: bars from chance, rows of another setting left out."""

import io

import pytest
from PIL import Image

from report.kinds import depois, depois_figures
from synthetic import compare_runs, filtering, save


def table_of(folder, *records):
    for found in records:
        save(folder, found)
    (table,) = compare_runs(folder).tables["depois"]
    return table


@pytest.fixture
def table(tmp_path):
    return table_of(
        tmp_path,
        filtering(auc=0.9),
        filtering("loss", auc=0.7),
        filtering(poison="bypass", auc=0.3, params={"mode": "critic"}),
        filtering("loss", "bypass", 0.55, params={"mode": "critic"}),
        filtering("knn-labels", auc=0.99, num_trusted=50),
        filtering("de-pois as published", auc=0.8, boundary="std", nominal_fpr=0.16),
    )


def test_bars_go_from_chance_to_the_auroc(table):
    figure = depois_figures.auc_by_poison(table)
    (axes,) = figure.axes
    bars = axes.patches[1:]  # behind them the band of what is not found
    # another boundary leaves the AUROC as it is
    assert [round(0.5 + bar.get_width(), 6) for bar in bars] == [0.9, 0.8, 0.7, 0.3, 0.55]
    assert all(bar.get_x() == 0.5 for bar in bars) and [t.get_text() for t in axes.get_yticklabels()] == [
        "noise",
        "bypass critic",
    ]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "de-pois",
        "de-pois as published",
        "loss",
    ]
    low, high = axes.get_xlim()
    assert low < 0.29 and high > 1


def test_methods_have_colours_of_their_own(table):
    labels = [
        "de-pois",
        "de-pois without synthetic data",
        "de-pois without authenticator",
        "de-pois as published",
        "isolation-forest",
        "one-class-svm",
        "knn-labels, neighbours 5",
        "knn-labels, neighbours 20",
        "loss",
        "new",
        "newer",
    ]
    assert len(set(depois_figures.styles(labels).values())) == len(labels)


def test_the_picture_can_be_opened_and_one_method_has_none(table, tmp_path):
    (picture,) = depois.KIND.draw(table).values()
    assert Image.open(io.BytesIO(picture)).format == "PNG" and list(depois.KIND.plots) == ["filters_auc"]
    assert depois.KIND.draw(table_of(tmp_path / "one", filtering(), filtering(poison="blend"))) == {}
