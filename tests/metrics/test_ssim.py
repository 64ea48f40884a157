"""The separated window gives torchmetrics' figures."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from metrics.ssim import Windowed, blur, ssim


@pytest.mark.parametrize("size", [(6, 17), (24, 24), (64, 64), (129, 50)])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3, 2.0])
def test_equal_to_torchmetrics(size, noise):
    rng = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(3, 3, 5, 5, generator=rng) * 2 - 1, size)
    image = (smooth + noise * (torch.rand(smooth.shape, generator=rng) - 0.5)).clamp(-1, 1)
    # in double precision: in single their own rounding is 2e-5 on flat images
    pair = image.double() + 1, smooth.double() + 1
    theirs = structural_similarity_index_measure(*pair, data_range=2.0, reduction="none")
    assert ssim(image, Windowed.of(smooth)).tolist() == pytest.approx(theirs.tolist(), abs=1e-5)


def test_flat_images_by_hand():
    dark, light = torch.full((1, 3, 16, 16), -0.5), torch.full((1, 3, 16, 16), 0.5)  # .5 and 1.5 of [0, 2]
    c1 = (0.01 * 2) ** 2
    expected = (2 * 0.5 * 1.5 + c1) / (0.5**2 + 1.5**2 + c1)  # no variance: the second factor is one
    assert float(ssim(dark, Windowed.of(light))) == pytest.approx(expected, abs=1e-4)
    assert float(ssim(dark, Windowed.of(dark))) == pytest.approx(1)


def test_the_window_is_a_gaussian_of_sum_one():
    spike = torch.zeros(1, 1, 21, 21)
    spike[..., 10, 10] = 1
    window = blur(spike)[0, 0]
    assert window.shape == (11, 11) and float(window.sum()) == pytest.approx(1)
    assert float(window[5, 7] / window[5, 5]) == pytest.approx(float(torch.exp(torch.tensor(-(2**2) / 4.5))))


def test_windowed_serves_several_images(faces):
    x, _ = faces(n=3, size=32)
    y, _ = faces(n=3, size=32, seed=1)
    windowed = Windowed.of(x)
    assert ssim(y, windowed).tolist() == pytest.approx(
        [float(ssim(y[i : i + 1], Windowed.of(x[i : i + 1]))) for i in range(3)], abs=1e-6
    )
    assert ssim(x, windowed).tolist() == pytest.approx([1] * 3)
