"""How many photos at a time: chosen by memory, by hand-computed figures."""

import pytest
import torch

from common import batch, cli
from common.batch import PhotosAtATime, largest_fitting, on_cpu
from common.distributed import Context
from common.errors import RunError, UserError


def line(base, each, failing=1000):
    """A meter of base + each * photos bytes that runs out of memory from `failing` photos on."""

    def measure(photos):
        if photos >= failing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return base + each * photos

    return measure


@pytest.mark.parametrize(
    "measure, limit, most, size",
    [
        (line(100, 10), 100 + 10 * 32, 512, 32),  # 32 photos fit exactly
        (line(100, 10), 100 + 10 * 32 - 1, 512, 16),
        (line(100, 10), 10**9, 512, 512),
        (line(100, 10), 10**9, 100000, 512),  # never more
        (line(100, 10), 10**9, 33, 64),  # enough for all photos
        (line(100, 10), 10**9, 1, 1),
        (line(100, 10), 115, 512, 1),  # not even two: one is tried
        (line(100, 0), 100, 512, 512),  # photos that take nothing, as where all is made already
        (line(0, 10, failing=4), 10**9, 512, 2),
        (line(0, 10, failing=2), 10**9, 512, 1),
    ],
)
def test_the_largest_power_of_two_that_fits(measure, limit, most, size):
    assert largest_fitting(measure, limit, most) == size


def test_a_meter_is_read_twice_however_large_the_answer():
    asked = []
    assert largest_fitting(lambda photos: asked.append(photos) or photos, 1000, 512) == 512
    assert asked == [2, 4]


@pytest.mark.parametrize("side, size", [(16, 128), (64, 8), (65, 4), (128, 2), (178, 1), (1024, 1)])
def test_on_a_cpu_the_photos_size_decides(side, size):
    assert on_cpu(side**2) == size


def test_what_may_be_taken_is_a_share_of_what_is_free_and_what_is_held_already(monkeypatch):
    for name, value in {
        "empty_cache": None,
        "mem_get_info": (1000, 4000),
        "memory_allocated": 500,
        "reset_peak_memory_stats": None,
        "synchronize": None,
        "max_memory_allocated": 700,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    done = []
    measure, limit = batch.measured(done.append, torch.device("cuda:0"))
    assert limit == 500 + 0.8 * 1000 and measure(2) == 700 and done == [2]


@pytest.fixture
def on_gpu(monkeypatch):
    """A context of a GPU of which 100 bytes are free beside what each photo takes, 10 bytes."""
    monkeypatch.setattr(batch, "measured", lambda rehearse, device: (lambda n: rehearse(n) or 10 * n, 100))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return Context(0, 1, torch.device("cuda:0"))


def run_out(above, worked):
    def work(size):
        worked.append(size)
        if size > above:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return f"made by {size}"

    return work


def test_auto_backs_off_once_and_then_says_what_to_give(on_gpu, capsys):
    tried, worked = [], []
    asked = PhotosAtATime(cli.AUTO, 100, 64**2)
    assert asked.run(on_gpu, tried.append, run_out(8, worked)) == "made by 8" and worked == [8]
    assert tried == [2, 4] and capsys.readouterr().out == "--batch_size auto: 8 photos at a time\n"
    worked.clear()
    assert asked.run(on_gpu, tried.append, run_out(4, worked)) == "made by 4" and worked == [8, 4]
    with pytest.raises(RunError, match="too small for --batch_size 4: give --batch_size 2"):
        asked.run(on_gpu, tried.append, run_out(2, worked))


def test_a_number_is_taken_as_it_is_and_names_auto_where_it_is_too_large(on_gpu):
    worked = []
    asked = PhotosAtATime(32, 100, 64**2, "--image_batch_size")
    assert asked.run(on_gpu, None, run_out(32, worked)) == "made by 32"
    with pytest.raises(RunError, match="for --image_batch_size 32: give --image_batch_size auto"):
        asked.run(on_gpu, None, run_out(16, worked))
    with pytest.raises(RunError, match="--device cpu"):
        PhotosAtATime(1, 100, 64**2).run(on_gpu, None, run_out(0, worked))


def test_nothing_is_tried_where_nothing_is_left_or_on_a_cpu(on_gpu):
    assert PhotosAtATime.of(cli.AUTO, {}, on_gpu).run(on_gpu, None, lambda size: size) == 1
    sizes = {"a": (32, 32), "b": (64, 64)}
    cpu = Context(0, 1, torch.device("cpu"))
    assert PhotosAtATime.of(cli.AUTO, sizes, cpu).run(cpu, None, lambda size: size) == 8


def test_a_training_takes_no_auto():
    for auto, words in ((False, "a training depends on it"), (True, None)):
        p = cli.ArgumentParser(prog="tool")
        cli.add_run_flags(p, batch_size=16, auto=auto)
        assert p.parse_args(["--batch_size", "4"]).batch_size == 4
        if words:
            with pytest.raises(UserError, match=words):
                p.parse_args(["--batch_size", "auto"])
        else:
            assert p.parse_args(["--batch_size", "auto"]).batch_size == "auto"
        with pytest.raises(UserError, match="a whole number above 0"):
            p.parse_args(["--batch_size", "0"])


def test_no_more_photos_at_a_time_than_there_are():
    """What is set aside for a batch is set aside for its size."""
    ctx = Context(0, 1, torch.device("cpu"))
    sizes = [PhotosAtATime(asked, 42, 64**2).choose(ctx, None) for asked in (5000, 42, 7)]
    assert sizes == [42, 42, 7] and PhotosAtATime(5000, 0, 1).choose(ctx, None) == 1
