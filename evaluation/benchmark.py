"""How fast our order of work is against the plain one, side by side in one run on this machine; what a test
costs against the number of photos; what the CelebA scripts will cost.

--architecture demo, the default: the networks that ship
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
processes  seconds per photo of the attack, on the CPU
           ours       two processes of one thread each
           reference  half the seconds of one such process, so that the ratio is the efficiency

--architecture official: the published sizes with random weights, 128 pixels
attack, one-step, ddpm (10 steps), diffpure (the purifiers' reference itself), fakes (all domains of a photo)
           seconds per photo; ours and reference as above, the reference in fp32 without channels-last
train-stargan, train-diffusion, train-one-step
           seconds per step, which is the step that the training itself runs; the reference is the same step
           in one process, fp32 and uncompiled. --compile on compiles ours, of all rows; auto does not, a
           benchmark being short
Each row may end in -bf16 (on a GPU all do so, too; on a CPU the attack). Rows that only --rows names: jpeg,
blur, the autoencoders, and the trainings train-adv, train-detector, train-defensive-model-1 ...
Beside the seconds: TFLOP/s, counted on one pass by torch.utils.flop_counter; peak memory while ours runs,
with the networks of the reference; on a GPU also the share of its own product of two 8192 x 8192 matrices
(TF32 for fp32 where convolutions use it), and J per photo where nvidia-smi tells the power.

The two sides take turns (A B A B), so that a slow minute of the machine meets both; the ratio is the median
over the turns of reference / ours, with its smallest and largest value beside it.

--scale: test_defense.py, jpeg-75 and a tiny translator, in a fresh process for each number of photos:
seconds, CPU seconds of a photo (besides networks: without the translator, the features' network and
gradients), peak memory. --plan: hours, disk and memory of train_CelebA.sh, test_CelebA.sh and
train_detector_CelebA.sh, from the newest official record of this device and size below --result_dir; what it
lacks is measured first.

reads   models/{stargan,dadfi,diffusion,one_step}/demo.safetensors (demo); drawn faces that it draws itself,
        or --data_dir; with --plan the shell scripts and what their variables (DEFENSES, NUM, ...) are set to
writes  <result_dir>/benchmark/<dataset>/NNN/record.json with --result_dir, after each row; else nothing

  python -m evaluation.benchmark
  python -m evaluation.benchmark --num_images 32 --repeats 5 --result_dir results
  python -m evaluation.benchmark --architecture official --num_images 32 --result_dir results
  python -m evaluation.benchmark --architecture official --num_images 1 --repeats 1 --diffpure_start 30 \\
      --stargan_batch 2 --diffusion_batch 2 --one_step_batch 2
  python -m evaluation.benchmark --scale --scale_sizes 250 1000 4000 --scratch scratch --result_dir results
  python -m evaluation.benchmark --plan --photos 202599 --devices 1 8 --result_dir results
"""

import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from common import cli, distributed, files, runs
from common.cli import UserError
from common.distributed import Context
from evaluation import sides
from evaluation.speed import demo, figures, jobs, networks, official, plan, scale, scripts
from evaluation.speed.demo import AIMS
from evaluation.speed.flags import Options, parse, weights_of
from evaluation.speed.output import Output
from faces.celeba import FaceFolder
from faces.flags import ATTRIBUTES
from faces.procedural import draw_folder
from models.dadfi.network import load_perturber
from models.translators import load_translator


def parse_args(argv: list[str] | None = None) -> Options:
    return parse(__doc__, argv)


