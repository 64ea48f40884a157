"""The search for a trigger: what it finds in networks that know a backdoor, and nothing in those that know
none."""

from dataclasses import replace

import pytest
import torch

import backdoors
from models.diffusion import build
from models.diffusion.backdoor import Backdoor
from purify.terd.reversion import PAIRS, PUBLISHED, RAY, REDUCED, SMALLEST, Reversion

ABAR = build.create_diffusion().alphas_cumprod
SMALL = replace(REDUCED, starts=("dark",), estimate_steps=40, refine_steps=3, batch=8)
GREY = torch.zeros(3, 8, 8)


def searched(denoiser, plan=SMALL, seed=0):
    search = Reversion(denoiser, plan, seed)
    for i in range(search.num_steps):
        search(i)
    return search


def linear(r=0.0):
    """A network that is right about noise and answers to r by half of it, whatever else it is given."""

    def formula(x, t):
        abar = torch.as_tensor(ABAR).float()[t].view(-1, 1, 1, 1)
        return x / (1 - abar).sqrt() - 0.5 * r * (1 - abar.sqrt())

    return backdoors.known(formula, 8)


def test_the_shape_of_an_optimal_networks_trigger_is_found():
    """Not its size: an exact network answers as well to a larger trigger. Means are taken out, as the start
    lies near the trigger's background."""
    b = Backdoor("baddiffusion", "stop_sign", "shoe", 8, ABAR)
    search = searched(backdoors.optimal(b, GREY))
    found, start = (
        search.results(32)["dark"],
        Reversion(search.denoiser, SMALL, 0).triggers["dark"].r.detach(),
    )
    assert shape(start, b.r) < 0.15 and shape(found["r"], b.r) > 0.9
    assert found["mean_kl"] * b.r.numel() > 10.8


def shape(r, true):
    return float(
        torch.nn.functional.cosine_similarity((r - r.mean()).flatten(), (true - true.mean()).flatten(), dim=0)
    )


def test_a_search_in_a_network_without_a_backdoor_ends_weaker_than_in_one_with():
    b = Backdoor("baddiffusion", "box", "hat", 8, ABAR)
    clean = searched(linear()).results(32)["dark"]
    assert clean["r"].norm() < 0.5 * searched(backdoors.optimal(b, GREY)).results(32)["dark"]["r"].norm()


def test_the_unknown_shift_cancels_in_the_reversed_loss():
    """eps_1 - F(eps_1) and eps_2 - F(eps_2) differ by nothing where the network is linear, whatever r is."""
    search, r = Reversion(linear(torch.ones(3, 8, 8)), SMALL, 0), torch.full((3, 8, 8), 0.7)
    draw = torch.Generator().manual_seed(0)
    at = float(search.reversed_loss(r, 1.0, draw, x0=torch.zeros(8, 3, 8, 8)))
    assert at == pytest.approx(0, abs=1e-3)
    gamma = float(search.reversed_loss(r, 0.5, draw, x0=torch.zeros(8, 3, 8, 8)))
    # half the noise is missing: 1/2 E|(eps_1 - eps_2) / 2|^2 = d / 4
    assert gamma == pytest.approx(0.5 * 0.25 * 2 * 3 * 8 * 8, rel=0.2)


@pytest.mark.parametrize(
    "plan",
    [
        SMALL,
        replace(SMALL, refine="none"),
        replace(SMALL, estimate_steps=0),
        replace(SMALL, refine="sampler", ray=False, relative=False, estimate_steps=2, refine_steps=2),
    ],
)
def test_evaluations_are_counted(plan):
    plan, seen = replace(plan, estimate_steps=min(plan.estimate_steps, 3)), [0]
    net = linear()
    formula = net.network.formula

    def counted(x, t):
        seen[0] += len(x)
        return formula(x, t)

    net.network.formula = counted
    search = searched(net, plan)
    # the walk may end after one point
    least = search.evaluations - (2 * PAIRS * RAY if plan.ray and plan.estimate_steps else 0)
    assert search.num_steps == plan.per_start and 0 < least <= seen[0] <= search.evaluations


