"""Find and drop poisoned training samples with De-Pois (Chen et al. 2021): a critic that learned from a small
trusted set says which samples are clean.

reads   what --dataset names, see below; critics that were trained before by the same options (others are
        trained now)
writes  <result_dir>/depois/<dataset>/train/<variant>/NNN/                                  a critic for each
        seed, see python -m models.depois.train
        <result_dir>/depois/<dataset>/examined/<poison>[-rate<r>]/seed<s>/NNN/
        {options.yaml,scores.csv,found.png,<method>/{kept.txt,record.json}}                 every sample's
        score and verdict, the names to keep

Two uses. (1) A test: put a poison into a share of clean samples, and see who finds it; De-Pois, its ablations
and the baselines that one would try first.
  python -m purify.depois --dataset digits
  python -m purify.depois --dataset mnist --data_root /path/to/mnist --poison label-flip blend \\
      --poison_rate 0.1 --methods de-pois loss
  python -m purify.depois --dataset detector --data_dir dataset/CelebA --gan_weights 200000-G.ckpt \\
      --poison disruption --poison_rate 0.5 --seeds 0 \
      --methods de-pois --kept_names kept-rate0.5.txt
The last writes what train_detector.py --condition filtered --poison_rate 0.5 --kept_names kept-rate0.5.txt
keeps of split B with half of its photos disrupted; give both the same flags of photos, translator and attack.

(2) A filter: samples of which nobody knows which are poisoned. Both folders hold a folder of images for each
class; nothing is measured.
  python -m purify.depois --dataset folder --input scraped --trusted known_good --seeds 0 \\
      --kept_names kept.txt

A sample is dropped where its score is at or below the boundary, which held-out trusted samples set: their
quantile --clean_quantile, the share of clean samples that is dropped wrongly, or their mean - z std
(published: z = 1, which would drop 16 % of clean samples if scores were Gaussian).
"""

import argparse
import json
import time
from functools import cached_property
from pathlib import Path

import numpy as np

from attacks import poison as poisons
from common import cli, distributed, files, runs
from common.cli import UserError
from metrics import finding
from models.depois.classifier import fit, in_batches
from models.depois.data import content
from models.depois.network import load_mimic
from models.depois.train import add_depois_flags, changed_losses, finished, resolve
from purify.depois import outliers
from purify.depois.examined import DetectorSet, add_task_flags, check_task_flags, data_of, task_of
from purify.depois.output import Verdict, boundary_of, taught_by, write_output

CRITICS = {
    "de-pois": ("full", "de-pois"),
    "de-pois-no-synthetic": ("no-synthetic", "de-pois without synthetic data"),
    "de-pois-no-authenticator": ("no-authenticator", "de-pois without authenticator"),
    # {flag: (variant of the training, name in tables)}
    "de-pois-published": ("published", "de-pois as published"),
}
METHODS = (*CRITICS, *outliers.METHODS)
BYPASSES = ("bypass", "bypass-replica")
POISONS = (*(name for name in poisons.POISONS if name != "bypass"), *BYPASSES, "disruption")
DEFAULTS = {
    "digits": ("label-flip", "noise", "blend", "gradient", "gan", "bypass"),
    "detector": ("disruption", "label-flip"),
    "folder": (),
}
DEFAULTS["mnist"] = (*DEFAULTS["digits"], "bypass-replica")
PLAY_NO_PART = {
    ("digits", "mnist"): (
        "data_dir",
        "cache_dir",
        "selected_attrs",
        "celeba_crop_size",
        "image_size",
        "skip_damaged",
        "input",
        "trusted",
    ),
    ("digits", "mnist", "folder"): (
        "gan_type",
        "gan_weights",
        "gan_style",
        "gan_name",
        "image_batch_size",
        "attack_type",
        "test_noise_var",
        "attack_steps",
        "attack_step_size",
        "attack_target",
        "attack_label",
        "attack_blur",
        "attack_weights",
        "perturbation",
        "perturbation_fit",
    ),
    ("folder",): ("trusted_share",),
}
OF_POISONS = {
    "noise_sigma": ("noise",),
    "blend_alpha": ("blend",),
    "gradient_eps": ("gradient",),
    "poison_steps": ("gradient", "gan"),
    "bypass_eps": BYPASSES,
    "bypass_mode": BYPASSES,
    "bypass_steps": BYPASSES,
}
BYPASS_SEED = 1000  # added to the seed of a critic that the attacker trains


