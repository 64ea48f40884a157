import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scipy import stats

from common import seeds


def test_derived_seeds_are_the_same_on_every_machine():
    # printf '0\037000001.jpg' | sha256sum, first 63 bits
    assert seeds.derive(0, "000001.jpg") == 5382065499453640057
    assert len({seeds.derive(*k) for k in [(0, 1), (1, 0), (0, 11), (0, 1, 1), ("0 1",), (0,)]}) == 6
    assert 0 <= seeds.derive("x") < 1 << 63


def test_a_stream_depends_on_its_key_alone():
    like = torch.zeros(3, 2, 4)
    alone = seeds.named(0, ["b"], "attack").normal(like[:1])
    among = seeds.named(0, ["a", "b", "c"], "attack").normal(like)
    assert torch.equal(alone[0], among[1]) and not torch.equal(among[0], among[1])
    assert not torch.equal(seeds.named(1, ["b"], "attack").normal(like[:1]), alone)
    assert not torch.equal(seeds.named(0, ["b"], "purify").normal(like[:1]), alone)


def test_training_streams_follow_step_and_global_index():
    like = torch.zeros(4, 5)
    whole = seeds.stepped(0, 7, torch.arange(4), "noise").uniform(like)
    # as the second of two processes
    assert torch.equal(seeds.stepped(0, 7, [2, 3], "noise").uniform(like[2:]), whole[2:])
    assert not torch.equal(seeds.stepped(0, 8, range(4), "noise").uniform(like), whole)


def test_draws_advance_and_some_rows_can_draw_alone():
    a, b = seeds.named(0, "abc"), seeds.named(0, "abc")
    like = torch.zeros(3, 2)
    first = a.normal(like)
    assert not torch.equal(a.normal(like), first)
    assert torch.equal(b.at([0, 2]).normal(like[:2]), first[[0, 2]])
    assert torch.equal(b.normal(like)[1], first[1])  # row 1 had not drawn yet


def test_ranges_and_types():
    streams = seeds.named(0, range(200))
    like = torch.zeros(200, 3, dtype=torch.float64)
    u = streams.uniform(like, -0.1, 0.3)
    assert u.dtype == torch.float64 and -0.1 <= float(u.min()) < -0.08 and 0.28 < float(u.max()) < 0.3
    k = streams.integers(4)
    assert k.dtype == torch.int64 and k.shape == (200,) and set(k.tolist()) == {0, 1, 2, 3}
    assert abs(float(streams.normal(like).std()) - 1) < 0.1
    with pytest.raises(ValueError, match="3 images but 200 random streams"):
        streams.normal(like[:3])


def splitmix64(seed, count):
    """The first outputs of SplitMix64 by whole numbers of any size (the published C code, word for word)."""
    words, whole = [], (1 << 64) - 1
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & whole
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & whole
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & whole
        words.append(z ^ (z >> 31))
    return words


def test_a_stream_is_splitmix64():
    # the outputs that are published for seed 1234567
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(1234567, 3) == known
    streams = seeds.Streams(torch.tensor([1234567, -5]))
    drawn = [streams.integers(1 << 62).tolist() for _ in range(3)]
    assert [one for one, _ in drawn] == [word % 2**62 for word in known]
    assert [other for _, other in drawn] == [word % 2**62 for word in splitmix64(2**64 - 5, 3)]


def test_every_word_gives_two_numbers_of_its_halves():
    """Uniform: the 24 upper bits of each half, as a signed number, from 1/2 on; normal: the inverse of its
    distribution."""
    halves = [half for word in splitmix64(7, 3) for half in (word % 2**32, word >> 32)]
    signed = [half - 2**32 if half >> 31 else half for half in halves]
    like, streams = torch.zeros(2, 5), torch.tensor([7, 8])
    u, n = seeds.Streams(streams).uniform(like), seeds.Streams(streams).normal(like)
    assert u[0].tolist() == [0.5 + (half >> 8) / 2**24 for half in signed[:5]]
    expected = [stats.norm.ppf(0.5 + half / 2**32) for half in signed[:5]]
    torch.testing.assert_close(n[0].double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-5)


