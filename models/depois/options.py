"""The flags of De-Pois's networks, what they stand for by data set and schedule, and the options of one
training."""

import argparse
from dataclasses import asdict, dataclass, fields

from common import cli

VARIANTS = ("full", "no-synthetic", "no-authenticator", "published")
# Steps that suffice on a CPU; `published` is the schedule of the public code, whose epochs are steps.
SCHEDULES = {
    "digits": (300, 150),
    "mnist": (800, 400),
    "folder": (400, 300),
    "detector": (400, 300),
    "published": (2000, 10000),
}
PACE = ("gan_steps", "mimic_steps", "save_step", "log_step")  # how long, not what the critic learns


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What a trainer knows of the flags that say what is trusted; the room above has more of them."""

    dataset: str  # digits, mnist, folder or detector
    dataset_name: str  # in the result folder
    result_dir: str


@dataclass(frozen=True, kw_only=True)
class DepoisOptions:
    """The values of add_depois_flags; those without a default depend on the schedule and the data set."""

    schedule: str = "reduced"
    gan_steps: int
    mimic_steps: int
    n_critic: int = 5
    train_batch_size: int
    gan_lr: float = 2e-4
    critic_lr: float
    synthetic: float
    save_step: int = 500
    log_step: int = 50
    lambda_auth: float = 1.0
    lambda_modes: float
    lambda_gp: float = 10.0
    lambda_label: float = 2.0
    margin: float = 5.0
    lambda_drift: float = 0.3
    replay: float = 0.5
    critic_ema: float = 0.999


@dataclass(frozen=True, kw_only=True)
class CriticOptions(DepoisOptions):
    """The options of one training: what it learns from is named by its hash."""

    dataset: str
    variant: str
    seed: int
    dataset_name: str
    num_trusted: int
    trusted_sha256: str
    num_steps: int
    resume: str | None


def add_depois_flags(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The flags of both stages and of both losses."""
    g = p.add_argument_group("how to train")
    g.add_argument(
        "--schedule",
        choices=["reduced", "published"],
        default=DepoisOptions.schedule,
        help=(
            "reduced: a CPU's steps, by data set; published: 2,000 and 10,000 steps of 32 images, critic by"
            " RMSprop at 5e-5"
        ),
    )
    g.add_argument(
        "--gan_steps",
        type=cli.natural_int,
        default=None,
        help="steps of the GAN that enlarges the trusted set (default: see --schedule)",
    )
    g.add_argument(
        "--mimic_steps",
        type=cli.positive_int,
        default=None,
        help="generator steps of the mimic model (default: see --schedule)",
    )
    g.add_argument(
        "--n_critic",
        type=cli.positive_int,
        default=DepoisOptions.n_critic,
        help="critic steps per generator step",
    )
    g.add_argument(
        "--train_batch_size",
        type=cli.positive_int,
        default=None,
        help="images per step (default: digits and mnist 64, else 32)",
    )
    g.add_argument(
        "--gan_lr",
        type=cli.positive_float,
        default=DepoisOptions.gan_lr,
        help="Adam's learning rate of the GAN and of its authenticator",
    )
    g.add_argument(
        "--critic_lr",
        type=cli.positive_float,
        default=None,
        help="learning rate of the mimic model (default: 5e-4, published 5e-5)",
    )
    g.add_argument(
        "--synthetic",
        type=cli.natural_float,
        default=None,
        metavar="TIMES",
        help="generated images added to the trusted ones, as a multiple of these (default: 1; published 4)",
    )
    g.add_argument(
        "--save_step",
        type=cli.positive_int,
        default=DepoisOptions.save_step,
        help="steps between saved states",
    )
    g.add_argument(
        "--log_step",
        type=cli.positive_int,
        default=DepoisOptions.log_step,
        help="steps between lines of log.jsonl",
    )
    g = p.add_argument_group("losses")
    g.add_argument(
        "--lambda_auth",
        type=cli.natural_float,
        default=DepoisOptions.lambda_auth,
        help="weight of the authenticator's loss on generated images, in the loss of the GAN's generator",
    )
    g.add_argument(
        "--lambda_modes",
        type=cli.natural_float,
        default=None,
        help=(
            "weight of a term that keeps the GAN's images of a class apart (default: digits and mnist 1, else"
            " 0; published 0)"
        ),
    )
    g.add_argument(
        "--lambda_gp",
        type=cli.natural_float,
        default=DepoisOptions.lambda_gp,
        help="weight of the gradient penalty",
    )
    g.add_argument(
        "--lambda_label",
        type=cli.natural_float,
        default=DepoisOptions.lambda_label,
        help="weight of the margin between an image's own label and a wrong one",
    )
    g.add_argument(
        "--margin",
        type=cli.positive_float,
        default=DepoisOptions.margin,
        help="that margin, in units of the critic",
    )
    g.add_argument(
        "--lambda_drift",
        type=cli.natural_float,
        default=DepoisOptions.lambda_drift,
        help="weight of the clean samples' mean squared score, which keeps their scores together",
    )
    g.add_argument(
        "--replay",
        type=cli.fraction,
        default=DepoisOptions.replay,
        help="share of the generated images in a critic step that come from earlier in the training",
    )
    g.add_argument(
        "--critic_ema",
        type=cli.fraction,
        default=DepoisOptions.critic_ema,
        help="decay of the moving average of the critic's weights; 0 = none",
    )
    return g