def rate(text):
    """A share of the samples in [0, 1): of a set that is poisoned whole, nothing is left to keep."""
    value = cli.fraction(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, found {text!r}")
    return value


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="python -m purify.depois", description=__doc__)
    add_task_flags(p)
    g = p.add_argument_group("poison")
    g.add_argument(
        "--poison",
        nargs="+",
        choices=POISONS,
        default=None,
        metavar="NAME",
        help=(
            f"what is put into clean samples, each by itself: {', '.join(POISONS)}; bypass knows the critic,"
            " bypass-replica one of another seed that was trained on the same trusted images (default: mnist"
            " all but disruption, digits without bypass-replica too, detector disruption and label-flip,"
            " folder none)"
        ),
    )
    g.add_argument(
        "--poison_rate",
        type=rate,
        default=0.3,
        metavar="R",
        help="share of the samples that is poisoned; of a detector's photos for disruption",
    )
    g.add_argument(
        "--noise_sigma",
        type=cli.positive_float,
        default=0.6,
        help="of noise: standard deviation, [-1,1] units",
    )
    g.add_argument(
        "--blend_alpha", type=cli.fraction, default=0.5, help="of blend: weight of the other image, above 0"
    )
    g.add_argument(
        "--gradient_eps", type=cli.radius, default=0.6, help="of gradient: L-inf radius, [-1,1] units"
    )
    g.add_argument(
        "--poison_steps",
        type=cli.positive_int,
        default=None,
        metavar="N",
        help=(
            "training steps of the networks that gradient and gan are made with (default: gradient 1000, gan"
            " 800)"
        ),
    )
    g.add_argument(
        "--bypass_eps",
        type=cli.radius,
        default=0.3,
        help="of bypass: L-inf radius of each direction, [-1,1] units",
    )
    g.add_argument(
        "--bypass_mode",
        choices=["critic", "classifier", "critic-then-classifier", "classifier-then-critic"],
        default="critic",
        help="whose gradient signs a bypass follows, after a label flip",
    )
    g.add_argument(
        "--bypass_steps",
        type=cli.positive_int,
        default=10,
        help="of bypass: steps of each direction; published 1",
    )
    g = p.add_argument_group("finding")
    g.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=None,
        metavar="NAME",
        help=f"who looks for the poison: {', '.join(METHODS)} (default: all; of folder de-pois)",
    )
    g.add_argument(
        "--seeds",
        type=cli.natural_int,
        nargs="+",
        default=[0, 1, 2],
        metavar="S",
        help="one critic, one draw of the poison and one line of figures each",
    )
    g.add_argument(
        "--depois_weights",
        metavar="FILE",
        default=None,
        help=(
            "a critic that python -m models.depois.train made of the same trusted images; for de-pois and one"
            " seed (default: trained where needed)"
        ),
    )
    g.add_argument(
        "--boundary",
        choices=finding.RULES,
        default="quantile",
        help="quantile: --clean_quantile of held-out trusted scores; std: their mean - z std",
    )
    g.add_argument(
        "--clean_quantile",
        type=cli.fraction,
        default=0.05,
        help="of quantile: share of clean samples that is dropped",
    )
    g.add_argument(
        "--boundary_z", type=cli.natural_float, default=1.0, help="of std: the published code has 1"
    )
    g.add_argument(
        "--kept_names",
        metavar="FILE",
        default=None,
        help=(
            "write the names that the first method keeps here too, as train_detector.py reads them; for one"
            " poison and one seed"
        ),
    )
    g.add_argument(
        "--judge_steps",
        type=cli.natural_int,
        default=None,
        help=(
            "steps of the small classifiers that show what the samples teach before poisoning, poisoned, and"
            " kept; 0 = none (default: digits 100, else 200)"
        ),
    )
    add_depois_flags(p)
    cli.add_run_flags(p, batch_size=512, resume=True)
    args = p.parse_args(argv)
    check_task_flags(p, args)
    if args.judge_steps is None:
        args.judge_steps = 100 if args.dataset == "digits" else 200
    if args.methods is None:
        args.methods = ["de-pois"] if args.dataset == "folder" else list(METHODS)
    args.poison = list(DEFAULTS[args.dataset]) if args.poison is None else args.poison
    for name, values in (("seeds", args.seeds), ("poison", args.poison), ("methods", args.methods)):
        if len(set(values)) < len(values):
            p.error(f"--{name} {' '.join(map(str, values))}: each once")
    if "disruption" in args.poison and args.dataset != "detector":
        p.error(f"--poison disruption is of --dataset detector, found --dataset {args.dataset}")
    if "disruption" in args.poison and args.attack_type == "none":
        p.error("--poison disruption with --attack_type none disrupts nothing; name an attack")
    if not args.poison_rate and args.poison:
        args.poison = ["none"]
    if not args.blend_alpha:
        p.error("--blend_alpha 0 blends nothing; give a weight above 0")
    if args.boundary == "quantile" and not 0 < args.clean_quantile < 1:
        p.error(f"--clean_quantile {args.clean_quantile:g}: expected a share above 0 and below 1")
    if args.kept_names and (len(args.seeds) > 1 or len(args.poison) > 1):
        p.error(
            f"--kept_names is for one poison and one seed; found {len(args.poison)} poisons,"
            f" {len(args.seeds)} seeds: name one with --poison and --seeds"
        )
    if args.resume not in (None, "auto") and (len(args.seeds) > 1 or len(args.poison) > 1):
        p.error(
            "--resume RUN continues one examination: name its poison with --poison and its seed with --seeds,"
            " or give --resume alone"
        )
    if args.depois_weights and len(args.seeds) > 1:
        p.error(f"--depois_weights is the critic of one seed; found {len(args.seeds)}: name it with --seeds")
    return resolve(args)


