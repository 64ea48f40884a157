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
      --attack_through one-step --gradient full
  python test_defense.py --defense_model_type none jpeg-75 one-step --gan_weights 200000-G.ckpt \\
      --attack_type worst --attack_label target
"""

import dataclasses
from dataclasses import dataclass
from functools import partial

from attacks.flags import AttackOptions, ThroughOptions, add_attack_flags
from common import cli, distributed, files, runs
from common.batch import PhotosAtATime
from common.errors import UserError
from evaluation.defense_output import line
from evaluation.defense_stage import judge, open_trials
from faces.flags import DataOptions, add_data_flags, dataset_name, open_judged
from metrics.flags import MeasureOptions, add_measure_flags
from models.flags import TranslatorOptions, add_translator_flags
from purify.defences import DEFENCES
from purify.flags import (
    PurifierOptions,
    add_purifier_flags,
    add_through_flag,
    options_of,
    resolve_defences,
    resolve_through,
)
from purify.terd.screen import add_scan_flags
from purify.trained import default_translator
from purify.trial import load_trial, rehearse


@dataclass(frozen=True, kw_only=True)
class Options(
    cli.RunOptions,
    DataOptions,
    TranslatorOptions,
    MeasureOptions,
    PurifierOptions,
    AttackOptions,
    ThroughOptions,
):
    """What the test of one defence works with."""

    split: str
    adv_gan_weights: str | None
    gan_training_data: str | None
    defense_noise: str | None
    scan: str | None
    test_noise_var: float
    attack_on: str
    attack_through: str | None
    save_image: bool
    batch_size: int | str
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
        help="for adv-train, adv-train-blur, both and lora-patch; default: the newest finished training",
    )
    g.add_argument(
        "--gan_training_data",
        default=None,
        help="what the translator was trained on, for the record (the official one: all of CelebA)",
    )
    add_measure_flags(g)
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
        default=None,
        help=(
            "defences with a translator of their own: attacked by the shared images, or white-box themselves"
            " (default: standard; of worst that knows them self)"
        ),
    )
    add_through_flag(g, "each defence's own")
    g = p.add_argument_group("output")
    g.add_argument(
        "--save_image",
        action="store_true",
        help="write every photo, disrupted, purified and all fakes to images/",
    )
    cli.add_run_flags(p, batch_size=32, auto=True, limit=True, resume=True)
    parsed = p.parse_args(argv)
    resolve_through(p, parsed)
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
    dataset = dataset_name(parsed)
    every = [
        options_of(Options, parsed, defence, dataset=dataset, attack_on=_attacked(parsed, defence))
        for defence in defences
    ]
    first = every[0]
    gan_weights = parsed.gan_weights or default_translator(
        first.result_dir, first.dataset, first.gan_type, first.data_dir, first.image_size
    )
    return [dataclasses.replace(options, gan_weights=gan_weights) for options in every]


def _attacked(parsed, defence):
    """--attack_on of one defence: whose translator the attacker has."""
    knows = parsed.attack_type == "worst" and parsed.attack_through == "self"
    own = DEFENCES[defence["defense_model_type"]].translator != "standard"
    return parsed.attack_on or ("self" if knows and own else "standard")


def main(argv: list[str] | None = None) -> None:
    every = parse_args(argv)
    first = every[0]
    with distributed.session(first.device) as ctx:
        files.check_writable(first.result_dir)
        faces = open_judged(first, first.split)
        translators = {}
        trials = [load_trial(options, ctx, translators) for options in every]
        extractor = first.extractor(ctx.device)
        for trial in trials:
            runs.show(trial.options, ctx)
        if first.dry_run:
            return
        meeting: dict[str, tuple] = {}  # those that meet the same disruption
        for opened in open_trials(trials, ctx):
            attacked = opened[0].attacked(faces)
            meeting.setdefault(attacked.key, (attacked, []))[1].append(opened)
        records = []
        at_a_time = PhotosAtATime(first.batch_size, -(-len(faces) // ctx.world), first.image_size**2)
        for attacked, group in meeting.values():
            tried = partial(rehearse, [trial for trial, *_ in group], faces, extractor, ctx.device)
            records += at_a_time.run(ctx, tried, partial(judge, group, attacked, faces, extractor, ctx))
        for result in records if len(every) > 1 else []:
            ctx.print(line(result))


if __name__ == "__main__":
    cli.run(main)