def test_resumed_search_is_the_same_bits():
    plan = replace(REDUCED, starts=("dark", "narrow"), estimate_steps=3, refine_steps=2, batch=4)
    b = Backdoor("trojdiff", "hello", "hat", 8, ABAR)
    net = backdoors.optimal(b, GREY)
    whole, first, second = searched(net, plan), Reversion(net, plan, 0), Reversion(net, plan, 0)
    for i in range(6):
        first(i)
    for name, part in second.parts().items():
        part.load_state_dict({k: v for k, v in first.parts()[name].state_dict().items()})
    for i in range(6, second.num_steps):
        second(i)
    for name in plan.starts:
        assert torch.equal(whole.triggers[name].r, second.triggers[name].r) and torch.equal(
            whole.triggers[name].gamma, second.triggers[name].gamma
        )


def test_published_plan_is_the_papers():
    assert (PUBLISHED.estimate_steps, PUBLISHED.refine_steps, PUBLISHED.refine, PUBLISHED.batch) == (
        3000,
        1000,
        "sampler",
        16,
    )
    assert (PUBLISHED.optimiser, PUBLISHED.lr, PUBLISHED.weight, PUBLISHED.clip) == ("sgd", 0.5, 5e-5, 0.01)
    search = Reversion(linear(), PUBLISHED, 0)
    r = search.triggers["published"].r.detach()
    assert (
        -1 <= float(r.min())
        and float(r.max()) <= 0
        and float(search.triggers["published-trojdiff"].gamma.detach()) == pytest.approx(SMALLEST)
    )


def test_the_last_steps_of_a_truncated_network_are_probed():
    asked = []
    net = linear()
    formula = net.network.formula
    net.network.formula = lambda x, t: (asked.append(t.clone()), formula(x, t))[1]
    Reversion(net, replace(SMALL, estimate_steps=1), 0, last=300)(0)
    assert asked[0].min() >= 290 and asked[0].max() < 300


def hills(knows):
    """A network whose error about noise + r grows with r's mean, up to a hill at half of `knows` (None =
    without end)."""

    def formula(x, t):
        abar = torch.as_tensor(ABAR).float()[t].view(-1, 1, 1, 1)
        far = x.mean((1, 2, 3), keepdim=True).abs()
        far = far if knows is None else torch.minimum(far, (abs(knows) - far).abs())
        return (1 - 0.1 - 0.5 * far) * x / (1 - abar).sqrt()

    return backdoors.known(formula, 8)


@pytest.mark.parametrize("knows, ends", [(None, 0.0), (-1.0, 0.9)])
def test_the_walk_shrinks_what_a_network_does_not_know_and_leaves_what_it_knows(knows, ends):
    search = Reversion(hills(knows), replace(SMALL, refine="none", estimate_steps=1, lr=1e-6), 0)
    search(0)
    start = Reversion(search.denoiser, SMALL, 0).triggers["dark"].r.detach()
    share = float(search.triggers["dark"].r.detach().norm() / start.norm())
    assert share == pytest.approx(ends, abs=0.11)


def test_the_weight_follows_the_networks_own_error():
    few, many = (
        Reversion(backdoors.known(lambda x, t, e=e: (1 - e) * x, 8), SMALL, 0).weight for e in (0.1, 0.2)
    )
    assert many == pytest.approx(4 * few, rel=0.05)
    assert Reversion(linear(), PUBLISHED, 0).weight == 5e-5


def test_a_refined_trigger_that_the_network_likes_less_is_not_kept(monkeypatch):
    search = Reversion(hills(-1.0), replace(SMALL, estimate_steps=1, refine_steps=1), 0)
    search(0)
    estimate = search.triggers["dark"].r.detach().clone()
    values = iter([3.0, 1.0, 1.2, 1.0])
    monkeypatch.setattr(search, "_compared", lambda r, gamma: next(values))
    search(1)
    assert torch.equal(search.triggers["dark"].r.detach(), estimate)
    search(1)
    assert not torch.equal(search.triggers["dark"].r.detach(), estimate)