class Examiner:
    """The finders of one seed: each trained or fitted once, whatever is examined."""

    def __init__(self, args, seed, ctx):
        self.args, self.seed, self.ctx, self.found = args, seed, ctx, {}
        self.detector = DetectorSet(args, ctx) if args.dataset == "detector" else None

    @cached_property
    def task(self):
        """Of a detector's samples all images, made where they are missing."""
        task = self.detector.task(self.seed) if self.detector else task_of(self.args, self.seed, self.ctx)
        finding.check_held(len(task.held), *boundary_of(self.args))
        return task

    @cached_property
    def data(self):
        return data_of(self.args, self.task)

    @cached_property
    def network(self):
        """The classifier of the trusted images that all baselines share, and the seconds of its training."""
        began = time.perf_counter()
        return fit(self.task.trusted, self.seed, device=self.ctx.device), time.perf_counter() - began

    @cached_property
    def taught(self):
        """What the examined samples teach before they are poisoned, see filter_output.taught_by; the same
        whatever the poison."""
        return taught_by(self.task.examined, self)

    def critic(self, variant="full", seed=None):
        """(critic, path of its weights), trained now where there is none.  seed: that of the attacker's own
        critic."""
        if self.args.depois_weights and variant == "full" and seed is None:
            path = Path(self.args.depois_weights)
            critic, meta = load_mimic(
                path, self.ctx.device, self.task.examined.shape, self.task.examined.classes
            )
            if meta.get("trusted_sha256") != self.data["trusted_sha256"]:
                raise UserError(
                    f"{path}: learned from other trusted images than those of seed {self.seed} here, perhaps"
                    " from those that set the boundary; give the same data, --trusted_share and seed as in"
                    " its training, or train one here"
                )
            return critic, path
        path = (
            finished(self.args, variant, self.seed if seed is None else seed, self.task, self.ctx, self.data)
            / "weights.safetensors"
        )
        return (
            load_mimic(path, self.ctx.device, self.task.examined.shape, self.task.examined.classes)[0],
            path,
        )

    def finder(self, method):
        """(scores of Labelled, params, seconds of training, path of weights or None), made once."""
        if method not in self.found:
            if method in outliers.METHODS:
                network, seconds = self.network
                began = time.perf_counter()
                made = outliers.build(method, self.task.trusted, self.seed, self.ctx.device, network)
                self.found[method] = made.scores, made.params, seconds + time.perf_counter() - began, None
            else:
                critic, path = self.critic(CRITICS[method][0])

                def scores(labelled):
                    return (
                        in_batches(critic, labelled, self.ctx.device, self.args.batch_size)
                        .numpy()
                        .astype(np.float64)
                    )

                self.found[method] = scores, changed_losses(self.args), trained_seconds(path), path
        return self.found[method]

    def poison(self, name):
        """(attacks.poison.Poison, rows that it hits) of the examined set."""
        args, task = self.args, self.task
        if name == "disruption":
            return self.detector.disruption(args.poison_rate)
        rows = poisons.poisoned_rows(task.examined, args.poison_rate if name != "none" else 0.0, self.seed)
        if name == "none":
            return None, rows
        options = {
            "sigma": args.noise_sigma,
            "alpha": args.blend_alpha,
            "eps": args.gradient_eps,
            "device": self.ctx.device,
        }
        if args.poison_steps:
            options |= {"victim_steps": args.poison_steps, "gan_steps": args.poison_steps}
        if name in BYPASSES:
            critic = self.critic()[0] if name == "bypass" else self.critic(seed=self.seed + BYPASS_SEED)[0]
            options |= {
                "critic": critic,
                "classifier": self.network[0],
                "mode": args.bypass_mode,
                "eps": args.bypass_eps,
                "steps": args.bypass_steps,
            }
        return poisons.build("bypass" if name in BYPASSES else name, **options), rows

    def examine(self, poisoned):
        """{method: Verdict} of Labelled samples.  Raises UserError for scores that are NaN."""
        args, made = self.args, {}
        for method in args.methods:
            scores, params, seconds, weights = self.finder(method)
            began = time.perf_counter()
            of_held, of_examined = scores(self.task.held), scores(poisoned)
            each = (time.perf_counter() - began) / (len(of_held) + len(of_examined))
            try:
                threshold = finding.boundary(of_held, *boundary_of(args))
                finding.checked_scores(of_examined)
            except UserError as e:
                raise UserError(f"{method}: {e}") from e
            made[method] = Verdict(
                CRITICS[method][1] if method in CRITICS else method,
                params,
                of_examined,
                threshold,
                seconds,
                each,
                weights,
            )
        return made


