"""Which samples a poison hits, and that it changes no other."""

import numpy as np
import pytest
import torch

from attacks.poison import build
from attacks.poison.base import poisoned_rows
from common.cli import UserError
from models.depois import data

SIMPLE = ("label-flip", "noise", "blend")


@pytest.fixture(scope="module")
def some():
    return data.digits()[0].subset(range(200))


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
