"""What was lost and recovered, with intervals, by hand."""

import math
from functools import partial
from pathlib import Path

import pytest
from scipy import stats

import reading
from reading import rows_of, seeds_of
from report.kinds import detector_statistics
from report.kinds.detector_rows import DetectorRow
from report.rows import Cell
from synthetic import detector

table_of = partial(reading.table_of, "detector")


def row_of(name, *accuracies, half=0.01):
    return DetectorRow(
        (), name, [(Path("record.json"), found) for found in seeds_of(name, *accuracies, half=half)]
    )


def test_the_share_by_hand():
    clean, disrupted, mine = row_of("clean", 0.95), row_of("disrupted", 0.75), row_of("one-step", 0.90)
    loss, share = (
        detector_statistics.difference(clean, disrupted),
        detector_statistics.share_recovered(mine, disrupted, clean),
    )
    half = math.hypot(0.01, 0.01)
    assert loss.value == pytest.approx(0.20) and (loss.low, loss.high) == pytest.approx(
        (0.20 - half, 0.20 + half)
    )
    assert share.value == pytest.approx(0.75)
    # Fieller: there 0.15 - s 0.20 is as far from 0 as its own interval reaches
    for end in (share.low, share.high):
        assert abs(0.15 - end * 0.20) == pytest.approx(0.01 * math.sqrt(1 + (1 - end) ** 2 + end**2))
    assert share.low < 0.75 < share.high


def test_over_seeds_the_loss_has_welchs_interval():
    clean, disrupted = (0.95, 0.96, 0.94), (0.80, 0.86, 0.77, 0.81)
    loss = detector_statistics.difference(row_of("clean", *clean), row_of("disrupted", *disrupted))
    expected = stats.ttest_ind(clean, disrupted, equal_var=False).confidence_interval()
    assert (loss.low, loss.high) == pytest.approx((expected.low, expected.high))
    share = detector_statistics.share_recovered(
        row_of("one-step", 0.90, 0.91, 0.92), row_of("disrupted", *disrupted), row_of("clean", *clean)
    )
    assert (
        share.value == pytest.approx((0.91 - 0.81) / (0.95 - 0.81))
        and 0 < share.low < share.value < share.high
    )


@pytest.mark.parametrize(
    "clean, disrupted",
    [((0.95, 0.95, 0.95), (0.75, 0.75)), ((0.95,), (0.70, 0.75, 0.80)), ((0.9, 0.95, 1.0), (0.75,))],
)
def test_one_seed_on_a_side_or_equal_seeds_on_both_take_the_bootstrap_intervals(clean, disrupted):
    loss = detector_statistics.difference(row_of("clean", *clean), row_of("disrupted", *disrupted, half=0.02))
    half = math.hypot(0.01, 0.02)
    assert (loss.value, loss.low, loss.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half))


def test_seeds_that_agree_on_one_side_keep_welchs_interval():
    loss = detector_statistics.difference(
        row_of("clean", 0.1, 0.1, 0.1), row_of("disrupted", 0.04, 0.05, 0.06)
    )
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert (loss.low, loss.high) == pytest.approx((0.05 - half, 0.05 + half))


def test_a_loss_inside_its_interval_has_no_share(tmp_path):
    # 0.95 - 0.94 < 0.0141 < 0.95 - 0.93
    for number, (accuracy, shown) in enumerate(((0.94, False), (0.93, True))):
        rows = rows_of(
            table_of(
                tmp_path / str(number),
                detector("clean", 0.95),
                detector("disrupted", accuracy),
                detector("one-step", 0.95),
            )
        )
        share = rows["one-step", 1].cell("share")
        assert (share.value is not None) == shown and (share.value is None or share.value == pytest.approx(1))
        assert rows["disrupted", 1].cell("lost").value == pytest.approx(100 * (0.95 - accuracy))


def test_without_an_interval_the_loss_is_shown_and_no_share():
    clean = row_of("clean", 0.95)
    clean.first.metrics["accuracy_ci"] = None
    assert detector_statistics.difference(clean, row_of("disrupted", 0.75)) == Cell(pytest.approx(0.2))
    assert detector_statistics.share_recovered(
        row_of("one-step", 0.9), row_of("disrupted", 0.75), clean
    ) == Cell(None)


def test_a_share_whose_range_is_not_one_piece_has_none():
    clean, disrupted = (0.95, 0.95, 0.951), (0.90, 0.91, 0.92)
    share = detector_statistics.share_recovered(
        row_of("one-step", 0.80, 0.99), row_of("disrupted", *disrupted), row_of("clean", *clean)
    )
    assert detector_statistics.difference(row_of("clean", *clean), row_of("disrupted", *disrupted)).low > 0
    assert share.value is not None and share.low is None
