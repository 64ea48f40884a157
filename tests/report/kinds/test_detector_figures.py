"""Pictures of detectors hold what the records say."""

import io

import pytest
from PIL import Image

from report.kinds import defense_figures, detector_figures
from report.kinds import detector as detector_kind
from synthetic import compare_runs, detector, save


def table_of(folder, *records):
    for found in records:
        save(folder, found)
    (table,) = compare_runs(folder).tables["detector"]
    return table


@pytest.fixture
def table(tmp_path):
    return table_of(
        tmp_path,
        detector("clean", 0.95),
        *(detector("disrupted", 0.95 - 0.2 * rate, rate=rate) for rate in (0.5, 1.0)),
        *(detector("one-step", 0.94 - 0.02 * rate, rate=rate) for rate in (0.0, 0.5, 1.0)),
        detector("jpeg-q75", 0.9, rate=0.5),
        detector("filtered", 0.45, rate=1.0),
        detector("ddpm-t20", 0.6, photos=100),
    )


def test_bars_stand_between_chance_and_the_accuracies_of_the_common_rate(table):
    (axes,) = detector_figures.accuracy(table).axes
    assert table.common_rate == 1 and [t.get_text() for t in axes.get_yticklabels()] == [
        "clean",
        "disrupted",
        "one-step",
        "filtered [kept.txt]",
    ]
    assert [round(bar.get_x(), 6) for bar in axes.patches] == [0.5] * 4 and [
        round(bar.get_width(), 6) for bar in axes.patches
    ] == [0.45, 0.25, 0.42, -0.05]
    assert {
        line.get_label(): line.get_xdata()[0] for line in axes.lines if not line.get_label().startswith("_")
    } == {"clean": 0.95, "disrupted": 0.75, "chance": 0.5}
    assert (
        axes.patches[2].get_facecolor()[:3]
        == defense_figures.styles(table)["one-step"].color
        == detector_figures.styles(table)["one-step"].color
    )
    low, high = axes.get_xlim()
    assert low < 0.44 and high > 0.96


def test_the_common_rate_is_the_highest_that_most_rows_have(tmp_path):
    table = table_of(
        tmp_path,
        *(detector(name, rate=rate) for name in ("disrupted", "jpeg-q75") for rate in (0.25, 0.5)),
        detector("jpeg-q75", rate=1.0),
    )
    assert table.common_rate == 0.5 and table_of(tmp_path / "a", detector()).common_rate is None


def test_curves_run_over_the_poison_rate_from_the_clean_row_or_the_control(table):
    (axes,) = detector_figures.by_rate(table).axes
    found = {
        box.get_label(): (list(box.lines[0].get_xdata()), list(box.lines[0].get_ydata()))
        for box in axes.containers
    }
    assert list(found) == ["disrupted (at 0: clean)", "jpeg-q75", "one-step", "filtered [kept.txt]", "chance"]
    assert found["disrupted (at 0: clean)"][0] == pytest.approx([0, 0.5, 1], abs=0.02) and found[
        "disrupted (at 0: clean)"
    ][1] == pytest.approx([0.95, 0.85, 0.75])
    assert found["one-step"][1] == pytest.approx([0.94, 0.93, 0.92]) and len(found["jpeg-q75"][1]) == 1
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "0.5", "1"]


def test_chance_is_left_out_of_curves_far_above_it(tmp_path):
    (axes,) = detector_figures.by_rate(
        table_of(tmp_path, *(detector("disrupted", 0.9, rate=rate) for rate in (0.5, 1.0)))
    ).axes
    assert axes.get_ylim()[0] > 0.85 and [box.get_label() for box in axes.containers] == ["disrupted"]


def test_after_a_filter_a_defence_looks_like_itself_but_not_the_same(tmp_path):
    filters = [
        dict(kept_filter=name, kept_sha256=str(i) * 64, rate=rate)
        for i, name in enumerate(("de-pois", "oracle"))
        for rate in (0.5, 1.0)
    ]
    unfiltered = (
        detector(name, 0.8, rate=rate)
        for name in ("disrupted", "one-step", "jpeg-q75", "jpeg-q50")
        for rate in (0.5, 1.0)
    )
    table = table_of(
        tmp_path,
        detector("clean", 0.95),
        *unfiltered,
        *(
            detector(name, 0.9, **one)
            for name in ("filtered", "one-step+filtered", "blur-s1.5+filtered")
            for one in filters
        ),
    )
    look, plain = detector_figures.styles(table), defense_figures.styles(table)
    assert len({(s.color, s.marker, s.line) for s in look.values()}) == len(look) == 1 + 4 + 2 * 3
    assert {look[name].marker for name in look if "(de-pois)" in name} == {"D"} and {
        look[name].marker for name in look if "(oracle)" in name
    } == {"d"}
    assert look["one-step"] == plain["one-step"] and look[
        "one-step + filtered (oracle)"
    ].color == pytest.approx([0.6 * c for c in look["one-step"].color])
    (bars,), (curves,) = detector_figures.accuracy(table).axes, detector_figures.by_rate(table).axes
    hatched = {
        text.get_text()
        for text, bar in zip(bars.get_yticklabels(), bars.patches, strict=True)
        if bar.get_hatch()
    }
    assert hatched == {
        f"{name} + filtered ({one})" for name in ("one-step", "blur-s1.5") for one in ("de-pois", "oracle")
    }
    assert {box.get_label() for box in curves.containers} >= hatched | {
        "filtered (de-pois)",
        "filtered (oracle)",
    }


def test_what_can_be_drawn_is_drawn_and_can_be_opened(table, tmp_path):
    pictures = detector_kind.KIND.draw(table)
    assert list(pictures) == [name for name in detector_kind.KIND.plots if name != "detectors_cross"]
    for data in pictures.values():
        image = Image.open(io.BytesIO(data))
        assert (
            image.format == "PNG"
            and min(image.size) > 150
            and len(image.convert("RGB").getcolors(1 << 24)) > 10
        )
    assert list(
        detector_kind.KIND.draw(table_of(tmp_path / "once", detector(), detector("disrupted", 0.8)))
    ) == ["detectors_accuracy"]
    assert detector_kind.KIND.draw(table_of(tmp_path / "one", detector())) == {}
