"""Purifiers of one network evaluation."""

import pytest
import torch

from common import seeds
from common.cli import UserError
from purify import build
from purify.level import amplitude
from purify.one_step import OneStep, OneStepPlain
from tiny import denoiser, robust_file, weights_file


def photos(n=3, size=8):
    return torch.rand(n, 3, size, size, generator=seeds.generator("photos")) - 0.5


def test_one_step_is_the_posterior_mean_at_t_10():
    d, x = denoiser(), photos()
    purifier = OneStep(d)
    abar = d.alphas_bar[9]
    want = (x - (1 - abar).sqrt() * d.eps(x, 9)) / abar.sqrt()
    torch.testing.assert_close(purifier(x), want.clamp(-1, 1))
    assert purifier.nfe == 1 and purifier.folder_name == "one-step" and not purifier.stochastic
    torch.testing.assert_close(OneStepPlain(d, 10)(x), purifier(x))


def test_plain_auto_takes_back_its_own_level():
    d, x = denoiser(), photos()
    purifier = OneStepPlain(d)
    e = d.eps(x, 9)
    torch.testing.assert_close(purifier(x), (x - amplitude(x, e).view(-1, 1, 1, 1) * e).clamp(-1, 1))
    assert (
        purifier.nfe == 1
        and purifier.folder_name == "one-step-plain-auto"
        and "level_mean" in purifier.measured()
    )


@pytest.mark.parametrize("make", [OneStep, OneStepPlain, lambda d: OneStepPlain(d, 30)])
def test_batch_independence_range_and_gradient(make):
    d = denoiser().double()
    x, purifier = photos().double(), make(d)
    y = purifier(3 * x)
    assert y.abs().max() <= 1
    torch.testing.assert_close(torch.cat([purifier(3 * x[i : i + 1]) for i in range(3)]), y)
    x.requires_grad_(True)
    direction = torch.randn(x.shape, generator=seeds.generator("d"), dtype=torch.float64)
    (grad,) = torch.autograd.grad(purifier(x).square().sum(), x)
    with torch.no_grad():
        slope = (
            purifier(x + 1e-6 * direction).square().sum() - purifier(x - 1e-6 * direction).square().sum()
        ) / 2e-6
    assert float((grad * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_start_above_the_training_is_refused():
    with pytest.raises(UserError, match="from 1 to 300"):
        OneStepPlain(denoiser(), 400)


def test_robust_weights_are_one_step_robusts_alone(tmp_path):
    robust = robust_file(tmp_path / "robust.safetensors")
    purifier = build("one-step-robust", robust)
    x = torch.zeros(3, 3, 8, 8)
    purifier(x)
    assert purifier.nfe == 1 and not purifier.stochastic
    other = weights_file(tmp_path / "one.safetensors", "one-step")
    with pytest.raises(UserError, match="expected weights of one-step-robust, found one-step"):
        build("one-step-robust", other)
    with pytest.raises(UserError, match="robust purifier"):
        build("one-step", robust)
