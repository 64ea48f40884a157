"""The options of De-Pois's filter: what is put into clean samples, who looks for it, and which flags play a
part in which run."""

import argparse
from dataclasses import dataclass

from attacks import poison
from attacks.poison.flags import PoisonOptions, add_poison_flags, flags_taken_by
from common import cli
from common.cli import RunOptions
from metrics import finding
from models.depois.options import DepoisOptions, add_depois_flags, resolve_schedule
from purify.depois import outliers
from purify.depois.examined import ExaminedOptions, add_task_flags, resolve_task_flags

CRITICS = {
    "de-pois": ("full", "de-pois"),
    "de-pois-no-synthetic": ("no-synthetic", "de-pois without synthetic data"),
    "de-pois-no-authenticator": ("no-authenticator", "de-pois without authenticator"),
    # {flag: (variant of the training, name in tables)}
    "de-pois-published": ("published", "de-pois as published"),
}
METHODS = (*CRITICS, *outliers.METHODS)
BYPASSES = ("bypass", "bypass-replica")
POISONS = (*(name for name in poison.POISONS if name != "bypass"), *BYPASSES, "disruption")
DEFAULTS = {"digits": tuple(poison.POISONS), "detector": ("disruption", "label-flip"), "folder": ()}
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
        "attack_jpeg",
        "apgd_steps",
        "apgd_restarts",
        "square_queries",
        "attack_grid",
        "attack_features",
        "attack_weights",
        "perturbation",
        "perturbation_fit",
    ),
    ("folder",): ("trusted_share",),
}


@dataclass(frozen=True, kw_only=True)
class FindingOptions:
    """Who looks for the poison, and where the boundary lies."""

    methods: list[str]
    seeds: list[int]
    depois_weights: str | None
    boundary: str
    clean_quantile: float
    boundary_z: float
    kept_names: str | None
    judge_steps: int

    @property
    def rule(self) -> tuple[str, float]:
        """The boundary as metrics.finding takes it: (rule, value)."""
        return self.boundary, self.clean_quantile if self.boundary == "quantile" else self.boundary_z


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, ExaminedOptions, PoisonOptions, FindingOptions, DepoisOptions):
    """What one call of the filter is told; `poison` names none where nobody knows what is poisoned."""

    poison: list[str]
    poison_rate: float
    batch_size: int
    resume: str | None


def rate(text: str) -> float:
    """A share of the samples in [0, 1): of a set that is poisoned whole, nothing is left to keep."""
    value = cli.fraction(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, found {text!r}")
    return value


def add_flags(p: argparse.ArgumentParser) -> None:
    """All flags of the command."""
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
    add_poison_flags(g)
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
    cli.add_run_flags(p, batch_size=512, resume=True, compiled=False)


def resolve(p: argparse.ArgumentParser, parsed: argparse.Namespace) -> Options:
    """The options that parsed flags stand for.  Raises UserError for flags that do not go together."""
    task, kind = resolve_task_flags(p, parsed), parsed.dataset
    methods = parsed.methods or (["de-pois"] if kind == "folder" else list(METHODS))
    names, seeds = list(DEFAULTS[kind]) if parsed.poison is None else parsed.poison, parsed.seeds
    for flag, values in (("seeds", seeds), ("poison", names), ("methods", methods)):
        if len(set(values)) < len(values):
            p.error(f"--{flag} {' '.join(map(str, values))}: each once")
    if "disruption" in names and kind != "detector":
        p.error(f"--poison disruption is of --dataset detector, found --dataset {kind}")
    if "disruption" in names and parsed.attack_type == "none":
        p.error("--poison disruption with --attack_type none disrupts nothing; name an attack")
    if not parsed.poison_rate and names:
        names = ["none"]
    if not parsed.blend_alpha:
        p.error("--blend_alpha 0 blends nothing; give a weight above 0")
    if parsed.boundary == "quantile" and not 0 < parsed.clean_quantile < 1:
        p.error(f"--clean_quantile {parsed.clean_quantile:g}: expected a share above 0 and below 1")
    if parsed.kept_names and (len(seeds) > 1 or len(names) > 1):
        p.error(
            f"--kept_names is for one poison and one seed; found {len(names)} poisons,"
            f" {len(seeds)} seeds: name one with --poison and --seeds"
        )
    if parsed.resume not in (None, "auto") and (len(seeds) > 1 or len(names) > 1):
        p.error(
            "--resume RUN continues one examination: name its poison with --poison and its seed with --seeds,"
            " or give --resume alone"
        )
    if parsed.depois_weights and len(seeds) > 1:
        p.error(f"--depois_weights is the critic of one seed; found {len(seeds)}: name it with --seeds")
    judge_steps = 100 if kind == "digits" else 200
    return cli.resolve(
        Options,
        parsed,
        **task,
        **resolve_schedule(parsed, kind),
        judge_steps=judge_steps if parsed.judge_steps is None else parsed.judge_steps,
        methods=methods,
        poison=names,
    )


def options_of_examination(
    options: Options, name: str, seed: int, examined_sha256: str
) -> argparse.Namespace:
    """What options.yaml says of one examination: its poison, its seed, what all share and plays a part, and
    what is examined, where a folder may have changed."""
    left_out = {"seeds", "kept_names", "result_dir"}
    left_out |= {flag for kinds, flags in PLAY_NO_PART.items() if options.dataset in kinds for flag in flags}
    of_poisons = {flag for each in poison.POISONS for flag in flags_taken_by(each)}
    left_out |= of_poisons - flags_taken_by(poison_class(name))
    values = {k: v for k, v in vars(options).items() if k not in left_out}
    own = {"poison": name, "seed": seed, "data_seed": options.seed, "examined_sha256": examined_sha256}
    return argparse.Namespace(**{**values, **own})


def poison_class(name: str) -> str:
    """What attacks.poison calls a poison of POISONS."""
    return "bypass" if name in BYPASSES else name
