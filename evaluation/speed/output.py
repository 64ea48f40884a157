"""Where the figures of a benchmark go: printed as they come, and into a record that holds all so far."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from common import runs
from common.distributed import Context
from evaluation.speed.flags import Options
from report import record


class Output:
    """A record that is written anew after each row, where there is a --result_dir.

    Args: name  of the record: benchmark, official or scale;  config  beside what the flags say
    """

    def __init__(self, name: str, options: Options, ctx: Context, device: str, config: dict):
        self.name, self.options, self.ctx, self.device = name, options, ctx, device
        self.dataset = Path(options.data_dir).name if options.data_dir else "drawn"
        self.started, self.metrics, self.groups = time.time(), {}, {}
        said = ("architecture", "num_images", "image_size", "repeats", "diffpure_start")
        threads = {"threads": torch.get_num_threads()}
        self.config = {key: getattr(options, key) for key in said} | threads | config
        parent = options.result_dir and Path(options.result_dir) / "benchmark" / self.dataset
        self.run = runs.open_run(parent, options, ctx) if parent else None

    def add(self, found: dict[str, dict], lines: Sequence[str], groups: dict | None = None) -> None:
        """Take rows in: print their lines, write the record.  groups  of the record's per_group"""
        self.metrics |= found
        self.groups |= groups or {}
        self.ctx.print("\n".join(lines))
        if self.run is None:
            return
        path = self.run.folder / record.FILE
        content = record.Record(
            "benchmark",
            self.name,
            self.dataset,
            "b" if self.options.data_dir else "all",
            0,
            self.config,
            self.metrics,
            self.groups,
            None,
            {"device": self.device},
            runs.provenance(self.started),
        )
        record.write(path, content)