def test_numbers_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch):
    like = torch.zeros(9, 3, 5, 7)
    whole = [getattr(seeds.stepped(0, 1, range(9)), draw)(like) for draw in ("normal", "uniform")]
    monkeypatch.setitem(seeds.BLOCK, "cpu", 2 * 53)
    parts = [getattr(seeds.stepped(0, 1, range(9)), draw)(like) for draw in ("normal", "uniform")]
    assert all(map(torch.equal, whole, parts))


def test_any_shape_and_type_is_served():
    for like in (
        torch.zeros(3),
        torch.zeros(3, 1),
        torch.zeros(3, 2, 0),
        torch.zeros(0, 4),
        torch.zeros(3, 2, 3),
    ):
        for draw in ("normal", "uniform"):
            found = getattr(seeds.named(0, range(len(like))), draw)(like)
            assert found.shape == like.shape and found.dtype == like.dtype
    assert seeds.named(0, "ab").normal(torch.zeros(2, 3).bfloat16()).dtype == torch.bfloat16
    assert seeds.named(0, []).integers(3).tolist() == []


def test_a_stream_that_is_there_twice_goes_on():
    """As tiles of one photo: each gets the next numbers of the photo's stream, and both together advance
    it."""
    like = torch.zeros(1, 6)
    one, tiles = seeds.named(0, "abc").at([1]), seeds.named(0, "abc")
    expected = [one.normal(like)[0] for _ in range(3)]
    found = tiles.at([1, 0, 1]).normal(like.expand(3, 6))
    assert torch.equal(found[0], expected[0]) and torch.equal(found[2], expected[1])
    assert torch.equal(tiles.at([2, 1]).at([1]).normal(like)[0], expected[2])
    # rows 0 and 2 have drawn once and never
    fresh = seeds.named(0, "abc")
    fresh.at(torch.tensor([0])).normal(like)
    wanted, found = fresh.integers(1000).tolist(), tiles.integers(1000).tolist()
    assert [found[0], found[2]] == [wanted[0], wanted[2]] and len(tiles.at([])) == 0


def test_training_streams_take_a_tensor_of_indices():
    positions = torch.arange(5, 12)
    a, b = seeds.stepped(3, 2, positions, "x"), seeds.stepped(3, 2, positions.tolist(), "x")
    assert torch.equal(a.integers(1 << 40), b.integers(1 << 40))
    c = seeds.numbered(positions, 3, "x", 2)
    c.integers(2)
    assert torch.equal(a.integers(1 << 40), c.integers(1 << 40)) and len(set(a.keys.tolist())) == 7


@pytest.fixture(scope="module")
def many():
    """Numbers of 512 neighbouring streams, 1024 each, of two neighbouring steps."""
    like = torch.zeros(512, 1024)
    return {
        draw: [getattr(seeds.stepped(0, step, range(512), "quality"), draw)(like).double() for step in (7, 8)]
        for draw in ("normal", "uniform")
    }


def test_normal_numbers_are_normal(many):
    """Four moments at three standard errors, the whole distribution at p = 0.001."""
    x, count = many["normal"][0], 512 * 1024
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((x**power).mean()) - expected) < 3 * math.sqrt(variance / count)
    assert stats.kstest(x.flatten().numpy(), "norm").pvalue > 0.001
    assert 4.2 < float(x.abs().max()) <= 5.421
    # of every stream, and of every place in the streams
    for rows in (x, x.T):
        means = rows.mean(1) * math.sqrt(rows.shape[1])
        assert stats.kstest(means.numpy(), "norm").pvalue > 0.001


