"""The loop that all trainers share: resume, logging, NaN watch, saving, Ctrl-C. What a step does is the
trainer's own."""

import argparse
import math
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from common import checkpoint, cli, compiling, files, progress, seeds, state_dicts
from common.cli import RunError, UserError
from common.distributed import Context
from common.runs import Run, options_of

PATIENCE = 2  # seconds: on Ctrl-C the terminal and torchrun both signal a process, which is one request


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The values of add_training_flags."""

    num_steps: int
    lr: float
    ema: float
    save_step: int
    log_step: int
    compile: str = "off"


def add_training_flags(
    parser: argparse.ArgumentParser, num_steps: int, lr: float, ema: float = 0.0
) -> argparse._ArgumentGroup:
    """The flags that `loop` and its trainers read."""
    g = parser.add_argument_group("how to train")
    g.add_argument("--num_steps", type=cli.positive_int, default=num_steps, help="optimiser steps")
    g.add_argument("--lr", type=cli.positive_float, default=lr, help="Adam's learning rate")
    g.add_argument(
        "--ema",
        type=cli.fraction,
        default=ema,
        help="decay of the exponential moving average of the weights; 0 = none",
    )
    g.add_argument(
        "--save_step",
        type=cli.positive_int,
        default=500,
        help="steps between saved states, validations and sample grids",
    )
    g.add_argument("--log_step", type=cli.positive_int, default=10, help="steps between lines of log.jsonl")
    return g


def averaged(network: nn.Module) -> AveragedModel:
    """The exponential moving average of a network's weights, to be fed by update_average; its count of
    updates stays on the CPU."""
    return AveragedModel(network)


@torch.no_grad()
def update_average(average: AveragedModel, network: nn.Module, decay: float) -> None:
    """One update with decay min(decay, (1 + n) / (10 + n)) after n updates: short runs do not remember their
    start."""
    n = int(average.n_averaged)
    mine, new = (list(m.parameters()) for m in (average.module, network))
    # AveragedModel.update_parameters does the same, and waits for the device to read the count there
    if n:
        torch._foreach_lerp_(mine, new, 1 - min(decay, (1 + n) / (10 + n)))
    else:
        torch._foreach_copy_(mine, new)
    for copy, buffer in zip(average.module.buffers(), network.buffers(), strict=True):
        copy.copy_(buffer)
    average.n_averaged += 1


def compile_networks(networks: list[nn.Module], options: TrainingOptions, ctx: Context) -> None:
    """As --compile has it, for this process's share of the batch_size that `options` has besides.  Moving
    averages are made before."""
    rows = options.batch_size // ctx.world
    compiling.fix(networks, options.compile, ctx, rows, options.num_steps)


def step_of(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One optimiser step on `loss`, in one process and at the optimiser's own learning rate."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def descend(
    loss: torch.Tensor, network: nn.Module, optimiser: torch.optim.Optimizer, lr: float, ctx: Context
) -> None:
    """One optimiser step of `network` on `loss` with learning rate `lr`, gradients averaged over the
    processes."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    ctx.average_gradients(network.parameters())
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.step()


def warm_then_linear(lr: float, i: int, num_steps: int, warm_up: int = 50) -> float:
    """Learning rate of step i: a short linear warm-up, constant, then linear to zero over the last third."""
    return lr * min(1.0, (i + 1) / warm_up, 3 * (num_steps - i) / num_steps)


