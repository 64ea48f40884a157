import pytest
import torch
import torch.nn.functional as F

from attacks import build
from attacks.gradient import JITTER
from attacks.through import ThroughDefence
from common import images, seeds
from common.blur import gaussian_blur
from common.errors import RunError
from models.conditions import attack_labels
from purify import build as build_purifier

NAMES = ["a", "b", "c", "d", "e", "f", "g", "h"]
ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
GRADIENT = ["fgsm", "bim", "pgd", "mim"]


def streams(n=4, seed=0):
    return seeds.named(seed, NAMES[:n])


def harm(generator, x, x_adv, c):
    """Mean squared change of the fakes, per image."""
    return (generator(x_adv, c) - generator(x, c)).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("target", ["gray", "clean", "input"])
@pytest.mark.parametrize("name", GRADIENT)
def test_every_attack_with_every_target_has_an_effect_inside_the_ball(name, target, faces, tiny_generator):
    x, c = faces(4)
    x_adv = build(name, tiny_generator, 0.05, steps=3, step_size=0.02, target=target)(
        x, c[:, None], streams()
    )
    reached = (x_adv - x).abs().amax(dim=(1, 2, 3))
    assert (reached <= 6 / 127.5 + 1e-6).all() and (reached >= 5 / 127.5 - 1e-6).all()
    assert x_adv.abs().max() <= 1 and torch.equal(images.quantise(x_adv), x_adv)
    assert (harm(tiny_generator, x, x_adv, c) > 1e-4).all()


@pytest.mark.parametrize("target, sign", [("gray", -1), ("input", -1), ("clean", 1)])
def test_the_targets_loss_moves_the_way_it_should(target, sign, faces, tiny_generator):
    x, c = faces(4)
    goal = {"gray": torch.zeros_like(x), "input": x, "clean": tiny_generator(x, c)}[target]
    x_adv = build("bim", tiny_generator, 0.05, steps=5, target=target)(x, c[:, None], streams())
    assert sign * (F.mse_loss(tiny_generator(x_adv, c), goal) - F.mse_loss(tiny_generator(x, c), goal)) > 1e-4


def test_at_the_photo_the_clean_targets_gradient_is_zero_and_the_jitter_gives_one(faces, tiny_generator):
    x, c = faces(4)
    attack = build("bim", tiny_generator, 0.05, target="clean")
    goals = [tiny_generator(x, c)]
    at_photo = attack.ascent(x, torch.zeros_like(x), [c], goals, (lambda v: v,), None)
    start = attack.start(x, streams())
    assert at_photo.abs().max() == 0
    assert 0 < start.abs().max() <= JITTER + 1e-6
    assert attack.ascent(x, start, [c], goals, (lambda v: v,), None).abs().amax(dim=(1, 2, 3)).min() > 0
    assert build("bim", tiny_generator, 0.05, target="gray").start(x, streams()).abs().max() == 0


def test_fgsm_is_one_step_of_eps(faces, tiny_generator):
    x, c = faces(4)
    leaf = x.clone().requires_grad_(True)
    F.mse_loss(tiny_generator(leaf, c), torch.zeros_like(x)).backward()
    x_adv = build("fgsm", tiny_generator, 0.05)(x, c[:, None], streams())
    expected = (x - 6 / 127.5 * leaf.grad.sign()).clamp(-1, 1)
    # a gradient of rounding size may have either sign
    assert ((x_adv - expected).abs() < 1e-5).float().mean() > 0.999


def test_momentum_keeps_going_where_the_gradient_turns(faces):
    x, c = faces(1, size=8)
    attacks = {name: build(name, None, 0.2, steps=2, step_size=0.05) for name in ("bim", "mim")}
    found = {}
    for name, attack in attacks.items():
        grads = iter([torch.ones_like(x), -torch.ones_like(x) * 0.5])
        attack.ascent = lambda *_, grads=grads: next(grads)
        found[name] = attack.perturb(torch.zeros_like(x), c[:, None], streams(1)).mean().item()
    # mim counts each gradient by its direction (L1-normalised): + then - is 0 and it stays at 0.05; bim steps
    # back to 0
    assert found["mim"] == pytest.approx(0.05) and found["bim"] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", GRADIENT)