def usual_options(schedule: str, dataset: str) -> DepoisOptions:
    """What the flags stand for that are left alone; `published` leaves out what is ours."""
    published = schedule == "published"
    gan_steps, mimic_steps = SCHEDULES["published" if published else dataset]
    photos = dataset in ("folder", "detector")
    return DepoisOptions(
        schedule=schedule,
        gan_steps=gan_steps,
        mimic_steps=mimic_steps,
        train_batch_size=32 if published or photos else 64,
        critic_lr=5e-5 if published else 5e-4,
        synthetic=4.0 if published else 1.0,
        lambda_modes=0.0 if published or photos else 1.0,
    )


def resolve_schedule(parsed: argparse.Namespace, dataset: str) -> dict[str, float]:
    """{flag: value} of the flags of add_depois_flags that were left alone and depend on schedule and data
    set."""
    usual = asdict(usual_options(parsed.schedule, dataset))
    return {name: value for name, value in usual.items() if getattr(parsed, name) is None}


def changed_losses(options: DepoisOptions, dataset: str) -> dict[str, float]:
    """{flag: value} of what decides a critic and is not at its default, the schedule aside; for records."""
    usual = asdict(usual_options(options.schedule, dataset))
    values = {name: getattr(options, name) for name in usual}
    return {name: value for name, value in values.items() if value != usual[name] and name not in PACE}


def critic_options(
    options: DepoisOptions,
    task: TaskOptions,
    variant: str,
    seed: int,
    num_trusted: int,
    trusted_sha256: str,
    resume: str | None = "auto",
) -> CriticOptions:
    """The options of one training: what the flags say, less what its variant leaves out.

    Args: variant  of VARIANTS;  num_trusted, trusted_sha256  of the images that it learns from, see
                   models.depois.data.content;  resume  see runs.open_run
    """
    values = {f.name: getattr(options, f.name) for f in fields(DepoisOptions)}
    if variant == "no-synthetic":
        values |= {"synthetic": 0.0}
    if variant == "no-authenticator":
        values |= {"lambda_auth": 0.0}
    if variant == "published":
        ours = ("lambda_modes", "lambda_label", "lambda_drift", "replay", "critic_ema")
        values |= dict.fromkeys(ours, 0.0)
    if not values["synthetic"] or not values["gan_steps"]:
        # nothing is generated without a GAN, and none is needed where nothing is
        values |= {"synthetic": 0.0, "gan_steps": 0}
    return CriticOptions(
        **values,
        dataset=task.dataset,
        variant=variant,
        seed=seed,
        dataset_name=task.dataset_name,
        num_trusted=num_trusted,
        trusted_sha256=trusted_sha256,
        num_steps=values["gan_steps"] + values["mimic_steps"],
        resume=resume,
    )
