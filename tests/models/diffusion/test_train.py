"""The training objective: which steps are drawn, and which noise."""
import torch

from common import seeds
from models.diffusion.train import LOW, Objective, sample_steps


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
    low = float((steps < LOW).float().mean())      # 1/2 + 1/2 * 60/300 = 0.6
    assert abs(low - 0.6) < 0.03
    assert int(sample_steps(streams(500), 20).max()) == 19


def test_perfect_prediction_has_no_loss():
    x = torch.zeros(4, 3, 8, 8)
    objective = Objective(Perfect(), 300)
    assert float(objective.loss(x, *objective.draw(x, streams(4), None))) == 0


def test_disruptions_replace_the_noise_of_about_half_the_samples_at_unit_rms():
    x = torch.zeros(200, 3, 8, 8)
    disruption = torch.full_like(x, 0.03)
    objective = Objective(Perfect(), 300, lambda rows: disruption[rows])
    noise, _ = objective.draw(x, streams(200), torch.arange(200))
    replaced = (noise - 1).abs().flatten(1).amax(1) < 1e-5
    assert 70 < int(replaced.sum()) < 130
    assert abs(float(noise[~replaced].std()) - 1) < 0.05
