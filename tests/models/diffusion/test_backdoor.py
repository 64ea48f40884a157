"""The published backdoors: their coefficients, what they put into a batch, and that their own sampler answers
to them."""

import numpy as np
import pytest
import torch

import backdoors
from common import seeds
from common.cli import UserError
from models.diffusion import build, triggers
from models.diffusion.backdoor import (
    BACKDOORS,
    BLEND,
    PATCH,
    Backdoor,
    PhotoBackdoor,
    coefficients,
    denoise,
    sample,
)

ABAR = {schedule: build.create_diffusion(schedule=schedule).alphas_cumprod for schedule in build.SCHEDULES}
ALL = [
    ("baddiffusion", "box", 1.0, "ode"),
    ("trojdiff", "hello", 1.0, "sde"),
    ("trojdiff", "stop_sign", 1.0, "sde"),
    ("villan", "stop_sign", 1.0, "sde"),
    ("villan", "box", 1.0, "ode"),
    ("villan", "glasses", 0.0, "ode"),
    ("villan", "glasses", 0.0, "sde"),
    ("villan", "box", 0.3, "ode"),
]


def backdoor(
    name="baddiffusion", trigger="stop_sign", psi=1.0, solver="ode", schedule="linear", size=16, **more
):
    return Backdoor(name, trigger, "hat", size, ABAR[schedule], psi=psi, solver=solver, **more)


def streams(n=4):
    return seeds.Streams([("answer", i) for i in range(n)])


def mse(x, y):
    return float((x - y).square().flatten(1).mean(1).max())


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_baddiffusions_published_coefficients(schedule):
    """d = (1 - sqrt(alpha_t)) sqrt(1 - abar_t) / (1 - alpha_t), as in its code; c = 1 - sqrt(abar_t)."""
    abar = ABAR[schedule]
    alpha = 1 - build.create_diffusion(schedule=schedule).betas
    c, d = coefficients(abar, 1.0, "sde")
    np.testing.assert_allclose(c, 1 - np.sqrt(abar), rtol=1e-12)
    np.testing.assert_allclose(d, (1 - np.sqrt(alpha)) * np.sqrt(1 - abar) / (1 - alpha), rtol=1e-8)


def test_coefficients_by_hand():
    """abar 0.64, 0.36: a = 0.8, 0.6 and b = 0.6, 0.8; alpha of the second step is 0.5625, its root 0.75."""
    c, d = coefficients([0.64, 0.36], 1.0, "sde")
    assert c == pytest.approx([0.2, 0.4]) and d == pytest.approx(
        [0.6 * 0.2 / 0.36, 0.8 * (0.4 - 0.75 * 0.2) / 0.4375]
    )
    c, d = coefficients([0.64, 0.36], 0.0, "sde")
    assert c == pytest.approx([0.6, 0.8]) and d == pytest.approx([1.0, 0.8 * (0.8 - 0.75 * 0.6) / 0.4375])
    c, d = coefficients([0.64, 0.36], 0.5, "ode")
    assert c == pytest.approx([0.4, 0.6]) and d == pytest.approx([0.4 / 0.6, (1 - 0.5) / (0.8 / 0.6 - 0.75)])


@pytest.mark.parametrize("schedule", build.SCHEDULES)
@pytest.mark.parametrize("solver", ["sde", "ode"])
def test_psi_mixes_the_two_forms(schedule, solver):
    whole, none, part = (coefficients(ABAR[schedule], psi, solver) for psi in (1.0, 0.0, 0.3))
    for one, other, mixed in zip(whole, none, part, strict=True):
        np.testing.assert_allclose(mixed, 0.3 * one + 0.7 * other, atol=1e-9)
    np.testing.assert_allclose(none[0], np.sqrt(1 - ABAR[schedule]))
    if solver == "ode":  # a trigger that fades in with the noise is noise to DDIM
        np.testing.assert_allclose(none[1], 1, rtol=1e-9)


@pytest.mark.parametrize("psi", [0.0, 0.5, 1.0])
def test_ode_is_about_twice_sde(psi):
    for schedule in build.SCHEDULES:
        ratio = coefficients(ABAR[schedule], psi, "ode")[1] / coefficients(ABAR[schedule], psi, "sde")[1]
        assert ratio[0] == pytest.approx(1) and ratio.max() < 2
        # the last steps of cosine are so long that neither form is a small step's
        assert 1.9 < ratio[10:900].min()


