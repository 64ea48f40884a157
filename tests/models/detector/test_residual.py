"""The residual detector: what its filters leave, by hand, and what they do not let through."""

import pytest
import torch

from models.detector.network import Detector
from models.detector.residual import MOST, Residual, residual


def test_a_smooth_picture_leaves_nothing():
    """Constants and ramps: every filter is a second difference."""
    ramp = torch.linspace(-0.9, 0.9, 32).expand(2, 3, 32, 32)
    for x in (torch.full((1, 3, 32, 32), 0.3), ramp, ramp.mT):
        # at its very edge a ramp is mirrored
        assert residual(x)[..., 2:-2, 2:-2].abs().max() < 1e-4


def test_the_filters_by_hand():
    """One red pixel that is 2 grey levels lighter: the filters themselves, times 2."""
    x = torch.zeros(1, 3, 9, 9)
    x[0, 0, 4, 4] = 2 / 127.5
    found = residual(x)[0]
    assert found.shape == (9, 9, 9) and found[3:].abs().max() < 1e-4
    assert found[0, 3:6, 3:6].tolist() == [
        pytest.approx(row, abs=1e-4) for row in ([-0.5, 1, -0.5], [1, -2, 1], [-0.5, 1, -0.5])
    ]
    assert found[1, 4, 2:7].tolist() == pytest.approx([v / 6 for v in (-2, 8, -12, 8, -2)], abs=1e-4)
    assert found[1, 2, 2:7].tolist() == pytest.approx([v / 6 for v in (-1, 2, -2, 2, -1)], abs=1e-4)
    assert found[2, 4, 3:6].tolist() == pytest.approx([1, -2, 1], abs=1e-4) and found[2, 3].abs().max() < 1e-4


def test_edges_are_cut_and_half_precision_changes_nothing(faces):
    x, _ = faces(2, 32)
    whole = residual(x)
    assert whole.abs().max() == MOST and whole.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(residual(x), whole)


def test_it_is_a_meso4_that_sees_nine_channels_and_no_brightness(faces):
    net, meso, (x, _) = Detector("residual", 100).eval(), Detector("meso4", 100), faces(2, 100)
    assert isinstance(net.trunk, Residual) and net.side == 128

    def numbers(module):
        return sum(p.numel() for p in module.parameters())

    assert numbers(net) - numbers(meso) == 6 * 8 * 9  # six more channels, eight kernels of 3 x 3
    darker = x * 0.5 - 0.25
    with torch.no_grad():
        assert net(x).shape == (2, 2)
        assert torch.allclose(net.trunk(darker + 0.2), net.trunk(darker), atol=1e-3)
        assert not torch.allclose(net.trunk(darker), net.trunk(x), atol=1e-3)