def test_uniform_numbers_are_uniform(many):
    x = many["uniform"][0]
    assert stats.kstest(x.flatten().numpy(), "uniform").pvalue > 0.001
    assert 0 <= float(x.min()) and float(x.max()) < 1
    # each of the 24 bits is set half of the time
    bits = (x * 2**24).long()
    for k in range(24):
        assert abs(float((bits >> k & 1).double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(x.numel())


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_neighbours_have_nothing_in_common(many, draw):
    """Streams, places in a stream, steps: correlations of numbers and of their squares at four standard
    errors."""
    x, other = ((v - v.mean()) / v.std() for v in many[draw])
    pairs = [(x[1:], x[:-1]), (x[2:], x[:-2]), (x[:, 1:], x[:, :-1]), (x[:, 2:], x[:, :-2]), (x, other)]
    pairs += [(x[:, :512], x[:, 512:]), (x[1:, 1:], x[:-1, :-1])]
    for a, b in pairs:
        for f in (torch.Tensor.clone, torch.square):
            found = torch.corrcoef(torch.stack([f(a).flatten(), f(b).flatten()]))[0, 1]
            assert abs(float(found)) < 4 / math.sqrt(a.numel())


@pytest.mark.parametrize("high", [2, 3, 10, 60, 1000])
def test_integers_are_equally_often(high):
    streams = seeds.stepped(1, 0, range(20000), "integers")
    first, second = streams.integers(high), streams.integers(high)
    counts = torch.bincount(torch.cat([first, second]), minlength=high)
    assert len(counts) == high and stats.chisquare(counts.numpy()).pvalue > 0.001
    if high <= 10:
        pairs = torch.bincount(high * first + second, minlength=high * high)
        assert stats.chisquare(pairs.numpy()).pvalue > 0.001


def test_libraries_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    seeds.named(0, "ab").normal(torch.zeros(2, 3))
    seeds.generator("x")
    assert torch.equal(torch.get_rng_state(), before)


def test_importing_draws_nothing():
    code = (
        "import torch; torch.manual_seed(3); s = torch.get_rng_state(); import common.seeds, common.training;"
        " print(torch.equal(s, torch.get_rng_state()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(seeds.__file__).parents[1]
    )
    assert out.stdout.strip() == "True", out.stderr


def test_a_share_grows_with_its_rate_and_minds_no_order():
    names = [f"{i:03d}" for i in range(50)]
    some, more = seeds.draw_share(names, 0.2, 0, "a"), seeds.draw_share(names, 0.5, 0, "a")
    assert len(some) == 10 and len(more) == 25 and set(some) < set(more) and some == sorted(some)
    turned = names[::-1]
    assert {turned[i] for i in seeds.draw_share(turned, 0.2, 0, "a")} == {names[i] for i in some}
    assert seeds.draw_share(names, 0.2, 0, "b") != some and seeds.draw_share(names, 0, 0, "a") == []


def test_streams_apart_depend_on_their_purpose_alone():
    like = torch.zeros(3, 4)
    streams, used = seeds.named(0, "abc"), seeds.named(0, "abc")
    used.apart("square").normal(like + used.normal(like))
    one = streams.apart("apgd").normal(like)
    assert torch.equal(used.apart("apgd").normal(like), one) and torch.equal(
        streams.at([2, 0]).apart("apgd").normal(like[:2]), one[[2, 0]]
    )
    others = [streams.normal(like), streams.apart("square").normal(like), seeds.named(1, "abc").normal(like)]
    assert not any(torch.equal(one, other) for other in others) and len(one.unique()) == one.numel()


def test_an_attack_may_know_the_noise_of_the_test():
    like = torch.zeros(3, 4)
    test, streams = seeds.named(0, "abc", "purify").normal(like), seeds.attacking(0, "abc")
    assert torch.equal(streams.later().normal(like), test) and torch.equal(streams.later().normal(like), test)
    assert torch.equal(streams.at([1, 1]).apart("apgd").later().normal(like[:2]), test[[1, 1]])
    assert torch.equal(streams.normal(like), seeds.named(0, "abc", "attack").normal(like))
    with pytest.raises(ValueError, match="not known"):
        seeds.named(0, "abc").later()
