"""Cures against attackers: what stands in a cross table, and which figure a cure is judged by."""

import pytest

from reading import comparison_of, line_of, lines_of
from report.kinds import detector as detectors
from report.kinds.detector_cross import attack_headings, crosses_of, grids
from report.kinds.detector_cross_figure import worst_guess
from synthetic import detector


def through(name, accuracy, cure, seed=0, **config):
    return detector(name, accuracy, seed=seed, attack_through=cure, **config)


@pytest.fixture
def tables(tmp_path):
    records = [detector("clean", 0.97), detector("disrupted", 0.6), detector("jpeg-q75", 0.95)]
    records += [detector("one-step", 0.94)]
    records += [through("jpeg-q75", a, "jpeg-q75", s) for s, a in enumerate((0.70, 0.74))]
    records += [through("one-step", 0.93, "jpeg-q75"), through("disrupted", 0.58, "jpeg-q75")]
    records += [through("jpeg-q75", 0.92, "one-step"), through("one-step", 0.65, "one-step")]
    for record in records:
        record.metrics["other"] = {"stgan jpeg75": {**record.metrics["disrupted"], "accuracy": 0.5}}
    found = comparison_of(tmp_path, *records)
    return found, found.tables["detector"]


def test_a_row_is_a_cure_and_a_column_an_attacker(tables):
    (cross,) = crosses_of(tables[1])
    assert attack_headings(cross.attacks) == ["ignoring the cure", "through jpeg-q75", "through one-step"]
    grid, other = grids(tables[1])
    lines = {line["training photos"]: line for line in lines_of(grid)}
    assert list(lines) == ["clean", "disrupted", "jpeg-q75", "one-step"]
    assert lines["jpeg-q75"] == {
        "training photos": "jpeg-q75",
        "ignoring the cure": "0.950",
        "through jpeg-q75": "0.720 ± 0.028",
        "through one-step": "0.920",
        "its own": "0.720 ± 0.028",
    }
    assert lines["one-step"]["its own"] == "0.650" and lines["disrupted"]["its own"] == "–"
    assert lines["disrupted"]["through one-step"] == "–"
    assert grid.best == {(2, 1), (3, 2), (2, 3)}  # of the cures; clean is none
    assert other.title.endswith("tested on stgan, JPEG 75") and lines_of(other)[1]["its own"] == "–"


def test_tables_of_several_attacks_share_one_cross_table(tables):
    comparison, found = tables
    texts = [detectors.KIND.markdown(table) for table in found]
    assert sum(text.count("Cures against attackers") for text in texts) == 2  # two test sets, once
    assert "Cures" in texts[0] and not any("Cures" in text for text in texts[1:])
    part = detectors.cross_part(comparison, "drawn", {})
    assert line_of(part.split("tested on")[0], "one-step")["through jpeg-q75"] == "**0.930**"


def test_further_test_sets_are_columns(tables):
    line = line_of(detectors.KIND.markdown(tables[1][0]).split("Cures")[0], "clean")
    assert line["on stgan, JPEG 75"] == "0.500"


def test_a_training_set_of_another_protocol_is_another_setting(tmp_path):
    found = comparison_of(
        tmp_path, detector(), detector(unpaired=True), detector(balance="1:5", recompress_training=75)
    ).tables["detector"]
    assert sorted(t.setting for t in found) == [
        "drawn, stargan, meso4 (scratch)",
        "drawn, stargan, meso4 (scratch), training images JPEG 75, real to fake 1:5",
        "drawn, stargan, meso4 (scratch), unpaired",
    ]
    assert len(set(detectors.file_names(found))) == 3


def test_the_picture_marks_who_guessed_what(tables):
    first, second = worst_guess(tables[1][0]).axes
    assert [t.get_text() for t in first.get_yticklabels()] == ["clean", "disrupted", "jpeg-q75", "one-step"]
    points = {
        (round(float(box.lines[0].get_xdata()[0]), 2), int(box.lines[0].get_ydata()[0])): box.lines[
            0
        ].get_marker()
        for box in first.containers
    }
    assert points[0.72, 2] == "X" and points[0.92, 2] == "." and points[0.95, 2] == "o"
    assert second.get_title(loc="left").startswith("stgan") or "stgan" in second.get_title()
    assert worst_guess(tables[1][1]) is None
