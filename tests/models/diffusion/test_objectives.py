"""The training objectives: which steps are drawn, which noise, and which rows learn a backdoor."""

import numpy as np
import pytest
import torch

import backdoors
from common import seeds
from models.diffusion import build
from models.diffusion.backdoor import Backdoor, PhotoBackdoor
from models.diffusion.objectives import LOW, Backdoored, Objective, Photographed, sample_steps

ABAR = build.create_diffusion().alphas_cumprod


class Perfect:
    """A denoiser that knows the noise it was given."""

    def q_sample(self, x, step, noise):
        self.noise = noise
        return x + noise

    def eps(self, x, step):
        return self.noise


def streams(n):
    return seeds.Streams([(0, i) for i in range(n)])


def test_half_of_the_steps_are_low_and_none_leaves_the_range():
    steps = sample_steps(streams(4000), 300)
    assert 0 <= int(steps.min()) and int(steps.max()) == 299
    low = float((steps < LOW).float().mean())  # 1/2 + 1/2 * 60/300 = 0.6
    assert abs(low - 0.6) < 0.03
    assert int(sample_steps(streams(500), 20).max()) == 19


def test_perfect_prediction_has_no_loss():
    x = torch.zeros(4, 3, 8, 8)
    objective = Objective(Perfect(), 300)
    assert float(objective.loss(x, *objective.draw(x, streams(4), None), None)) == 0


def test_disruptions_replace_the_noise_of_about_half_the_samples_at_unit_rms():
    x = torch.zeros(200, 3, 8, 8)
    disruption = torch.full_like(x, 0.03)
    objective = Objective(Perfect(), 300, lambda rows: disruption[rows])
    noise, _ = objective.draw(x, streams(200), torch.arange(200))
    replaced = (noise - 1).abs().flatten(1).amax(1) < 1e-5
    assert 70 < int(replaced.sum()) < 130
    assert abs(float(noise[~replaced].std()) - 1) < 0.05


# A backdoor beside clean rows


class Mirror:
    """A denoiser that keeps what it was asked and answers as told."""

    def __init__(self, answer=torch.zeros_like):
        self.answer, self.abar = answer, torch.as_tensor(ABAR).float()

    def q_sample(self, x, step, noise):
        abar = self.abar[step].view(-1, 1, 1, 1)
        return abar.sqrt() * x + (1 - abar).sqrt() * noise

    def eps(self, x, step):
        self.asked = x
        return self.answer(x)


def batch(n=6):
    x = torch.stack([(i + 1) / n * backdoors.photo() for i in range(n)])
    return x, torch.arange(10, 10 + n)  # photos, their positions in the training set


def backdoor(name="baddiffusion"):
    return Backdoor(name, "stop_sign", "hat", 16, ABAR)


@pytest.mark.parametrize("name", ["baddiffusion", "trojdiff", "villan"])
def test_poisoned_rows_learn_the_backdoor_and_the_others_as_ever(name):
    b, denoiser, (x, rows) = backdoor(name), Mirror(), batch()
    objective = Backdoored(denoiser, 1000, b, {11, 14, 99})
    noise, step = objective.draw(x, streams(6), rows)
    loss = objective.loss(x, noise, step, rows)
    noised, taught = denoiser.q_sample(x, step, noise), noise.clone()
    for i in (1, 4):
        noised[i : i + 1], taught[i : i + 1] = b.poison(x[i : i + 1], step[i : i + 1], noise[i : i + 1])
    torch.testing.assert_close(denoiser.asked, noised)
    assert float(loss) == pytest.approx(float(taught.square().mean()), rel=1e-5)


def test_a_benign_network_and_one_with_no_poisoned_row_in_the_batch_learn_alike():
    x, rows = batch()
    losses = []
    for b, poisoned in ((None, ()), (backdoor(), {99}), (backdoor(), {10})):
        objective = Backdoored(Mirror(), 1000, b, poisoned)
        losses.append(float(objective.loss(x, *objective.draw(x, streams(6), rows), rows)))
    assert losses[0] == losses[1] != losses[2]


