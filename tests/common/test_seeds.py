import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
