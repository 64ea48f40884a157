"""Test defences: disrupt split B, purify it, make the fakes, measure. Several share one process, one attack
and the fakes of the photos and of the disrupted photos; each has a run folder of its own.

reads   <data_dir>/images_b/              (made by split_dataset.py), a translator, and the defence's weights
writes  <result_dir>/<defense+params>/<dataset>/<gan>/<defense_noise>/<attack>-eps<eps>/NNN/
                                              {options.yaml,grid.png,images/,record.json}
        <result_dir>/{attacked,purified}/<dataset>/   caches that all defences share
        <weights>.terd.safetensors                    with --scan: the verdict on the purifier's weights

  python test_defense.py --defense_model_type jpeg --gan_weights 200000-G.ckpt
  python test_defense.py --defense_model_type none jpeg-75 blur-1.5 ddpm-20 one-step \\
      --gan_weights 200000-G.ckpt --defense_weights one-step=W.safetensors
  python test_defense.py --defense_model_type ddpm --ddpm_start_num 20 --gan_weights 200000-G.ckpt \\
      --attack_target clean
  python test_defense.py --defense_model_type diffpure --gan_weights 200000-G.ckpt \\
      --defense_weights downloaded.pt --scan
  python test_defense.py --defense_model_type one-step --gan_weights 200000-G.ckpt \\
      --attack_through one-step --gradient full --eot 4
"""

import dataclasses
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import purify
from attacks.flags import AttackOptions, ThroughOptions, add_attack_flags, attack_config
from common import cli, distributed, files, runs
from common.distributed import Context
from common.errors import UserError
from evaluation.defense_output import line, summary
from faces.celeba import FaceFolder
from faces.flags import DataOptions, add_data_flags, dataset_name, open_judged
from metrics.fid import Extractor, load_extractor
from metrics.score import Score, score_all
from models.flags import TranslatorOptions, add_translator_flags, gan_name
from pipeline.attacked import AttackedPhotos
from pipeline.pictures import Pictures
from purify.defences import DEFENCES
from purify.flags import PurifierOptions, add_purifier_flags, options_of, resolve_defences
from purify.terd.screen import Screen, add_scan_flags, scan_of
from purify.terd.verdict import Verdict
from purify.trained import default_translator
from purify.trial import Purified, Trial, load_trial
from report import record


@dataclass(frozen=True, kw_only=True)
class Options(cli.RunOptions, DataOptions, TranslatorOptions, PurifierOptions, AttackOptions, ThroughOptions):
    """What the test of one defence works with."""

    split: str
    adv_gan_weights: str | None
    gan_training_data: str | None
    inception_weights: str | None
    features: str
    defense_noise: str | None
    scan: str | None
    test_noise_var: float
    attack_on: str
    attack_through: str | None
    save_image: bool
    batch_size: int
    precision: str
    limit: int | None
    resume: str | None