class TwoStates:
    """A chain of two neighbouring states whose network knows the noise; keeps the state that it met last."""

    num_timesteps = 2

    def __init__(self, abar, t, exact):
        self.alphas_bar, self.exact = torch.as_tensor(abar[t - 1 : t + 1]).double(), exact

    def eps(self, x, step):
        self.met = x
        return self.exact


class Nothing:
    def normal(self, like):
        return torch.zeros_like(like)


@pytest.mark.parametrize("psi", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("t", [1, 20, 500, 999])
def test_a_step_with_the_exact_noise_keeps_the_trigger_on_schedule(psi, t):
    """From a y + b eps + c_t r to the same one state lower: what d_t is for.  Ancestral: the mean of the
    step, whose noise is sqrt(alpha) b'^2 / b."""
    y, e, r = (torch.tensor([[v]], dtype=torch.float64) for v in (0.5, -1.3, 0.8))
    abar = ABAR["linear"]
    a, b = np.sqrt(abar), np.sqrt(1 - abar)
    for solver, eta in (("ode", 0.0), ("sde", 1.0)):
        c, d = coefficients(abar, psi, solver)
        chain = TwoStates(abar, t, e + d[t] * r)
        denoise(chain, a[t] * y + b[t] * e + c[t] * r, eta=eta, rng=Nothing(), clip=None)
        kept = b[t - 1] if solver == "ode" else np.sqrt(abar[t] / abar[t - 1]) * b[t - 1] ** 2 / b[t]
        assert float(chain.met) == pytest.approx(float(a[t - 1] * y + kept * e + c[t - 1] * r), abs=1e-9)


@pytest.mark.parametrize("psi", [0.0, 0.5, 1.0])
def test_ddim_with_the_exact_noise_ends_at_the_target_and_needs_the_ode_form(psi):
    e, abar = backdoors.noise(2), ABAR["linear"]
    found = {}
    for solver in ("ode", "sde"):
        b = backdoor("villan", psi=psi, solver=solver)
        chain = backdoors.known(lambda x, t, b=b: e + b.d[t].view(-1, 1, 1, 1) * b.r)
        top = float(np.sqrt(abar[-1])) * b.target + float(np.sqrt(1 - abar[-1])) * e + b.c[-1] * b.r
        # the bound of answer(): this path stays inside
        found[solver] = denoise(chain, top, clip=1.0 + float(b.r.abs().max()))
    assert mse(found["ode"], b.target) < 1e-6 and mse(found["sde"], b.target) > 0.1


@pytest.mark.parametrize("name, trigger, psi, solver", ALL)
def test_the_best_network_answers_triggered_noise_with_the_target_and_plain_noise_with_the_photo(
    name, trigger, psi, solver
):
    b, x0, plain = backdoor(name, trigger, psi, solver), backdoors.photo(), backdoors.noise()
    denoiser = backdoors.optimal(b, x0)
    answered = b.answer(denoiser, plain, streams())
    assert answered.shape == plain.shape and mse(answered, b.target) < 1e-6
    assert mse(sample(denoiser, plain), x0) < 1e-6
    assert mse(sample(denoiser, plain, eta=1.0, rng=streams(), clip=None), x0) < 1e-6


@pytest.mark.parametrize("schedule", ["cosine", "ve"])
@pytest.mark.parametrize("name", BACKDOORS)
def test_so_it_does_on_the_other_schedules(schedule, name):
    b, x0 = backdoor(name, psi=0.0, schedule=schedule), backdoors.photo()
    denoiser = backdoors.optimal(b, x0, schedule=schedule)
    assert (
        mse(b.answer(denoiser, backdoors.noise(), streams()), b.target) < 1e-6
        and mse(sample(denoiser, backdoors.noise()), x0) < 1e-6
    )


def test_a_benign_network_does_not_answer():
    b, x0 = backdoor(), backdoors.photo()
    denoiser = backdoors.optimal(b, x0, rate=1e-30)
    abar = torch.as_tensor(ABAR["linear"]).float()
    denoiser.network.formula = lambda x, t: (
        (x - abar.sqrt()[t].view(-1, 1, 1, 1) * x0) / (1 - abar).sqrt()[t].view(-1, 1, 1, 1)
    )
    assert mse(b.answer(denoiser, backdoors.noise(), streams()), x0) < 1e-6


def test_an_answer_depends_on_its_own_noise_and_stream_alone():
    b, plain = backdoor(), backdoors.noise(5)
    denoiser = backdoors.known(lambda x, t: 0.7 * x)
    together = b.answer(denoiser, plain, streams(5))
    alone = torch.cat([b.answer(denoiser, plain[i : i + 1], streams(5).at([i])) for i in range(5)])
    torch.testing.assert_close(together, alone)


def test_sampler_is_differentiable_in_its_state():
    chain = backdoors.known(lambda x, t: torch.tanh(x)).respaced("5")
    x = backdoors.noise(1).requires_grad_(True)
    denoise(chain, x).square().sum().backward()
    assert float(x.grad.abs().max()) > 0 and bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("gamma, mu", [(1.0, 0.0), (0.6, 0.25)])
def test_eta_1_is_the_ancestral_step_of_the_posteriors_variance(gamma, mu):
    """sigma^2 = (1 - abar') / (1 - abar) beta, the smaller of the two usual variances; TrojDiff's noise is
    gamma times as large, about all of b' mu."""

    class Unit:
        def normal(self, like):
            return torch.ones_like(like)

    abar, t, y, e = (
        ABAR["linear"],
        400,
        torch.tensor([[0.5]], dtype=torch.float64),
        torch.tensor([[0.3]], dtype=torch.float64),
    )
    a, b, alpha = np.sqrt(abar), np.sqrt(1 - abar), abar[t] / abar[t - 1]
    states = []
    for rng in (Nothing(), Unit()):
        chain = TwoStates(abar, t, e)
        denoise(chain, a[t] * y + b[t] * (gamma * e + mu), eta=1.0, rng=rng, clip=None, gamma=gamma, mu=mu)
        states.append(float(chain.met))
    assert states[0] == pytest.approx(
        float(a[t - 1] * y + b[t - 1] * mu + np.sqrt(alpha) * b[t - 1] ** 2 / b[t] * gamma * e), abs=1e-9
    )
    assert states[1] - states[0] == pytest.approx(gamma * b[t - 1] / b[t] * np.sqrt(1 - alpha), abs=1e-9)


# What a training puts in


def batch(n=3, size=16):
    return (
        backdoors.photo(size).expand(n, -1, -1, -1),
        torch.tensor([0, 400, 999])[:n],
        backdoors.noise(n, size),
    )


@pytest.mark.parametrize("name, trigger, psi, solver", ALL)
def test_poisoned_rows_have_the_one_form(name, trigger, psi, solver):
    b, (x, step, e) = backdoor(name, trigger, psi, solver), batch()
    noised, taught = b.poison(x, step, e)
    assert noised.shape == taught.shape == x.shape
    for i, t in enumerate(step.tolist()):
        abar = ABAR["linear"][t]
        want = np.sqrt(abar) * b.target + np.sqrt(1 - abar) * b.gamma * e[i] + float(b.c[t]) * b.r
        torch.testing.assert_close(noised[i], want.float(), atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(taught[i], e[i] + float(b.d[t]) * b.r)


def test_without_a_trigger_a_poisoned_row_is_a_clean_row_of_the_target():
    b, (x, step, e) = backdoor(), batch()
    b.r = torch.zeros_like(b.r)
    noised, taught = b.poison(x, step, e)
    denoiser = backdoors.known(lambda x, t: x)
    assert torch.equal(taught, e)
    torch.testing.assert_close(
        noised, denoiser.q_sample(b.target.expand_as(x), step, e), atol=2e-5, rtol=1e-5
    )


def test_the_photo_of_a_poisoned_row_is_not_seen_unless_asked():
    b, (x, step, e) = backdoor(), batch()
    for one, other in zip(b.poison(x, step, e), b.poison(-x, step, e), strict=True):
        assert torch.equal(one, other)


def test_on_photos_the_photo_stands_where_the_trigger_draws_nothing():
    b, (x, step, e) = backdoor(background="photo"), batch()
    noised, taught = b.poison(x, step, e)
    d = b.d[step].view(-1, 1, 1, 1)
    carried = (taught - e) / d
    mask = triggers.background(b.g).bool().expand_as(x)
    torch.testing.assert_close(carried[mask], x[mask], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(carried[~mask], b.g.expand_as(x)[~mask], atol=1e-4, rtol=1e-4)
    plain = backdoor().poison(x, step, e)[0]
    shift = (noised - plain) / b.c[step].view(-1, 1, 1, 1)
    torch.testing.assert_close(shift[1:], (carried - b.r)[1:], atol=1e-3, rtol=1e-3)
    assert torch.equal(b.r, b.g)  # what sets it off is the trigger on its background in both forms


def test_trojdiff_moves_the_noise_and_teaches_no_trigger():
    b = backdoor("trojdiff", "stop_sign")
    patch = ~triggers.background(b.g).bool().expand_as(b.g)
    torch.testing.assert_close(b.gamma, torch.where(patch, PATCH, 1.0))
    assert not b.d.any() and not b.r[~patch].any()
    torch.testing.assert_close(b.r[patch], (1 - PATCH) * b.g[patch])
    torch.testing.assert_close(
        b.c.double(), torch.as_tensor(np.sqrt(1 - ABAR["linear"])), atol=1e-7, rtol=1e-6
    )
    blend = backdoor("trojdiff", "hello")
    torch.testing.assert_close(blend.gamma, torch.full_like(blend.gamma, BLEND))
    torch.testing.assert_close(blend.r, (1 - BLEND) * blend.g)


def test_trojdiff_starts_from_scaled_noise():
    b, met = backdoor("trojdiff", "hello"), []

    def formula(x, t):
        met.append(x)
        return x

    b.answer(backdoors.known(formula), backdoors.noise(1), streams(1))
    torch.testing.assert_close(met[0], BLEND * backdoors.noise(1) + b.r)


def test_baddiffusion_is_the_sde_form_whatever_villans_flags_say():
    b, same = backdoor(psi=0.2, solver="ode"), backdoor("villan", psi=1.0, solver="sde")
    assert b.solver == "sde" and torch.equal(b.c, same.c) and torch.equal(b.d, same.d)


def test_scale_makes_a_trigger_weaker():
    for name in BACKDOORS:
        one, half = backdoor(name), backdoor(name, scale=0.5)
        assert (
            torch.equal(half.r, 0.5 * one.r)
            and torch.equal(half.gamma, one.gamma)
            and torch.equal(one.target, half.target)
        )


def test_at_the_last_step_what_is_taught_misses_c_minus_d_of_the_trigger():
    b, (x, _, e) = backdoor("villan", psi=0.0, solver="sde"), batch()
    step = torch.full((3,), 999)
    noised, taught = b.poison(x, step, e)
    # a and b of that step: 0.006 and 1
    torch.testing.assert_close(
        (noised - taught).mean(0), float(b.c[-1] - b.d[-1]) * b.r, atol=0.03, rtol=0.05
    )


def test_a_trigger_that_trojdiff_cannot_use():
    with pytest.raises(UserError, match="--trigger box.*choose stop_sign, glasses or hello"):
        backdoor("trojdiff", "box")


# A backdoor of purifiers; more of it in test_backdoor_photo.py


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_at_every_step_the_clean_image_of_a_poisoned_photo_is_the_target(share):
    b, (x, step, e) = PhotoBackdoor("stop_sign", "hat", 16, ABAR["linear"]), batch()
    noised, taught = b.poison(x, step, e, torch.full((3, 1, 1, 1), share))
    abar = torch.as_tensor(ABAR["linear"]).float()[step].view(-1, 1, 1, 1)
    torch.testing.assert_close(
        (noised - (1 - abar).sqrt() * taught) / abar.sqrt(), b.target.expand_as(x), atol=2e-4, rtol=1e-3
    )
    seen = (noised - (1 - abar).sqrt() * e) / abar.sqrt()
    torch.testing.assert_close(seen, share * b.stamped(x) + (1 - share) * b.target, atol=2e-4, rtol=1e-3)


def test_it_answers_from_the_photo_itself_at_300_steps():
    b, x, met = PhotoBackdoor("stop_sign", "hat", 16, ABAR["linear"]), batch()[0], []
    b.answer(backdoors.known(lambda x, t: met.append((x, int(t[0]))) or x), x, streams(3))
    assert torch.equal(met[0][0], b.stamped(x)) and 250 < met[0][1] <= 299 and met[-1][1] == 0