def trained_seconds(weights):
    """Seconds of the training that made the weights, all its parts together; None where its log is not beside
    them."""
    run = runs.Run(weights.parent, weights.name)
    return run.logged_seconds() if (run.folder / "log.jsonl").is_file() else None


def folder_of(args, name, seed):
    """.../examined/<poison>[-rate<r>]/seed<s>"""
    kind = name if name in ("none", "unknown") else f"{name}-rate{args.poison_rate:g}"
    return Path(args.result_dir) / "depois" / args.dataset_name / "examined" / kind / f"seed{seed}"


def examined(args, name, examiner):
    """The options of one examination: its poison, its seed, what all share and plays a part, and what is
    examined where a folder may have changed."""
    left_out = {"seeds", "poison", "kept_names", "result_dir"}
    left_out |= {flag for kinds, flags in PLAY_NO_PART.items() if args.dataset in kinds for flag in flags}
    left_out |= {flag for flag, names in OF_POISONS.items() if name not in names}
    mine = argparse.Namespace(**{k: v for k, v in vars(args).items() if k not in left_out}, poison=name)
    mine.seed, mine.data_seed = examiner.seed, args.seed
    mine.examined_sha256 = examiner.data["trusted_sha256"][:16] + content(examiner.task.examined)[:16]
    return mine


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        files.check_writable(args.result_dir)
        if ctx.world > 1:
            raise UserError("De-Pois runs in one process; start the command without torchrun (GPUS=1)")
        first = Examiner(args, args.seeds[0], ctx)
        if first.detector is None or not args.dry_run:
            first.data  # what cannot be examined is told before anything is trained
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        if args.kept_names:
            files.check_writable(Path(args.kept_names).parent)
        for seed in args.seeds:
            examiner = first if seed == args.seeds[0] else Examiner(args, seed, ctx)
            for name in args.poison or ["unknown"]:
                run = runs.open_run(
                    folder_of(args, name, seed), examined(args, name, examiner), ctx, "scores.csv"
                )
                if run.finished:
                    ctx.print(f"this run is finished: {run.folder}")
                else:
                    poison, rows = (
                        (None, np.zeros(0, np.int64)) if name == "unknown" else examiner.poison(name)
                    )
                    poisoned = (
                        examiner.task.examined
                        if poison is None
                        else poison(examiner.task.examined, rows, seed)
                    )
                    write_output(
                        run, args, name, poison, rows, poisoned, examiner, examiner.examine(poisoned), ctx
                    )
                if args.kept_names:
                    files.make_folder(Path(args.kept_names).parent)
                    files.write_atomic(
                        args.kept_names, (run.folder / args.methods[0] / "kept.txt").read_text()
                    )
                    ctx.print(f"names to keep: {args.kept_names}")


if __name__ == "__main__":
    cli.run(main)
