"""What tests of trainers look at in a run folder, and how they kill a training."""

import json

import pytest
import torch

from common import checkpoint


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def parts(run):
    return checkpoint.load_state(run / "last.pt")["parts"]


def same(a, b):
    """Nested dicts and lists of equal tensors and values."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if torch.is_tensor(a) else a == b


def killed_at(step, monkeypatch, trainer, argv):
    """A training of the module `trainer` that dies in this step, counted from 0."""
    call = trainer.Step.__call__

    def dies(self, i):
        if i == step:
            raise MemoryError
        return call(self, i)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Step, "__call__", dies)
        with pytest.raises(MemoryError):
            trainer.main(argv)
