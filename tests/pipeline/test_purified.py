"""Purified photos are made once; what they cost is kept beside them."""

import torch

from common import seeds
from common.distributed import Context
from pipeline.purified import PurifiedPhotos
from purify import build
from purify.base import Purifier

CPU = Context(0, 1, torch.device("cpu"))
NAMES = [f"{i}.jpg" for i in range(5)]


class Counting(Purifier):
    """Halves its input and counts two evaluations a photo."""

    name = "counting"
    calls = 0

    def purify(self, x, rng):
        Counting.calls += len(x)
        self.count(len(x), 2 * len(x))
        return x / 2


def inputs(names):
    return torch.stack([torch.full((3, 8, 8), int(n.split(".")[0]) / 10 - 0.2) for n in names])


def test_each_photo_is_purified_once_and_rounded_to_8_bits(tmp_path):
    Counting.calls = 0
    cached = PurifiedPhotos(Counting(), "key", inputs, tmp_path, 0)
    assert cached.cost() == (None, None)
    cached.fill(NAMES[:2], CPU, 4)
    cached.fill(NAMES, CPU, 2)
    assert Counting.calls == 5
    assert (cached.floats(NAMES) - inputs(NAMES) / 2).abs().max() <= 0.5 / 127.5 + 1e-6
    seconds, nfe = cached.cost()
    assert nfe == 2 and seconds > 0


def test_the_version_of_the_streams_is_in_the_key_of_what_is_drawn(tmp_path):
    class Noisy(Counting):
        stochastic = True

    drawn, not_drawn = (PurifiedPhotos(c(), "key", inputs, tmp_path, 0).cache for c in (Noisy, Counting))
    assert drawn.definition["streams"] == seeds.VERSION and "streams" not in not_drawn.definition


def test_none_stores_nothing_and_costs_nothing(tmp_path):
    cached = PurifiedPhotos(build("none"), "key", inputs, tmp_path, 0)
    cached.fill(NAMES, CPU, 4)
    assert (
        cached.cost() == (0.0, 0.0)
        and torch.equal(cached.floats(NAMES), inputs(NAMES))
        and not list(tmp_path.iterdir())
    )


def test_input_parameters_and_precision_have_their_own_caches(tmp_path):
    def make(purifier, key="a", precision="fp32"):
        return PurifiedPhotos(purifier, key, inputs, tmp_path, 0, precision).cache.key

    keys = [
        make(build("jpeg", quality=50)),
        make(build("jpeg", quality=75)),
        make(build("jpeg", quality=50), "b"),
        make(build("blur")),
        make(build("blur"), precision="bf16"),
    ]
    assert len(set(keys)) == len(keys)
