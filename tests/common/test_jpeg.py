import pytest
import torch

from common import images, jpeg
from purify import build


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("size", [(32, 32), (50, 37)])
def test_it_is_near_pillows_jpeg(quality, size, faces):
    x = faces(4, size=64)[0]
    x = images.quantise(
        (x + 0.1 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    )
    x = x[..., : size[0], : size[1]]
    exact, found = build("jpeg", quality=quality)(x), jpeg.round_trip(x, quality)
    assert found.shape == x.shape and found.abs().max() <= 1
    assert 127.5 * (found - exact).abs().mean() < 2  # grey levels
    assert (found - exact).square().mean() < 0.5 * (x - exact).square().mean()


def test_each_photo_has_its_own_quality(faces):
    x = faces(2)[0]
    both = jpeg.round_trip(x, torch.tensor([20, 90]))
    each = torch.cat([jpeg.round_trip(x[:1], 20), jpeg.round_trip(x[1:], 90)])
    assert torch.allclose(both, each, atol=1e-5) and not torch.allclose(both, jpeg.round_trip(x, 20))


def test_the_layout_of_memory_is_of_no_account(faces):
    x = faces(2)[0]
    other = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    found = jpeg.round_trip(other, 60)
    assert torch.allclose(found, jpeg.round_trip(x, 60), atol=1e-5)
    assert torch.autograd.grad(found.sum(), other)[0].isfinite().all()


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_its_gradient_is_finite_and_not_zero(quality, faces):
    x = faces(2)[0].requires_grad_(True)
    (grad,) = torch.autograd.grad(jpeg.round_trip(x, quality).square().sum(), x)
    assert grad.isfinite().all() and (grad.abs().amax(dim=(1, 2, 3)) > 0).all()
