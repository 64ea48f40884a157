"""The steps of the project's own trainings, taken out of them: what is timed is the step that a training
runs, with the flags that its command is given."""

import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import attacks
from common import seeds, training
from common.distributed import Context
from common.runs import Run
from evaluation.detector_stage import of_seed
from faces.celeba import FaceFolder
from models.detector import train as detector_trainer
from models.detector.network import Detector
from models.detector.samples import Samples
from models.stargan import step as stargan_step
from models.stargan import train as stargan_trainer
from purify import training as purifier_training

ROOT = Path(__file__).resolve().parents[2]
Step = Callable[[int], dict]


class _Taken(Exception):
    """Carries the step that a training was about to repeat."""


def take_step(train: Callable[..., object], *args: Any, **kwargs: Any) -> Step:
    """The step that `train(*args, **kwargs)` hands to common.training.loop; the training goes no further."""

    def take(run, options, ctx, parts, step, *rest, **more):
        raise _Taken(step)

    with mock.patch.object(training, "loop", take):
        try:
            train(*args, **kwargs)
        except _Taken as taken:
            return taken.args[0]
    raise RuntimeError(f"{train}: has no loop")


def of_script(name: str, function: str) -> Callable:
    """A function of a script at the top, which no room imports: its flags are read as they are typed."""
    return runpy.run_path(str(ROOT / name))[function]


def parse_script(name: str, words: Sequence[str]) -> Any:
    """The options that a script at the top, train_defense.py for example, makes of these words."""
    return of_script(name, "parse_args")(list(words))


def defense_step(
    words: Sequence[str], faces: FaceFolder, translator: object, ctx: Context, folder: Path
) -> Step:
    """The step of `train_defense.py words`.  folder: for what the training would write, scratch."""
    options = parse_script("train_defense.py", [*words, "--result_dir", str(folder)])
    train = purifier_training.prepare(options, translator, ctx.device)
    # one photo to validate on: an attack on it is part of the set-up
    photos = purifier_training.Photos(faces, faces.subset(faces.names[:1]))
    return take_step(train, Run(folder, "weights.safetensors"), ctx, photos)


def stargan_training_step(words: Sequence[str], faces: FaceFolder, ctx: Context, folder: Path) -> Step:
    """The step of `python -m models.stargan.train words`, a models.stargan.step.Step."""
    options = stargan_trainer.parse_args([*words, "--result_dir", str(folder)])
    disrupt = None
    if options.adversarial != "none":
        disrupt = stargan_trainer.training_attack(options, attacks.build)
    return take_step(
        stargan_step.train,
        options,
        Run(folder, "weights.safetensors"),
        ctx,
        faces,
        stargan_trainer.initial_networks(options),
        {"kind": "stargan-generator"},
        disrupt=disrupt,
        both=options.adversarial == "both",
    )


def detector_step(words: Sequence[str], faces: FaceFolder, ctx: Context, folder: Path) -> Step:
    """The step of `train_detector.py words` on photos of `faces`, every other one called a fake."""
    words = [*words, "--result_dir", str(folder), "--weights", "none"]
    options = parse_script("train_detector.py", [*words, "--condition", "clean", "--gan_weights", "none"])
    seed = options.seeds[0]
    steps = options.epochs * detector_trainer.steps_per_epoch(len(faces), options.batch_size)
    # an epoch has no end here: what comes after it is no part of a step
    long = {"num_steps": steps, "save_step": 1 << 30, "log_step": 1 << 30, "seed": seed}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(seed, "detector"))
        detector = Detector(options.detector, options.image_size, options.base).to(ctx.device)
    n = len(faces)
    samples = Samples(faces.names, [None] * n, torch.arange(n) % 2, faces.load(range(n)))
    return take_step(
        detector_trainer.train,
        of_seed(options, seed, **long),
        Run(folder, "record.json"),
        ctx,
        detector,
        samples,
        samples.subset([0]),
        {},
    )
