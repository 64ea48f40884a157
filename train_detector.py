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
Tested on photos of C and fakes of them that nobody disturbed; beside it on disrupted and on purified ones.
fake = 1, real = 0.

  python train_detector.py --condition clean --gan_weights 200000-G.ckpt
  python train_detector.py --condition purified --defense_model_type one-step --poison_rate 0.5 \\
      --gan_weights 200000-G.ckpt
  python train_detector.py --condition filtered --kept_names kept-rate0.5.txt --poison_rate 0.5 \\
      --gan_weights 200000-G.ckpt
  python train_detector.py --condition disrupted --detector mobilenet_v2 --weights imagenet --seeds 0 1 2 3 4
"""

import argparse
import json
import time
from pathlib import Path

import torch

from attacks.flags import add_attack_flags, attack_from_flags, refuse_target, short_name
from common import cli, distributed, files, runs, seeds
from common.cli import UserError
from evaluation.detector_output import make_record, save_pictures, write_scores
from faces.celeba import held_out
from faces.flags import add_data_flags, dataset_name, open_faces
from metrics import detection
from models.detector import network as networks
from models.detector.samples import FAKE, REAL, kept_filter, read_kept, sample_id
from models.detector.train import both_ways, features_of, score, steps_per_epoch, train
from models.flags import add_translator_flags, gan_name
from pipeline.training_set import TrainingSet
from purify.defences import DEFENCES, defence_folder
from purify.flags import add_purifier_flags
from purify.trained import default_translator, load_defence
from report import record
from report.kinds.detector_rows import FILTERED

CONDITIONS = ("clean", "disrupted", "purified", "filtered")


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="train_detector.py", description=__doc__)
    g = p.add_argument_group("what to train")
    g.add_argument("--condition", choices=CONDITIONS, required=True, help="what the photos of B went through")
    g.add_argument(
        "--poison_rate",
        type=cli.fraction,
        default=None,
        metavar="R",
        help="share of B's photos that are disrupted (default: 1; clean 0)",
    )
    g.add_argument(
        "--kept_names",
        default=None,
        metavar="FILE",
        help=(
            "samples of B to keep, a line each: 000001.jpg = photo and fake, real/000001.jpg,"
            " fake/000001.jpg; a line `# filter: NAME` above them names the filter; needed by filtered; with"
            " purified: drop, then purify"
        ),
    )
    g.add_argument("--detector", choices=networks.NAMES, default="mobilenet_v2", help="the network")
    g.add_argument(
        "--weights",
        default=None,
        metavar="FILE|imagenet|none",
        help=(
            "ImageNet weights of the base: .pth or safetensors; imagenet = torchvision's, downloaded if need"
            " be (default: torchvision's where it has them on this machine, else none)"
        ),
    )
    g.add_argument(
        "--base",
        choices=networks.BASES,
        default=None,
        help=(
            "frozen: the weights stay; finetuned: they are trained on (default: frozen, without weights"
            " scratch)"
        ),
    )
    g.add_argument(
        "--seeds",
        type=cli.natural_int,
        nargs="+",
        default=[0, 1, 2],
        metavar="S",
        help="one training each; --seed draws what they share: attack, who is disrupted, domains, validation",
    )
    g.add_argument(
        "--epochs",
        type=cli.positive_int,
        default=20,
        help="passes over the training set, rounded up to whole batches; fixed, nothing is selected",
    )
    g.add_argument("--lr", type=cli.positive_float, default=1e-3, help="Adam's learning rate in epoch 0")
    g.add_argument(
        "--lr_schedule",
        choices=["tutorial", "linear"],
        default=None,
        help=(
            "tutorial: a tenth from epoch 3, a hundredth from 16; linear: towards 0 (default: tutorial, from"
            " scratch linear)"
        ),
    )
    g.add_argument(
        "--data_augmentation",
        choices=["flip", "none"],
        default="flip",
        help="mirror half of the images in training",
    )
    add_data_flags(p, "b and images_c")
    g = p.add_argument_group("translator")
    add_translator_flags(
        g,
        "translator: official 200000-G.ckpt or 100000_nets_ema.ckpt, or ours; default: the newest finished"
        " training",
    )
    g.add_argument(
        "--adv_gan_weights",
        default=None,
        metavar="FILE",
        help="for adv-train, adv-train-blur and both, whose training fakes it makes",
    )
    g.add_argument(
        "--gan_training_data",
        default=None,
        help="what the translator was trained on, for the record (the official one: all of CelebA)",
    )
    add_purifier_flags(p, DEFENCES, default="none")
    g.add_argument(
        "--defense_noise",
        default=None,
        metavar="ATTACK",
        help="without --defense_weights: the disruption that the purifier was trained on",
    )
    add_attack_flags(p, through=False)
    g = cli.add_run_flags(p, batch_size=64, resume=True)
    g.add_argument(
        "--limit",
        type=cli.positive_int,
        default=None,
        metavar="N",
        help="use the first N photos of B, and of C",
    )
    g.add_argument(
        "--image_batch_size",
        type=cli.positive_int,
        default=16,
        help="photos at a time that are disrupted, purified and translated; 8 suits a CPU",
    )
    return resolve(p, p.parse_args(argv))


def resolve(p, args):
    """Fill in the defaults that depend on other flags and refuse what cannot be trained."""
    refuse_target(p, args)
    if args.condition == "purified" and args.defense_model_type == "none":
        p.error("--condition purified needs --defense_model_type: one-step, jpeg, ddpm, ...")
    if args.condition != "purified" and args.defense_model_type != "none":
        p.error(
            f"--condition {args.condition} purifies nothing; drop --defense_model_type"
            f" {args.defense_model_type}, or give --condition purified"
        )
    if args.condition == "filtered" and args.kept_names is None:
        p.error("--condition filtered needs --kept_names FILE, the samples that a filter has kept")
    if args.condition not in ("filtered", "purified") and args.kept_names is not None:
        p.error(
            f"--condition {args.condition} filters nothing; drop --kept_names, or give --condition filtered,"
            " or purified for both"
        )
    clean = args.condition == "clean"
    if args.poison_rate is None:
        args.poison_rate = 0.0 if clean else 1.0
    if clean and args.poison_rate:
        p.error(f"--condition clean with --poison_rate {args.poison_rate:g} is --condition disrupted")
    if args.condition == "disrupted" and not args.poison_rate:
        p.error("--condition disrupted with --poison_rate 0 is --condition clean")
    if args.attack_type == "none" and args.poison_rate:
        p.error(
            f"--attack_type none disrupts nothing; give --poison_rate 0 (found {args.poison_rate:g}), or an"
            " attack"
        )
    if args.batch_size < 2:
        p.error("--batch_size 1: batch normalisation needs two images or more")
    if len(set(args.seeds)) < len(args.seeds):
        p.error(f"--seeds {' '.join(map(str, args.seeds))}: each seed once")
    if args.resume not in (None, "auto") and len(args.seeds) > 1:
        p.error("--resume RUN continues one training: name its seed with --seeds, or give --resume alone")
    args.dataset = dataset_name(args)
    args.gan_weights = args.gan_weights or default_translator(args)
    weights = networks.find_imagenet_weights(args.detector, args.weights, download=not args.dry_run)
    args.weights = str(weights) if weights else None
    if args.base is None:
        args.base = "frozen" if weights else "scratch"
    if (args.base == "scratch") != (weights is None):
        p.error(
            f"--base {args.base} of {args.detector} "
            + (
                "takes no --weights; give --weights none"
                if weights
                else "needs ImageNet weights: --weights FILE or imagenet"
            )
        )
    args.lr_schedule = args.lr_schedule or ("linear" if args.base == "scratch" else "tutorial")
    return args


class Stage:
    """Split B as the condition has it, and the test sets of split C; all images from the shared caches."""

    def __init__(self, args, ctx):
        self.args, self.ctx = args, ctx
        self.purifier, self.defense_weights, self.standard, self.translator = load_defence(args, ctx)
        self.b, self.c = open_faces(args, "b"), open_faces(args, "c")
        shared = sorted(set(self.b.names) & set(self.c.names))
        if shared:
            raise UserError(
                f"{self.c.folder}: {len(shared)} of its photos are also in {self.b.folder} ({shared[0]},"
                " ...); a test set shares no photo with the training set: split again"
            )
        detection.check_test_size(len(self.c))
        self.attack = attack_from_flags(args, self.standard)
        self.scraped = TrainingSet(args, ctx, self.b, self.translator, self.attack, self.purifier)
        self.judged = TrainingSet(args, ctx, self.c, self.standard, self.attack, self.purifier)
        # a rate that comes to no photo is told before any work
        self.scraped.disrupted(args.poison_rate)
        self.kept = read_kept(args.kept_names, self.b.names) if args.kept_names else None
        self.kept_filter = kept_filter(args.kept_names) if args.kept_names else None
        self.parts = self._parts()

    def _parts(self):
        """(training, validation): sets of sample ids, whole photos apart.  Raises UserError where one of them
        lacks a class."""
        parts = []
        for names in held_out(self.b.names, self.args.seed):
            ids = {sample_id(n, label) for n in names for label in (REAL, FAKE)}
            parts.append(ids if self.kept is None else ids & self.kept)
            count = {c: sum(i.startswith(c + "/") for i in parts[-1]) for c in networks.CLASSES}
            if not all(count.values()):
                what = "training set" if len(parts) == 1 else "validation part of it"
                raise UserError(
                    f"{self.b.folder}: the {what} holds {count['real']} real photos and {count['fake']}"
                    " fakes, expected both; "
                    + (
                        f"{self.args.kept_names} keeps too little"
                        if self.kept is not None
                        else "give more photos, or a higher --limit"
                    )
                )
        return parts

    @property
    def attacked_key(self):
        return self.judged.attacked_key

    def training(self):
        """(training, validation): Samples of B.  Photos of which a filter has dropped both samples are not
        made."""
        only = (
            None
            if self.kept is None
            else {
                name
                for name in self.b.names
                if any(sample_id(name, label) in self.kept for label in (REAL, FAKE))
            }
        )
        whole = self.scraped.samples(self.args.poison_rate, self.args.condition == "purified", only)
        return [whole.subset([i for i, one in enumerate(whole.ids) if one in part]) for part in self.parts]

    def tests(self):
        """{"clean", "disrupted", "purified"}: Samples of C; the last two where there is an attack, and a
        purifier."""
        found = {"clean": self.judged.samples()}
        disrupted = float(self.args.attack_type != "none")
        if disrupted:
            found["disrupted"] = self.judged.samples(1.0)
        if self.purifier.name != "none":
            found["purified"] = self.judged.samples(disrupted, purified=True)
        return found


def condition_name(args, stage):
    """clean, disrupted or filtered; of purified photos the purifier's folder name, with +filtered where
    samples were dropped before."""
    if args.condition != "purified":
        return args.condition
    return defence_folder(args.defense_model_type, stage.purifier) + (FILTERED if args.kept_names else "")


def run_folder(args, stage, seed):
    """.../<detector>/<condition>/<attack>-eps<eps>[-rate<r>]/seed<s>, the base told where it is not the usual
    one."""
    usual = {
        "frozen": "",
        "finetuned": "-finetuned",
        "scratch": "" if args.detector == "meso4" else "-scratch",
    }
    name, rate = condition_name(args, stage), args.poison_rate
    attack = short_name(stage.attack, args) + (
        f"-rate{rate:g}" if args.condition != "clean" and rate != 1 else ""
    )
    return (
        Path(args.result_dir)
        / "detector"
        / args.dataset
        / gan_name(args)
        / (args.detector + usual[args.base])
        / name
        / attack
        / f"seed{seed}"
    )


def with_seed(args, seed):
    """The options of one training: what the others share, and its own seed."""
    mine = argparse.Namespace(**{k: v for k, v in vars(args).items() if k != "seeds"})
    mine.training_seed = seed
    return mine


def new_detector(args, seed, device):
    """The untrained detector of a seed, with the ImageNet weights that the flags name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(seed, "detector"))
        detector = networks.Detector(args.detector, args.image_size, args.base)
    return (networks.load_imagenet(detector, args.weights) if args.weights else detector).to(device)


