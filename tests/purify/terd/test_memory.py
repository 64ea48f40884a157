"""How much memory a gradient takes."""

from purify.terd import memory
from tiny import denoiser


def test_grows_with_the_batch_and_counts_what_is_held():
    d = denoiser(size=8)
    one = memory.needed(d, 1)
    assert memory.needed(d, 4) == 4 * one
    assert one >= 8 * 8 * 8 * 4  # the tanh's output alone: 8 channels of 8 x 8 floats


def test_free_memory_is_a_number_of_bytes():
    there = memory.free("cpu")
    assert there is None or there > 1 << 20
