import numpy as np
import pytest
import torch
from torch import nn

from attacks.poison import build
from attacks.poison.base import poisoned_rows
from models.depois import classifier, data

EPS = 0.5


@pytest.fixture(scope="module")
def some():
    return data.digits()[0].subset(range(400))


@pytest.fixture(scope="module")
def victim(some):
    return classifier.fit(some, 0, 150)


@pytest.mark.parametrize("targeted", [True, False])
def test_poison_stays_in_ball_and_range_keeps_labels_and_misleads_the_victim(some, victim, targeted):
    rows = poisoned_rows(some, 0.3, 0)
    poisoned = build("gradient", victim=victim, eps=EPS, steps=10, targeted=targeted)(some, rows, 0)
    assert torch.equal(poisoned.labels, some.labels)
    assert np.array_equal(np.flatnonzero((poisoned.pixels != some.pixels).any((1, 2, 3))), rows)
    assert (poisoned.floats() - some.floats()).abs().max() <= EPS + 1e-6
    before, after = (
        classifier.accuracy(victim, some.subset(rows)),
        classifier.accuracy(victim, poisoned.subset(rows)),
    )
    assert before > 0.85 and after < before - 0.4
    if targeted:
        logits = victim(poisoned.floats(rows))
        assert (logits.argmax(1) == (some.labels[rows] + 1) % 10).float().mean() > 0.4


def test_equal_seeds_poison_equally_whatever_else_is_poisoned(some, victim):
    poison, rows = build("gradient", victim=victim, eps=EPS, steps=3), poisoned_rows(some, 0.1, 0)
    whole = poison(some, rows, 0)
    assert np.array_equal(whole.pixels, poison(some, rows, 0).pixels)
    # the start inside the ball
    assert not np.array_equal(whole.pixels, poison(some, rows, 1).pixels)
    alone = poison(some, rows[3:4], 0).pixels[rows[3]].astype(int)
    # equal up to float rounding of the batch
    assert (alone != whole.pixels[rows[3]]).mean() < 0.05


class Brightness(nn.Module):
    """Two logits, 0 and the mean of the pixels: every gradient has one sign."""

    def forward(self, x):
        return torch.stack([torch.zeros(len(x)), x.mean((1, 2, 3))], 1)


def test_a_linear_victim_sends_every_pixel_to_the_edge_of_the_ball():
    grey = data.Labelled(
        ("a", "b"), torch.tensor([0, 1]), np.full((2, 8, 8, 1), 100, np.uint8), ("dark", "bright")
    )
    # 0.1 = 12.75 grey levels: 12 inside
    poisoned = build("gradient", victim=Brightness(), eps=0.1, steps=5)(grey, [0, 1], 0)
    assert np.unique(poisoned.pixels[0]) == 112 and np.unique(poisoned.pixels[1]) == 88
    away = build("gradient", victim=Brightness(), eps=0.1, steps=5, targeted=False)(grey, [0, 1], 0)
    # with two classes, away from one is towards the other
    assert np.array_equal(away.pixels, poisoned.pixels)


def test_the_image_box_bounds_the_poison():
    white = data.Labelled(
        ("a", "b"), torch.tensor([0, 1]), np.full((2, 8, 8, 1), 250, np.uint8), ("dark", "bright")
    )
    assert np.unique(build("gradient", victim=Brightness(), eps=0.1, steps=5)(white, [0], 0).pixels[0]) == 255


def test_the_victim_is_trained_on_the_set_where_none_is_given(some):
    poison = build("gradient", steps=1, victim_steps=5, eps=EPS)
    assert poison.params == {"eps": EPS, "steps": 1, "targeted": True, "victim_steps": 5}
    poisoned = poison(some, [0, 7], 3)
    assert np.array_equal(
        poisoned.pixels,
        build("gradient", victim=classifier.fit(some, 3, 5), steps=1, eps=EPS)(some, [0, 7], 3).pixels,
    )


def test_parameters_of_the_victim_get_no_gradients_and_keep_their_flags(some):
    network = classifier.new_classifier(some.shape, 10, 0)
    build("gradient", victim=network, steps=1)(some, [0], 0)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    "options", [{"eps": 0.001}, {"eps": float("nan")}, {"steps": 0}, {"victim_steps": 0}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build("gradient", **options)