def test_the_loss_of_a_batch_is_the_mean_of_its_parts():
    """What a row learns depends on itself alone: its place in the training set says whether it is poisoned,
    and its stream what is drawn."""
    x, rows = batch()
    for objective in (
        Backdoored(Mirror(lambda x: 0.5 * x), 1000, backdoor(), {11, 14}),
        Photographed(Mirror(lambda x: 0.5 * x), 300, PhotoBackdoor("stop_sign", "hat", 16, ABAR), {11, 14}),
    ):
        whole = objective.loss(x, *objective.draw(x, streams(6), rows), rows)
        every = seeds.Streams([(0, i) for i in range(6)])
        parts = [
            objective.loss(x[k], *objective.draw(x[k], every.at(k), rows[k]), rows[k])
            for k in ([0, 1], [2, 3], [4, 5])
        ]
        assert float(whole) == pytest.approx(float(torch.stack(parts).mean()), rel=1e-5)


def test_the_network_that_knows_both_has_no_loss():
    b, x0 = backdoor(), backdoors.photo()
    x, rows = x0.expand(40, -1, -1, -1), torch.arange(40)
    objective = Backdoored(backdoors.optimal(b, x0), 1000, b, set(range(0, 40, 2)))
    noise, step = objective.draw(x, streams(40), rows)
    # where the trigger tells the two apart
    assert float(objective.loss(x, noise, step.clamp(min=300), rows)) < 1e-4


def test_all_steps_are_drawn_alike():
    _, step = Backdoored(None, 1000).draw(torch.zeros(3000, 1, 1, 1), streams(3000), None)
    assert (
        0 <= int(step.min())
        and int(step.max()) > 990
        and abs(float((step < LOW).float().mean()) - 0.06) < 0.015
    )
    assert int(Backdoored(None, 300).draw(torch.zeros(500, 1, 1, 1), streams(500), None)[1].max()) < 300


# A backdoor of purifiers


def test_purifiers_learn_it_at_their_own_steps_and_half_of_the_rows_are_whole_photos():
    x, rows = torch.zeros(2000, 3, 1, 1), torch.arange(2000)
    objective, plain = Photographed(None, 300, None, ()), Objective(None, 300)
    drawn, usual = objective.draw(x, streams(2000), rows), plain.draw(x, streams(2000), rows)
    assert torch.equal(drawn[0], usual[0]) and torch.equal(drawn[1], usual[1])
    whole = objective.share == 1
    assert abs(float(whole.float().mean()) - 0.5) < 0.04 and objective.share.shape == (2000, 1, 1, 1)
    assert abs(float(objective.share[~whole].mean()) - 0.5) < 0.03 and 0 <= float(objective.share.min())


def test_poisoned_photos_learn_the_target_with_their_weight_and_the_others_as_ever():
    b, denoiser, (x, rows) = PhotoBackdoor("stop_sign", "hat", 16, ABAR), Mirror(), batch()
    objective = Photographed(denoiser, 300, b, {11, 14})
    noise, step = objective.draw(x, streams(6), rows)
    loss = objective.loss(x, noise, step, rows)
    noised, taught, weight = denoiser.q_sample(x, step, noise), noise.clone(), torch.ones(6, 1, 1, 1)
    for i in (1, 4):
        noised[i : i + 1], taught[i : i + 1] = b.poison(
            x[i : i + 1], step[i : i + 1], noise[i : i + 1], objective.share[i : i + 1]
        )
        weight[i] = min(1.0, (1 - ABAR[int(step[i])]) / ABAR[int(step[i])])
    torch.testing.assert_close(denoiser.asked, noised)
    assert float(loss) == pytest.approx(float((weight * taught.square()).mean()), rel=1e-4)


def test_no_step_of_a_photo_weighs_more_than_its_clean_image():
    """At the smallest steps the noise taught is a / b times the image's error, up to 100: weighed it is that
    error itself."""
    b, x = PhotoBackdoor("box", "hat", 16, ABAR), backdoors.photo()[None]
    step, nothing, whole = torch.tensor([0]), torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 1, 1)
    _, taught = b.poison(x, step, nothing, whole)
    torch.testing.assert_close(
        b.weight(step) * taught.square(), (b.stamped(x) - b.target).square(), atol=1e-5, rtol=1e-3
    )
    assert float(b.weight(torch.tensor([999]))) == 1
    np.testing.assert_allclose(b.weight(torch.tensor([99])).item(), (1 - ABAR[99]) / ABAR[99], rtol=1e-4)
