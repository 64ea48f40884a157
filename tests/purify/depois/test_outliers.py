"""Baselines that find poisoned samples: label flips among the digits, orientation, seeds, and sets that
cannot be judged."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from common import seeds
from common.cli import UserError
from models.depois import classifier, data
from purify.depois import outliers

METHODS = sorted(outliers.METHODS)


@pytest.fixture(scope="module")
def parts():
    """(trusted, examined): 700 digits and another 700."""
    training, _ = data.digits()
    return training.subset(range(700)), training.subset(range(700, 1400))


@pytest.fixture(scope="module")
def network(parts):
    return classifier.fit(parts[0], seed=0, steps=120)


@pytest.fixture(scope="module")
def finders(parts, network):
    return {name: outliers.build(name, parts[0], seed=0, network=network) for name in METHODS}


@pytest.fixture
def few_trees(monkeypatch):
    """Forests that are made in moments, where no figure depends on them."""
    monkeypatch.setitem(outliers.Forest.params, "trees", 10)


def flipped(labelled, share=0.3):
    """(labelled with a share of wrong labels, poisoned (N,))."""
    rng = np.random.default_rng(0)
    poisoned = rng.random(len(labelled)) < share
    shift = torch.from_numpy(rng.integers(1, len(labelled.classes), len(labelled)) * poisoned)
    return (
        data.Labelled(
            labelled.names,
            (labelled.labels + shift) % len(labelled.classes),
            labelled.pixels,
            labelled.classes,
        ),
        poisoned,
    )


def drawn(n, shape, num_classes, seed=0):
    """n random images (C, H, W) whose brightness is their class."""
    channels, height, width = shape
    labels = np.arange(n) % num_classes
    noise = np.random.default_rng(seeds.derive(seed, "drawn")).integers(0, 40, (n, height, width, channels))
    pixels = (noise + (200 * labels // num_classes)[:, None, None, None]).astype(np.uint8)
    return data.Labelled(
        tuple(f"{seed}/{i}" for i in range(n)),
        torch.from_numpy(labels),
        pixels,
        tuple("abcdefghijkl"[:num_classes]),
    )


@pytest.mark.parametrize("name", METHODS)
def test_label_flips_are_found_by_low_scores(name, parts, finders):
    examined, poisoned = flipped(parts[1])
    scores = finders[name].scores(examined)
    assert scores.shape == (700,) and scores.dtype == np.float64 and np.isfinite(scores).all()
    assert scores[poisoned].mean() < scores[~poisoned].mean()
    assert roc_auc_score(poisoned, -scores) >= 0.9
    # a boundary needs more than a few values
    assert len(np.unique(scores)) > 0.1 * len(scores)


@pytest.mark.parametrize("name", METHODS)
def test_the_score_depends_on_the_label(name, parts, finders):
    some = parts[1].subset(range(50))
    wrong = data.Labelled(some.names, (some.labels + 1) % 10, some.pixels, some.classes)
    assert (finders[name].scores(some) > finders[name].scores(wrong)).mean() > 0.9


@pytest.mark.parametrize("name", METHODS)
def test_equal_seeds_give_equal_scores(name, parts, network, few_trees):
    found = {
        seed: [outliers.build(name, parts[0], seed, network=network).scores(parts[1]) for _ in range(2)]
        for seed in (0, 1)
    }
    # the global state of numpy, which moves on, plays no part
    assert (found[0][0] == found[0][1]).all()
    assert (found[0][0] != found[1][0]).any() == name.startswith("isolation-forest")


@pytest.mark.parametrize("name", METHODS)
def test_a_score_is_the_images_own(name, parts, finders):
    order = np.random.default_rng(0).permutation(700)
    scores = finders[name].scores(parts[1])
    assert finders[name].scores(parts[1].subset(order)) == pytest.approx(scores[order], abs=1e-4)
    assert finders[name].scores(parts[1].subset(range(3))) == pytest.approx(scores[:3], abs=1e-4)


def test_far_images_are_outliers_of_every_class(parts, finders):
    noise = np.random.default_rng(0).integers(0, 256, parts[1].pixels[:50].shape).astype(np.uint8)
    some = parts[1].subset(range(50))
    for name in ("isolation-forest", "one-class-svm"):
        far = finders[name].scores(data.Labelled(some.names, some.labels, noise, some.classes))
        assert far.mean() < finders[name].scores(some).mean(), name


def test_neighbours_are_shares_of_labels(finders, parts):
    finder = finders["knn-labels"]
    # a trusted image is its own nearest neighbour
    assert finder.scores(parts[0]) == pytest.approx(1, abs=1e-4)
    some = parts[1].subset(range(20))
    shares = [
        finder.scores(data.Labelled(some.names, torch.full((20,), k), some.pixels, some.classes))
        for k in range(10)
    ]
    assert np.sum(shares, 0) == pytest.approx(np.ones(20))


def test_loss_is_the_cross_entropy_of_the_label(finders, network, parts):
    x, y = parts[1].floats(), parts[1].labels
    assert finders["loss"].scores(parts[1]) == pytest.approx(
        -torch.nn.functional.cross_entropy(network(x), y, reduction="none").numpy(), abs=1e-4
    )


def test_large_classes_are_capped_by_a_seeded_draw(parts, network, monkeypatch):
    trusted, examined = parts
    monkeypatch.setitem(outliers.Svm.params, "rows_per_class", 30)
    capped, again, other = (
        outliers.build("one-class-svm", trusted, seed, network=network) for seed in (0, 0, 1)
    )
    assert all(len(m.support_) <= 30 and m.shape_fit_[0] == 30 for m in capped.models.values())
    assert (capped.scores(examined) == again.scores(examined)).all() and (
        capped.scores(examined) != other.scores(examined)
    ).any()


@pytest.mark.parametrize("shape, num_classes", [((1, 8, 8), 2), ((1, 28, 28), 12), ((3, 64, 64), 2)])
def test_sizes_and_numbers_of_classes(shape, num_classes, few_trees):
    trusted, examined = drawn(60, shape, num_classes), drawn(30, shape, num_classes, seed=1)
    network = classifier.fit(trusted, seed=0, steps=2)
    for name in METHODS:
        finder = outliers.build(name, trusted, seed=0, network=network)
        scores = finder.scores(examined)
        assert scores.shape == (30,) and np.isfinite(scores).all(), name
        assert json.loads(json.dumps(finder.params)) == finder.params and finder.network is network


@pytest.mark.parametrize("name", METHODS)
def test_one_trusted_image_of_a_class_is_enough(name, parts, network, few_trees):
    trusted = parts[0].subset([int(torch.nonzero(parts[0].labels == k)[0]) for k in range(10)])
    assert np.isfinite(outliers.build(name, trusted, seed=0, network=network).scores(parts[1])).all()


def test_build_trains_the_classifier_that_all_can_share(monkeypatch):
    fit = classifier.fit
    monkeypatch.setattr(
        classifier, "fit", lambda labelled, seed, device: fit(labelled, seed, steps=20, device=device)
    )
    trusted, examined = drawn(60, (1, 8, 8), 3), drawn(30, (1, 8, 8), 3, seed=1)
    alone = outliers.build("loss", trusted, seed=4)
    shared = outliers.build("loss", trusted, seed=4, network=fit(trusted, 4, steps=20))
    assert (alone.scores(examined) == shared.scores(examined)).all()
    assert not any(p.requires_grad for p in alone.network.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_sets_that_cannot_be_judged_are_the_users_mistake(name, parts, network, few_trees):
    trusted, examined = parts
    few = outliers.build(
        name, trusted.subset(torch.nonzero(trusted.labels != 7).flatten().tolist()), seed=0, network=network
    )
    with pytest.raises(UserError, match="no trusted image of class 7"):
        few.scores(examined)
    without = examined.subset(torch.nonzero(examined.labels != 7).flatten().tolist())
    wrong = data.Labelled(without.names, (without.labels + 1) % 7, without.pixels, without.classes)
    # classes above the missing one keep their columns
    assert (few.scores(without) > few.scores(wrong)).mean() > 0.8
    with pytest.raises(UserError, match="28 x 28 pixels in 1 channel, the trusted ones 8 x 8"):
        few.scores(drawn(20, (1, 28, 28), 10))
    with pytest.raises(UserError, match="classes a, b, c"):
        few.scores(drawn(20, (1, 8, 8), 3))


def test_other_names_are_refused(parts, network):
    with pytest.raises(KeyError):
        outliers.build("magic", parts[0], seed=0, network=network)
