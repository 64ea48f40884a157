"""The rows of the published sizes: which there are, how they are measured and shown."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from common.errors import UserError, nearest
from evaluation import sides
from evaluation.speed import meters
from evaluation.speed.jobs import BF16, ROWS, SHOWN, TRAININGS, Bench, Job, group_of, job_of, split_row

WARM = 5.0  # seconds: what takes longer is not called once more before it is timed
REFERENCE = "reference"
TURN = 0.2  # seconds: what is shorter is called several times a turn


def default_rows(device: torch.device) -> list[str]:
    """fp32, and on a GPU each in bf16 too; on a CPU the attack alone."""
    return [
        name
        for row in SHOWN
        for name in ([row, row + BF16] if device.type == "cuda" or row == "attack" else [row])
    ]


def check_rows(rows: Sequence[str], known: Iterable[str]) -> None:
    """Raises UserError for a row that there is not."""
    known = list(known)
    for row in rows:
        if row not in known:
            raise UserError(f"--rows {row}: no such row{nearest(row, known)}; one of: {', '.join(known)}")


def measure_job(
    job: Job,
    device: torch.device,
    repeats: int,
    power: meters.Power,
    rates: dict[str, float],
    sided: bool = True,
) -> dict[str, dict]:
    """{row: figures}, all rows of a job and its reference in turns.

    Args: rates  of meters.product_rates, or {};  sided  False: without the reference, where it is no row
    """

    def clock(work):
        return sides.seconds_of(work, device)

    flops, passes, quick = {}, {}, math.inf
    for row, call in job.ours.items():
        work = call or job.reference
        took = clock(lambda row=row, work=work: flops.update({row: meters.count_flops(work)}))
        passes[row] = passes_of(work, took, clock, always=device.type == "cuda")
        quick = min(quick, took)
    itself = next((row for row, call in job.ours.items() if call is None), None)
    calls = {row: call for row, call in job.ours.items() if call is not None}
    if itself or sided:
        calls[REFERENCE] = job.reference
        # a first call chooses kernels on a GPU; on a CPU it may cost minutes and is like the others
        warm = device.type == "cuda" or quick < TURN
        passes[REFERENCE] = passes.get(itself) or (passes_of(job.reference, 0.0, clock) if warm else 1)
    turns = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            turns[name].append(take_turn(call, passes[name], device, power, clock))
    theirs = [turn["seconds"] for turn in turns.get(REFERENCE, [])]
    return {
        row: figures_of(
            row, job, turns[row if call else REFERENCE], theirs if call else [], flops[row], rates
        )
        for row, call in job.ours.items()
    }


def figures_of(
    row: str, job: Job, turns: Sequence[dict], theirs: Sequence[float], flops: int, rates: dict[str, float]
) -> dict:
    """A row's part of the record.  turns  of take_turn;  theirs  seconds of the reference's turns, none where
    the row is the reference, or there is no other side"""
    seconds = [turn["seconds"] for turn in turns]
    figures = sides.compare(seconds, theirs or seconds, job.units)
    if not theirs:
        figures |= dict.fromkeys(("ratio", "ratio_low", "ratio_high"))
    rate = flops / job.units / figures["seconds"]
    joules = [turn["joules"] for turn in turns if turn["joules"] is not None]
    base, precision = split_row(row)
    return {
        **figures,
        "unit": "step" if base in TRAININGS else "photo",
        "precision": precision,
        "photos_per_unit": job.photos,
        "flops": flops / job.units,
        "tflops_per_second": rate / 1e12,
        "share_of_product": rate / rates[precision] if rates else None,
        "peak_memory_mb": max(turn["peak_mb"] for turn in turns),
        "joules_per_photo": statistics.median(joules) / job.units / job.photos if joules else None,
    }


def passes_of(call: Callable[[], object], took: float, clock: sides.Clock, always: bool = False) -> int:
    """Calls a turn.  A first call chooses kernels, or compiles, so none is trusted that did not follow
    another; what takes longer than WARM is too dear for that, but for `always`.

    Args: took  seconds of a call that was counted, not timed
    """
    if always or took < WARM:
        took = clock(call)
        if took < WARM:
            took = clock(call)
    return max(1, math.ceil(TURN / took))


def take_turn(
    call: Callable[[], object], passes: int, device: torch.device, power: meters.Power, clock: sides.Clock
) -> dict:
    """{"seconds", "peak_mb", "joules"} of a call, the mean of `passes` of them."""
    meters.reset_peak(device)
    began = time.perf_counter()
    seconds = clock(lambda: [call() for _ in range(passes)])
    joules = power.joules(began, began + seconds)
    return {
        "seconds": seconds / passes,
        "peak_mb": meters.peak_mb(device),
        "joules": joules and joules / passes,
    }


def measure(bench: Bench, rows: Sequence[str], sided: bool = True) -> Iterator[dict[str, dict]]:
    """Yields dicts row -> figures, as the record holds them, one group after the other; sided, see
    measure_job."""
    device = bench.ctx.device
    rates = meters.product_rates(device) if device.type == "cuda" else {}
    with meters.Power(device) as power:
        for _, group in itertools.groupby(sorted(rows, key=place), group_of):
            job = job_of(bench, list(group))
            yield measure_job(job, device, bench.repeats, power, rates, sided)
            del job
            if device.type == "cuda":
                torch.cuda.empty_cache()


def place(row: str) -> tuple[int, str]:
    """Sort key of rows: those of one group together."""
    return list(map(group_of, ROWS)).index(group_of(row)), row


def heading(device: torch.device) -> str:
    """The table's first line."""
    text = f"{'':32s} {'ours':>9s} {'reference':>10s} {'ratio':>8s}  {'(turns)':14s} {'TFLOP/s':>8s}"
    gpu = f" {'of product':>10s}" if device.type == "cuda" else ""
    last = f" {'J/photo':>8s}" if device.type == "cuda" else ""
    return text + gpu + f" {'peak MB':>8s}" + last


def line(row: str, m: dict, device: torch.device) -> str:
    """One printed row."""

    def cell(value, form, width):
        return f" {'-' if value is None else format(value, form):>{width}s}"

    unit = "a photo" if m["unit"] == "photo" else f"a step of {m['photos_per_unit']}"
    spread = "" if m["ratio"] is None else f"{m['ratio_low']:.2f} - {m['ratio_high']:.2f}"
    text = f"{f'{row}, {unit}':32s} {m['seconds']:8.4g}s {m['reference_seconds']:9.4g}s"
    text += cell(m["ratio"], ".2f", 7) + ("x" if m["ratio"] is not None else " ") + f"  {spread:14s}"
    text += cell(m["tflops_per_second"], ".3g", 8)
    if device.type == "cuda":
        text += cell(m["share_of_product"], ".1%", 10)
    text += cell(m["peak_memory_mb"], ".0f", 8)
    return text + (cell(m["joules_per_photo"], ".3g", 8) if device.type == "cuda" else "")
