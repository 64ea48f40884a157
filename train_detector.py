"""Train detectors of deepfakes on split B as scraped, disrupted or purified, and test them on clean photos of
split C.

reads   <data_dir>/images_b/, <data_dir>/images_c/  (made by split_dataset.py), a translator, and the
        defence's weights
writes  <result_dir>/detector/<dataset>/<gan>/<detector>/<condition>/<attack>-eps<eps>[-rate<r>]/seed<s>/NNN/
        {options.yaml,log.jsonl,last.pt,weights.safetensors,scores.csv,curves.png,roc.png,predictions.png,record.json}
        <result_dir>/{attacked,purified,fakes}/<dataset>/   caches that all runs share

A training set is the photos of B as a detector's maker has them, and one fake of each in a random domain that
changes its label:
  clean      nobody disrupted them
  disrupted  a share --poison_rate carries a disruption, so their fakes are broken
  purified   the same photos, all of them purified before fakes are made (nobody knows which are disrupted);
             rate 0 is the control
  filtered   the disrupted set without the samples that --kept_names does not list
  purified with --kept_names: both. Samples are dropped as scraped, then the photos of the others are purified
  and their fakes made again
With --training_fakes self-blended the fakes of B are its photos, as the condition has them, each blended into
itself: no translator is asked, and no fake is broken.
Tested on photos of C and fakes of them that nobody disturbed; beside it on disrupted and on purified ones.
fake = 1, real = 0.

  python train_detector.py --condition clean --gan_weights 200000-G.ckpt
  python train_detector.py --condition purified --defense_model_type one-step --poison_rate 0.5 \\
      --gan_weights 200000-G.ckpt
  python train_detector.py --condition filtered --kept_names kept-rate0.5.txt --poison_rate 0.5 \\
      --gan_weights 200000-G.ckpt
  python train_detector.py --condition disrupted --detector mobilenet_v2 --weights imagenet --seeds 0 1 2 3 4
  python train_detector.py --condition disrupted --gan_weights 200000-G.ckpt --scores_name xception \\
      --scores clean.csv disrupted.csv
"""

import common  # noqa: F401  isort: skip  Ctrl-C in the imports that follow

import json
import time
from collections.abc import Sequence, Sized
from pathlib import Path

import numpy as np
import torch

from common import cli, distributed, files, runs, seeds
from common.distributed import Context
from evaluation.detector_flags import Options, add_flags, resolve
from evaluation.detector_output import make_record, save_pictures, write_scores
from evaluation.detector_stage import DetectorOptions, Stage, condition_name, of_seed, run_folder
from models.detector import imagenet
from models.detector import network as networks
from models.detector.outside import Row, matched, read_scores
from models.detector.samples import Samples
from models.detector.train import both_ways, features_of, score, steps_per_epoch, train
from report import record


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="train_detector.py", description=__doc__)
    add_flags(p)
    return resolve(p, p.parse_args(argv))