def test_one_by_one_equals_the_batch(name, faces, tiny_generator):
    """In float64: float32's rounding, which the batch decides, tips the sign of gradients near zero, and that
    of a photo's jitter may send all of it another way."""
    x, c = faces(4)
    x, tiny_generator = images.quantise(x.double()), tiny_generator.double()
    attack = build(name, tiny_generator, 0.05, steps=4, target="clean")
    whole = attack(x, c[:, None], streams())
    single = torch.cat(
        [attack(x[i : i + 1], c[i : i + 1, None], seeds.named(0, [NAMES[i]])) for i in range(4)]
    )
    assert (whole != single).float().mean() <= 0.001


def test_equal_seeds_give_equal_attacks_and_other_seeds_others(faces, tiny_generator):
    x, c = faces(4)
    attack = build("pgd", tiny_generator, 0.05, steps=2)
    first, again, other = (attack(x, c[:, None], streams(seed=s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and (first != other).float().mean() > 0.05


def test_pgd_beats_random_signs_of_equal_size(faces, tiny_generator):
    x, c = faces(8)
    x_adv = build("pgd", tiny_generator, 0.05, target="clean")(x, c[:, None], streams(8))
    signs = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign() * 6 / 127.5
    assert (
        harm(tiny_generator, x, x_adv, c).mean()
        >= 3 * harm(tiny_generator, x, (x + signs).clamp(-1, 1), c).mean()
    )


class Recorder:
    """A translator that notes the labels it was called with."""

    def __init__(self, generator):
        self.generator, self.seen = generator, []

    def __call__(self, x, c):
        self.seen.append(c)
        return self.generator(x, c)


def test_iterative_cycles_through_the_label_sets(faces, tiny_generator):
    x, c = faces(2)
    labels, recorder = attack_labels("iterative", c, ATTRIBUTES), Recorder(tiny_generator)
    build("bim", recorder, 0.05, steps=7, label="iterative")(x, labels, streams(2))
    assert len(recorder.seen) == 7
    assert all(torch.equal(seen, labels[:, k % 5]) for k, seen in enumerate(recorder.seen))


def test_joint_is_the_mean_over_the_label_sets(faces, tiny_generator):
    x, c = faces(2)
    labels = attack_labels("joint", c, ATTRIBUTES)
    attack = build("bim", tiny_generator, 0.05, label="joint")
    sets, goals, view = [labels[:, k] for k in range(5)], [x.new_zeros(())] * 5, (lambda v: v,)
    each = [
        attack.ascent(x, torch.zeros_like(x), [s], [g], view, None) for s, g in zip(sets, goals, strict=True)
    ]
    joint = attack.ascent(x, torch.zeros_like(x), sets, goals, view, None)
    assert torch.allclose(joint, torch.stack(each).mean(0), rtol=1e-4, atol=1e-9)


def test_class_transferable_attacks_harm_every_domain(faces, tiny_generator):
    x, c = faces(4)
    labels = attack_labels("joint", c, ATTRIBUTES)
    for rule in ("iterative", "joint"):
        x_adv = build("pgd", tiny_generator, 0.05, target="clean", label=rule)(x, labels, streams())
        assert all(harm(tiny_generator, x, x_adv, labels[:, k]).mean() > 0.01 for k in range(5))


@pytest.mark.parametrize("rule", ["original", "target"])
def test_a_single_label_rule_refuses_a_stack(rule, faces, tiny_generator):
    x, c = faces(2)
    with pytest.raises(ValueError, match="K = 5"):
        build("bim", tiny_generator, 0.05, label=rule)(x, attack_labels("target", c, ATTRIBUTES), streams(2))


def test_attacks_that_foresee_a_blur_survive_it(faces, tiny_generator):
    x, c = faces(3, size=48)
    kept = {}
    for blur in ("none", "spread", "eot"):
        x_adv = build("pgd", tiny_generator, 0.05, target="clean", blur=blur)(x, c[:, None], streams(3))
        kept[blur] = harm(tiny_generator, gaussian_blur(x, 1.5), gaussian_blur(x_adv, 1.5), c).mean()
    assert kept["spread"] > 1.5 * kept["none"] and kept["eot"] > 1.5 * kept["none"]


def test_keys_of_attacks_without_jpeg_are_as_they_were():
    assert build("pgd", None, 0.05).definition() == {
        "attack": "pgd",
        "eps": 0.05,
        "steps": 10,
        "step_size": 0.01,
        "target": "gray",
        "label": "original",
        "blur": "none",
        "precision": "fp32",
        "translator": None,
        "through": None,
        "streams": seeds.VERSION,
    }
    assert build("pgd", None, 0.05, jpeg="75").definition()["jpeg"] == "75-75"


@pytest.mark.slow
def test_attacks_that_foresee_jpeg_survive_it(faces, tiny_generator):
    x, c = faces(3, size=48)
    purify, kept = build_purifier("jpeg", quality=50), {}
    for jpeg in (None, "40-60"):
        x_adv = build("pgd", tiny_generator, 0.05, target="clean", jpeg=jpeg)(x, c[:, None], streams(3))
        kept[jpeg] = harm(tiny_generator, purify(x), purify(x_adv), c).mean()
    assert kept["40-60"] > 1.2 * kept[None]


@pytest.mark.parametrize("blur", ["none", "spread", "eot"])
def test_each_photo_draws_one_quality_a_step_and_views_share_it(blur, faces, tiny_generator, monkeypatch):
    x, c = faces(2, size=48)
    seen = []
    monkeypatch.setattr("common.jpeg.round_trip", lambda v, quality: seen.append(quality) or v)
    attack = build("pgd", tiny_generator, 0.05, steps=6, target="clean", blur=blur, jpeg="50-95")
    attack(x, c[:, None], streams(2))
    views = 10 if blur == "eot" else 1
    steps = [seen[i : i + views] for i in range(0, len(seen), views)]
    assert len(steps) == 6 and all(torch.equal(q, qs[0]) for qs in steps for q in qs)
    drawn = torch.stack([qs[0] for qs in steps])
    assert drawn.shape == (6, 2) and drawn.min() >= 50 and drawn.max() <= 95
    assert drawn[:, 0].unique().numel() > 1 and not torch.equal(drawn[:, 0], drawn[:, 1])


def test_one_by_one_equals_the_batch_through_jpeg(faces, tiny_generator):
    x, c = faces(3)
    x, tiny_generator = images.quantise(x.double()), tiny_generator.double()
    attack = build("pgd", tiny_generator, 0.05, steps=4, target="clean", jpeg="50-95")
    whole = attack(x, c[:, None], streams(3))
    single = torch.cat(
        [attack(x[i : i + 1], c[i : i + 1, None], seeds.named(0, [NAMES[i]])) for i in range(3)]
    )
    assert (whole != single).float().mean() <= 0.001


class Breaking:
    """A purifier whose gradient breaks in its third call."""

    name, params, sha256, stochastic, size_multiple = "breaking", {}, None, False, 1

    def __init__(self):
        self.calls = 0

    def __call__(self, x, rng=None):
        self.calls += 1
        return x + (0 * (x - x.detach())).sqrt() if self.calls == 3 else x


@pytest.mark.parametrize("name", ["pgd", "mim", "apgd", "low-frequency"])
def test_a_gradient_that_is_not_finite_stops_the_attack_and_says_where(name, faces, tiny_generator):
    x, c = faces(2)
    attack = build(
        name, ThroughDefence(tiny_generator, Breaking()), 0.05, steps=5, apgd_steps=5, target="clean"
    )
    with pytest.raises(RunError, match=f"{name}: the gradient of step 3 of 5 through breaking is not finite"):
        attack(x, c[:, None], streams(2))


def test_bf16_is_close_to_fp32_in_effect(faces, tiny_generator):
    x, c = faces(4)
    full, half = (
        harm(
            tiny_generator,
            x,
            build("pgd", tiny_generator, 0.05, steps=5, target="clean", precision=p)(
                x, c[:, None], streams()
            ),
            c,
        ).mean()
        for p in ("fp32", "bf16")
    )
    assert half == pytest.approx(float(full), rel=0.25) and half != full


@pytest.mark.parametrize(
    "options", [{"target": "grey"}, {"label": "mine"}, {"blur": "box"}, {"steps": 0}, {"step_size": 0.0}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError):
        build("pgd", None, 0.05, **options)
