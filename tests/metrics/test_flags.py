import pytest

from common.cli import UserError
from metrics.flags import MeasureOptions


def extractor(size):
    return MeasureOptions(inception_weights=None, features="none", ssim="photos", image_size=size).extractor(
        "cpu"
    )


def test_images_too_small_to_be_measured_are_told_where_the_measures_are_made_ready():
    assert extractor(6) is None
    with pytest.raises(
        UserError, match="--image_size 5: too small for the window of SSIM; expected at least 6"
    ):
        extractor(5)
