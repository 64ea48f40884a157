import pytest
import torch

import attacks
from attacks import build, square
from attacks.harm import fake_mse
from attacks.through import ThroughDefence
from common import images, seeds
from models.conditions import attack_labels

NAMES = ["a", "b", "c", "d"]
ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


class Rounding:
    """Has no gradient at all."""

    name, params, sha256, stochastic, size_multiple = "rounding", {}, None, False, 1

    def __call__(self, x, rng=None):
        return (x.detach() * 8).round() / 8


class Noisy(Rounding):
    name, stochastic = "noisy", True

    def __call__(self, x, rng=None):
        return x.detach() + 0.1 * rng.normal(x)


def harm(attack, x, x_adv, c):
    return fake_mse(attack, x_adv, c[:, None], [attack.reference(x, c)], seeds.named(1, NAMES[: len(x)]))


def test_the_square_shrinks_by_the_papers_schedule():
    assert [square.covered(k, 10_000) for k in (10, 11, 50, 51, 201, 8001)] == [
        0.8,
        0.4,
        0.4,
        0.2,
        0.1,
        0.8 / 512,
    ]


def test_one_query_gives_vertical_stripes_of_eps(faces, tiny_generator):
    x, c = torch.zeros(2, 3, 16, 16), faces(2)[1]
    x_adv = build("square", tiny_generator, 0.05, queries=1)(
        images.quantise(x), c[:, None], seeds.named(0, "ab")
    )
    change = x_adv - images.quantise(x)
    assert torch.allclose(change.abs(), torch.tensor(6 / 127.5)) and torch.equal(
        change, change[:, :, :1].expand_as(change)
    )


@pytest.mark.parametrize("purifier", [None, Rounding])
def test_more_queries_harm_each_photo_more_inside_the_ball(purifier, faces, tiny_generator):
    x, c = faces(4)
    translator = ThroughDefence(tiny_generator, purifier()) if purifier else tiny_generator
    found = []
    # no more queries than these share the first squares: the schedule follows the budget
    for queries in (1, 60):
        attack = build("square", translator, 0.05, queries=queries)
        x_adv = attack(x, c[:, None], seeds.named(0, NAMES))
        assert (x_adv - x).abs().max() <= 6 / 127.5 + 1e-6 and torch.equal(images.quantise(x_adv), x_adv)
        found.append(harm(attack, x, x_adv, c))
    assert (found[1] > found[0]).all()


@pytest.mark.parametrize("purifier", [None, Noisy])
def test_one_by_one_equals_the_batch(purifier, faces, tiny_generator):
    x, c = faces(3)
    translator = ThroughDefence(tiny_generator, purifier(), eot=2) if purifier else tiny_generator
    attack = build("square", translator, 0.05, queries=20)
    whole = attack(x, c[:, None], seeds.named(0, NAMES[:3]))
    single = torch.cat(
        [attack(x[i : i + 1], c[i : i + 1, None], seeds.named(0, [NAMES[i]])) for i in range(3)]
    )
    assert torch.equal(whole, single)


def test_it_asks_as_often_as_it_says_and_takes_no_gradient(faces, tiny_generator):
    x, c = faces(2)
    asked = []

    def translator(v, labels):
        asked.append(torch.is_grad_enabled())
        return tiny_generator(v, labels)

    labels = attack_labels("joint", c, ATTRIBUTES)
    attack = build("square", translator, 0.05, queries=4, label="joint")
    attack(x, labels, seeds.named(0, "ab"))
    assert len(asked) == 5 * (1 + 4) and not any(asked)  # the clean fakes, then the queries
    assert attack.definition()["queries"] == 4 and "square" not in attacks.GRADIENT


def test_what_it_refuses(faces, tiny_generator):
    x, c = faces(2)
    with pytest.raises(ValueError, match="K = 5"):
        build("square", tiny_generator, 0.05)(x, attack_labels("joint", c, ATTRIBUTES), seeds.named(0, "ab"))
    for options in ({"queries": 0}, {"label": "mine"}):
        with pytest.raises(ValueError):
            build("square", None, 0.05, **options)
