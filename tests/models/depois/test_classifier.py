"""The small classifier learns, repeats, and judges in any batch size."""

import torch

from models.depois import data
from models.depois.classifier import accuracy, accuracy_taught, fit, in_batches


def test_it_learns_digits_and_equal_seeds_are_equal():
    training, test = data.digits()
    training = training.subset(range(600))
    one, again, other = (fit(training, seed, steps=60) for seed in (0, 0, 1))
    assert accuracy(one, test) > 0.75
    assert torch.equal(one.head.weight, again.head.weight) and not torch.equal(
        one.head.weight, other.head.weight
    )
    assert not any(p.requires_grad for p in one.parameters())


def test_batches_change_nothing():
    _, test = data.digits()
    network = fit(test, 0, steps=2)
    found = [in_batches(lambda x, y: network(x), test, size=size) for size in (7, 1000)]
    assert torch.allclose(*found, atol=1e-5)
    right = (found[0].argmax(1) == test.labels).float().mean()
    assert accuracy(network, test) == float(right)


def test_what_samples_teach_is_told_where_it_can_be():
    training, test = data.digits()
    taught = accuracy_taught(training, test, 0, 60)
    assert taught == accuracy(fit(training, 0, 60), test) and taught > 0.7
    assert accuracy_taught(training, test, 0, 0) is None and accuracy_taught(training, None, 0, 60) is None
    lacking = training.subset([i for i, label in enumerate(training.labels.tolist()) if label != 3])
    assert accuracy_taught(lacking, test, 0, 60) is None
