"""Photos of any size."""

from itertools import pairwise

import pytest
import torch

from common import seeds
from purify import build
from purify.base import Purifier
from purify.one_step import OneStepPlain
from purify.reverse_only import ReverseOnly
from purify.sizes import describe, fit, positions
from tiny import denoiser


class Same(Purifier):
    """Identity that knows 8 x 8 only."""

    tile = size_multiple = smallest = 8

    def purify(self, x, rng):
        assert x.shape[-2:] == (8, 8)
        self.count(len(x), 2 * len(x))
        return x


def photo(h, w, n=2):
    return torch.rand(n, 3, h, w, generator=seeds.generator("photo", h, w)) * 1.6 - 0.8


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 17, 40, 178])
def test_tiles_cover_everything_and_overlap(length):
    at = positions(length, 8)
    assert at[0] == 0 and at[-1] == max(0, length - 8)
    assert all(0 < b - a <= 6 for a, b in pairwise(at))


@pytest.mark.parametrize("h, w", [(8, 8), (3, 20), (1, 1), (8, 9), (21, 34)])
def test_tiles_of_the_identity_give_the_photo_back(h, w):
    purifier, x = Same(), photo(h, w)
    torch.testing.assert_close(fit(purifier, x), x)
    tiles = len(positions(max(h, 8), 8)) * len(positions(max(w, 8), 8))
    assert purifier.nfe == pytest.approx(2 * tiles)  # evaluations per photo, not per tile


def test_resize_keeps_the_size_and_whole_purifiers_pad():
    x = photo(21, 34)
    small = fit(Same(), x, mode="resize")
    assert small.shape == x.shape and not torch.allclose(small, x, atol=1e-2)
    assert describe(Same(), "tile") == {"fit": "tile", "tile": 8, "overlap": 0.25} and describe(
        build("jpeg"), "tile"
    ) == {"fit": "whole"}
    assert fit(build("blur"), photo(3, 40)).shape == (2, 3, 3, 40)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReverseOnly(denoiser(), 4),
        lambda: ReverseOnly(denoiser(), "auto"),
        lambda: OneStepPlain(denoiser()),
    ],
)
def test_tiled_photos_do_not_depend_on_the_batch(make):
    x, names = photo(13, 30, 3), ["a", "b", "c"]
    together = fit(make(), x, seeds.named(0, names))
    for i, name in enumerate(names):
        torch.testing.assert_close(
            fit(make(), x[i : i + 1], seeds.named(0, [name])), together[i : i + 1], atol=1e-5, rtol=1e-5
        )


def test_tiling_is_differentiable():
    x = photo(12, 12).requires_grad_(True)
    assert torch.autograd.grad(fit(OneStepPlain(denoiser()), x).sum(), x)[0].abs().min() > 0