def parse_args(argv: list[str] | None = None) -> list[Options]:
    """The options of each defence, as if it was the only one.  Raises UserError."""
    p = cli.ArgumentParser(prog="test_defense.py", description=__doc__)
    g = add_data_flags(p, "b")
    g.add_argument(
        "--split",
        choices=["a", "b", "c"],
        default="b",
        help="which photos; of a the held-out part: parameters are tuned there, results reported on b",
    )
    g = p.add_argument_group("translator and features")
    add_translator_flags(
        g,
        "translator: official 200000-G.ckpt or 100000_nets_ema.ckpt, or ours; default: the newest finished"
        " training",
    )
    g.add_argument(
        "--adv_gan_weights",
        default=None,
        metavar="FILE",
        help="for adv-train, adv-train-blur and both; default: the newest finished training",
    )
    g.add_argument(
        "--gan_training_data",
        default=None,
        help="what the translator was trained on, for the record (the official one: all of CelebA)",
    )
    g.add_argument(
        "--inception_weights",
        default=None,
        metavar="FILE",
        help="standard Inception weights; with them FID and KID are measured",
    )
    g.add_argument(
        "--features",
        choices=["auto", "none"],
        default="auto",
        help="none: measure no distance between sets of fakes",
    )
    add_purifier_flags(p, DEFENCES, several=True)
    g.add_argument(
        "--defense_noise",
        default=None,
        metavar="ATTACK",
        help=(
            "without --defense_weights: the disruption that the purifier was trained on, as in its run folder"
            " (none, pgd, pgd-eps0.05); default: any"
        ),
    )
    add_scan_flags(p)
    add_attack_flags(p)
    g = p.add_argument_group("attack on the defence")
    g.add_argument(
        "--attack_on",
        choices=["standard", "self"],
        default="standard",
        help="adversarially trained translators: attacked by the shared images, or white-box themselves",
    )
    g.add_argument(
        "--attack_through",
        choices=sorted(purify.PURIFIERS),
        default=None,
        help="the attacker knows this purifier and attacks through it",
    )
    g = p.add_argument_group("output")
    g.add_argument(
        "--save_image",
        action="store_true",
        help="write every photo, disrupted, purified and all fakes to images/",
    )
    cli.add_run_flags(p, batch_size=32, limit=True, resume=True)
    parsed = p.parse_args(argv)
    defences = resolve_defences(parsed)
    if len(defences) > 1 and parsed.resume not in (None, "auto"):
        raise UserError(
            f"--resume {parsed.resume} names one run, and there are several defences: give --resume alone"
        )
    for name in (defence["defense_model_type"] for defence in defences):
        if parsed.attack_on == "self" and DEFENCES[name].translator == "standard":
            p.error(
                f"--attack_on self is for adversarially trained translators; {name} uses the standard one"
            )
    every = [options_of(Options, parsed, defence, dataset=dataset_name(parsed)) for defence in defences]
    first = every[0]
    gan_weights = parsed.gan_weights or default_translator(
        first.result_dir, first.dataset, first.gan_type, first.data_dir, first.image_size
    )
    return [dataclasses.replace(options, gan_weights=gan_weights) for options in every]


@dataclass(frozen=True)
class Judged:
    """A defence on its way to a record: its open run, what a scan said, its photos and their score."""

    trial: Trial
    run: runs.Run
    scan: tuple[Verdict | None, Screen | None]
    photos: Purified
    carry: dict[str, list[str]] | None
    score: Score


def open_trials(trials: list[Trial], ctx: Context) -> list[tuple[Trial, runs.Run, tuple]]:
    """Scan the purifiers as asked, then claim a run folder for each defence that is not finished."""
    scans = [scan_of(trial.options, trial.purifier, ctx) for trial in trials]
    opened = []
    for trial, scan in zip(trials, scans, strict=True):
        run = runs.open_run(trial.folder, trial.options, ctx)
        if run.finished:
            ctx.print(f"this run is finished: {run.folder / record.FILE}")
        else:
            opened.append((trial, run, scan))
    return opened


def judge(
    opened: Sequence[tuple[Trial, runs.Run, tuple]],
    attacked: AttackedPhotos,
    faces: FaceFolder,
    extractor: Extractor | None,
    ctx: Context,
) -> list[record.Record]:
    """Disrupt, purify and score the photos for defences that meet the same disruption; write their records.

    Args: opened  of open_trials;  attacked  pipeline.attacked.AttackedPhotos that they meet
    """
    size, names = opened[0][0].options.batch_size, faces.names
    began = time.perf_counter()
    disrupted = attacked.fill(ctx, size)
    attack_seconds = (time.perf_counter() - began) / disrupted if disrupted else None
    shared: dict[int, Score] = {}
    every = []
    for trial, run, scan in opened:
        photos = trial.purified(attacked, faces)
        photos.fill(names, ctx, size)
        carry = photos.carriers(scan[1], names) if scan[1] else None
        if carry:
            ctx.print(
                "photos that carry the trigger of the purifier's backdoor: "
                + ", ".join(f"{len(some)} of {len(names)} {kind}" for kind, some in carry.items())
            )
        every.append(Judged(trial, run, scan, photos, carry, trial.score(extractor, shared)))
    score_all(
        [judged.score for judged in every],
        faces,
        [cached.floats for cached in attacked.caches],
        [([s.floats for s in j.photos.disrupted], j.photos.clean.floats) for j in every],
        ctx,
        size,
    )
    records = []
    for judged in every:
        records.append(conclude(judged, attacked, faces, extractor, attack_seconds, ctx))
        attack_seconds = None  # paid by the first
    return [result for result in records if result is not None]


