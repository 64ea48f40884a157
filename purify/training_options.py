"""What a training of train_defense.py works with: its options, and the photos of split A."""

from collections.abc import Callable
from dataclasses import dataclass

from common import cli
from common.distributed import Context
from common.runs import Run
from faces.celeba import FaceFolder
from faces.flags import DataOptions
from models.dae import network as dae_network
from models.dae import train as dae_trainer
from models.flags import UnnamedTranslatorOptions
from models.one_step import train as one_step_trainer

AUTOENCODERS = tuple(dae_network.NETWORKS)


@dataclass(frozen=True, kw_only=True)
class Options(
    cli.RunOptions, DataOptions, UnnamedTranslatorOptions, one_step_trainer.Options, dae_trainer.Options
):
    """What the training of a purifier works with; train_noise_var is the radius of attack_type."""

    defense_model_type: str
    attack_type: str
    train_noise_var: float
    attack_steps: int
    attack_target: str
    clean_share: float
    noise_share: float
    defense_weights: str | None
    num_channels: int | None
    channel_mult: str | None
    num_res_blocks: int | None
    attention_resolutions: str | None
    noise_schedule: str
    max_timestep: int
    limit: int | None
    resume: str | None


@dataclass(frozen=True)
class Photos:
    """Split A: what is learned from, and the part that is held out."""

    learned: FaceFolder
    held: FaceFolder


Work = Callable[[Run, Context, Photos], None]


def metadata_of(options: Options) -> dict:
    """What the weights of every training say of it; JSON types."""
    return {
        "trained_on": options.dataset,
        "steps": options.num_steps,
        "seed": options.seed,
        "ema": True,
        "attack": options.attack_type,
        "eps": options.train_noise_var if options.attack_type != "none" else 0,
    }
