"""The level finder: how much noise, and from where to start."""

import pytest
import torch

from common import seeds
from purify.level import amplitude, high_pass, start_of
from tiny import denoiser


def noise(n=4, size=32, key="level"):
    return torch.randn(n, 3, size, size, generator=seeds.generator(key))


@pytest.mark.parametrize("std", [0.0, 0.01, 0.05, 0.1])
def test_amplitude_finds_the_std_of_known_noise(faces, std):
    x, _ = faces(4)
    e = noise()
    k = amplitude(x + std * e, e)
    torch.testing.assert_close(k, torch.full((4,), std), atol=0.004, rtol=0.05)
    # k is in units of the noise that it is given
    torch.testing.assert_close(amplitude(x + std * e, 2 * e), k / 2)


def test_amplitude_is_per_photo_never_negative_and_differentiable(faces):
    x, e = faces(4)[0], noise()
    levels = torch.tensor([0.02, 0.05, 0.1, -0.1])
    k = amplitude(x + levels.view(-1, 1, 1, 1) * e, e)
    torch.testing.assert_close(k, levels.clamp_min(0), atol=0.004, rtol=0.05)
    y = (x + 0.05 * e).requires_grad_(True)
    assert torch.autograd.grad(amplitude(y, e).sum(), y)[0].abs().sum() > 0


def test_high_pass_of_a_flat_image_is_zero():
    torch.testing.assert_close(
        high_pass(torch.full((1, 3, 8, 8), 0.7)), torch.zeros(1, 3, 8, 8), atol=1e-6, rtol=0
    )


def test_start_is_the_first_step_whose_std_reaches_the_level():
    stds = denoiser().stds
    k = torch.tensor(
        [0.0, float(stds[0]) * 0.49, float(stds[0]) * 0.51, float(stds[9]), float(stds[9]) + 1e-5, 0.9]
    )
    assert start_of(k, stds, 300).tolist() == [0, 0, 1, 10, 11, 300]
