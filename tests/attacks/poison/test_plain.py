"""Flipped labels, noise and blends do what they say."""

from collections import Counter

import numpy as np
import pytest
import torch

from attacks.poison import build
from common.cli import UserError
from models.depois import data

SIMPLE = ("label-flip", "noise", "blend")


@pytest.fixture(scope="module")
def some():
    return data.digits()[0].subset(range(200))


def flat(value, count, label, names, classes=data.DIGITS):
    """`count` images of one grey value."""
    return data.Labelled(
        tuple(names), torch.full((count,), label), np.full((count, 8, 8, 1), value, np.uint8), classes
    )


def joined(*parts):
    return data.Labelled(
        sum((p.names for p in parts), ()),
        torch.cat([p.labels for p in parts]),
        np.concatenate([p.pixels for p in parts]),
        parts[0].classes,
    )


def test_flipped_labels_are_every_other_class_alike_and_never_the_old_one():
    many = flat(9, 4500, 3, map(str, range(4500)))
    flipped = build("label-flip")(many, np.arange(4500), 0)
    counts = Counter(flipped.labels.tolist())
    assert 3 not in counts and len(counts) == 9
    assert all(420 < n < 580 for n in counts.values())  # 500 +- 3.8 standard deviations
    assert np.array_equal(flipped.pixels, many.pixels)


def test_labels_of_one_class_cannot_be_flipped():
    with pytest.raises(UserError, match="expected two at least"):
        build("label-flip")(flat(9, 3, 0, "abc", classes=("face",)), [0], 0)


def test_noise_has_its_standard_deviation_and_keeps_labels():
    grey = flat(128, 300, 0, map(str, range(300)))
    noisy = build("noise", sigma=0.1)(grey, np.arange(300), 0)
    assert (noisy.pixels / 127.5 - 128 / 127.5).std() == pytest.approx(0.1, rel=0.03)
    assert torch.equal(noisy.labels, grey.labels)


def test_a_blend_is_the_weighted_mean_with_an_image_of_another_class(some):
    two = joined(flat(0, 2, 0, "ab"), flat(200, 2, 1, "cd"))
    blended = build("blend", alpha=0.25)(two, np.arange(4), 0)
    assert np.unique(blended.pixels[:2]) == 50 and np.unique(blended.pixels[2:]) == 150  # 0.25 k + 0.75 x
    assert torch.equal(blended.labels, two.labels)
    replaced = build("blend", alpha=1)(some, [0], 0)  # nothing is left but the pattern
    same = (some.pixels == replaced.pixels[0]).all((1, 2, 3))
    assert same.any() and (some.labels[torch.from_numpy(same)] != some.labels[0]).all()


def test_patterns_come_from_the_clean_set_and_differ():
    shades = data.Labelled(
        tuple("abcdefghij"),
        torch.tensor([0] * 5 + [1] * 5),
        np.arange(10, dtype=np.uint8).repeat(64).reshape(10, 8, 8, 1),
        ("x", "y"),
    )
    patterns = build("blend", alpha=1)(shades, np.arange(10), 0).pixels[:, 0, 0, 0]
    assert (
        set(patterns[:5]) <= set(range(5, 10))
        and set(patterns[5:]) <= set(range(5))
        and len(set(patterns)) > 3
    )


def test_a_set_of_one_class_cannot_be_blended():
    with pytest.raises(UserError, match="all 3 are of class 4"):
        build("blend")(flat(9, 3, 4, "abc"), [0], 0)


def test_colour_images_are_poisoned_too():
    red = data.Labelled(
        tuple("abcd"), torch.tensor([0, 0, 1, 1]), np.zeros((4, 6, 5, 3), np.uint8), ("real", "fake")
    )
    for name in SIMPLE:
        assert build(name)(red, [0, 2], 0).pixels.shape == (4, 6, 5, 3)


@pytest.mark.parametrize(
    "name, options",
    [
        ("noise", {"sigma": 0}),
        ("noise", {"sigma": float("nan")}),
        ("blend", {"alpha": 0}),
        ("blend", {"alpha": 1.1}),
    ],
)
def test_values_out_of_range_are_refused(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build(name, **options)