def frozen_features(args, sets, tests, device):
    """{set: features} of a frozen base, which is the same for every seed: each image is put through it once,
    a training image and its mirror image."""
    if args.base != "frozen":
        return {}
    detector = new_detector(args, 0, device)
    found = {"training": both_ways(detector, sets[0], 256, device)}
    return found | {
        name: features_of(detector, samples, 256, device)
        for name, samples in {"validation": sets[1], **tests}.items()
    }


def train_one(args, stage, seed, run, sets, tests, features, ctx):
    """One training, its test and its record."""
    started, began = time.strftime("%Y-%m-%dT%H:%M:%S"), time.perf_counter()
    samples, validation = sets
    detector = new_detector(args, seed, ctx.device)
    steps = steps_per_epoch(len(samples), args.batch_size)
    how = argparse.Namespace(
        **vars(with_seed(args, seed)), num_steps=steps * args.epochs, save_step=steps, log_step=steps
    )
    how.seed = seed
    meta = {
        "kind": "detector",
        "options": detector.options,
        "image_size": args.image_size,
        "classes": list(networks.CLASSES),
        "condition": args.condition,
        "defense": args.defense_model_type,
        "trained_on": args.dataset,
        "epochs": args.epochs,
        "seed": seed,
    }
    train(how, run, ctx, detector, samples, validation, meta, features)
    seconds = time.perf_counter() - began
    found = {name: score(detector, s, 256, ctx.device, features.get(name)) for name, s in tests.items()}
    write_scores(run.folder / "scores.csv", tests, found)
    save_pictures(run, tests, found)
    made = make_record(
        args, condition_name(args, stage), stage, seed, run, sets, tests, found, seconds, started, ctx
    )
    record.write(run.folder / record.FILE, made)
    m = made.metrics
    ctx.print(
        f"seed {seed}: accuracy {m['accuracy']:.4f} {m['accuracy_ci']}, AUC {m['auc']:.4f} on clean photos of"
        f" C; record: {run.folder / record.FILE}"
    )


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        files.check_writable(args.result_dir)
        stage = Stage(args, ctx)
        if args.weights and Path(args.weights).exists() or not args.dry_run:
            new_detector(args, 0, ctx.device)  # weights of another network are told before any work
        args.defense_weights, args.ddpm_start_num = stage.defense_weights, stage.purifier.params.get("start")
        if args.kept_names:
            # another list under the same name is another training
            args.kept_sha256 = files.sha256(args.kept_names)
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.base == "scratch" and args.detector != "meso4":
            ctx.print(
                f"NOTE: {args.detector} is trained FROM SCRATCH, without ImageNet weights: expect a weak"
                " detector on few photos (--weights FILE, or --weights imagenet)"
            )
        if args.dry_run:
            return
        # a training belongs to one process; several processes share the seeds
        alone = distributed.Context(0, 1, ctx.device)
        mine = {
            seed: runs.open_run(run_folder(args, stage, seed), with_seed(args, seed), alone)
            for seed in ctx.shard(args.seeds)
        }
        for run in mine.values():
            if run.finished:
                print(f"this run is finished: {run.folder / record.FILE}", flush=True)
        if all(ctx.gather([run.finished for run in mine.values()])):
            return
        sets, tests = stage.training(), stage.tests()
        features = frozen_features(args, sets, tests, ctx.device)
        for seed, run in mine.items():
            if not run.finished:
                train_one(args, stage, seed, run, sets, tests, features, alone)


if __name__ == "__main__":
    cli.run(main)
