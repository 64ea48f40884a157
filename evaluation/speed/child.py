"""A script run in this process, with what it cost: CPU time, that of the networks apart, and memory.

python -c "from evaluation.speed.child import main; main()" cost.json test_defense.py --limit 8 ...
"""

import resource
import runpy
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.modules import module as hooks

from common import files
from evaluation.speed.meters import peak_mb
from metrics.fid import Extractor
from models.translators import Translator
from purify.base import Purifier

PERIOD = 0.2  # seconds between two looks at the memory


class NetworkTime:
    """CPU seconds of the thread that works on batches, inside the outermost calls of translators, purifiers,
    the features' network and torch.autograd.grad. With one OpenMP thread that is all that they cost; other
    threads read and write files meanwhile, which is not the networks' doing."""

    def __init__(self):
        self.seconds, self._depth, self._networks = 0.0, 0, set()

    def watch(self) -> None:
        """From here on, for good: what is watched is global."""
        made, grad = Extractor.__init__, torch.autograd.grad

        def init(extractor, network, *args, **kwargs):
            made(extractor, network, *args, **kwargs)
            self._networks.add(id(network))

        def timed_grad(*args, **kwargs):
            self._enter()
            try:
                return grad(*args, **kwargs)
            finally:
                self._leave()

        Extractor.__init__, torch.autograd.grad = init, timed_grad
        hooks.register_module_forward_pre_hook(lambda m, x: self._enter() if self._counts(m) else None)
        hooks.register_module_forward_hook(
            lambda m, x, y: self._leave() if self._counts(m) else None, always_call=True
        )

    def _counts(self, m):
        return isinstance(m, (Translator, Purifier)) or id(m) in self._networks

    def _enter(self):
        if not self._depth:
            self._began = time.thread_time()
        self._depth += 1

    def _leave(self):
        self._depth -= 1
        if not self._depth:
            self.seconds += time.thread_time() - self._began


def anonymous_mb() -> float | None:
    """Memory of this process that no file stands behind, megabytes; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) * 1024 / 1e6
    except (OSError, StopIteration):
        return None


def watch_memory() -> Callable[[], float | None]:
    """Look at the memory every PERIOD seconds from now on; returns a function that tells the most so far."""
    most = [anonymous_mb()]

    def look():
        while most[0] is not None:
            time.sleep(PERIOD)
            most[0] = max(most[0], anonymous_mb())

    threading.Thread(target=look, daemon=True).start()
    return lambda: most[0]


def main() -> None:
    """sys.argv: -c, file of the costs, script, its words.  Ends as the script does."""
    out, script = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    networks, most, began = NetworkTime(), watch_memory(), time.perf_counter()
    networks.watch()
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        files.write_json(
            out,
            {
                "seconds": time.perf_counter() - began,
                "cpu_seconds": sum(u.ru_utime + u.ru_stime for u in every),
                "networks_cpu_seconds": networks.seconds,
                "peak_memory_mb": peak_mb(torch.device("cpu")),
                "peak_anonymous_mb": most(),
            },
        )
