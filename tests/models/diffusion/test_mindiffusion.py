"""minDiffusion's network and its own time convention."""

import numpy as np
import pytest
import torch

from common import seeds
from common.cli import UserError
from models.diffusion import build, mindiffusion


def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mindiffusion.NaiveUnet(n_feat=8).eval()


def whole_ddpm(network):
    """A checkpoint as the published training writes it: the network under a prefix, and the schedule's
    buffers."""
    return {
        **{mindiffusion.PREFIX + k: v for k, v in network.state_dict().items()},
        **{
            k: torch.zeros(1001)
            for k in (
                "alpha_t",
                "oneover_sqrta",
                "sqrt_beta_t",
                "alphabar_t",
                "sqrtab",
                "sqrtmab",
                "mab_over_sqrtmab",
            )
        },
    }


def test_parameter_count_at_128_features():
    with torch.device("meta"):
        assert sum(p.numel() for p in mindiffusion.NaiveUnet(3, 3, 128).parameters()) == 11_349_635


def test_std_has_the_extra_factor_of_index_0():
    stds = np.sqrt(1 - mindiffusion.tables(range(1000))["alphas_bar"])
    expected = {1: 0.0148, 3: 0.0228, 10: 0.0468, 20: 0.0791, 100: 0.3237, 300: 0.7782, 500: 0.9602}
    assert {t: round(float(stds[t - 1]), 4) for t in expected} == expected


@pytest.mark.parametrize("whole", [False, True])
def test_round_trip_and_published_reverse_step(tmp_path, whole):
    network = tiny()
    torch.save(whole_ddpm(network) if whole else network.state_dict(), tmp_path / "ddpm_celeba.pth")
    loaded = build.load(tmp_path / "ddpm_celeba.pth")
    assert loaded.family == "mindiffusion" and loaded.size_multiple == 32
    # as loaded: another order of summation is another rounding
    network = network.to(memory_format=torch.channels_last)
    x, z = (torch.randn(2, 3, 32, 32, generator=seeds.generator(k)) for k in "xz")
    beta = (0.02 - 1e-4) * torch.arange(1001, dtype=torch.float64) / 1000 + 1e-4
    abar = torch.cumprod(1 - beta, 0)
    with torch.no_grad():
        for i in (1, 10, 500):  # the published loop, 1-based, never clipped
            eps = network(x, torch.full((2,), i / 1000))
            want = (x - eps * (beta[i] / (1 - abar[i]).sqrt()).float()) / (1 - beta[i]).sqrt().float() + beta[
                i
            ].sqrt().float() * z * (i > 1)
            torch.testing.assert_close(loaded.reverse_step(x, i - 1, z), want, atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(loaded.eps(x, i - 1), eps)
    wide = loaded.reverse_step(3 * torch.ones(1, 3, 32, 32), 0, None)
    assert wide.max() > 2  # nothing is clipped


def test_respaced_keeps_abar():
    some, every = mindiffusion.tables([0, 40, 80]), mindiffusion.tables(range(1000))
    np.testing.assert_allclose(some["alphas_bar"], every["alphas_bar"][[0, 40, 80]])
    np.testing.assert_allclose(
        np.exp(some["log_variance"][1]), 1 - every["alphas_bar"][40] / every["alphas_bar"][0]
    )


def test_another_network_is_refused(tmp_path):
    state = tiny().state_dict()
    state.pop("out.bias")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match="out.bias"):
        build.load(tmp_path / "x.pth")
