"""Purifiers without a network."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from common import images, jpeg
from common.blur import gaussian_blur
from common.cli import UserError
from purify import build


def test_none_is_the_photo(faces):
    x, _ = faces(2)
    assert torch.equal(build("none")(x), x) and build("none").folder_name == "none"


@pytest.mark.parametrize("quality", [30, 75])
def test_jpeg_equals_pil(faces, quality):
    x, _ = faces(2)
    purifier = build("jpeg", quality=quality)
    for i, image in enumerate(images.to_uint8(x)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling=2)
        np.testing.assert_array_equal(images.to_uint8(purifier(x)[i]), np.asarray(Image.open(buffer)))
    assert purifier.folder_name == f"jpeg-q{quality}" and purifier.params == {"quality": quality}
    assert not torch.equal(purifier(x), x)


def test_jpeg_value_is_exact_and_its_gradient_that_of_the_differentiable_jpeg(faces):
    x = faces(2)[0].requires_grad_(True)
    purifier = build("jpeg", quality=40)
    y = purifier(x)
    with torch.no_grad():
        assert torch.equal(y, purifier(x))
    weights = torch.rand_like(y)
    found = torch.autograd.grad((y * weights).sum(), x)[0]
    (expected,) = torch.autograd.grad((jpeg.round_trip(x, 40) * weights).sum(), x)
    assert torch.equal(found, expected) and not torch.equal(found, weights) and found.abs().max() > 0


def test_blur_is_the_shared_blur_in_range(faces):
    x, _ = faces(2)
    y = build("blur", sigma=2.0)(x)
    assert torch.equal(y, gaussian_blur(x, 2.0, 11).clamp(-1, 1)) and build("blur").folder_name == "blur-s1.5"
    with pytest.raises(UserError, match="at least 6"):
        build("blur")(x[..., :5, :5])
