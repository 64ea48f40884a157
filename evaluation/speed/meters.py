"""What is read off beside the clock: FLOPs, the device's own matrix product, peak memory, power."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from common import distributed

SIDE = 8192  # of the matrices that the device's own rate is measured with
CLEAR = Path("/proc/self/clear_refs")  # 5 written there forgets the most memory so far (Linux)


def count_flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of one call, a multiply-add as two.

    Compiled networks are run as plain ones meanwhile: the counter sees operators, not kernels.
    """
    counter = FlopCounterMode(display=False)
    # its own tracker, which tells modules apart, cannot follow torch.autograd.grad to an input
    counter.mod_tracker = _Everything()
    with torch.compiler.set_stance("force_eager"), counter:
        work()
    return counter.get_total_flops()


class _Everything(contextlib.nullcontext):
    """In place of torch.utils.module_tracker.ModuleTracker: no module is told from another."""

    parents = ("Global",)


def product_rates(device: torch.device, side: int = SIDE, repeats: int = 10) -> dict[str, float]:
    """{"fp32", "bf16"}: FLOP/s of this device's product of two side x side matrices; TF32 for fp32 where
    convolutions use it."""
    rates, before = {}, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if torch.backends.cudnn.allow_tf32 else "highest")
    try:
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            a @ b
            _wait(device)
            began = time.perf_counter()
            for _ in range(repeats):
                a @ b
            _wait(device)
            rates[name] = 2 * side**3 * repeats / (time.perf_counter() - began)
    finally:
        torch.set_float32_matmul_precision(before)
    return rates


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Forget the most memory held so far; of a process only where its system lets it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        CLEAR.write_text("5")
    except OSError:
        pass  # the peak is then that of the whole run


def peak_mb(device: torch.device) -> float:
    """The most memory since reset_peak, megabytes: on the GPU by this process's tensors, else resident."""
    if device.type != "cuda":
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
            return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6
        except (OSError, StopIteration):
            pass
    return distributed.peak_memory_mb(device)


class Power:
    """Watts of a GPU, asked of nvidia-smi every 50 ms by a thread; `joules` of a stretch of time.

    Without a GPU, without nvidia-smi, or with a card that does not say, there are no samples.
    """

    def __init__(self, device: torch.device):
        self.device, self.samples, self._process = device, [], None  # [(time.perf_counter(), watts)]

    def __enter__(self):
        if self.device.type == "cuda":
            card = f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"
            asked = ["--query-gpu=power.draw", "--format=csv,noheader,nounits", "-i", card, "-lms", "50"]
            try:
                self._process = subprocess.Popen(
                    ["nvidia-smi", *asked], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            except OSError:
                return self
            threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self):
        for line in self._process.stdout:
            try:
                self.samples.append((time.perf_counter(), float(line)))
            except ValueError:
                pass  # [N/A]

    def __exit__(self, *error):
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def joules(self, began: float, ended: float) -> float | None:
        """Of the whole card between two times of time.perf_counter; None without a sample between them."""
        watts = [w for t, w in list(self.samples) if began <= t <= ended]
        return sum(watts) / len(watts) * (ended - began) if watts else None
