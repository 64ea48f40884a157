"""Hand-computed figures of a finder of poisoned samples (poisoned = 1, low scores), its boundary, and
intervals over samples."""

import math
import time

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.cli import UserError
from metrics.finding import FIGURES, KEYS, RULES, boundary, measure, measure_classes, nominal_fpr
from report import record
from report.kinds import depois


def noisy(n, seed=0, gap=1.0):
    """poisoned, scores: about 30 % poisoned, their scores lower by `gap` standard deviations."""
    rng = np.random.default_rng(seed)
    poisoned = (rng.random(n) < 0.3).astype(int)
    return poisoned, rng.normal(size=n) - gap * poisoned


def test_figures_of_ten_samples():
    poisoned = [1, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    result = measure(poisoned, np.arange(10.0), threshold=3, seed=0, resamples=5)
    # 0 to 3 are flagged, 2 wrongly
    assert result["accuracy"] == 0.9 and result["precision"] == 0.75 and result["recall"] == 1
    assert result["f1"] == pytest.approx(2 * 0.75 / 1.75) and result["fpr"] == pytest.approx(1 / 7)
    # of 21 pairs, (2, 3) is the wrong way round
    assert result["auc"] == pytest.approx(20 / 21)
    # one clean sample of 7 is above 5 %
    assert result["tpr_at_1"] == result["tpr_at_5"] == pytest.approx(2 / 3)
    assert tuple(result) == KEYS and set(KEYS) == set(depois.FOUND)


def test_a_score_at_the_threshold_is_flagged():
    assert measure([1, 0], [1.0, 2.0], threshold=1.0, seed=0, resamples=5)["recall"] == 1
    assert measure([1, 0], [1.0, 2.0], threshold=0.999, seed=0, resamples=5)["recall"] == 0
    # the share holds for float32 scores too
    held = np.random.default_rng(0).normal(size=50).astype(np.float32)
    assert measure([0] * 50, held, boundary(held, "quantile", 0.1), seed=0, resamples=5)["fpr"] == 0.1


def test_ties_count_half():
    assert measure([1, 0, 1, 0], [1.0, 1.0, 1.0, 2.0], 1, seed=0, resamples=5)["auc"] == pytest.approx(
        (2 * 0.5 + 2) / 4
    )
    assert measure([1, 0] * 5, [3.0] * 10, 3, seed=0, resamples=5)["auc"] == 0.5


def test_rates_at_one_and_five_percent_are_corners_reached():
    clean = np.arange(100) + 100.0  # one clean sample is 1 %
    # below 0, 1, 5 and 6 of the clean ones
    scores = [99.5] * 2 + [100.5] * 3 + [104.5] + [105.5] * 4
    result = measure([0] * 100 + [1] * 10, np.concatenate([clean, scores]), 101, seed=0, resamples=5)
    assert result["tpr_at_1"] == 0.5 and result["tpr_at_5"] == 0.6  # a rate of exactly k % counts
    tied = measure([0] * 40 + [1] * 2, [1.0, 1.0, 1.0] + [2.0] * 37 + [1.0, 0.0], 0, seed=0, resamples=5)
    # the tie takes 3 clean samples at once, 7.5 %: not drawn halfway
    assert tied["tpr_at_5"] == 0.5


def test_corners_on_a_straight_line_count():
    # one clean and one poisoned sample at each
    scores = np.arange(100)
    result = measure([0] * 100 + [1] * 100, np.concatenate([scores, scores]), 0, seed=0, resamples=5)
    assert result["tpr_at_1"] == 0.01 and result["tpr_at_5"] == 0.05


def test_low_scores_mean_poisoned():
    right, wrong = (
        measure([1, 1, 0, 0, 0], scores, 2.5, 0, resamples=5) for scores in ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    )
    assert [right[k] for k in FIGURES] == [1, 1, 1, 1, 1, 1, 1, 0]
    assert [wrong[k] for k in FIGURES] == [0.2, 0, 0, 0, 0, 0, 0, pytest.approx(2 / 3)]


def test_quantile_flags_the_nominal_share_of_held_samples_or_less():
    rng = np.random.default_rng(0)
    for n in (2, 3, 10, 19, 20, 25, 99, 100, 101, 1000):
        held = rng.normal(size=n)
        for rate in (0.01, 0.05, 0.07, 0.1, 0.29, 0.5, 0.57, 0.99):
            whole = math.floor(rate * n + 1e-9)
            if whole:
                assert (held <= boundary(held, "quantile", rate)).sum() == whole, (n, rate)
    # the order is nothing, and tensors do
    assert boundary(torch.arange(10, 0, -1), "quantile", 0.3) == 3.0


def test_ties_never_push_a_quantile_above_its_rate():
    assert boundary([1, 2, 2, 2, 3, 4, 5, 6, 7, 8], "quantile", 0.3) == 1
    low = boundary([1.0] * 20, "quantile", 0.1)
    # a finder that is sure of all held samples: any lower score is flagged
    assert low < 1 and low == pytest.approx(1)


def test_new_clean_samples_are_flagged_at_the_expected_rate():
    rng = np.random.default_rng(0)
    rates = [
        (rng.normal(size=200) <= boundary(rng.normal(size=39), "quantile", 0.1)).mean() for _ in range(400)
    ]
    assert np.mean(rates) == pytest.approx(3 / 40, abs=0.008)  # k / (n + 1), k = 3


def test_std_is_mean_minus_z_deviations():
    assert boundary([2, 4, 4, 4, 5, 5, 7, 9], "std", 1) == 3  # mean 5, deviation 2 (ddof 0)
    assert boundary([2, 4, 4, 4, 5, 5, 7, 9], "std", 1.5) == 2
    held = np.random.default_rng(0).normal(size=20000)
    assert (held <= boundary(held, "std", 1.645)).mean() == pytest.approx(
        nominal_fpr("std", 1.645), abs=0.005
    )


def test_nominal_rates():
    assert nominal_fpr("quantile", 0.05) == 0.05 and nominal_fpr("std", 0) == 0.5
    assert [nominal_fpr("std", z) for z in (1, 1.645, 2.326)] == pytest.approx([0.1587, 0.05, 0.01], abs=1e-4)


@pytest.mark.parametrize(
    "held, rule, value, message",
    [
        ([1.0], "quantile", 0.5, "found 1, expected 2"),
        ([], "std", 1, "found 0, expected 2"),
        ([1.0] * 19, "quantile", 0.05, "found 19, expected 20"),
        ([1.0] * 99, "quantile", 0.01, "found 99, expected 100"),
        ([1.0, 2.0], "quantile", 0.3, "found 2, expected 4"),
        ([1.0, float("nan"), 2.0], "std", 1, "1 of 3 are NaN"),
        ([1.0, float("inf")] * 2, "quantile", 0.5, "2 of 4 are NaN or infinite"),
        ([1.0, 2.0], "quantile", 0, "above 0 and below 1"),
        ([1.0, 2.0], "quantile", 1, "above 0"),
        ([1.0, 2.0], "quantile", float("nan"), "above 0"),
        ([1.0, 2.0], "std", float("inf"), "finite"),
        ([0.1] * 5, "std", 1, "no spread"),
    ],
)
def test_a_boundary_that_cannot_be_set_is_the_users_mistake(held, rule, value, message):
    with pytest.raises(UserError, match=message) as caught:
        boundary(held, rule, value)
    assert "\n" not in str(caught.value)


def test_the_number_asked_for_is_enough():
    for rate in (0.01, 0.03, 0.05, 0.07, 0.1, 1 / 3, 0.3):
        with pytest.raises(UserError) as caught:
            boundary([0.0, 1.0], "quantile", rate)
        needed = int(str(caught.value).split("expected ")[1].split()[0])
        assert boundary(np.arange(needed), "quantile", rate) == 0, rate


def test_undefined_figures_are_none():
    none = measure([1, 0, 0], [1.0, 2.0, 3.0], 0, seed=0, resamples=20)  # nothing flagged
    assert none["precision"] is None and none["precision_ci"] is None
    assert (none["recall"], none["f1"], none["fpr"], none["auc"]) == (0, 0, 0, 1)
    clean = measure([0, 0, 0, 0], [1.0, 2.0, 3.0, 4.0], 1, seed=0, resamples=20)
    assert {k for k in FIGURES if clean[k] is None} == {"recall", "f1", "auc", "tpr_at_1", "tpr_at_5"}
    assert (clean["accuracy"], clean["precision"], clean["fpr"]) == (0.75, 0, 0.25)
    poisoned = measure([1, 1, 1, 1], [1.0, 2.0, 3.0, 4.0], 1, seed=0, resamples=20)
    assert {k for k in FIGURES if poisoned[k] is None} == {"auc", "tpr_at_1", "tpr_at_5", "fpr"}
    for result in (none, clean, poisoned):
        for name in FIGURES:
            assert (result[name] is None) == (result[name + "_ci"] is None), name
    alone = measure([1], [1.0], 1, seed=0)
    assert alone["recall"] == 1 and {alone[k + "_ci"] for k in FIGURES} == {None}


def test_intervals_hold_the_figures_and_depend_on_the_seed_alone():
    rows = noisy(600)
    result = measure(*rows, -1, seed=0)
    assert measure(*rows, -1, seed=0) == result and measure(*rows, -1, seed=1)["auc_ci"] != result["auc_ci"]
    for name in FIGURES:
        low, high = result[name + "_ci"]
        assert 0 <= low < result[name] < high <= 1, name
    assert result["auc"] == pytest.approx(roc_auc_score(rows[0], -rows[1]))
    width = np.subtract(*result["accuracy_ci"][::-1])
    assert width == pytest.approx(
        2 * 1.96 * np.sqrt(result["accuracy"] * (1 - result["accuracy"]) / 600), rel=0.2
    )


def test_draws_of_one_class_alone_are_left_out():
    # a third of the draws holds no poison
    result = measure([1] + [0] * 11, [0.0] + [1.0] * 11, 0.5, seed=0, resamples=40)
    assert result["auc_ci"] == result["recall_ci"] == [1, 1]


def test_order_of_the_rows_changes_nothing():
    poisoned, scores = noisy(200)
    # ties within and across the classes
    scores, labels = scores.round(1), np.arange(200) % 3
    order = np.random.default_rng(1).permutation(200)
    assert measure(poisoned[order], scores[order], -1, 0, resamples=20) == measure(
        poisoned, scores, -1, 0, resamples=20
    )
    rows = measure_classes(poisoned, scores, -1, labels, "abc", 0, resamples=20)
    assert measure_classes(poisoned[order], scores[order], -1, labels[order], "abc", 0, resamples=20) == rows


def test_each_class_alone():
    poisoned, scores, labels = (
        [1, 0, 0, 1, 1, 0],
        [1.0, 3.0, 4.0, 5.0, 1.0, 2.0],
        torch.tensor([0, 0, 0, 2, 2, 2]),
    )
    rows = measure_classes(poisoned, scores, 2, labels, ("cat", "dog", "owl"), seed=0, resamples=10)
    assert list(rows) == ["cat", "dog", "owl"] and all(
        tuple(row) == (*KEYS, "num_samples", "num_poisoned") for row in rows.values()
    )
    assert rows["cat"] == {
        **measure([1, 0, 0], [1.0, 3.0, 4.0], 2, seed=0, resamples=10),
        "num_samples": 3,
        "num_poisoned": 1,
    }
    assert (rows["cat"]["auc"], rows["owl"]["auc"], rows["owl"]["accuracy"], rows["owl"]["fpr"]) == (
        1,
        0.5,
        pytest.approx(1 / 3),
        1,
    )
    assert rows["dog"] == {**dict.fromkeys(KEYS), "num_samples": 0, "num_poisoned": 0}


def test_figures_fit_the_record():
    poisoned, scores = noisy(60)
    rows = measure_classes(poisoned, scores, -1, np.arange(60) % 2 * 2, ("a", "b", "c"), 0, resamples=10)
    result = {
        "format": record.FORMAT,
        "kind": "depois",
        "metrics": measure(poisoned, scores, -1, 0, resamples=10),
        "per_group": {"class": rows},
    }
    places = [problem.split(":")[0] for problem in record.validate(result)]
    assert not [p for p in places if p.startswith("per_group") or p in {f"metrics.{key}" for key in KEYS}]


def test_ten_thousand_samples_take_seconds():
    rows = noisy(10_000)
    start = time.process_time()
    measure(*rows, -1, seed=0)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "poisoned, scores, message",
    [
        ([], [], "non-zero"),
        ([0, 1], [0.1, 0.2, 0.3], "equal"),
        ([0, 2], [0.1, 0.2], "found \\[0, 2\\]"),
        ([0, -1], [0.1, 0.2], "0 \\(clean\\)"),
        ([[0, 1]], [[0.1, 0.2]], "shape"),
    ],
)
def test_rows_that_are_no_examined_set_are_refused(poisoned, scores, message):
    with pytest.raises(ValueError, match=message):
        measure(poisoned, scores, 0, seed=0)


def test_scores_rules_and_labels_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match="2 of 3 are NaN or infinite"):
        measure([0, 1, 0], [float("nan"), float("-inf"), 1.0], 0, seed=0)
    with pytest.raises(ValueError, match="threshold"):
        measure([0, 1], [0.1, 0.2], float("nan"), seed=0)
    for call in (lambda: boundary([1.0, 2.0], "median", 0.5), lambda: nominal_fpr("median", 0.5)):
        with pytest.raises(ValueError, match="quantile, std"):
            call()
    for labels in ([0, 3], [0, -1], [0]):
        with pytest.raises(ValueError, match="labels from 0 to 2"):
            measure_classes([0, 1], [0.1, 0.2], 0, labels, ("a", "b", "c"), seed=0)
    assert RULES == ("quantile", "std")
