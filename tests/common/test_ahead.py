"""Threads before and behind the device: order, errors and bounds are those of work done in place."""

import threading
import time

import pytest

from common import ahead
from common.ahead import Behind, each


def test_each_keeps_the_order_and_uses_several_threads(monkeypatch):
    monkeypatch.setattr(ahead, "THREADS", 4)
    threads = set()

    def work(n):
        threads.add(threading.get_ident())
        time.sleep(0.001)
        return n * n

    assert each(work, range(40)) == [n * n for n in range(40)]
    assert len(threads) > 1
    assert each(work, []) == [] and each(work, [3]) == [9]


def test_ahead_is_in_order_and_no_further_than_its_depth():
    begun = []

    def work(n):
        begun.append(n)
        return -n

    several = ahead.ahead(range(10), work, depth=2)
    assert next(several) == 0
    time.sleep(0.05)
    assert max(begun) <= 3
    assert list(several) == [-n for n in range(1, 10)]


def test_an_error_ahead_is_raised_in_its_place():
    several = ahead.ahead([2, 1, 0, 1], lambda n: 1 / n)
    assert [next(several), next(several)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(several)


def test_what_is_left_behind_is_done_in_order_before_the_end():
    done = []

    def work(n):
        time.sleep(0.002)
        done.append(n)

    with Behind() as behind:
        for n in range(8):
            behind(work, n)
    assert done == list(range(8))


def test_the_first_error_behind_is_raised():
    def fail(n):
        raise OSError(n)

    with pytest.raises(OSError, match="0"), Behind() as behind:
        for n in range(8):
            behind(fail, n)
    with pytest.raises(OSError, match="5"), Behind() as behind:
        behind(fail, 5)


def test_an_error_before_waits_for_what_was_left_behind():
    done = []
    with pytest.raises(KeyboardInterrupt), Behind() as behind:
        behind(lambda: (time.sleep(0.02), done.append(1)))
        raise KeyboardInterrupt
    assert done == [1]
