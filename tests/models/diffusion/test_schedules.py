"""The variance-exploding schedule, seen at unit variance; schedules that do not exist."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from common.cli import UserError
from models.diffusion import build

networks = runpy.run_path(str(Path(__file__).with_name("test_build.py")))  # its tiny network and noise
tiny, noise = networks["tiny"], networks["noise"]


def denoiser_of(network, **schedule):
    return build.denoiser(network, {"options": {**network.options, **schedule}})


def test_ve_is_sigma_from_0_01_to_50_at_unit_variance():
    abar = build.create_diffusion(1000, "ve").alphas_cumprod
    sigma = np.sqrt(1 / abar - 1)
    assert sigma[0] == pytest.approx(0.01) and sigma[-1] == pytest.approx(50)
    np.testing.assert_allclose(sigma[1:] / sigma[:-1], 5000 ** (1 / 999))  # geometric
    np.testing.assert_allclose(abar, 1 / (1 + sigma**2))
    network = tiny()
    denoiser = denoiser_of(network, noise_schedule="ve")
    x, z = noise((2, 3, 8, 8)), noise((2, 3, 8, 8), 1)
    torch.testing.assert_close(
        denoiser.q_sample(x, 700, z), (x + float(sigma[700]) * z) / float(np.sqrt(1 + sigma[700] ** 2))
    )


@pytest.mark.parametrize("respacing", ["", "ddim25", "30"])
def test_ve_reverse_step_is_the_librarys(respacing):
    network = tiny()
    denoiser = denoiser_of(network, noise_schedule="ve").respaced(respacing)
    library, x = build.create_diffusion(schedule="ve", respacing=respacing), noise((2, 3, 8, 8))
    assert denoiser.kept == build.kept_steps(1000, respacing)
    with torch.no_grad():
        for step in (0, 1, 20):
            want = library.p_mean_variance(network, x, torch.full((2,), step), clip_denoised=True)
            torch.testing.assert_close(
                denoiser.reverse_step(x, step, None), want["mean"], atol=2e-6, rtol=1e-5
            )
            spread = denoiser.reverse_step(x, step, torch.ones_like(x)) - want["mean"]
            torch.testing.assert_close(
                spread, torch.exp(0.5 * want["log_variance"]) * (step > 0), atol=5e-6, rtol=1e-4
            )


def test_ve_has_no_learned_variance():
    with pytest.raises(UserError, match="--noise_schedule ve: has no learned variance"):
        build.create_diffusion(schedule="ve", learn_sigma=True)
    network = tiny(learn_sigma=True)
    with pytest.raises(UserError, match="ve"):
        denoiser_of(network, noise_schedule="ve")


def test_schedules_that_do_not_exist():
    with pytest.raises(UserError, match="did you mean linear"):
        build.create_diffusion(schedule="linaer")
