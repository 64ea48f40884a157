import json
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
import torch

from attacks.poison import OPTIONS, POISONS, build, poisoned_rows
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


def test_a_higher_rate_adds_to_a_lower_one(some):
    rows = {rate: poisoned_rows(some, rate, 0) for rate in (0, 0.1, 0.3, 0.9)}
    assert [len(r) for r in rows.values()] == [0, 20, 60, 180]
    assert all(r.dtype == np.int64 and (np.diff(r) > 0).all() for r in rows.values())
    assert set(rows[0.1]) < set(rows[0.3]) < set(rows[0.9])
    assert not np.array_equal(rows[0.3], poisoned_rows(some, 0.3, 1))


def test_which_samples_are_poisoned_depends_on_names_and_not_on_their_order(some):
    turned = some.subset(range(199, -1, -1))
    assert {some.names[i] for i in poisoned_rows(some, 0.3, 0)} == {
        turned.names[i] for i in poisoned_rows(turned, 0.3, 0)
    }


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan")])
def test_a_rate_outside_its_range_is_refused(some, rate):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        poisoned_rows(some, rate, 0)


def test_a_rate_that_poisons_nothing_is_refused(some):
    with pytest.raises(UserError, match="none of 200"):
        poisoned_rows(some, 0.001, 0)


@pytest.mark.parametrize("name", SIMPLE)
def test_exactly_the_rows_asked_for_change(some, name):
    rows = poisoned_rows(some, 0.3, 0)
    before = some.pixels.copy(), some.labels.clone()
    poisoned = build(name)(some, rows, 0)
    # the clean set stays
    assert np.array_equal(some.pixels, before[0]) and torch.equal(some.labels, before[1])
    assert (
        poisoned.names == some.names
        and poisoned.classes == some.classes
        and poisoned.pixels.dtype == np.uint8
    )
    changed = (poisoned.pixels != some.pixels).any((1, 2, 3)) | (poisoned.labels != some.labels).numpy()
    assert np.array_equal(np.flatnonzero(changed), rows)


@pytest.mark.parametrize("name", SIMPLE)
def test_equal_seeds_poison_equally_whatever_else_is_poisoned(some, name):
    poison, rows = build(name), poisoned_rows(some, 0.3, 0)
    whole, again, alone, other = (
        poison(some, rows, 0),
        poison(some, rows, 0),
        poison(some, rows[5:6], 0),
        poison(some, rows, 1),
    )
    assert np.array_equal(whole.pixels, again.pixels) and torch.equal(whole.labels, again.labels)
    assert (
        np.array_equal(whole.pixels[rows[5]], alone.pixels[rows[5]])
        and whole.labels[rows[5]] == alone.labels[rows[5]]
    )
    assert not (np.array_equal(whole.pixels, other.pixels) and torch.equal(whole.labels, other.labels))


def test_no_rows_is_the_clean_set(some):
    assert build("noise")(some, [], 0) is some


@pytest.mark.parametrize("rows", [[1, 1], [200], [-1], [[0, 1]], [0.5]])
def test_rows_that_are_no_distinct_positions_are_refused(some, rows):
    with pytest.raises(ValueError, match="distinct positions among 200"):
        build("label-flip")(some, rows, 0)


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


def test_an_unknown_poison_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean label-flip\?"):
        build("label-flp")


def test_options_of_other_poisons_are_left_out_and_unknown_ones_refused():
    assert build("noise", sigma=0.2, alpha=0.9, gan_steps=5).params == {"sigma": 0.2}
    with pytest.raises(TypeError, match="no poison has the option strength"):
        build("noise", strength=1)


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


def test_every_poison_carries_its_name_and_known_options():
    found = set()
    for name, place in POISONS.items():
        module, class_name = place.split(":")
        poison = getattr(import_module(module), class_name)
        assert poison.name == name
        found |= set(poison.options)
    assert found == set(OPTIONS)


@pytest.mark.parametrize("name", [name for name in POISONS if name != "bypass"])
def test_what_a_record_says_of_a_poison_is_json(name):
    params = build(name).params
    assert json.loads(json.dumps(params)) == params
