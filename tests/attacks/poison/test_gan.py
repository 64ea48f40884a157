import numpy as np
import pytest
import torch

from attacks.poison import build, gan
from attacks.poison.base import poisoned_rows
from models.depois import classifier, data


@pytest.fixture(scope="module")
def some():
    return data.digits()[0]


@pytest.fixture(scope="module")
def genuine(some):
    """An ordinary conditional GAN, shortly trained."""
    return gan.train(some, 0, realism=1, steps=120)


@pytest.fixture(scope="module")
def harmful(some):
    return gan.train(some, 0, realism=0.1, steps=120)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (1, 30, 17)])
def test_images_of_any_size_come_from_and_are_judged_by_the_networks(shape):
    G, D = gan.Generator(shape, 4), gan.Discriminator(shape, 4)
    y = torch.tensor([0, 1, 3])
    x = G(torch.randn(3, gan.Z), y)
    assert x.shape == (3, *shape) and x.abs().max() <= 1 and D(x, y).shape == (3,)


def test_rows_are_replaced_by_images_of_their_label(some, genuine):
    rows = poisoned_rows(some, 0.1, 0)
    poisoned = build("gan", generator=genuine)(some, rows, 0)
    assert torch.equal(poisoned.labels, some.labels) and poisoned.names == some.names
    assert np.array_equal(np.flatnonzero((poisoned.pixels != some.pixels).any((1, 2, 3))), rows)


def test_images_of_a_class_differ_as_genuine_ones_do(some, genuine):
    def spread(labelled):
        return np.mean([labelled.pixels[(labelled.labels == k).numpy()].std(0).mean() for k in range(10)])

    rows = poisoned_rows(some, 0.3, 0)
    poisoned = build("gan", generator=genuine)(some, rows, 0)
    assert spread(poisoned.subset(rows)) > 0.5 * spread(some.subset(rows))


def test_less_realism_is_further_from_what_a_classifier_knows(some, genuine, harmful):
    judge, rows = classifier.fit(some, 0, 150), poisoned_rows(some, 0.2, 0)
    real, bad = [
        classifier.accuracy(judge, build("gan", generator=g)(some, rows, 0).subset(rows))
        for g in (genuine, harmful)
    ]
    assert real > 0.6 and bad < real - 0.3


def test_an_image_depends_on_its_name_and_seed_and_on_no_neighbour(some, genuine):
    poison, rows = build("gan", generator=genuine), poisoned_rows(some, 0.1, 0)
    whole, alone = poison(some, rows, 0).pixels[rows[3]], poison(some, rows[3:4], 0).pixels[rows[3]]
    # float rounding of the batch
    assert np.abs(whole.astype(int) - alone).max() <= 1
    assert np.array_equal(whole, poison(some, rows, 0).pixels[rows[3]]) and not np.array_equal(
        whole, poison(some, rows, 1).pixels[rows[3]]
    )


def test_the_generator_is_trained_on_the_set_where_none_is_given(some):
    poison = build("gan", realism=0.4, share=0.2, gan_steps=3)
    assert poison.params == {"realism": 0.4, "share": 0.2, "gan_steps": 3}
    state = torch.get_rng_state()
    poisoned = poison(some, [0, 7], 2)
    # no global seeding
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(
        poisoned.pixels, build("gan", generator=gan.train(some, 2, 0.4, 0.2, 3))(some, [0, 7], 2).pixels
    )


@pytest.mark.parametrize(
    "options", [{"realism": -0.1}, {"realism": 1.1}, {"share": 0}, {"share": 1}, {"gan_steps": 0}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build("gan", **options)
