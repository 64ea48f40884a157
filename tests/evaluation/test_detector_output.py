"""What a finished training leaves beside its weights; the files themselves are tested with train_detector.py."""
import pytest

from evaluation.detector_output import epoch_seconds


@pytest.mark.parametrize("clock, seconds", [([3.0, 5.0, 9.0], 3.0), ([4.0], 4.0), ([10.0, 20.0, 2.0, 6.0], 3.0)])
def test_an_epoch_takes_the_mean_since_the_training_was_resumed(clock, seconds):
    assert epoch_seconds([{"seconds": s} for s in clock]) == pytest.approx(seconds)
