import pytest
import torch

from attacks import build
from common import images, seeds


def test_none_returns_the_photo(faces):
    x, c = faces(2)
    assert torch.equal(build("none", None, 0.05)(x, c[:, None], None), x)


def test_gaussian_has_its_standard_deviation_and_is_an_8_bit_image_in_range(faces):
    x, c = faces(8, size=64)
    x = images.quantise(torch.zeros_like(x))  # mid-grey: nothing is clipped
    x_adv = build("gaussian", None, 0.05)(x, c[:, None], seeds.named(0, "abcdefgh"))
    assert (x_adv - x).std() == pytest.approx(0.05, rel=0.02)
    assert (x_adv - x).abs().max() > 3 * 0.05  # not projected to a ball
    assert torch.equal(images.quantise(x_adv), x_adv)
    assert build("gaussian", None, 1.5)(x, c[:, None], seeds.named(0, "abcdefgh")).abs().max() == 1


def test_gaussian_depends_on_the_image_alone_and_may_be_small(faces):
    x, c = faces(2)
    attack = build("gaussian", None, 0.02)
    both = attack(x, c[:, None], seeds.named(0, ["a", "b"]))
    assert torch.equal(both[1:], attack(x[1:], c[1:, None], seeds.named(0, ["b"])))
    build("gaussian", None, 0.001)
    with pytest.raises(ValueError):
        build("gaussian", None, 0.0)


def test_random_signs_move_every_value_by_the_whole_bound_inside_the_box(faces):
    x, c = faces(4)
    attack = build("random-sign", None, 0.05)
    x_adv = attack(x, c[:, None], seeds.named(0, "abcd"))
    moved = ((x_adv - x) * 127.5).round()
    inside = x.abs() < 0.9
    assert set(moved[inside].unique().tolist()) == {-6.0, 6.0} and abs(float(moved[inside].mean())) < 0.5
    assert torch.equal(x_adv[1:2], attack(x[1:2], c[1:2, None], seeds.named(0, "b"))) and not torch.equal(
        moved[0], moved[1]
    )
    assert attack.definition() == {"attack": "random-sign", "eps": 0.05, "streams": seeds.VERSION}
