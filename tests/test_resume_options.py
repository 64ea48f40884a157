"""--resume continues a run of the same options: each that changes results makes another run, one by one."""

import dataclasses

import pytest
import torch

import test_defense
import train_defense
import train_detector
from common import runs
from common.cli import UserError
from common.distributed import Context

CTX = Context(0, 1, torch.device("cpu"))
# results are equal whatever they are
FREE = {"resume", "dry_run", "config", "debug", "num_workers", "device", "compile", "cache_dir"}
OPTIONS = {
    "train_defense": train_defense.parse_args(["--defense_model_type", "ddpm"]),
    "test_defense": test_defense.parse_args(["--defense_model_type", "jpeg-75", "--gan_weights", "g.pt"])[0],
    "train_detector": train_detector.parse_args(["--condition", "clean", "--gan_weights", "g.pt"]),
}


def another(value):
    """A value of an option that is not this one."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return [*value, "x"] if isinstance(value, (list, tuple)) else f"{value}-x"


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_that_changes_results_makes_another_run(tmp_path, command):
    options = dataclasses.replace(OPTIONS[command], resume=None)
    first = runs.open_run(tmp_path, options, CTX).folder
    names = set(vars(options))
    assert FREE - {"cache_dir"} <= names and {"seed", "image_size", "data_dir", "precision"} <= names
    for name in sorted(names - FREE):
        changed = dataclasses.replace(options, **{name: another(getattr(options, name))}, resume=str(first))
        with pytest.raises(UserError, match=rf"has other options \({name}: "):
            runs.open_run(tmp_path, changed, CTX)
    for name in sorted(names & FREE - {"resume", "compile"}):
        changed = dataclasses.replace(options, **{name: another(getattr(options, name))}, resume=str(first))
        assert runs.open_run(tmp_path, changed, CTX).folder == first
    seed = dataclasses.replace(options, seed=options.seed + 1, resume="auto")
    assert runs.open_run(tmp_path, seed, CTX).folder != first
    assert runs.open_run(tmp_path, dataclasses.replace(options, resume="auto"), CTX).folder == first
