"""The flags of evaluation.benchmark and their values."""

from dataclasses import dataclass
from pathlib import Path

from common import cli
from common.cli import RunOptions, UserError
from evaluation.speed.jobs import TRAININGS
from evaluation.speed.scale import SIZES

MODELS = Path(__file__).resolve().parents[2] / "models"
SIDES = {"demo": 64, "official": 128}  # of the images, pixels, where --image_size does not say
# --<flag>_weights, folder of the default
WEIGHTS = (("gan", "stargan"), ("attack", "dadfi"), ("diffusion", "diffusion"), ("one_step", "one_step"))
PHOTOS = 202599  # of CelebA
BATCHES = {  # --<flag>_batch, row whose usual batch it changes
    "stargan": "train-stargan",
    "diffusion": "train-diffusion",
    "one_step": "train-one-step",
    "autoencoder": "train-defensive-model-1",
    "detector": "train-detector",
}


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """The values of the flags; architecture and image_size are resolved, weights by weights_of."""

    architecture: str
    rows: list[str] | None
    scale: bool
    scale_sizes: list[int]
    scratch: str | None
    plan: bool
    photos: int
    devices: list[int]
    num_images: int
    num_decoded: int
    repeats: int
    diffpure_start: int
    stargan_batch: int
    diffusion_batch: int
    one_step_batch: int
    autoencoder_batch: int
    detector_batch: int
    data_dir: str | None
    result_dir: str | None
    image_size: int
    celeba_crop_size: int
    gan_weights: str | None
    attack_weights: str | None
    diffusion_weights: str | None
    one_step_weights: str | None


def parse(description: str, argv: list[str] | None = None) -> Options:
    """The options of these words.  Raises UserError."""
    p = cli.ArgumentParser(prog="evaluation.benchmark", description=description)
    g = p.add_argument_group("what to measure")
    g.add_argument(
        "--architecture",
        choices=list(SIDES),
        default="demo",
        help="the networks that ship, or published sizes",
    )
    g.add_argument("--rows", nargs="+", default=None, metavar="NAME", help="these alone; default: see above")
    what = g.add_mutually_exclusive_group()
    what.add_argument("--scale", action="store_true", help="cost of a test against the number of photos")
    what.add_argument("--plan", action="store_true", help="hours, disk and memory of the scripts of CelebA")
    g = p.add_argument_group("how to measure")
    positive = {"type": cli.positive_int}
    g.add_argument(
        "--num_images", default=8, metavar="N", help="photos attacked and purified, one batch", **positive
    )
    g.add_argument(
        "--num_decoded",
        default=256,
        metavar="N",
        help="demo: photos of an epoch of loading, and of training a detector",
        **positive,
    )
    g.add_argument("--repeats", default=3, metavar="R", help="turns of each side", **positive)
    g.add_argument(
        "--diffpure_start",
        default=300,
        metavar="T",
        help="steps of the diffpure that is the reference",
        **positive,
    )
    for flag, row in BATCHES.items():
        g.add_argument(
            f"--{flag}_batch",
            default=TRAININGS[row],
            metavar="N",
            help=f"official: photos of a step of {row}"
            + (", and its like" if row == "train-defensive-model-1" else ""),
            **positive,
        )
    g = p.add_argument_group("scale and plan")
    g.add_argument(
        "--scale_sizes",
        nargs="+",
        default=list(SIZES),
        metavar="N",
        help="numbers of photos, rising",
        **positive,
    )
    g.add_argument(
        "--scratch", default=None, metavar="DIR", help="scale: keep the photos there, and use them again"
    )
    g.add_argument("--photos", default=PHOTOS, metavar="N", help="plan: photos before the split", **positive)
    g.add_argument(
        "--devices",
        nargs="+",
        default=[1, 8],
        metavar="N",
        help="plan: numbers of devices like this",
        **positive,
    )
    g = p.add_argument_group("data and weights")
    g.add_argument(
        "--data_dir",
        default=None,
        metavar="DIR",
        help="a split, of which images_b is used; default: faces drawn for this run",
    )
    g.add_argument(
        "--result_dir",
        default=None,
        metavar="DIR",
        help="also write a record there; plan: read records there",
    )
    g.add_argument(
        "--image_size",
        default=None,
        help="side of the images, pixels (default: 64; official, plan 128)",
        **positive,
    )
    g.add_argument(
        "--celeba_crop_size",
        type=cli.natural_int,
        default=178,
        help="centre crop of a photo, pixels; 0 = none",
    )
    for flag, name in WEIGHTS:
        g.add_argument(
            f"--{flag}_weights",
            default=None,
            metavar="FILE",
            help=f"demo; default: the shipped models/{name}/demo.safetensors",
        )
    cli.add_run_flags(p, precision=False)
    args = p.parse_args(argv)
    if args.scale and args.architecture == "official":
        p.error("--scale has a translator of its own; drop --architecture official")
    for name in ("scale", "plan"):
        if getattr(args, name) and args.rows:
            p.error(f"--{name} has no rows to choose; drop --rows")
    architecture = "official" if args.plan else args.architecture
    size = args.image_size or SIDES[architecture]
    return cli.resolve(Options, args, architecture=architecture, image_size=size)


def weights_of(options: Options, flag: str) -> str:
    """--<flag>_weights, else the shipped file.  Raises UserError where that is not there."""
    if given := getattr(options, f"{flag}_weights"):
        return given
    name = dict(WEIGHTS)[flag]
    path = MODELS / name / "demo.safetensors"
    if not path.is_file():
        raise UserError(
            f"models/{name}/demo.safetensors is not there: make it (sh experiments/demo_weights.sh),"
            f" or give --{flag}_weights FILE"
        )
    return str(path)