def device_name(device: torch.device) -> str:
    """What records call this device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads, {platform.machine()}"


def load_faces(
    options: Options, folder: Path, attributes: Sequence[str], count: int, asked: str
) -> FaceFolder:
    """Photos of --data_dir, else `count` drawn below `folder`.  Raises UserError for too few.

    Args: asked  the flags that ask for so many
    """
    source = Path(options.data_dir) / "images_b" if options.data_dir else folder / "photos" / "images"
    if not options.data_dir:
        draw_folder(folder / "photos", count, seed=0, num_workers=options.num_workers)
    size = options.image_size
    faces = FaceFolder(source, attributes, options.celeba_crop_size, size, cache_dir=folder / "crops")
    if len(faces) < count:
        raise UserError(f"{source}: holds {len(faces)} photos, fewer than {asked}")
    return faces


def run_demo(options: Options, ctx: Context, folder: Path) -> None:
    """The rows of the networks that ship."""
    rows = options.rows or list(AIMS)
    official.check_rows(rows, AIMS)
    weights = {flag: weights_of(options, flag) for flag in ("gan", "attack", "diffusion", "one_step")}
    translator = load_translator(weights["gan"], ctx.device)
    size = load_perturber(weights["attack"]).image_size
    if size != options.image_size:
        raise UserError(
            f"{weights['attack']}: was trained on photos of {size} pixels, --image_size is"
            f" {options.image_size}; give --attack_weights of that size"
        )
    if options.dry_run:
        runs.show(options, ctx)
        return
    n, decoded = options.num_images, options.num_decoded
    attack = {"eps": sides.EPS, "steps": sides.STEPS, "step_size": sides.STEP_SIZE}
    config = {"num_decoded": decoded, "aims": AIMS, "attack": attack}
    output = Output("benchmark", options, ctx, device_name(ctx.device), config)
    ctx.print(f"{output.device}; {n} photos of {size} x {size}, {options.repeats} turns each")
    ctx.print(f"{'':12s} {'ours':>10s} {'reference':>10s} {'ratio':>8s}  {'(turns)':16s} aim")
    asked = f"--num_images {n} or --num_decoded {decoded}"
    faces = load_faces(options, folder, translator.attributes or ATTRIBUTES, max(n, decoded), asked)
    measured = demo.measure(
        rows,
        faces,
        n,
        decoded,
        translator,
        weights,
        options.repeats,
        options.diffpure_start,
        ctx,
        folder,
        options.compile,
    )
    for found in measured:
        output.add(found, [demo.line(name, m) for name, m in found.items()])


@contextmanager
def official_bench(options: Options, ctx: Context, folder: Path) -> Iterator[jobs.Bench]:
    """What the rows of the published sizes share, below a scratch folder."""
    batches = {"train-stargan": options.stargan_batch, "train-diffusion": options.diffusion_batch}
    batches |= {"train-adv": options.stargan_batch, "train-one-step": options.one_step_batch}
    batches |= {f"train-{name}": options.autoencoder_batch for name in jobs.AUTOENCODERS}
    batches |= {"train-detector": options.detector_batch}
    # as many photos as the largest of the usual batches, so that a batch holds none twice
    count = max(options.num_images, options.diffusion_batch)
    faces = load_faces(options, folder, ATTRIBUTES, count, f"{count} (--num_images, --diffusion_batch)")
    paths = networks.write_networks(folder, options.image_size, options.seed)
    n, start = options.num_images, options.diffpure_start
    yield jobs.Bench(
        ctx, faces, paths, folder, n, options.repeats, start, batches, options.seed, options.compile
    )


def known_rows() -> list[str]:
    return [row + ending for row in jobs.ROWS for ending in ("", jobs.BF16)]


def run_official(options: Options, ctx: Context, folder: Path) -> None:
    """The rows of the published sizes."""
    rows = options.rows or official.default_rows(ctx.device)
    official.check_rows(rows, known_rows())
    if options.dry_run:
        runs.show(options, ctx)
        return
    config = {"rows": rows, "tf32": torch.backends.cudnn.allow_tf32}
    output = Output("official", options, ctx, device_name(ctx.device), config)
    size = options.image_size
    ctx.print(
        f"{output.device}; {options.num_images} photos of {size} x {size}, {options.repeats} turns each\n"
        + official.heading(ctx.device)
    )
    with official_bench(options, ctx, folder) as bench:
        for found in official.measure(bench, rows):
            output.add(found, [official.line(row, m, ctx.device) for row, m in found.items()])


def run_scale(options: Options, ctx: Context, folder: Path) -> None:
    """What test_defense.py costs against the number of photos."""
    sizes = options.scale_sizes
    scale.check_sizes(sizes)
    if options.dry_run:
        runs.show(options, ctx)
        return
    output = Output("scale", options, ctx, device_name(ctx.device), {"sizes": sizes})
    size = options.image_size
    ctx.print(f"{output.device}; test_defense.py, jpeg-75, {size} x {size}\n{scale.HEADING}")
    place = files.make_folder(options.scratch) if options.scratch else folder
    crop, device = options.celeba_crop_size, str(ctx.device)
    for found in scale.measure(sizes, place, size, crop, device, options.num_workers):
        output.add(found, [scale.line(m) for m in found.values()])
    grown = scale.growth(output.metrics)
    output.add({}, [scale.summary(grown)], {"growth": grown})


def run_plan(options: Options, ctx: Context, folder: Path) -> None:
    """Hours, disk and memory of the scripts of CelebA."""
    size, device, place = options.image_size, device_name(ctx.device), folder / "scripts"
    start, sized = options.diffpure_start, ["--image_size", str(size)]
    told = figures.newest(options.result_dir, "official", size, device)
    start = told.config["diffpure_start"] if told else start
    stages, notes = plan.plan(lambda s: scripts.record(s, place, sized), options.photos, start)
    needed = figures.rows_of(stages)
    rows = {row: told.metrics[row] for row in needed if told and row in told.metrics}
    missing = [row for row in needed if row not in rows]
    costs = figures.newest(options.result_dir, "scale", size, device)
    if options.dry_run:
        runs.show(options, ctx)
        ctx.print("to be measured: " + (", ".join(missing) or "nothing"))
        return
    ctx.print(f"{device}; rows of a record: {len(rows)}, measured now: {', '.join(missing) or 'none'}")
    with official_bench(options, ctx, folder) as bench:
        for found in official.measure(bench, missing, sided=False):
            rows |= found
            ctx.print("\n".join(official.line(row, m, ctx.device) for row, m in found.items()))
        sizes = figures.bytes_of(bench.faces, len(bench.faces), folder)
    crop = options.celeba_crop_size
    score = figures.scored(costs, folder, size, crop, str(ctx.device), options.num_workers)
    measured = figures.complete(rows, score, sizes, start)
    ctx.print(f"\n{options.photos} photos, {size} x {size}\n" + plan.table(stages, measured, options.devices))
    ctx.print("\n".join([*plan.assumptions(measured, rows, options.devices), *notes]))


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with (
        distributed.session(options.device) as ctx,
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
    ):
        if options.result_dir and not options.plan:
            files.check_writable(options.result_dir)
        run = run_demo if options.architecture == "demo" else run_official
        run = run_plan if options.plan else run_scale if options.scale else run
        run(options, ctx, Path(folder))


if __name__ == "__main__":
    cli.run(main)
