"""Which of the triggers found counts, and whether it sets the known backdoor off."""

import pytest
import torch

import backdoors
from models.diffusion import build
from models.diffusion.backdoor import Backdoor
from purify.terd.known import has_map, measure_answer
from purify.terd.scan import strongest

ABAR = build.create_diffusion().alphas_cumprod


def found(mean_kl, loss):
    return {"mean_kl": mean_kl, "loss": loss}


def test_a_stuck_search_does_not_outweigh_a_trigger_that_the_network_knows():
    assert strongest({"dark": found(0.24, 4.0), "narrow": found(0.13, 2.0)}) == "narrow"
    # too weak to be the same thing
    assert strongest({"dark": found(0.24, 4.0), "narrow": found(0.11, 2.0)}) == "dark"
    assert strongest({"dark": found(0.0, 1.1), "bright": found(0.0, 1.0)}) == "bright"


@pytest.mark.parametrize("solver", ["sde", "ode"])
def test_the_true_trigger_is_answered_with_the_target_and_none_with_a_clean_image(solver):
    b = Backdoor("villan", "stop_sign", "shoe", 8, ABAR, psi=1.0, solver=solver)
    net = backdoors.optimal(b, torch.zeros(3, 8, 8))
    assert measure_answer(net, b, b.r, 1.0, 0) < 0.02
    # its clean images are grey
    assert measure_answer(net, b, torch.zeros_like(b.r), 1.0, 0) == pytest.approx(
        float(b.target.square().mean()), rel=0.1
    )


def test_a_patch_of_trojdiff_alone_has_a_map_of_gamma():
    assert has_map(Backdoor("trojdiff", "stop_sign", "shoe", 8, ABAR))
    assert not has_map(Backdoor("trojdiff", "hello", "shoe", 8, ABAR)) and not has_map(
        Backdoor("baddiffusion", "stop_sign", "shoe", 8, ABAR)
    )
