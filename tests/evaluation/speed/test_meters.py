"""What is read off beside the clock: counts are those of hand, memory is forgotten, energy is watts times
seconds."""

import numpy as np
import pytest
import torch
from torch import nn

from evaluation.speed import meters

CPU = torch.device("cpu")
# multiply-adds of a 3x3 convolution from 3 to 8 channels over 2 images of 10 x 10 that keeps their side
CONVOLUTION = 2 * (2 * 8 * 10 * 10) * (3 * 3 * 3)


def test_flops_of_a_convolution_are_those_of_hand():
    network, x = nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.randn(2, 3, 10, 10)
    assert meters.count_flops(lambda: network(x)) == CONVOLUTION


def test_flops_of_a_gradient_to_the_input_are_those_of_another_pass():
    network, x = nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.randn(2, 3, 10, 10, requires_grad=True)
    network.requires_grad_(False)
    found = meters.count_flops(lambda: torch.autograd.grad(network(x).sum(), x))
    assert found == 2 * CONVOLUTION
    network.requires_grad_(True)  # and the weights' gradient as much again
    assert meters.count_flops(lambda: network(x).sum().backward()) == 3 * CONVOLUTION


def test_flops_of_a_frozen_sequence_are_counted_through_modules_that_autograd_enters(tiny_generator):
    x, c = torch.zeros(1, 3, 16, 16, requires_grad=True), torch.zeros(1, 5)
    with torch.no_grad():
        forward = meters.count_flops(lambda: tiny_generator(x, c))
    both = meters.count_flops(lambda: torch.autograd.grad(tiny_generator(x, c).sum(), x))
    assert both == pytest.approx(2 * forward)


def test_rates_of_a_small_product_are_rates():
    rates = meters.product_rates(CPU, side=32, repeats=1)
    assert set(rates) == {"fp32", "bf16"} and min(rates.values()) > 0


def test_peak_is_that_since_it_was_forgotten():
    if not meters.CLEAR.exists():
        pytest.skip("this system keeps the peak for good")
    big = np.ones(30_000_000)  # 240 MB
    assert meters.peak_mb(CPU) > 240
    del big
    meters.reset_peak(CPU)
    before = meters.peak_mb(CPU)
    more = np.ones(10_000_000)
    assert 70 < meters.peak_mb(CPU) - before < 200 and len(more)


def test_power_is_watts_times_seconds_of_the_samples_between():
    with meters.Power(CPU) as power:  # no GPU, no samples
        assert power.joules(0, 1e9) is None
    power.samples = [(1.0, 100.0), (2.0, 200.0), (9.0, 1e6)]
    assert power.joules(0.5, 2.5) == pytest.approx(150 * 2) and power.joules(3.0, 4.0) is None