def new_detector(options: DetectorOptions, seed: int, device: torch.device) -> networks.Detector:
    """The untrained detector of a seed, with the ImageNet weights that the flags name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(seed, "detector"))
        detector = networks.Detector(options.detector, options.image_size, options.base)
    return (imagenet.load_imagenet(detector, options.weights) if options.weights else detector).to(device)


def frozen_features(
    options: DetectorOptions, sets: list[Samples], tests: dict[str, Samples], device: torch.device
) -> dict[str, torch.Tensor]:
    """{set: features} of a frozen base, which is the same for every seed: each image is put through it once,
    a training image and its mirror image."""
    if options.base != "frozen":
        return {}
    detector = new_detector(options, 0, device)
    return {"training": both_ways(detector, sets[0], 256, device)} | {
        name: features_of(detector, samples, 256, device)
        for name, samples in {"validation": sets[1], **tests}.items()
    }


def train_one(
    options: Options,
    stage: Stage,
    seed: int,
    run: runs.Run,
    sets: list[Samples],
    tests: dict[str, Samples],
    features: dict[str, torch.Tensor],
    ctx: Context,
    kept: dict,
) -> None:
    """One training, its test and its record.

    Args: options  Options;  stage  Stage;  run  of this seed;  sets  (training, validation) and tests  {test
                   set: Samples};  features  of frozen_features;  kept  options of the filter's list
    """
    started = time.time()
    samples, validation = sets
    detector = new_detector(options, seed, ctx.device)
    steps = steps_per_epoch(len(samples), options.batch_size)
    training = of_seed(
        options, seed, **kept, num_steps=steps * options.epochs, save_step=steps, log_step=steps, seed=seed
    )
    meta = {
        "kind": "detector",
        "options": detector.options,
        "image_size": options.image_size,
        "classes": list(networks.CLASSES),
        "condition": options.condition,
        "defense": options.defense_model_type,
        "training_fakes": options.training_fakes,
        "trained_on": options.dataset,
        "epochs": options.epochs,
        "seed": seed,
    }
    train(training, run, ctx, detector, samples, validation, meta, features)
    seconds = time.time() - started
    p = {name: score(detector, s, 256, ctx.device, features.get(name)) for name, s in tests.items()}
    conclude(options, stage, seed, run, sets, tests, p, seconds, started, ctx)


def take_scores(options: Options, stage: Stage, rows: list[Row], ctx: Context, kept: dict) -> None:
    """In place of a training and its test: the record of a detector that was trained elsewhere, of the
    `rows` of its scores files."""
    tests, started, (seed,) = stage.tests(), time.time(), options.seeds
    p = matched(rows, tests)
    if ctx.is_main:
        alone = distributed.Context(0, 1, ctx.device)
        run = runs.open_run(run_folder(options, stage, seed), of_seed(options, seed, **kept), alone)
        if run.finished:
            return print(f"this run is finished: {run.folder / record.FILE}", flush=True)
        scored = {name: tests[name] for name in p}
        conclude(options, stage, seed, run, stage.parts, scored, p, 0.0, started, alone)


def conclude(
    options: Options,
    stage: Stage,
    seed: int,
    run: runs.Run,
    sets: Sequence[Sized],
    tests: dict[str, Samples],
    p: dict[str, np.ndarray],
    seconds: float,
    started: float,
    ctx: Context,
) -> None:
    """Write scores, pictures and record of one training; arguments as make_record."""
    write_scores(run.folder / "scores.csv", tests, p)
    save_pictures(run, tests, p)
    name = condition_name(options, stage.purifier)
    result = make_record(options, name, stage, seed, run, sets, tests, p, seconds, started, ctx)
    record.write(run.folder / record.FILE, result)
    m = result.metrics
    ctx.print(
        f"seed {seed}: accuracy {m['accuracy']:.4f} {m['accuracy_ci']}, AUC {m['auc']:.4f} on clean photos of"
        f" C; record: {run.folder / record.FILE}"
    )


def to_be_loaded(options: Options) -> bool:
    """Whether the weights are torchvision's own, which a dry run does not load from their address."""
    if not options.weights or Path(options.weights).exists():
        return False
    return Path(options.weights) == imagenet.hub_file(options.detector)[0]


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        files.check_writable(options.result_dir)
        rows = read_scores(options.scores) if options.scores else None
        stage = Stage(options, ctx)
        if rows is None and (options.weights or not options.dry_run) and not to_be_loaded(options):
            new_detector(options, 0, ctx.device)  # weights of another network are told before any work
        options = stage.options
        kept = {"kept_sha256": stage.kept_sha256} if options.kept_names else {}
        if rows is not None:
            kept["scores_sha256"] = [files.sha256(path) for path in options.scores]
        ctx.print(json.dumps(runs.options_of(options) | kept, indent=2))
        if options.base == "scratch" and networks.takes_imagenet(options.detector):
            ctx.print(
                f"NOTE: {options.detector} is trained FROM SCRATCH, without ImageNet weights: expect a weak"
                " detector on few photos (--weights FILE, or --weights imagenet)"
            )
        if options.dry_run:
            return
        if rows is not None:
            return take_scores(options, stage, rows, ctx, kept)
        # a training belongs to one process; several processes share the seeds
        alone = distributed.Context(0, 1, ctx.device)
        mine = {
            seed: runs.open_run(run_folder(options, stage, seed), of_seed(options, seed, **kept), alone)
            for seed in ctx.shard(options.seeds)
        }
        for run in mine.values():
            if run.finished:
                print(f"this run is finished: {run.folder / record.FILE}", flush=True)
        if all(ctx.gather([run.finished for run in mine.values()])):
            return
        sets, tests = stage.training(), stage.tests()
        features = frozen_features(options, sets, tests, ctx.device)
        for seed, run in mine.items():
            if not run.finished:
                train_one(options, stage, seed, run, sets, tests, features, alone, kept)


if __name__ == "__main__":
    cli.run(main)
