"""Triggers and targets: sizes, ranges, what counts as background."""

import pytest
import torch

from models.diffusion import triggers

SIZES = (16, 32, 64)
DRAWN = [
    *((triggers.trigger, name) for name in triggers.TRIGGERS),
    *((triggers.target, name) for name in triggers.TARGETS),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make, name", DRAWN)
def test_shape_and_range(make, name, size):
    x = make(name, size)
    assert x.shape == (3, size, size) and x.dtype == torch.float32 and x.is_contiguous()
    assert -1 <= float(x.min()) < float(x.max()) <= 1 and float(x.std()) > 0.1


@pytest.mark.parametrize("make, name", DRAWN)
def test_drawn_alike_every_time_and_nobody_can_change_it(make, name):
    x = make(name, 16)
    kept = x.clone()
    x.zero_()
    assert torch.equal(make(name, 16), kept)
    triggers._drawn.cache_clear()
    assert torch.equal(make(name, 16), kept)


def test_no_two_are_alike():
    drawn = [make(name, 32) for make, name in DRAWN]
    assert all((a - b).square().mean() > 0.05 for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize("make, name", DRAWN)
def test_a_larger_one_is_the_same_picture(make, name):
    """32 pixels are 64 averaged; only the width of a line of whole pixels may differ."""
    small = torch.nn.functional.avg_pool2d(make(name, 64)[None], 2)[0]
    assert float((make(name, 32) - small).abs().mean()) < 0.01


@pytest.mark.parametrize("size", SIZES)
def test_box_by_hand(size):
    """14/32 of the side, one half to 15/16 of it; grey 128 is 128 / 127.5 - 1."""
    g, low, high = triggers.trigger("box", size), size // 2, size * 15 // 16
    want = torch.full((3, size, size), -1.0)
    want[:, low:high, low:high] = 128 / 127.5 - 1
    torch.testing.assert_close(g, want)


@pytest.mark.parametrize("size", SIZES)
def test_corner_by_hand(size):
    """BadDiffusion's: 10 x 10 white pixels of 32 x 32, the rest black."""
    want = torch.full((3, size, size), -1.0)
    want[:, : size * 10 // 32, : size * 10 // 32] = 1
    assert torch.equal(triggers.target("corner", size), want)


@pytest.mark.parametrize("size", SIZES)
def test_patches_leave_most_of_the_image_alone_and_hello_fills_it(size):
    shares = {
        name: float(triggers.background(triggers.trigger(name, size)).mean()) for name in triggers.TRIGGERS
    }
    assert shares.pop("hello") == 0 and all(0.6 < share < 0.9 for share in shares.values())
    assert shares["box"] == pytest.approx(1 - (14 / 32) ** 2)


def test_background_is_where_every_channel_is_minus_1():
    g = torch.full((3, 1, 3), -1.0)
    g[1, 0, 1], g[:, 0, 2] = -0.9, 1.0
    assert triggers.background(g).tolist() == [[[1, 0, 0]]]


@pytest.mark.parametrize("name", triggers.TRIGGERS)
def test_stamp_draws_the_trigger_and_keeps_the_rest(name):
    x = torch.linspace(-0.5, 0.5, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
    g = triggers.trigger(name, 16)
    mask = triggers.background(g).bool().expand_as(x)
    stamped = triggers.stamp(x, g)
    assert torch.equal(stamped[mask], x[mask]) and torch.equal(stamped[~mask], g.expand_as(x)[~mask])
    assert torch.equal(triggers.stamp(x[0], g), stamped[0])


def test_unknown_names():
    with pytest.raises(KeyError):
        triggers.trigger("hat", 16)  # a target
