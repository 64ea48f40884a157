import pytest
import torch

from attacks import build
from attacks.harm import fake_mse
from attacks.through import ThroughDefence
from common import seeds
from common.errors import UserError
from purify import build as build_purifier

NAMES = ["a", "b", "c", "d"]


class Smooth:
    """A deterministic purifier: pulls values towards zero."""

    name, params, sha256, stochastic, size_multiple = "smooth", {"rate": 0.9}, None, False, 1

    def __init__(self):
        self.calls = 0

    def __call__(self, x, rng=None):
        self.calls += 1
        return torch.tanh(0.9 * x)


class Noisy(Smooth):
    """Adds noise from the image's own stream; its strength depends on the image, so every draw has another
    gradient."""

    name, stochastic = "noisy", True

    def __call__(self, x, rng=None):
        self.calls += 1
        return x + 0.3 * x * rng.normal(x)


class Rounding(Smooth):
    """Has no gradient at all."""

    name = "rounding"

    def __call__(self, x, rng=None):
        return (x.detach() * 8).round() / 8


def identity(x):
    return x


def gradient(attack, x, d, c, rng=None):
    return attack.ascent(x, d, [c], [x.new_zeros(())], (identity,), rng)


def test_the_full_gradient_is_that_of_finite_differences(faces, tiny_generator):
    x, c = faces(1, size=8)
    x, c, generator = x.double(), c.double(), tiny_generator.double()
    attack = build("bim", ThroughDefence(generator, Smooth()), 0.05)
    attack.translate = lambda v, labels: generator(v, labels)  # without the rounding to float32
    d = 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = gradient(attack, x, d, c)

    def ascended(e):
        return -generator(torch.tanh(0.9 * (x + e)), c).square().mean()

    for seed in range(3):
        direction = torch.randn(
            x.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64
        )
        h = 1e-6 * direction
        numeric = (ascended(d + h) - ascended(d - h)) / 2e-6
        assert (found * direction).sum() == pytest.approx(float(numeric), rel=1e-3, abs=1e-8)


def test_bpda_goes_forward_through_the_purifier_and_backward_as_the_identity(faces, tiny_generator):
    x, c = faces(2)
    purifier = Rounding()
    through = ThroughDefence(tiny_generator, purifier, gradient="bpda")
    assert torch.equal(through.defend(x), purifier(x))
    found = gradient(build("bim", through, 0.05), x, torch.zeros_like(x), c)
    at_purified = gradient(build("bim", tiny_generator, 0.05), purifier(x), torch.zeros_like(x), c)
    assert torch.allclose(found, at_purified) and found.abs().max() > 0
    leaf = x.clone().requires_grad_(True)
    through.defend(leaf).backward(torch.full_like(x, 3.0))
    assert torch.equal(leaf.grad, torch.full_like(x, 3.0))


def test_eot_is_the_mean_over_the_draws_of_each_images_stream(faces, tiny_generator):
    x, c = faces(2)
    purifier = Noisy()
    four = gradient(
        build("bim", ThroughDefence(tiny_generator, purifier, eot=4), 0.05),
        x,
        torch.zeros_like(x),
        c,
        seeds.named(0, NAMES[:2]),
    )
    assert purifier.calls == 4
    one, rng = build("bim", ThroughDefence(tiny_generator, purifier), 0.05), seeds.named(0, NAMES[:2])
    each = [gradient(one, x, torch.zeros_like(x), c, rng) for _ in range(4)]
    assert torch.allclose(four, torch.stack(each).mean(0), rtol=1e-4, atol=1e-9)
    assert not torch.allclose(each[0], each[1])


def test_a_purifier_without_randomness_is_drawn_once(faces, tiny_generator):
    x, c = faces(2)
    purifier = Smooth()
    build("bim", ThroughDefence(tiny_generator, purifier, eot=8), 0.05, steps=3)(
        x, c[:, None], seeds.named(0, NAMES[:2])
    )
    assert purifier.calls == 3


def test_label_sets_share_the_purified_image(faces, tiny_generator):
    x, c = faces(2)
    purifier = Noisy()
    labels = torch.stack([c, 1 - c], dim=1)
    build("bim", ThroughDefence(tiny_generator, purifier, eot=2), 0.05, steps=3, label="joint")(
        x, labels, seeds.named(0, NAMES[:2])
    )
    assert purifier.calls == 6


@pytest.mark.parametrize("gradient_of", ["full", "bpda"])
def test_results_do_not_depend_on_the_batch(gradient_of, faces, tiny_generator):
    x, c = faces(4)
    attack = build(
        "pgd", ThroughDefence(tiny_generator, Noisy(), gradient_of, eot=2), 0.05, steps=3, target="clean"
    )
    whole = attack(x, c[:, None], seeds.named(0, NAMES))
    single = torch.cat(
        [attack(x[i : i + 1], c[i : i + 1, None], seeds.named(0, [NAMES[i]])) for i in range(4)]
    )
    assert (whole != single).float().mean() <= 0.01