@contextmanager
def stop_requests() -> Iterator[list[float]]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step in progress; asked again later than PATIENCE
    seconds, it stops at once."""
    asked = []

    def ask(number, frame):
        asked.append(time.monotonic())
        if asked[-1] - asked[0] > PATIENCE:
            raise KeyboardInterrupt

    try:
        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals go elsewhere
        before = {}
    try:
        yield asked
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def _newest_state(run, say):
    """What last.pt holds, or where that is damaged its predecessor."""
    try:
        return checkpoint.load_state(run.last)
    except UserError as damaged:
        try:
            state = checkpoint.load_state(run.previous)
        except UserError:
            raise damaged from None
        say(f"NOTE: {damaged}. Continued from its predecessor {run.previous}, of step {state['step']}")
        return state


def resume(run: Run, parts: dict[str, Any], say: Callable[[str], None] = print) -> int:
    """Load last.pt into `parts` if the run has one, or its predecessor where it is damaged.

    Args:    say  told where the predecessor is taken
    Returns: the step to continue from (0 for a new run)
    Raises:  UserError for a state of other parts, or of other random streams: it could not be continued as it
             was begun; for one that is damaged and has no predecessor
    """
    if not run.last.exists() and not run.previous.exists():
        return 0
    state = _newest_state(run, say)
    if state["streams"] != seeds.VERSION:
        raise UserError(
            f"{run.last}: begun with random streams of version {state['streams']}, this code draws version"
            f" {seeds.VERSION} and cannot continue it; delete {run.folder} to train anew, or drop --resume"
        )
    if set(state["parts"]) != set(parts):
        raise UserError(f"{run.last}: holds {', '.join(state['parts'])}, expected {', '.join(parts)}")
    if not all_finite(state["parts"]):
        raise UserError(
            f"{run.last}: holds numbers that are not finite (NaN or infinity), the file is damaged or its"
            f" training went astray; delete {run.folder} to train anew, or drop --resume"
        )
    with state_dicts.reading(run.last, "a training's state"):
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
    return state["step"]


def all_finite(state: Any) -> bool:
    """Whether every floating-point tensor in nested dicts and lists is free of NaN and infinity."""
    if isinstance(state, (dict, list, tuple)):
        return all(map(all_finite, state.values() if isinstance(state, dict) else state))
    return not (torch.is_tensor(state) and state.is_floating_point()) or bool(torch.isfinite(state).all())


def loop(
    run: Run,
    options: TrainingOptions,
    ctx: Context,
    parts: dict[str, Any],
    step: Callable[[int], dict],
    on_save: Callable[[int], dict | None] | None = None,
    what: str = "train",
) -> None:
    """Call step(i) for i in [resumed, options.num_steps); keep last.pt, log.jsonl and the samples up to date.

    Args:   options  TrainingOptions, with whatever else a resumed run must have in common with this one
            parts    dict name -> object with state_dict/load_state_dict: all that an exact resume needs
            step     i -> dict of scalars (tensors or floats) to log; performs the optimiser step
            on_save  done -> dict of scalars to log or None; validation and sample grids, called on rank 0
                     after `done` steps
    Raises: RunError naming the step and the last good state if a logged value or a weight stops being finite
            KeyboardInterrupt after saving, when asked to stop
    """
    start = resume(run, parts, ctx.print)
    if ctx.is_main:
        run.truncate_log(start)
    if start:
        ctx.print(f"resuming at step {start} of {options.num_steps}")
    saved_options = options_of(options)
    first_bad = torch.full((), -1, dtype=torch.long, device=ctx.device)

    def fail(bad, what):
        good = f"the last good state is {run.last}" if run.last.exists() else "no state was saved yet"
        raise RunError(f"step {bad}: {what} not finite; {good}. Lower --lr, or use --precision fp32")

    def check():
        # one process's bad loss spoils the weights of all
        bad = [b for b in ctx.gather([int(first_bad)]) if b >= 0]
        if bad:
            fail(min(bad), "a loss is")

    def save(done):
        check()
        if ctx.is_main:
            if not all_finite([p.state_dict() for p in parts.values()]):
                fail(done, "the weights are")
            if zipfile.is_zipfile(run.last):  # and not damaged itself
                files.keep_as(run.last, run.previous)
            checkpoint.save_state(run.last, done, saved_options, **parts)

    def judge(done):
        if ctx.is_main and on_save:
            values = on_save(done)
            if values:
                run.log(step=done, **values)
                ctx.print(f"step {done}: " + ", ".join(f"{k} {v:.5g}" for k, v in values.items()))
        ctx.barrier()

    def is_judged(done):
        """Whether the log has a line of that step besides the training's own."""
        return any(line.get("step") == done and "seconds" not in line for line in run.logged())

    # who was ended between saving and validating has the validation still to come
    due = start and (start % options.save_step == 0 or start == options.num_steps)
    if due and ctx.broadcast(ctx.is_main and not is_judged(start)):
        judge(start)
    began = time.time()
    with stop_requests() as stop, progress.bar(options.num_steps, what, "step", start, ctx.is_main) as bar:
        for i in range(start, options.num_steps):
            scalars = step(i)
            # what lies on the device is judged there, and nobody waits for the answer
            there = [v for v in scalars.values() if torch.is_tensor(v)] or [first_bad]
            fine = all(math.isfinite(v) for v in scalars.values() if not torch.is_tensor(v))
            finite = torch.isfinite(torch.stack(there)).all() & fine
            first_bad = torch.where(finite | (first_bad >= 0), first_bad, i + 1)
            done = i + 1
            bar.update(1)
            if done % options.log_step == 0 or done == options.num_steps:
                values = {k: ctx.mean(v) for k, v in scalars.items()}
                check()
                if ctx.is_main:
                    run.log(step=done, **values, seconds=round(time.time() - began, 2))
            stopping = any(ctx.gather([bool(stop)])) if ctx.world > 1 else bool(stop)
            if done % options.save_step == 0 or done == options.num_steps or stopping:
                save(done)
                if stopping:
                    ctx.barrier()
                else:
                    judge(done)
            if stopping:
                ctx.print(f"stopped at step {done}; state saved to {run.last}, --resume continues")
                raise KeyboardInterrupt
