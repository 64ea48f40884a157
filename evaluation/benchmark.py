"""How fast our order of work is against the plain one, side by side in one run on this machine.

attack     seconds per photo
           ours       one attack per photo, translator frozen, written to the shared cache and read by every
                      domain (attack-bf16: with --precision bf16)
           reference  one attack per photo and target domain, parameter gradients on
dadfi      seconds per photo
           ours       one pass of a trained generator
           reference  pgd of 10 steps, translator frozen, both in memory
one-step   seconds per photo
           ours       one network evaluation
           reference  diffpure from t = 300, a network of the same size
ddpm       seconds per photo
           ours       10 reverse steps
           reference  diffpure from t = 300, the same network
loading    seconds per epoch
           ours       crops from the cache, after the first epoch
           reference  every photo decoded, cropped and resized again
detector   seconds per epoch of a frozen mobilenet_v2's head
           ours       features kept
           reference  the base evaluated again for every image

The two sides take turns (A B A B), so that a slow minute of the machine meets both; the ratio is the median
over the turns of reference / ours, with its smallest and largest value beside it.

reads   models/{stargan,dadfi,diffusion,one_step}/demo.safetensors; drawn faces that it draws itself, or
        --data_dir
writes  <result_dir>/benchmark/<dataset>/NNN/record.json with --result_dir, else nothing

  python -m evaluation.benchmark
  python -m evaluation.benchmark --num_images 32 --repeats 5 --result_dir results
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from common import cli, distributed, files, runs
from common.cli import RunOptions, UserError
from evaluation import sides
from faces.celeba import FaceFolder
from faces.procedural import draw_folder
from models.dadfi.network import load_perturber
from models.translators import Translator, load_translator
from report import record

MODELS = Path(__file__).resolve().parent.parent / "models"
AIMS = {"attack": 7, "attack-bf16": 7, "dadfi": 50, "one-step": 30, "ddpm": 8, "loading": 10, "detector": 5}
# --<flag>_weights, folder of the default
WEIGHTS = (("gan", "stargan"), ("attack", "dadfi"), ("diffusion", "diffusion"), ("one_step", "one_step"))


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """The values of parse_args; the weights are resolved."""

    num_images: int
    num_decoded: int
    repeats: int
    diffpure_start: int
    data_dir: str | None
    result_dir: str | None
    image_size: int
    celeba_crop_size: int
    gan_weights: str
    attack_weights: str
    diffusion_weights: str
    one_step_weights: str


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="evaluation.benchmark", description=__doc__)
    g = p.add_argument_group("what to time")
    g.add_argument(
        "--num_images",
        type=cli.positive_int,
        default=8,
        metavar="N",
        help="photos that are attacked and purified, one batch",
    )
    g.add_argument(
        "--num_decoded",
        type=cli.positive_int,
        default=256,
        metavar="N",
        help="photos of an epoch of loading, and of training a detector",
    )
    g.add_argument("--repeats", type=cli.positive_int, default=3, metavar="R", help="turns of each side")
    g.add_argument(
        "--diffpure_start",
        type=cli.positive_int,
        default=300,
        metavar="T",
        help="steps of the diffpure that is the reference",
    )
    g = p.add_argument_group("data and weights")
    g.add_argument(
        "--data_dir",
        default=None,
        metavar="DIR",
        help="a split, of which images_b is used; default: faces drawn for this run",
    )
    g.add_argument("--result_dir", default=None, metavar="DIR", help="also write a record there")
    g.add_argument("--image_size", type=cli.positive_int, default=64, help="side of the images, pixels")
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
            help=f"default: the shipped models/{name}/demo.safetensors",
        )
    cli.add_run_flags(p, precision=False)
    args = p.parse_args(argv)
    return cli.resolve(Options, args, **{f"{flag}_weights": weights_of(args, flag) for flag, _ in WEIGHTS})


def weights_of(parsed: argparse.Namespace, flag: str) -> str:
    """--<flag>_weights, else the shipped file.  Raises UserError where that is not there."""
    if given := getattr(parsed, f"{flag}_weights"):
        return given
    name = dict(WEIGHTS)[flag]
    path = MODELS / name / "demo.safetensors"
    if not path.is_file():
        raise UserError(
            f"models/{name}/demo.safetensors is not there: make it (sh experiments/demo_weights.sh),"
            f" or give --{flag}_weights FILE"
        )
    return str(path)


def line(name: str, m: dict) -> str:
    """One printed row."""
    text = f"{name:12s} {m['seconds']:9.4f}s {m['reference_seconds']:9.4f}s {m['ratio']:7.1f}x  "
    text += f"{m['ratio_low']:.1f} - {m['ratio_high']:.1f}".ljust(16) + f" >= {AIMS[name]}x"
    return text + (
        f"   linf {m['linf']:.4f} ({m['reference_linf']:.4f}), l2 of the fakes {m['l2']:.4f}"
        f" ({m['reference_l2']:.4f})"
        if "l2" in m
        else ""
    )


def load_faces(options: Options, folder: Path, attributes: Sequence[str]) -> FaceFolder:
    """Photos of --data_dir, else drawn below `folder`.  Raises UserError for too few."""
    source = Path(options.data_dir) / "images_b" if options.data_dir else folder / "photos" / "images"
    if not options.data_dir:
        draw_folder(
            folder / "photos",
            max(options.num_images, options.num_decoded),
            seed=0,
            num_workers=options.num_workers,
        )
    faces = FaceFolder(
        source, attributes, options.celeba_crop_size, options.image_size, cache_dir=folder / "crops"
    )
    if len(faces) < max(options.num_images, options.num_decoded):
        raise UserError(
            f"{source}: holds {len(faces)} photos, fewer than --num_images {options.num_images} or"
            f" --num_decoded {options.num_decoded}"
        )
    return faces


def measure(
    options: Options, ctx: distributed.Context, translator: Translator, folder: Path
) -> Iterator[dict[str, dict]]:
    """Yields dicts name -> figures, as the record holds them, one comparison after the other."""
    attributes = translator.attributes or ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
    faces = load_faces(options, folder, attributes)
    some = faces.subset(faces.names[: options.num_images])

    def clock(work):
        return sides.seconds_of(work, ctx.device)

    both = sides.Attacks(some, attributes, translator, ctx, folder / "attacked", options.compile)
    repeats = options.repeats
    with torch.no_grad():
        translator(both.x[:1], both.c[:1])
    yield sides.time_attack(both, repeats, clock)
    yield {"dadfi": sides.time_dadfi(both, options.attack_weights, repeats, clock)}
    many, size = faces.subset(faces.names[: options.num_decoded]), options.image_size
    yield {"loading": sides.time_loading(many, options.celeba_crop_size, size, repeats, clock)}
    yield {"detector": sides.time_detector(many, size, ctx, repeats, clock)}
    yield sides.time_purifiers(
        options.one_step_weights,
        options.diffusion_weights,
        options.diffpure_start,
        both.x,
        some.names,
        ctx,
        repeats,
        clock,
    )


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with (
        distributed.session(options.device) as ctx,
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
    ):
        dataset = Path(options.data_dir).name if options.data_dir else "drawn"
        if options.result_dir:
            files.check_writable(options.result_dir)
        translator = load_translator(options.gan_weights, ctx.device)
        size = load_perturber(options.attack_weights).image_size
        if size != options.image_size:
            raise UserError(
                f"{options.attack_weights}: was trained on photos of {size} pixels, --image_size is"
                f" {options.image_size}; give --attack_weights of that size"
            )
        if options.dry_run:
            runs.show(options, ctx)
            return
        started = time.time()
        run = (
            runs.open_run(Path(options.result_dir) / "benchmark" / dataset, options, ctx)
            if options.result_dir
            else None
        )
        device = (
            torch.cuda.get_device_name(ctx.device)
            if ctx.device.type == "cuda"
            else f"cpu, {torch.get_num_threads()} threads, {platform.machine()}"
        )
        ctx.print(
            f"{device}; {options.num_images} photos of {options.image_size} x {options.image_size},"
            f" {options.repeats} turns each"
        )
        ctx.print(f"{'':12s} {'ours':>10s} {'reference':>10s} {'ratio':>8s}  {'(turns)':16s} aim")
        metrics = {}
        for figures in measure(options, ctx, translator, Path(folder)):
            metrics |= figures
            ctx.print("\n".join(line(name, m) for name, m in figures.items()))
        if run is None:
            return
        config = {
            "num_images": options.num_images,
            "num_decoded": options.num_decoded,
            "image_size": options.image_size,
            "repeats": options.repeats,
            "diffpure_start": options.diffpure_start,
            "threads": torch.get_num_threads(),
            "aims": AIMS,
            "attack": {"eps": sides.EPS, "steps": sides.STEPS, "step_size": sides.STEP_SIZE},
        }
        record.write(
            run.folder / record.FILE,
            record.Record(
                "benchmark",
                "benchmark",
                dataset,
                "b" if options.data_dir else "all",
                0,
                config,
                metrics,
                {},
                None,
                {"device": device},
                runs.provenance(started),
            ),
        )
        ctx.print(f"record: {run.folder / record.FILE}")


if __name__ == "__main__":
    cli.run(main)
