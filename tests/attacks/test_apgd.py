import pytest
import torch

from attacks import apgd, build
from attacks.harm import fake_mse
from attacks.through import ThroughDefence
from common import images, seeds
from models.conditions import attack_labels

NAMES = ["a", "b", "c", "d"]
ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


class Smooth:
    name, params, sha256, stochastic, size_multiple = "smooth", {}, None, False, 1

    def __call__(self, x, rng=None):
        return torch.tanh(0.9 * x)


class Noisy(Smooth):
    name, stochastic = "noisy", True

    def __call__(self, x, rng=None):
        return x + 0.3 * x * rng.normal(x)


def harm(attack, x, x_adv, c):
    goals = [attack.reference(x, c)]
    return fake_mse(attack, x_adv, c[:, None], goals, seeds.named(1, NAMES[: len(x)]))


def test_the_checkpoints_are_the_papers():
    assert apgd.checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert apgd.checkpoints(50) == [11, 21, 29, 35, 40, 44, 47]  # 49.5 is rounded up to the end
    assert apgd.checkpoints(1) == []


def test_it_stays_inside_the_ball_and_harms_more_than_pgd_of_equal_cost(faces, tiny_generator):
    x, c = faces(4)
    found = {}
    for name, options in (("pgd", {"steps": 20}), ("apgd", {"apgd_steps": 20, "restarts": 1})):
        attack = build(name, tiny_generator, 0.05, target="clean", **options)
        x_adv = attack(x, c[:, None], seeds.named(0, NAMES))
        assert (x_adv - x).abs().max() <= 6 / 127.5 + 1e-6 and x_adv.abs().max() <= 1
        assert torch.equal(images.quantise(x_adv), x_adv)
        found[name] = harm(attack, x, x_adv, c)
    assert found["apgd"].mean() >= 0.98 * found["pgd"].mean()


def test_more_restarts_never_help_the_defender(faces, tiny_generator):
    x, c = faces(4)
    through = ThroughDefence(tiny_generator, Smooth())
    found = []
    for restarts in (1, 2, 4):
        attack = build("apgd", through, 0.05, apgd_steps=4, restarts=restarts)
        found.append(harm(attack, x, attack(x, c[:, None], seeds.named(0, NAMES)), c))
    assert (found[1] >= found[0]).all() and (found[2] >= found[1]).all()
    assert (found[2] > found[0]).any()


@pytest.mark.parametrize("purifier", [None, Noisy])
def test_one_by_one_equals_the_batch(purifier, faces, tiny_generator):
    """Float64, as of the other gradient attacks: float32's rounding, which the batch decides, tips signs."""
    x, c = faces(4)
    x, generator = images.quantise(x.double()), tiny_generator.double()
    translator = ThroughDefence(generator, purifier(), eot=2) if purifier else generator
    attack = build("apgd", translator, 0.05, apgd_steps=12)
    whole = attack(x, c[:, None], seeds.named(0, NAMES))
    single = torch.cat(
        [attack(x[i : i + 1], c[i : i + 1, None], seeds.named(0, [NAMES[i]])) for i in range(4)]
    )
    assert (whole != single).float().mean() <= 0.001


def test_each_photo_halves_its_own_step_and_goes_on_from_its_best_point():
    """Losses by hand: one photo rises at each step, the other never again after the first."""
    attack = build("apgd", None, 1.0, apgd_steps=10)
    x, seen, values = torch.zeros(2, 3, 1, 1), [], iter([[k, -k] for k in range(10)])

    def gain(x, v, *_):
        seen.append(v)
        return torch.tensor(next(values), dtype=torch.float32), torch.zeros_like(v)

    attack._gain = gain
    attack._climb(x, [], [], seeds.named(0, "ab"))
    # the gradient is zero, so only a return to the best point moves a photo: the start, for the second
    assert all(torch.equal(v, seen[0]) for v in seen)
    signs = iter([[k, -k] for k in range(10)])
    seen.clear()

    def pushed(x, v, *_):
        seen.append(v)
        return torch.tensor(next(signs), dtype=torch.float32), torch.ones_like(v)

    attack._gain = pushed
    attack.begin = lambda x, rng: torch.full_like(x, -1.0)
    attack._climb(x, [], [], seeds.named(0, "ab"))
    first, second = (torch.stack([v[i].mean() for v in seen]) for i in (0, 1))
    assert (first[1:] == 1).all()  # 2 eps at once: across the ball
    assert apgd.checkpoints(10)[:2] == [3, 5]
    # from its best point, the start, with half the step and the momentum left: -1 + .75 + (-1 - 1) / 4
    assert second[4] == pytest.approx(-0.75)


def test_the_loss_of_a_step_is_the_mean_over_the_draws_of_a_random_defence(faces, tiny_generator):
    x, c = faces(2)
    goals, view = [tiny_generator(x, c)], (lambda v: v,)
    d = torch.full_like(x, 0.02)
    four = build("apgd", ThroughDefence(tiny_generator, Noisy(), eot=4), 0.05)
    one, rng = build("apgd", ThroughDefence(tiny_generator, Noisy()), 0.05), seeds.named(0, NAMES[:2])
    each = [one.evaluate(x, d, [c], goals, view, rng) for _ in range(4)]
    value, grad = four.evaluate(x, d, [c], goals, view, seeds.named(0, NAMES[:2]))
    assert torch.allclose(value, torch.stack([v for v, _ in each]).mean(0))
    assert torch.allclose(grad, torch.stack([g for _, g in each]).mean(0), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("rule", ["iterative", "joint"])
def test_several_label_sets_are_attacked_together(rule, faces, tiny_generator):
    x, c = faces(2)
    labels = attack_labels(rule, c, ATTRIBUTES)
    attack = build("apgd", tiny_generator, 0.05, apgd_steps=5, restarts=1, label=rule)
    x_adv = attack(x, labels, seeds.named(0, NAMES[:2]))
    assert all(harm(attack, x, x_adv, labels[:, k]).mean() > 0.01 for k in range(5))


def test_its_definition_says_what_decides_the_result(tiny_generator):
    assert build("apgd", None, 0.05, apgd_steps=7, restarts=3, jpeg="50-95").definition() == {
        "attack": "apgd",
        "eps": 0.05,
        "steps": 7,
        "restarts": 3,
        "target": "clean",
        "label": "original",
        "jpeg": "50-95",
        "precision": "fp32",
        "translator": None,
        "through": None,
        "streams": seeds.VERSION,
    }
    with pytest.raises(ValueError):
        build("apgd", None, 0.05, restarts=0)
    with pytest.raises(ValueError):
        build("apgd", None, 0.05, apgd_steps=0)
