"""Hand-computed figures of a detector (fake = 1), the bootstrap over photos, and test sets that cannot be
scored."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.cli import UserError
from metrics import images
from metrics.detection import KEYS, MIN_PHOTOS, by_domain, check_test_size, equal_error_rate, roc, scores_of


def scores(labels, p, resamples=5):
    """scores_of a few rows, ten times over, a photo each: copies of a whole set change no figure and make it
    large enough."""
    return scores_of(labels * 10, p * 10, range(10 * len(p)), seed=0, resamples=resamples)


def noisy(photos, seed=0, gap=1.0):
    """labels, p, names: one real photo and its fake by turns, fakes higher by `gap` standard deviations."""
    labels = np.tile([0, 1], photos)
    logits = np.random.default_rng(seed).normal(size=2 * photos) + gap * (labels - 0.5)
    return labels, 1 / (1 + np.exp(-logits)), [f"{i // 2:06d}.jpg" for i in range(2 * photos)]


def test_figures_of_four_images():
    found = scores([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    assert found["accuracy"] == 0.75  # 0.35 is taken for real
    assert found["accuracy_std"] == pytest.approx(np.std([1, 1, 0, 1] * 10, ddof=1))
    # of the 4 pairs, (0.35, 0.4) is the wrong way round
    assert found["auc"] == pytest.approx(3 / 4)
    # precision where each fake is reached
    assert found["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["eer"] == pytest.approx(0.5)  # corners (0, .5), (.5, .5), (.5, 1)
    assert found["ece"] == pytest.approx((0.1 + 0.4 + 0.65 + 0.2) / 4)  # a bin each
    assert tuple(found) == KEYS


def test_equal_error_rate_lies_between_the_corners_of_the_roc():
    # corners (0, .5), (.5, 1): the nearest ones say 0 or 0.5
    found = scores([0, 0, 1, 1], [0.2, 0.5, 0.5, 0.9])
    assert found["eer"] == pytest.approx(0.25)
    assert found["auc"] == pytest.approx(3.5 / 4)  # a tie counts half
    for corners, expected in (
        (([0, 0, 1], [0, 1, 1]), 0),
        (([0, 1], [0, 1]), 0.5),
        (([0, 1, 1], [0, 0, 1]), 1),
    ):
        assert equal_error_rate(*map(np.array, corners)) == pytest.approx(expected)


def test_calibration_error_bins_the_probability_of_fake():
    found = scores([0, 1, 1, 0], [0.61, 0.65, 0.95, 1.0])
    # 0.61 and 0.65 share a bin, 0.95 and 1 do not
    assert found["ece"] == pytest.approx((2 * abs(0.5 - 0.63) + 0.05 + 1) / 4)
    # by class: 0.4
    assert scores([0, 0, 0, 1], [0.1, 0.9, 0.9, 0.9])["ece"] == pytest.approx(
        0.1 / 4 + abs(1 / 3 - 0.9) * 3 / 4
    )
    assert scores([0, 1], [0.0, 1.0])["ece"] == 0


def test_half_means_fake():
    assert scores([0, 1], [0.499, 0.5])["accuracy"] == 1 and scores([0, 1], [0.5, 0.499])["accuracy"] == 0


def test_high_p_means_fake():
    right, wrong = scores([0, 0, 1], [0.1, 0.3, 0.9]), scores([0, 0, 1], [0.9, 0.7, 0.1])
    assert (right["accuracy"], right["auc"], right["ap"], right["eer"]) == (1, 1, 1, 0)
    assert (wrong["accuracy"], wrong["auc"], wrong["ap"], wrong["eer"]) == (
        0,
        0,
        pytest.approx(1 / 3),
        pytest.approx(1),
    )


def test_swapped_labels_mirror_the_auc():
    labels, p, names = noisy(40)
    found, swapped = (scores_of(y, p, names, 0, resamples=5) for y in (labels, 1 - labels))
    assert found["auc"] == pytest.approx(roc_auc_score(labels, p)) and 0.6 < found["auc"] < 0.95
    assert swapped["auc"] == pytest.approx(1 - found["auc"])
    assert swapped["accuracy"] == pytest.approx(1 - found["accuracy"])


def test_roc_runs_from_corner_to_corner():
    fpr, tpr = roc([0, 0, 1, 1], torch.tensor([0.1, 0.4, 0.35, 0.8]))
    assert fpr.tolist() == [0, 0, 0.5, 0.5, 1] and tpr.tolist() == [0, 0.5, 0.5, 1, 1]


def test_order_of_the_rows_changes_nothing():
    labels, p, names = noisy(30)
    p = p.round(1)  # ties within and across the classes
    domains = [None if label == 0 else ("Male", "Young")[i // 2 % 2] for i, label in enumerate(labels)]
    order = np.random.default_rng(1).permutation(len(p))
    names_, domains_ = [names[i] for i in order], [domains[i] for i in order]
    assert scores_of(labels[order], p[order], names_, 0, resamples=20) == scores_of(
        labels, p, names, 0, resamples=20
    )
    assert by_domain(labels[order], p[order], names_, domains_, 0, resamples=5) == by_domain(
        labels, p, names, domains, 0, resamples=5
    )


def test_intervals_depend_on_the_seed_and_hold_the_figures():
    rows = noisy(50)
    found = scores_of(*rows, 0, resamples=100)
    assert scores_of(*rows, 1, resamples=100)["auc_ci"] != found["auc_ci"]
    for key in ("accuracy", "auc", "ap", "eer"):
        low, high = found[key + "_ci"]
        assert 0 <= low < found[key] < high <= 1, key


def test_draws_are_those_of_every_other_interval():
    labels, p, names = noisy(30)
    right = ((p >= 0.5) == labels).astype(float)
    assert scores_of(labels, p, names, 3, resamples=200)["accuracy_ci"] == pytest.approx(
        images.bootstrap({"a": right}, np.array(names), 3, resamples=200)["a"]
    )


def test_interval_takes_the_rows_of_a_photo_together():
    labels, p, names = noisy(40)
    repeated = [np.repeat(row, 5) for row in (labels, p, names)]
    once = scores_of(labels, p, names, 0, resamples=150)
    together = scores_of(*repeated, 0, resamples=150)
    one_by_one = scores_of(*repeated[:2], range(len(repeated[0])), 0, resamples=150)
    for key in ("accuracy_ci", "auc_ci", "ap_ci", "eer_ci", "ece_ci"):
        assert together[key] == pytest.approx(once[key]), key  # copies say nothing new
        assert np.diff(one_by_one[key]) < 0.7 * np.diff(once[key]), key


def test_draws_of_one_class_alone_are_left_out():
    # a third of the draws hold no fake
    found = scores_of([1] + [0] * 11, [0.9] + [0.1] * 11, range(12), 0, resamples=30)
    assert found["auc_ci"] == [1, 1] and found["eer_ci"] == [0, 0]


def test_a_domain_meets_the_photos_that_its_fakes_were_made_from():
    names = [f"{i:06d}.jpg" for i in range(25)]
    fake_of = ["Male"] * 10 + ["Young"] * 12 + ["Black_Hair"] * 3
    # Male's fakes lie above their own photos, not above Young's
    real, fake = [0.5] * 10 + [0.9] * 15, [0.7] * 10 + [0.8] * 15
    rows = [0] * 25 + [1] * 25, real + fake, names * 2, [None] * 25 + fake_of
    found = by_domain(*rows, seed=0, resamples=5)
    assert {d: (s["auc"], s["num_photos"]) for d, s in found.items()} == {
        "Male": (1, 10),
        "Young": (0, 12),
        "Black_Hair": (None, 3),
    }
    assert all(tuple(s) == (*KEYS, "num_photos") for s in found.values())
    assert {v for k, v in found["Black_Hair"].items() if k != "num_photos"} == {None}
    alone = scores_of([0] * 10 + [1] * 10, real[:10] + fake[:10], names[:10] * 2, seed=0, resamples=5)
    assert found["Male"] == {**alone, "num_photos": 10}


@pytest.mark.parametrize(
    "labels, p, names, message",
    [
        ([], [], [], "non-zero"),
        ([0, 1], [0.1, 0.2, 0.3], ["a", "b"], "equal"),
        ([0, 1], [0.1, 0.2], ["a"], "equal"),
        ([0, 1], [0.1, 1.2], ["a", "b"], "in \\[0, 1\\]"),
        ([0, 1], [-3.0, 0.5], ["a", "b"], "in \\[0, 1\\]"),
        ([0, 1], [0.1, float("nan")], ["a", "b"], "in \\[0, 1\\]"),
        ([1, 2], [0.1, 0.2], ["a", "b"], "labels 0"),
        ([[0, 1]], [[0.1, 0.2]], ["a"], "equal"),
    ],
)
def test_rows_that_are_no_test_set_are_refused(labels, p, names, message):
    with pytest.raises(ValueError, match=message):
        scores_of(labels, p, names, seed=0)


def test_small_and_one_sided_sets_are_the_users_mistake():
    check_test_size(MIN_PHOTOS)
    with pytest.raises(UserError, match="found 9 photos, expected 10 or more"):
        check_test_size(9)
    with pytest.raises(UserError, match="found 4 photos"):
        scores_of([0, 1] * 10, [0.5] * 20, list("aabbccdd") + ["a"] * 12, seed=0)  # 20 rows, 4 photos
    with pytest.raises(UserError, match="all 20 images are fake"):
        scores_of([1] * 20, [0.5] * 20, range(20), seed=0)
    with pytest.raises(UserError, match="all 2 images are real"):
        roc([0, 0], [0.5, 0.6])
    with pytest.raises(ValueError, match="equal"):
        by_domain([0, 1], [0.1, 0.2], ["a", "a"], [None], seed=0)
    # their photos are missing
    with pytest.raises(UserError, match="all 12 images are fake"):
        by_domain([1] * 12, [0.5] * 12, range(12), ["Male"] * 12, seed=0)
