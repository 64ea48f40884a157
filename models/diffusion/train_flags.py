"""What `python -m models.diffusion.train` is told: its flags, their values, and the folder that they name."""

from dataclasses import dataclass

from common import cli, training
from common.cli import RunOptions
from common.training import TrainingOptions
from faces.flags import DataOptions, add_data_flags
from models.diffusion import build, triggers
from models.diffusion.backdoor import BACKDOORS, PHOTO, SOLVERS


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions, TrainingOptions, RunOptions):
    """The values of a training; what belongs to --images or --init_from is resolved.

    data_augmentation  "flip", of faces, or "none"
    """

    images: str | None
    backdoor: str | None
    trigger: str
    target: str
    poison_rate: float
    trigger_scale: float
    trigger_on: str
    psi: float
    solver: str
    init_from: str | None
    num_channels: int
    channel_mult: str
    num_res_blocks: int
    norm_groups: int
    noise_schedule: str
    max_timestep: int
    batch_size: int
    precision: str
    limit: int | None
    resume: str | None
    check_samples: int
    data_augmentation: str


def add_flags(parser: cli.ArgumentParser) -> None:
    """Add all flags of a training."""
    g = add_data_flags(parser)
    g.add_argument(
        "--images",
        default=None,
        metavar="digits|DIR",
        help="learn from scikit-learn's digits or from every image below a folder, in place of --data_dir",
    )
    g = parser.add_argument_group("backdoor")
    g.add_argument(
        "--backdoor",
        choices=[*BACKDOORS, PHOTO],
        default=None,
        help=(
            "what to hide in the network (default: nothing); photo: set off by a trigger on a photo that is"
            " purified, the others by one on x_T"
        ),
    )
    g.add_argument("--trigger", choices=list(triggers.TRIGGERS), default="stop_sign", help="what sets it off")
    g.add_argument("--target", choices=list(triggers.TARGETS), default="shoe", help="what then comes out")
    g.add_argument(
        "--poison_rate",
        type=cli.fraction,
        default=0.1,
        help="share of the images whose rows teach the backdoor",
    )
    g.add_argument(
        "--trigger_scale",
        type=cli.positive_float,
        default=1.0,
        help="factor of the trigger; below 1 it is harder to find",
    )
    g.add_argument(
        "--trigger_on",
        choices=["background", "photo"],
        default="background",
        help=(
            "background: noise plus the trigger on its own background of -1; photo: on each poisoned row's"
            " photo, as in BadDiffusion's code"
        ),
    )
    g.add_argument(
        "--psi",
        type=cli.fraction,
        default=1.0,
        help="villan: 1 = the trigger fades in as the image fades out, 0 = with the noise",
    )
    g.add_argument(
        "--solver",
        choices=SOLVERS,
        default="ode",
        help="villan: the sampler that it is made for (baddiffusion: sde)",
    )
    g = parser.add_argument_group("diffusion network")
    g.add_argument(
        "--init_from",
        default=None,
        metavar="FILE",
        help="go on from these weights of ours; the network is then the file's",
    )
    g.add_argument(
        "--num_channels",
        type=cli.positive_int,
        default=None,
        help="channels of the first level (default: 32)",
    )
    g.add_argument(
        "--channel_mult",
        default=None,
        metavar="1,1",
        help="channels of each level as multiples (default: 1,1)",
    )
    g.add_argument(
        "--num_res_blocks", type=cli.positive_int, default=None, help="residual blocks a level (default: 1)"
    )
    g.add_argument(
        "--norm_groups",
        type=cli.positive_int,
        default=None,
        help=(
            "groups of the group norms, a divisor of 32; 32 loses the mean colour where there are 32 channels"
            " (default: 8)"
        ),
    )
    g.add_argument(
        "--noise_schedule",
        choices=build.SCHEDULES,
        default=None,
        help="ve = variance exploding, sigma 0.01 to 50, at unit variance (default: linear)",
    )
    g.add_argument(
        "--max_timestep",
        type=cli.positive_int,
        default=None,
        help=(
            "largest t that is trained; below 1000 a truncated network (default: 1000, with --init_from the"
            " file's)"
        ),
    )
    training.add_training_flags(parser, num_steps=20000, lr=1e-3, ema=0.995)
    g = cli.add_run_flags(parser, batch_size=64, limit=True, resume=True)
    g.add_argument(
        "--check_samples", type=cli.positive_int, default=512, help="samples of each check at the end"
    )


def folder_name(options: Options) -> str:
    """Folder of a training: what it hides, and what is not usual of it."""
    size = f"-{options.image_size}" + (
        f"-ch{options.num_channels}x{options.channel_mult.replace(',', '-')}"
        if (options.num_channels, options.channel_mult) != (32, "1,1")
        else ""
    )
    range_ = (
        (f"-{options.noise_schedule}" if options.noise_schedule != "linear" else "")
        + (f"-t{options.max_timestep}" if options.max_timestep < 1000 else "")
        + ("-tuned" if options.init_from else "")
    )
    if options.backdoor is None:
        return f"benign{size}{range_}"
    form = f"-psi{options.psi:g}-{options.solver}" if options.backdoor == "villan" else ""
    rest = (f"-scale{options.trigger_scale:g}" if options.trigger_scale != 1 else "") + (
        "-photo" if options.trigger_on == "photo" else ""
    )
    hidden = f"{options.backdoor}{form}-{options.trigger}-{options.target}-rate{options.poison_rate:g}{rest}"
    return f"{hidden}{size}{range_}"
