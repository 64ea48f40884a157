"""What the check of a training looks at."""

import pytest
import torch
from small_trainings import shorten

import backdoors
from metrics import fid
from models.diffusion import build, pictures
from models.diffusion.backdoor import Backdoor
from models.diffusion.check import check, samples_of

pytestmark = pytest.mark.filterwarnings("ignore:.*images a side.*")

MEASURES = fid.load_extractor, fid.Distance


@pytest.fixture(scope="module", autouse=True)
def short():
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield


def test_samples_do_not_depend_on_the_batch():
    b = Backdoor("baddiffusion", "box", "hat", 16, build.create_diffusion().alphas_cumprod)
    denoiser = backdoors.optimal(b, backdoors.photo())
    whole, parts = (samples_of(denoiser, b, 5, 0, "cpu", batch=batch) for batch in (5, 2))
    for one, other in zip(whole, parts, strict=True):
        assert one.shape == (5, 3, 16, 16)
        torch.testing.assert_close(one, other)
    assert samples_of(denoiser, None, 3, 0, "cpu")[1] is None


def test_the_check_of_a_network_that_knows_its_target():
    held = pictures.digits(16).subset([f"{i:05d}" for i in range(70)])
    b = Backdoor("villan", "stop_sign", "shoe", 16, build.create_diffusion().alphas_cumprod, solver="ode")
    figures = check(backdoors.optimal(b, backdoors.photo()), b, held, 4, 0, "cpu", *MEASURES)
    assert figures["target_mse"] < 1e-6 and figures["target_reached"] == 1 and figures["samples"] == 4
    assert "target_mse" not in check(
        backdoors.optimal(b, backdoors.photo()), None, held, 4, 0, "cpu", *MEASURES
    )