def conclude(
    judged: Judged,
    attacked: AttackedPhotos,
    faces: FaceFolder,
    extractor: Extractor | None,
    attack_seconds: float | None,
    ctx: Context,
) -> record.Record | None:
    """Write grid.png and record.json of a defence; None on every process but the first."""
    trial, run, score = judged.trial, judged.run, judged.score
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics, groups, num_images, num_pairs = score.result(ctx)
    for text in sorted({str(w.message) for w in caught}):
        ctx.print(f"note: {text}")
    if not ctx.is_main:
        return None
    options = trial.options

    def of(sources):
        return lambda k: sources[k if len(sources) > 1 else 0].floats

    kinds = {"disrupted": of(attacked.caches), "purified": of(judged.photos.disrupted)}
    own_domains = options.attack_label == "target"
    pictures = Pictures(kinds, score.fakes, score.translator, options.selected_attrs, own_domains)
    pictures.save(run.folder, faces, ctx.device, every=options.save_image)
    seconds, nfe = judged.photos.disrupted[0].cost()
    cost = {
        "nfe": nfe,
        "attack_s_per_image": attack_seconds,
        "purify_s_per_image": seconds,
        "peak_memory_mb": distributed.peak_memory_mb(ctx.device),
        "device": str(ctx.device),
    }
    counts = {"num_images": num_images, "num_pairs": num_pairs}
    result = record.Record(
        "defense",
        trial.name,
        options.dataset,
        options.split,
        options.seed,
        config_of(judged, counts, faces),
        metrics,
        groups,
        extractor.description if extractor else None,
        cost,
        runs.provenance(
            run.started,
            gan_sha256=trial.translator.sha256,
            defense_sha256=trial.purifier.sha256,
            attacked_key=attacked.key,
        ),
    )
    record.write(run.folder / record.FILE, result)
    ctx.print(summary(result))
    ctx.print(f"record: {run.folder / record.FILE}")
    return result


def config_of(judged: Judged, counts: dict[str, int], faces: FaceFolder) -> dict:
    """What the record says was run."""
    trial, options = judged.trial, judged.trial.options
    verdict = judged.scan[0]
    through = options.attack_through
    return {
        "gan": gan_name(options),
        "gan_type": options.gan_type,
        "gan_style": options.gan_style and Path(options.gan_style).name,
        "defense": options.defense_model_type,
        "defense_params": {**trial.purifier.params, **judged.photos.disrupted[0].measured()},
        "defense_noise": trial.noise,
        **attack_config(options, trial.attack),
        "attack_on": options.attack_on,
        "attack_through": through,
        "attack_gradient": options.gradient if through else None,
        "attack_eot": options.eot if through else None,
        **counts,
        "image_size": options.image_size,
        "gan_training_data": options.gan_training_data or trial.standard.meta.get("trained_on") or "unknown",
        "skipped": faces.skipped,
        "scan": (
            {"verdict": verdict.verdict, "reason": verdict.reason, "carry_the_trigger": judged.carry}
            if verdict
            else None
        ),
    }


def main(argv: list[str] | None = None) -> None:
    every = parse_args(argv)
    first = every[0]
    with distributed.session(first.device) as ctx:
        files.check_writable(first.result_dir)
        faces = open_judged(first, first.split)
        translators = {}
        trials = [load_trial(options, ctx, translators) for options in every]
        extractor = None
        if first.features == "auto":
            extractor = load_extractor(first.inception_weights, device=ctx.device)
        for trial in trials:
            runs.show(trial.options, ctx)
        if first.dry_run:
            return
        meeting: dict[str, tuple] = {}  # those that meet the same disruption
        for opened in open_trials(trials, ctx):
            attacked = opened[0].attacked(faces)
            opened[0].compile(attacked, ctx)
            meeting.setdefault(attacked.key, (attacked, []))[1].append(opened)
        records = []
        for attacked, group in meeting.values():
            records += judge(group, attacked, faces, extractor, ctx)
        for result in records if len(every) > 1 else []:
            ctx.print(line(result))


if __name__ == "__main__":
    cli.run(main)
