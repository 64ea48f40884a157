"""Trainings of three steps at 16 pixels, for the tests of `python -m models.diffusion.train`."""

from functools import partial, partialmethod

import pytest

from common import cli
from metrics import fid
from models.diffusion import check, train
from models.diffusion.backdoor import Backdoor, PhotoBackdoor

train_small = partial(train.main, load_extractor=fid.load_extractor, distance_of=fid.Distance)
BADDIFFUSION = ["--backdoor", "baddiffusion", "--trigger", "box", "--target", "hat", "--poison_rate", "0.4"]
SMALL = [
    "--image_size",
    "16",
    "--num_steps",
    "3",
    "--save_step",
    "2",
    "--log_step",
    "1",
    "--batch_size",
    "4",
    "--check_samples",
    "4",
    "--num_workers",
    "0",
    "--device",
    "cpu",
]
LEVEL = ["--channel_mult", "1"]  # which a training that goes on from weights must not say


def flags(data, results, *words):
    return [
        "--data_dir",
        str(data),
        "--dataset",
        "drawn",
        "--result_dir",
        str(results),
        *SMALL,
        *([] if "--init_from" in words else LEVEL),
        *words,
    ]


def folder(results, name="baddiffusion-box-hat-rate0.4-16-ch32x1", number=0):
    return results / "diffusion" / "drawn" / "train" / name / f"{number:03d}"


def stopped(argv, capsys):
    """(exit code, what was said on stderr) of the command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.run(train_small, argv)
    return left.value.code, capsys.readouterr().err


def shorten(patch: pytest.MonkeyPatch):
    """Samplers of 5 steps in place of 50."""
    patch.setattr(check, "sample", partial(check.sample, steps=5))
    for kind in (Backdoor, PhotoBackdoor):
        patch.setattr(kind, "answer", partialmethod(kind.answer, steps=5))
