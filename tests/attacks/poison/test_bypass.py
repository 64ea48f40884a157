import json

import numpy as np
import pytest
import torch

from attacks.poison import build
from attacks.poison.base import poisoned_rows
from attacks.poison.bypass import MODES
from attacks.poison.plain import Noise
from models.depois import classifier, data

LEVEL = 1 / 127.5
EPS = 20 * LEVEL


@pytest.fixture(scope="module")
def some():
    return data.digits()[0].subset(range(200))


@pytest.fixture(scope="module")
def mid():
    """Four mid-grey images of two classes: no pixel meets the image box."""
    return data.Labelled(
        tuple("abcd"), torch.tensor([0, 0, 1, 1]), np.full((4, 8, 8, 1), 128, np.uint8), ("x", "y")
    )


WEIGHTS = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
PUSH = np.sign(WEIGHTS.numpy().transpose(1, 2, 0)).astype(int)


def critic(x, y):
    return (x * WEIGHTS).sum((1, 2, 3))


def brightness(x):
    """Logits of two classes, the second the brighter."""
    return torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1)


def test_a_linear_critic_moves_every_pixel_by_eps_along_the_sign_of_its_weight(mid):
    poisoned = build("bypass", base=Noise(1e-6), critic=critic, mode="critic", eps=EPS)(mid, [0, 2], 0)
    for row in (0, 2):
        assert np.array_equal(poisoned.pixels[row].astype(int), 128 + 20 * PUSH)
    assert np.array_equal(poisoned.pixels[[1, 3]], mid.pixels[[1, 3]])


def test_the_classifier_direction_raises_the_loss_of_the_label_the_base_left(mid):
    poisoned = build("bypass", classifier=brightness, mode="classifier", eps=EPS)(mid, [0, 2], 0)
    # two classes: a flip is the other one
    assert poisoned.labels.tolist() == [1, 0, 0, 1]
    assert np.unique(poisoned.pixels[0]) == 108 and np.unique(poisoned.pixels[2]) == 148


@pytest.mark.parametrize("mode", ["critic-then-classifier", "classifier-then-critic"])
def test_both_directions_add_up_for_linear_networks(mid, mode):
    poisoned = build("bypass", critic=critic, classifier=brightness, mode=mode, eps=EPS)(mid, [0], 0)
    assert np.array_equal(poisoned.pixels[0].astype(int), 128 + 20 * PUSH - 20)


def test_the_order_of_the_directions_matters_at_the_edge_of_the_box():
    white = data.Labelled(("a", "b"), torch.tensor([0, 1]), np.full((2, 8, 8, 1), 255, np.uint8), ("x", "y"))
    first, last = [
        build("bypass", critic=critic, classifier=brightness, mode=mode, eps=EPS)(white, [0], 0)
        .pixels[0]
        .astype(int)
        for mode in ("critic-then-classifier", "classifier-then-critic")
    ]
    assert np.array_equal(first, 255 + np.minimum(20 * PUSH, 0) - 20) and np.array_equal(
        last, 235 + 20 * PUSH
    )


def test_many_steps_sum_to_eps(mid):
    once, often = [
        build("bypass", base=Noise(1e-6), critic=critic, mode="critic", eps=EPS, steps=steps)(mid, [0], 0)
        for steps in (1, 7)
    ]
    assert np.array_equal(once.pixels, often.pixels)


def test_more_steps_climb_a_curved_critic_higher(mid):
    def curved(x, y):
        # one large step overshoots
        return -(x - 0.05 * WEIGHTS).square().sum((1, 2, 3))

    scores = [
        curved(
            build("bypass", base=Noise(1e-6), critic=curved, mode="critic", eps=EPS, steps=steps)(
                mid, [0], 0
            ).floats([0]),
            None,
        )
        for steps in (1, 20)
    ]
    assert scores[1] > scores[0]


def test_a_trained_classifier_errs_more_after_its_direction_and_the_rest_of_the_set_stays(some):
    network, rows = classifier.fit(some, 0, 100), poisoned_rows(some, 0.3, 0)
    base = Noise(0.1)
    before = base(some, rows, 0)
    after = build("bypass", base=base, classifier=network, mode="classifier", eps=EPS)(some, rows, 0)
    assert (
        classifier.accuracy(network, after.subset(rows))
        < classifier.accuracy(network, before.subset(rows)) - 0.1
    )
    assert (after.floats() - before.floats()).abs().max() <= EPS + 1e-6
    kept = np.setdiff1d(np.arange(len(some)), rows)
    assert np.array_equal(after.pixels[kept], some.pixels[kept]) and torch.equal(after.labels, some.labels)


def test_equal_seeds_poison_equally_whatever_else_is_poisoned(some):
    poison, rows = build("bypass", critic=critic, mode="critic"), poisoned_rows(some, 0.3, 0)
    whole, alone = poison(some, rows, 0), poison(some, rows[4:5], 0)
    assert np.array_equal(whole.pixels, poison(some, rows, 0).pixels)
    assert (
        np.array_equal(whole.pixels[rows[4]], alone.pixels[rows[4]])
        and whole.labels[rows[4]] == alone.labels[rows[4]]
    )
    assert not torch.equal(whole.labels, poison(some, rows, 1).labels)


def test_the_critic_sees_the_label_the_base_left(mid):
    def doubter(x, y):
        # class 1 is clean when bright, class 0 when dark
        return (x * (2 * y - 1)[:, None, None, None]).sum((1, 2, 3))

    poisoned = build("bypass", critic=doubter, mode="critic", eps=EPS)(mid, [0, 2], 0)
    assert np.unique(poisoned.pixels[0]) == 148 and np.unique(poisoned.pixels[2]) == 108


def test_what_a_record_says_of_it_names_the_base():
    params = build("bypass", base=Noise(0.2), critic=critic, mode="critic", eps=0.5, steps=2).params
    assert json.loads(json.dumps(params)) == {
        "base": {"poison": "noise", "sigma": 0.2},
        "mode": "critic",
        "eps": 0.5,
        "steps": 2,
    }


def test_the_published_modes_are_there():
    assert set(MODES) == {"critic", "classifier", "critic-then-classifier", "classifier-then-critic"}


@pytest.mark.parametrize(
    "options, what",
    [
        ({"mode": "both"}, "one of critic, classifier"),
        ({"mode": "critic"}, "needs a critic"),
        ({"critic": critic}, "needs a classifier"),
        ({"critic": critic, "mode": "critic", "eps": 0.001}, "eps"),
        ({"critic": critic, "mode": "critic", "steps": 0}, "steps"),
    ],
)
def test_what_does_not_fit_is_refused(options, what):
    with pytest.raises(ValueError, match=what):
        build("bypass", **options)