def test_the_clean_reference_is_the_undefended_fake(faces, tiny_generator):
    x, c = faces(2)
    attack = build("pgd", ThroughDefence(tiny_generator, Smooth()), 0.05, target="clean")
    assert torch.equal(attack.reference(x, c), tiny_generator(x, c))


def test_an_attack_through_a_defence_harms_more_of_what_it_returns(faces, tiny_generator):
    x, c = faces(4)

    def purifier(v, rng=None):
        return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(v, (1, 1, 1, 1), "reflect"), 3, 1)

    purifier.name, purifier.params, purifier.sha256, purifier.stochastic, purifier.size_multiple = (
        "mean",
        {},
        None,
        False,
        1,
    )
    through = ThroughDefence(tiny_generator, purifier)
    harm = {}
    for name, translator in (("blind", tiny_generator), ("adaptive", through)):
        x_adv = build("pgd", translator, 0.05, target="clean")(x, c[:, None], seeds.named(0, NAMES))
        harm[name] = (through(x_adv, c) - through(x, c)).square().mean()
    assert harm["adaptive"] > 1.3 * harm["blind"]


def test_definition_names_the_defence_and_how_it_was_differentiated(tiny_generator):
    found = build("pgd", ThroughDefence(tiny_generator, Noisy(), "bpda", eot=4), 0.05).definition()["through"]
    assert found == {
        "purifier": "noisy",
        "params": {"rate": 0.9},
        "sha256": None,
        "gradient": "bpda",
        "eot": 4,
    }


def test_known_noise_is_that_of_the_test_at_every_draw(faces, tiny_generator):
    x, c = faces(2)
    through = ThroughDefence(tiny_generator, Noisy(), eot=4, known_noise=True)
    rng = seeds.attacking(0, NAMES[:2])
    at_test = Noisy()(x, seeds.named(0, NAMES[:2], "purify"))
    assert torch.equal(through.defend(x, rng), at_test) and torch.equal(through.defend(x, rng), at_test)
    assert through.draws == 1 and not through.random
    attack = build("pgd", through, 0.05, steps=3, target="clean")
    harm = {}
    for name, known in (
        ("known", attack),
        ("guessed", build("pgd", ThroughDefence(tiny_generator, Noisy()), 0.05, steps=3, target="clean")),
    ):
        x_adv = known(x, c[:, None], seeds.attacking(0, NAMES[:2]))
        harm[name] = (tiny_generator(through.defend(x_adv, rng), c) - tiny_generator(x, c)).square().mean()
    assert harm["known"] > harm["guessed"]
    assert attack.definition()["through"] == {
        "purifier": "noisy",
        "params": {"rate": 0.9},
        "sha256": None,
        "gradient": "full",
        "eot": 1,
        "known_noise": True,
    }
    with pytest.raises(ValueError, match="not known"):
        through.defend(x, seeds.named(0, NAMES[:2]))


def test_what_was_made_through_a_surrogate_gradient_has_a_key_of_its_own(tiny_generator):
    full, bpda = (
        build("pgd", ThroughDefence(tiny_generator, build_purifier("jpeg"), how), 0.05).definition()[
            "through"
        ]
        for how in ("full", "bpda")
    )
    assert full["surrogate"] == "differentiable-jpeg" and "surrogate" not in bpda
    blur = ThroughDefence(tiny_generator, build_purifier("blur")).definition()
    assert set(blur) == {"purifier", "params", "sha256", "gradient", "eot"}


def test_through_jpeg_the_full_gradient_harms_more_than_the_identity(faces, tiny_generator):
    x, c = faces(4)
    jpeg, harm = build_purifier("jpeg", quality=50), {}
    for how in ("full", "bpda"):
        attack = build("pgd", ThroughDefence(tiny_generator, jpeg, how), 0.05, target="clean")
        x_adv = attack(x, c[:, None], seeds.named(0, NAMES))
        harm[how] = fake_mse(
            attack, x_adv, c[:, None], [attack.reference(x, c)], seeds.named(1, NAMES)
        ).mean()
    assert harm["full"] > harm["bpda"]


def test_a_purifier_without_gradient_points_to_bpda(faces, tiny_generator):
    x, c = faces(1)
    with pytest.raises(UserError, match="rounding passes no gradient: .*--gradient bpda, .*square"):
        build("bim", ThroughDefence(tiny_generator, Rounding()), 0.05)(
            x, c[:, None], seeds.named(0, NAMES[:1])
        )
    with pytest.raises(ValueError):
        ThroughDefence(tiny_generator, Smooth(), gradient="half")
    with pytest.raises(ValueError):
        ThroughDefence(tiny_generator, Smooth(), eot=0)
