import pytest
import torch

from common.blur import box_blur, gaussian_blur


@pytest.mark.parametrize(
    "blur",
    [
        lambda x: gaussian_blur(x, 1.5),
        lambda x: gaussian_blur(x, 3, 7),
        lambda x: box_blur(x, 3),
        lambda x: box_blur(x, 9),
    ],
)
def test_a_constant_image_stays_and_an_image_gets_smoother(blur, faces):
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(blur(flat), flat, atol=1e-6)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert blur(x).shape == x.shape and blur(x).std() < 0.5 * x.std()


def test_box_blur_is_the_mean_with_reflected_borders():
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert box_blur(x, 3)[0, 0, 2, 2] == pytest.approx(float(x[0, 0, 1:4, 1:4].mean()))
    # the corner sees rows and columns -1 and 1 alike: weights 1 for itself, 2 for each of the two neighbours,
    # 4 for the diagonal one
    assert box_blur(x, 3)[0, 0, 0, 0] == pytest.approx((0 + 2 * 1 + 2 * 6 + 4 * 7) / 9)


def test_gaussian_weights_follow_the_formula():
    x = torch.zeros(1, 1, 21, 21)
    x[0, 0, 10, 10] = 1
    response = gaussian_blur(x, 1.5)[0, 0]
    assert response.sum() == pytest.approx(1, abs=1e-5)
    assert response[10, 12] / response[10, 10] == pytest.approx(
        torch.exp(torch.tensor(-4 / (2 * 1.5**2))).item(), rel=1e-4
    )
    assert response[10, 4] == 0 and response[10, 5] > 0  # kernel of 11


def test_channels_do_not_mix():
    x = torch.zeros(1, 3, 12, 12)
    x[:, 1] = torch.rand(12, 12)
    assert gaussian_blur(x, 2)[:, [0, 2]].abs().max() == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda x: gaussian_blur(x, 1, 10),
        lambda x: gaussian_blur(x, 0),
        lambda x: box_blur(x, 2),
        lambda x: gaussian_blur(x[..., :5], 1),
        lambda x: box_blur(x[0], 3),
    ],
)
def test_wrong_kernels_and_images_are_refused(call):
    with pytest.raises(ValueError):
        call(torch.zeros(1, 3, 16, 16))
