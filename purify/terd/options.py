"""What a scan is told: the values of `python -m purify.terd`, with its defaults, and the plan they mean."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.cli import RunOptions
from purify.terd import rule
from purify.terd.reversion import PLANS, Plan
from purify.trained import name_in_run


@dataclass(frozen=True, kw_only=True)
class ScanOptions(RunOptions):
    """A scan of `checkpoint`, which tables call `name` (name_of); None = as the schedule has it.

    report       folder of the numbered runs, None = below result_dir;  search_only  without a verdict
    calibration  the networks that the rules know;  num_samples  noises of each kind in the input test
    """

    checkpoint: str
    name: str
    report: str | None = None
    result_dir: str = "results"
    again: bool = False
    search_only: bool = False
    schedule: str = "reduced"
    starts: list[str] | None = None
    estimate_steps: int | None = None
    refine: str | None = None
    refine_steps: int | None = None
    lr: float | None = None
    lambda_l1: float | None = None
    num_samples: int = 1000
    calibration: str = str(rule.FILE)
    batch_size: int = 16
    precision: str = "fp32"
    resume: str | None = None
    save_step: int = 50
    log_step: int = 10
    device: str = "auto"
    seed: int = 0
    num_workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    dry_run: bool = False
    config: str | None = None
    debug: bool = False


@dataclass(frozen=True, kw_only=True)
class SearchOptions(ScanOptions):
    """A scan whose search has `num_steps` steps, as common.training.loop takes it."""

    num_steps: int


def name_of(path: str | Path) -> str:
    """What tables call a checkpoint: its training as the options beside it say it, else the file's stem."""
    return name_in_run(path) or Path(path).stem


def plan_of(options: ScanOptions) -> tuple[Plan, str]:
    """(Plan that the options describe, its name): the schedule's name, with what is left out of it, or
    `-changed`."""
    usual = PLANS[options.schedule]
    given = {
        key: getattr(options, key)
        for key in ("estimate_steps", "refine", "refine_steps", "lr")
        if getattr(options, key) is not None
    }
    plan = replace(
        usual,
        **given,
        batch=options.batch_size,
        starts=tuple(options.starts or usual.starts),
        weight=usual.weight if options.lambda_l1 is None else options.lambda_l1,
    )
    parts = {
        replace(usual, refine="none"): "-estimation",
        replace(usual, estimate_steps=0): "-refinement",
        usual: "",
    }
    return plan, options.schedule + parts.get(plan, "-changed")
