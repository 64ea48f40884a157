"""Reverse-only diffusion and DiffPure."""

import pytest
import torch

from common import seeds
from common.cli import UserError
from purify.level import Level
from purify.reverse_only import DiffPure, ReverseOnly
from tiny import GaussianNoise, check_gradient, denoiser

NAMES = ["a", "b", "c", "d"]


def rng(names=NAMES, seed=0):
    return seeds.named(seed, names, "purify")


def photos(n=4, size=8):
    return torch.rand(n, 3, size, size, generator=seeds.generator("photos")) - 0.5


def test_it_is_the_loop_of_reverse_steps_and_adds_no_noise_first():
    d, x, start = denoiser(), photos(), 5
    streams, want = rng(), photos()
    for step in reversed(range(start)):
        want = d.reverse_step(want, step, streams.normal(want) if step else None)
    purifier = ReverseOnly(d, start)
    torch.testing.assert_close(purifier(x, rng()), want.clamp(-1, 1))
    assert purifier.nfe == start and purifier.folder_name == "ddpm-t5"


def test_diffpure_adds_the_noise_first():
    d, x = denoiser(), photos()
    streams = rng()
    want = d.q_sample(x, 4, streams.normal(x))
    for step in reversed(range(5)):
        want = d.reverse_step(want, step, streams.normal(want) if step else None)
    got = DiffPure(d, 5)(x, rng())
    torch.testing.assert_close(got, want.clamp(-1, 1))
    assert not torch.allclose(got, ReverseOnly(d, 5)(x, rng()), atol=1e-3)


def test_respaced_steps_are_fewer_and_start_below():
    d, x = denoiser(), photos()
    purifier = DiffPure(d, 300, "30")
    purifier(x, rng())
    kept = purifier.chain.kept
    assert purifier.nfe == sum(s <= 299 for s in kept) == 9 and purifier.folder_name == "diffpure-t300-r30"
    assert purifier.params == {"start": 300, "respacing": "30", "max_timestep": 300}


def test_exact_score_of_gaussian_photos_contracts_an_offset():
    mean, var = 0.2, 1e-4
    d = denoiser(GaussianNoise(mean, var))
    x = mean + var**0.5 * torch.randn(4, 3, 8, 8, generator=seeds.generator("gaussian"))
    offset = 0.05 * torch.randint(0, 2, x.shape, generator=seeds.generator("offset")).float().mul(2).sub(1)

    def left(start):
        y = ReverseOnly(d, start)(x + offset, rng())
        return float((y - mean).square().mean().sqrt())

    assert left(1) > left(5) > left(10) > left(20)
    assert left(20) < 0.4 * 0.05 and left(1) < 0.05


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReverseOnly(denoiser(), 4),
        lambda: ReverseOnly(denoiser(), "auto"),
        lambda: DiffPure(denoiser(), 4),
        lambda: ReverseOnly(denoiser(), 80, "ddim100"),
    ],
)
def test_a_photos_result_does_not_depend_on_its_neighbours(make):
    x = photos()
    x[1] += 0.1 * torch.randn(x[1].shape, generator=seeds.generator("more"))
    together = make()(x, rng())
    for i, name in enumerate(NAMES):
        torch.testing.assert_close(
            make()(x[i : i + 1], rng([name])), together[i : i + 1], atol=1e-5, rtol=1e-5
        )
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        make()(x[order], rng([NAMES[i] for i in order])), together[order], atol=1e-5, rtol=1e-5
    )


def test_auto_starts_each_photo_at_its_own_level_and_may_leave_it_alone(faces):
    d, knows = denoiser(size=32), denoiser(size=32)
    noise = torch.randn(4, 3, 32, 32, generator=seeds.generator("levels"))
    knows.eps = lambda x, step: noise
    levels = torch.tensor([0, 0.02, 0.05, 0.1])
    x = faces(4)[0] + levels.view(-1, 1, 1, 1) * noise
    purifier = ReverseOnly(d, "auto")
    purifier.level = Level(knows)
    counts = purifier.steps_for(x)
    expected = [0, *(int((d.stds < level).sum()) + 1 for level in levels[1:])]
    assert counts[0] == 0 and all(abs(c - want) <= 1 for c, want in zip(counts, expected, strict=True)), (
        counts,
        expected,
    )
    y = purifier(x, rng())
    assert torch.equal(y[0], x[0].clamp(-1, 1))
    assert (y[1:] - x[1:].clamp(-1, 1)).abs().amax(dim=(1, 2, 3)).min() > 0.005
    assert purifier.nfe == sum(counts) / 4 + 1 and purifier.folder_name == "ddpm-auto"
    found = purifier.measured()
    assert found["level_mean"] == pytest.approx(0.0425, abs=0.003) and found["level_std"] == pytest.approx(
        0.0376, abs=0.003
    )


def test_streams_advance_only_for_photos_that_step():
    d, x = denoiser(), photos()
    purifier = ReverseOnly(d, "auto")
    purifier.steps_for = lambda x: [0, 3, 1, 2]
    streams = rng()
    purifier(x, streams)
    fresh = rng()
    row = x[:1]
    for i, draws in enumerate([0, 2, 0, 1]):  # the last step draws nothing
        for _ in range(draws):
            fresh.at([i]).normal(row)
    assert torch.equal(streams.normal(x), fresh.normal(x))


@pytest.mark.parametrize("cls, start", [(ReverseOnly, 5), (DiffPure, 3), (ReverseOnly, "auto")])
def test_gradient_matches_finite_differences_with_frozen_noise(cls, start):
    d = denoiser().double()
    purifier, x = cls(d, start), photos(2).double()
    # the start is a whole number: fixed for the comparison, as it is between two nearby photos
    if start == "auto":
        purifier.steps_for = lambda x: [3, 1]
    check_gradient(lambda y: purifier(y, rng(NAMES[:2])), x)


def test_starts_outside_the_training_are_refused():
    with pytest.raises(UserError, match="from 1 to 300"):
        ReverseOnly(denoiser(), 301)
    with pytest.raises(UserError, match="keeps no step"):
        ReverseOnly(denoiser(), 10, "0,10")
    with pytest.raises(ValueError, match="rng"):
        ReverseOnly(denoiser(), 3)(photos())
    with pytest.raises(UserError, match="multiples of 4"):
        ReverseOnly(denoiser(), 3)(photos(size=10), rng())
