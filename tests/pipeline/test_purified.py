"""Purified photos are made once; what they cost is kept beside them."""

import json

import pytest
import torch

from common import files, seeds
from common.distributed import Context
from pipeline.purified import PurifiedPhotos
from purify import build
from purify.base import Purifier
from purify.level import Level

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


class Finding(Counting):
    """Finds a level, the photo's own, and counts as many evaluations as it has tenths."""

    name = "finding"

    class Level(Level):
        def __init__(self):
            self.reset()

        def note(self, k):
            self._n, self._sum = self._n + len(k), self._sum + k.double().sum()
            self._squares = self._squares + k.double().square().sum()

    def __init__(self):
        self.level = None
        super().__init__()
        self.level = self.Level()

    def purify(self, x, rng):
        k = x[:, 0, 0, 0] + 1
        self.level.note(k)
        self.count(len(x), float((k * 10).round().sum()))
        return x / 2


@pytest.mark.parametrize("at", range(1, 11))
def test_costs_and_levels_are_those_of_all_photos_whenever_one_is_killed(tmp_path, monkeypatch, at):
    """Killed before it writes its file number `at`: of two batches the cost and each image, the
    definition."""
    whole = PurifiedPhotos(Finding(), "key", inputs, tmp_path / "whole", 0)
    whole.fill(NAMES, CPU, 3)
    killed = PurifiedPhotos(Finding(), "key", inputs, tmp_path / "killed", 0)
    write, count = files.write_atomic, []

    class Killed(BaseException):
        pass

    def counted(path, *more, **named):
        count.append(path)
        if len(count) >= at:
            raise Killed
        write(path, *more, **named)

    for module in ("common.files", "common.images"):
        monkeypatch.setattr(f"{module}.write_atomic", counted)
    ended = False
    try:
        killed.fill(NAMES, CPU, 3)
    except Killed:
        ended = True
    assert ended == (at <= 8)
    monkeypatch.undo()
    again = PurifiedPhotos(Finding(), "key", inputs, tmp_path / "killed", 0)
    again.fill(NAMES, CPU, 3)
    assert again.cost()[1] == pytest.approx(whole.cost()[1], rel=1e-12)
    assert again.measured() == pytest.approx(whole.measured(), rel=1e-12) and len(again.measured()) == 2
    assert torch.equal(again.floats(NAMES), whole.floats(NAMES))
    assert not again.cache.missing(NAMES)


def test_costs_of_an_older_format_and_damaged_ones(tmp_path):
    cached = PurifiedPhotos(Finding(), "key", inputs, tmp_path, 0)
    cached.fill(NAMES[:2], CPU, 4)
    path, found = cached.cache.folder / "cost-0.json", cached.measured()
    old = {"images": 2, "seconds": 0.5, "evaluations": 17.0, "measured": found}
    path.write_text(json.dumps(old))
    assert cached.cost() == (0.25, 8.5) and cached.measured() == found
    cached.fill(NAMES, CPU, 4)
    levels = inputs(NAMES)[:, 0, 0, 0].double() + 1
    assert cached.measured()["level_mean"] == pytest.approx(float(levels.mean()), rel=1e-6)
    assert cached.measured()["level_std"] == pytest.approx(float(levels.std(correction=0)), rel=1e-5)
    for damage in (b"", b"\xff", b"[]", b'{"images": 1}'):
        path.write_bytes(damage)
        assert cached.cost() == (None, None) and cached.measured() == {}
