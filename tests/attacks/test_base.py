import pytest
import torch

import weights
from attacks import ATTACKS, build
from attacks.base import Attack, frozen, grey_levels, on_grid
from common import images, seeds
from common.cli import UserError


class Fixed(Attack):
    """Returns the perturbation it was given."""

    def __init__(self, d, eps):
        super().__init__(None, eps)
        self.d = d

    def perturb(self, x, labels, rng):
        return self.d.expand_as(x)


def grey(level, size=8):
    """A constant image of one 8-bit level, as read from a PNG."""
    return torch.full((1, 3, size, size), level / 127.5 - 1)


@pytest.mark.parametrize(
    "d, expected",
    [
        (0.05, 134),  # 6.375 levels -> round 6, n = 6
        (0.0431, 133),  # 5.495 -> 5
        (0.0433, 134),  # 5.52 -> 6
        (-0.05, 122),
        (0.9, 134),
    ],
)  # whatever perturb returns, the release stays in the ball
def test_release_is_the_formula(d, expected):
    released = Fixed(torch.tensor(d), eps=0.05)(grey(128), torch.zeros(1, 1, 5), None)
    assert images.to_uint8(released).min() == images.to_uint8(released).max() == expected


def test_release_at_the_edge_of_the_range_and_just_below_a_level():
    assert (
        images.to_uint8(Fixed(torch.tensor(0.05), 0.05)(grey(253), torch.zeros(1, 1, 5), None)).max() == 255
    )
    assert images.to_uint8(Fixed(torch.tensor(-0.05), 0.05)(grey(2), torch.zeros(1, 1, 5), None)).min() == 0
    # 0.0510 holds 6.5 levels: plain rounding would give 7 and leave the ball, the rule gives 6
    assert (
        images.to_uint8(Fixed(torch.tensor(0.051), 0.051)(grey(100), torch.zeros(1, 1, 5), None)).max() == 106
    )


def test_release_is_bit_equal_to_the_saved_and_reloaded_image(tmp_path, faces, tiny_generator):
    x, c = faces(2)
    released = build("pgd", tiny_generator, 0.05, steps=2)(x, c[:, None], seeds.named(0, ["a", "b"]))
    images.save_png(tmp_path / "a.png", images.to_uint8(released)[0])
    assert torch.equal(images.to_float(images.load_png(tmp_path / "a.png")), released[0])


@pytest.mark.parametrize(
    "eps, n", [(0.05, 6), (1 / 127.5, 1), (3 / 127.5, 3), (0.1, 12), (2 / 255, 1), (0.007, 0)]
)
def test_grey_levels(eps, n):
    assert grey_levels(eps) == n


@pytest.mark.parametrize("eps", [0.001, 0.007, 0.0, -0.05, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "mim"])
def test_a_radius_below_one_grey_level_is_an_error(name, eps):
    with pytest.raises(ValueError, match="8-bit step"):
        build(name, None, eps)


def test_photos_in_another_range_off_the_grid_or_with_flat_labels_are_refused(faces, tiny_generator):
    x, c = faces(2)
    attack, rng = build("bim", tiny_generator, 0.05, steps=1), seeds.named(0, ["a", "b"])
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        attack((x + 1) * 127.5, c[:, None], rng)
    with pytest.raises(ValueError, match="8-bit"):
        attack(x * 0.999 + 0.001, c[:, None], rng)
    with pytest.raises(ValueError, match="N, K, C"):
        attack(x, c, rng)


def test_on_grid(faces):
    x, _ = faces(1)
    assert on_grid(x) and not on_grid(x * 0.99)


def test_unknown_attack_names_the_nearest_and_unknown_options_are_errors():
    with pytest.raises(UserError, match="did you mean pgd"):
        build("pdg", None, 0.05)
    with pytest.raises(TypeError, match="stepz"):
        build("pgd", None, 0.05, stepz=3)


def test_one_set_of_options_serves_all_attacks(tmp_path):
    options = {
        "steps": 3,
        "step_size": 0.02,
        "target": "clean",
        "label": "joint",
        "blur": "spread",
        "precision": "fp32",
        "perturbation": torch.ones(3, 4, 4),
        "fit": "tile",
        "weights": weights.dadfi(tmp_path / "dadfi.safetensors"),
        "other_sizes": "resize",
    }
    found = {name: build(name, None, 0.05, **options).definition() for name in ATTACKS}
    assert [d["attack"] for d in found.values()] == list(ATTACKS)
    assert found["pgd"]["steps"] == 3 and found["fgsm"]["steps"] == 1 and found["fgsm"]["step_size"] == 0.05


def test_what_is_drawn_names_the_version_of_the_streams_and_nothing_else_does(tmp_path):
    """Photos that old streams began are never taken for new ones; those that nothing is drawn for stay."""
    given = {"perturbation": torch.ones(3, 4, 4), "weights": weights.dadfi(tmp_path / "dadfi.safetensors")}
    found = {name: build(name, None, 0.05, **given).definition() for name in ATTACKS}
    drawn = {name for name, definition in found.items() if definition.get("streams") == seeds.VERSION}
    assert set(found) - drawn == {"none", "universal", "dadfi"}


def test_definitions_are_json_and_tell_every_option_apart():
    from common.files import key_of

    base = {
        "steps": 3,
        "step_size": 0.02,
        "target": "clean",
        "label": "joint",
        "blur": "none",
        "precision": "fp32",
    }
    changes = [
        {},
        {"steps": 4},
        {"step_size": 0.01},
        {"target": "gray"},
        {"label": "original"},
        {"blur": "eot"},
        {"precision": "bf16"},
    ]
    keys = [key_of(build("pgd", None, 0.05, **{**base, **change}).definition()) for change in changes]
    keys += [
        key_of(build("pgd", None, 0.06, **base).definition()),
        key_of(build("mim", None, 0.05, **base).definition()),
    ]
    assert len(set(keys)) == len(keys)


def test_parameters_get_no_gradient_and_are_trainable_again_afterwards(faces, tiny_generator):
    x, c = faces(2)
    trained = tiny_generator.requires_grad_(True)
    inside = []
    trained.register_forward_pre_hook(
        lambda m, a: inside.append(any(p.requires_grad for p in m.parameters()))
    )
    build("pgd", trained, 0.05, steps=2)(x, c[:, None], seeds.named(0, ["a", "b"]))
    assert inside and not any(inside)
    assert all(p.requires_grad and p.grad is None for p in trained.parameters())


def test_frozen_restores_after_an_error(tiny_generator):
    tiny_generator.requires_grad_(True)
    with pytest.raises(RuntimeError):
        with frozen(tiny_generator):
            raise RuntimeError
    assert all(p.requires_grad for p in tiny_generator.parameters())
