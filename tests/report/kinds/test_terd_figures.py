"""The picture of scanned models: points by attack, harder ones paler, and the region that the benign rule
passes."""

import io

import pytest
from PIL import Image

from report.kinds import terd, terd_figures
from synthetic import compare_runs, save, scan


def table_of(folder, *records):
    for found in records:
        save(folder, found)
    (table,) = compare_runs(folder).tables["terd"]
    return table


def points(axes):
    """[(M_r, V_r, marker, alpha)] of what is drawn, without the limit."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0], line.get_marker(), line.get_alpha())
        for line in axes.lines
        if line.get_marker() != "None"
    ]


def corners(axes):
    """The limit's points; None where there is no limit."""
    return next(
        (
            [*zip(line.get_xdata(), line.get_ydata(), strict=True)]
            for line in axes.lines
            if line.get_linestyle() == ":"
        ),
        None,
    )


def test_benign_models_are_circles_backdoored_ones_crosses_and_harder_ones_pale_and_named(tmp_path):
    table = table_of(
        tmp_path,
        scan(mean_kl=0.001),
        scan("trojdiff", mean_kl=0.1),
        scan("villan", mean_kl=0.2, scale=0.5, flagged=0),
        scan("unknown", name="found", mean_kl=0.05),
        scan("trojdiff", mean_kl=0.3, refine="none"),
    )
    figure = terd_figures.kl(table)
    (axes,) = figure.axes
    assert points(axes) == [
        (0.001, 1e-6, "o", 1),
        (0.1, pytest.approx(0.01), "x", 1),
        (0.05, pytest.approx(0.0025), "s", 1),
        (0.2, pytest.approx(0.04), "x", 0.45),
    ]
    assert [t.get_text() for t in axes.texts if t.get_text()] == ["found", "trigger scaled by 0.5, missed"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "benign",
        "TrojDiff",
        "VillanDiffusion",
        "unknown",
    ]
    assert axes.get_xscale() == axes.get_yscale() == "log"


@pytest.mark.parametrize(
    "limits, expected",
    [
        # beyond either limit, and above the least M_r
        ((0.02, 1e-3, 0.01), [(0.01, 1), (0.01, 1e-3), (0.02, 1e-3), (0.02, 0)]),
        ((0.002, 1e-3, 0.01), [(0.01, 1), (0.01, 1e-3), (0.01, 1e-3), (0.01, 0)]),
        ((0.02, 1e-3, None), [(0, 1e-3), (0.02, 1e-3), (0.02, 0)]),
        ((None, None, 0.01), None),
        (None, None),
    ],
)
def test_the_limit_goes_round_what_the_rule_passes(tmp_path, limits, expected):
    (axes,) = terd_figures.kl(table_of(tmp_path, scan(limits=limits), scan("villan", limits=limits))).axes
    ends = {0: axes.get_xlim()[0], 1: axes.get_ylim()[1]}
    found = corners(axes)
    if expected is None:
        assert found is None
        return
    low = axes.get_ylim()[0]
    assert found == [
        (ends[0] if x == 0 else x, ends[1] if y == 1 else low if y == 0 else y) for x, y in expected
    ]
    # every model is inside
    assert axes.get_xlim()[0] < 0.0005 and axes.get_xlim()[1] > 0.1 and ends[1] > 0.01


def test_the_limit_is_that_of_a_standard_model_that_may_be_compared(tmp_path):
    table = table_of(
        tmp_path,
        scan(rule="another", limits=(0.5, 0.5, 0.5)),
        *(scan(trained_seed=i, limits=(0.03, 1e-3, 0.01)) for i in (1, 2)),
    )
    assert terd_figures.limit(table) == (0.03, 1e-3, 0.01)


def test_a_divergence_of_zero_stays_on_the_axes(tmp_path):
    zero, other = scan(trained_seed=1), scan("villan")
    zero.metrics.update(mean_kl=0.0, var_kl=0.0)
    (axes,) = terd_figures.kl(table_of(tmp_path, zero, other, scan(mean_kl=0.003))).axes
    assert sorted(points(axes))[0][:2] == pytest.approx((0.001, 3e-6))


def test_the_picture_can_be_opened_and_one_model_has_none(tmp_path):
    (picture,) = terd.KIND.draw(table_of(tmp_path / "two", scan(), scan("novel"))).values()
    assert Image.open(io.BytesIO(picture)).format == "PNG" and list(terd.KIND.plots) == ["scans_kl"]
    assert terd.KIND.draw(table_of(tmp_path / "one", scan())) == {}
