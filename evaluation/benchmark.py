"""How fast our order of work is against the plain one, side by side in one run on this machine.

attack     seconds per photo: one attack per photo, translator frozen, written to the shared cache and read by
           every domain | one attack per photo and target domain, parameter gradients on; attack-bf16: ours
           with --precision bf16
dadfi      seconds per photo: one pass of a trained generator                 | pgd of 10 steps, translator
           frozen, both in memory
one-step   seconds per photo: one network evaluation                          | diffpure from t = 300, a
           network of the same size
ddpm       seconds per photo: 10 reverse steps                                | diffpure from t = 300, the
           same network
loading    seconds per epoch: crops from the cache, after the first epoch     | every photo decoded, cropped
           and resized again
detector   seconds per epoch of a frozen mobilenet_v2's head: features kept   | the base evaluated again for
           every image

The two sides take turns (A B A B), so that a slow minute of the machine meets both; the ratio is the median
over the turns of reference / ours, with its smallest and largest value beside it.

reads   models/{stargan,dadfi,diffusion,one_step}/demo.safetensors; drawn faces that it draws itself, or
        --data_dir
writes  <result_dir>/benchmark/<dataset>/NNN/record.json with --result_dir, else nothing

  python -m evaluation.benchmark
  python -m evaluation.benchmark --num_images 32 --repeats 5 --result_dir results
"""

import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import attacks
import purify
from common import cli, distributed, files, runs, seeds
from common.cli import UserError
from common.training import descend
from evaluation import reference
from faces.celeba import FaceFolder
from faces.procedural import draw_folder
from models.conditions import targets
from models.dadfi.network import load_perturber
from models.detector.network import Detector
from models.detector.samples import Samples
from models.detector.train import features_of
from models.translators import load_translator
from pipeline.attacked import AttackedPhotos
from report import record

PASSES = 10  # of the generator in a turn
MODELS = Path(__file__).resolve().parent.parent / "models"
AIMS = {"attack": 7, "attack-bf16": 7, "dadfi": 50, "one-step": 30, "ddpm": 8, "loading": 10, "detector": 5}
# --<flag>_weights, folder of the default
WEIGHTS = (("gan", "stargan"), ("attack", "dadfi"), ("diffusion", "diffusion"), ("one_step", "one_step"))
EPS, STEPS, STEP_SIZE = 0.05, 10, 0.01  # the published attack, [-1, 1] units


def parse_args(argv=None):
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
    for flag, name in WEIGHTS:
        if getattr(args, f"{flag}_weights") is None:
            path = MODELS / name / "demo.safetensors"
            if not path.is_file():
                raise UserError(
                    f"models/{name}/demo.safetensors is not there: make it (sh experiments/demo_weights.sh),"
                    f" or give --{flag}_weights FILE"
                )
            setattr(args, f"{flag}_weights", str(path))
    return args


def seconds_of(work, device):
    """Wall-clock seconds of one call; work on a GPU is waited for."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def take_turns(works, repeats, clock):
    """{name: [seconds, ...]} of callables that are run in turn, `repeats` rounds.  clock(work) -> seconds."""
    found = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            found[name].append(clock(work))
    return found


def compare(ours, theirs, units=1):
    """Seconds of equal turns -> {"seconds", "reference_seconds"} per unit (medians) and "ratio" with
    "ratio_low", "ratio_high".

    The ratio is taken turn by turn, theirs / ours, before the median: what slows a turn down slows both sides
    of it.
    """
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "seconds": statistics.median(ours) / units,
        "reference_seconds": statistics.median(theirs) / units,
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


class Attacks:
    """The same photos disrupted both ways."""

    def __init__(self, faces, attributes, translator, ctx, scratch):
        self.faces, self.attributes, self.translator, self.ctx, self.scratch = (
            faces,
            attributes,
            translator,
            ctx,
            Path(scratch),
        )
        self.x, self.c = faces.floats(range(len(faces))).to(ctx.device), faces.labels.to(ctx.device)
        self.turn = 0

    def ours(self, precision="fp32"):
        """As test_defense.py does it: attack once, into a new cache (each turn its own), PNGs included.
        Returns (N, 3, H, W)."""
        self.turn += 1
        attack = attacks.build(
            "pgd",
            self.translator,
            EPS,
            steps=STEPS,
            step_size=STEP_SIZE,
            target="gray",
            label="original",
            precision=precision,
        )
        photos = AttackedPhotos(
            attack,
            "original",
            self.faces,
            self.attributes,
            self.scratch / str(self.turn),
            self.faces.preparation,
            seed=0,
        )
        photos.fill(self.ctx, len(self.faces))
        return photos.floats(self.faces.names).to(self.ctx.device)

    def reference(self):
        """One attack per target domain, rounded to 8 bits as ours are: C tensors (N, 3, H, W)."""
        release = attacks.build("pgd", self.translator, EPS).release
        starts = [seeds.named(0, self.faces.names, "reference", k) for k in range(len(self.attributes))]
        made = reference.attack_per_domain(
            self.translator, self.x, self.c, len(self.attributes), EPS, STEPS, STEP_SIZE, starts
        )
        return [release(self.x, x_adv - self.x) for x_adv in made]

    @torch.no_grad()
    def quality(self, disrupted):
        """What an attack reaches: linf of the photos and l2 of the fakes, mean over domains.  disrupted: one
        (N, 3, H, W) a domain."""
        l2 = [
            (self.translator(x_adv, c) - self.translator(self.x, c)).square().mean()
            for x_adv, c in zip(disrupted, targets(self.translator, self.c, self.attributes), strict=True)
        ]
        return {
            "linf": max(float((x_adv - self.x).abs().max()) for x_adv in disrupted),
            "l2": float(torch.stack(l2).mean()),
        }


def time_attack(found, args, clock):
    """Ours in both precisions against the reference; each with its quality, so that no one is fast by doing
    less."""
    last, domains = {}, len(found.attributes)
    works = {
        "attack": lambda: last.update(attack=[found.ours()] * domains),
        "reference": lambda: last.update(reference=found.reference()),
        "attack-bf16": lambda: last.update({"attack-bf16": [found.ours("bf16")] * domains}),
    }
    times, quality = (
        take_turns(works, args.repeats, clock),
        {name: found.quality(x) for name, x in last.items()},
    )
    return {
        name: (
            compare(times[name], times["reference"], len(found.faces))
            | quality[name]
            | {f"reference_{k}": v for k, v in quality["reference"].items()}
        )
        for name in ("attack", "attack-bf16")
    }


def time_dadfi(found, args, clock):
    """One pass of the generator against gradients of the translator, photos in memory, each with its quality.

    A pass takes milliseconds: a turn of ours is ten of them.
    """
    built = {
        "dadfi": attacks.build("dadfi", None, EPS, weights=args.attack_weights),
        "reference": attacks.build(
            "pgd", found.translator, EPS, steps=STEPS, step_size=STEP_SIZE, target="clean", label="iterative"
        ),
    }
    conditions, last = targets(found.translator, found.c, found.attributes).transpose(0, 1), {}

    def once(name, times=1):
        for _ in range(times):
            last[name] = built[name](found.x, conditions, seeds.named(0, found.faces.names, "attack"))

    once("dadfi")
    times = take_turns(
        {"dadfi": lambda: once("dadfi", PASSES), "reference": lambda: once("reference")}, args.repeats, clock
    )
    quality = {name: found.quality([x] * len(found.attributes)) for name, x in last.items()}
    return (
        compare([t / PASSES for t in times["dadfi"]], times["reference"], len(found.faces))
        | quality["dadfi"]
        | {f"reference_{k}": v for k, v in quality["reference"].items()}
    )


def time_purifiers(args, x, names, ctx, clock):
    """one-step and ddpm against diffpure, all three in turn."""
    options = {"device": ctx.device}
    purifiers = {
        "one-step": purify.build("one-step", args.one_step_weights, **options),
        "ddpm": purify.build("ddpm", args.diffusion_weights, start=10, **options),
        "diffpure": purify.build("diffpure", args.diffusion_weights, start=args.diffpure_start, **options),
    }

    @torch.no_grad()
    def once(name, images=x):
        purifiers[name](images, seeds.named(0, names[: len(images)], "purify"))

    for name in ("one-step", "ddpm"):  # first calls choose kernels and take memory
        once(name, x[:1])
    times = take_turns({name: lambda name=name: once(name) for name in purifiers}, args.repeats, clock)
    return {name: compare(times[name], times["diffpure"], len(x)) for name in ("one-step", "ddpm")}


def time_loading(args, faces, clock):
    """A warm crop cache against decoding; both on one thread, both to float batches in [-1, 1]."""
    faces.prepare()
    batches = [range(k, min(k + 16, len(faces))) for k in range(0, len(faces), 16)]
    paths = [faces.folder / name for name in faces.names]
    works = {
        "ours": lambda: [faces.floats(rows) for rows in batches],
        "reference": lambda: list(reference.decode_epoch(paths, args.celeba_crop_size, args.image_size, 16)),
    }
    times = take_turns(works, args.repeats, clock)
    return compare(times["ours"], times["reference"])


def time_detector(args, faces, ctx, clock):
    """One epoch of batches of 32, features from memory against the base in every batch; both train the same
    head on the same labels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = Detector("mobilenet_v2", args.image_size, "frozen").to(ctx.device).train()
    optimiser, pixels = torch.optim.Adam(detector.head.parameters(), 1e-3), faces.load(range(len(faces)))
    labels = torch.arange(len(faces), device=ctx.device) % 2
    samples = Samples(faces.names, [None] * len(faces), labels.cpu(), pixels)
    features = features_of(detector, samples, 32, ctx.device)
    batches = [torch.arange(k, min(k + 32, len(faces))) for k in range(0, len(faces) - 1, 32)]

    def epoch(look_up):
        detector.train()
        for rows in batches:
            loss = F.cross_entropy(detector.head(look_up(rows)), labels[rows.to(ctx.device)])
            descend(loss, detector.head, optimiser, 1e-3, ctx)

    works = {
        "ours": lambda: epoch(lambda rows: features[rows.to(ctx.device)]),
        "reference": lambda: epoch(lambda rows: detector.features(samples.floats(rows).to(ctx.device))),
    }
    times = take_turns(works, args.repeats, clock)
    return compare(times["ours"], times["reference"])


def line(name, m):
    """One printed row."""
    text = f"{name:12s} {m['seconds']:9.4f}s {m['reference_seconds']:9.4f}s {m['ratio']:7.1f}x  "
    text += f"{m['ratio_low']:.1f} - {m['ratio_high']:.1f}".ljust(16) + f" >= {AIMS[name]}x"
    return text + (
        f"   linf {m['linf']:.4f} ({m['reference_linf']:.4f}), l2 of the fakes {m['l2']:.4f}"
        f" ({m['reference_l2']:.4f})"
        if "l2" in m
        else ""
    )


def load_faces(args, folder, attributes):
    source = Path(args.data_dir) / "images_b" if args.data_dir else folder / "photos" / "images"
    if not args.data_dir:
        draw_folder(
            folder / "photos", max(args.num_images, args.num_decoded), seed=0, num_workers=args.num_workers
        )
    faces = FaceFolder(source, attributes, args.celeba_crop_size, args.image_size, cache_dir=folder / "crops")
    if len(faces) < max(args.num_images, args.num_decoded):
        raise UserError(
            f"{source}: holds {len(faces)} photos, fewer than --num_images {args.num_images} or --num_decoded"
            f" {args.num_decoded}"
        )
    return faces


def measure(args, ctx, translator, folder):
    """Yields dicts name -> figures, as the record holds them, one comparison after the other."""
    attributes = translator.attributes or ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
    faces = load_faces(args, folder, attributes)
    some = faces.subset(faces.names[: args.num_images])

    def clock(work):
        return seconds_of(work, ctx.device)

    found = Attacks(some, attributes, translator, ctx, folder / "attacked")
    with torch.no_grad():
        translator(found.x[:1], found.c[:1])
    yield time_attack(found, args, clock)
    yield {"dadfi": time_dadfi(found, args, clock)}
    many = faces.subset(faces.names[: args.num_decoded])
    yield {"loading": time_loading(args, many, clock)}
    yield {"detector": time_detector(args, many, ctx, clock)}
    yield time_purifiers(args, found.x, some.names, ctx, clock)


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx, tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        dataset = Path(args.data_dir).name if args.data_dir else "drawn"
        if args.result_dir:
            files.check_writable(args.result_dir)
        translator = load_translator(args.gan_weights, ctx.device)
        size = load_perturber(args.attack_weights).image_size
        if size != args.image_size:
            raise UserError(
                f"{args.attack_weights}: was trained on photos of {size} pixels, --image_size is"
                f" {args.image_size}; give --attack_weights of that size"
            )
        if args.dry_run:
            ctx.print(json.dumps(runs.options_of(args), indent=2))
            return
        started = time.strftime("%Y-%m-%dT%H:%M:%S")
        run = (
            runs.open_run(Path(args.result_dir) / "benchmark" / dataset, args, ctx)
            if args.result_dir
            else None
        )
        device = (
            torch.cuda.get_device_name(ctx.device)
            if ctx.device.type == "cuda"
            else f"cpu, {torch.get_num_threads()} threads, {platform.machine()}"
        )
        ctx.print(
            f"{device}; {args.num_images} photos of {args.image_size} x {args.image_size}, {args.repeats}"
            " turns each"
        )
        ctx.print(f"{'':12s} {'ours':>10s} {'reference':>10s} {'ratio':>8s}  {'(turns)':16s} aim")
        metrics = {}
        for found in measure(args, ctx, translator, Path(folder)):
            metrics |= found
            ctx.print("\n".join(line(name, m) for name, m in found.items()))
        if run is None:
            return
        config = {
            "num_images": args.num_images,
            "num_decoded": args.num_decoded,
            "image_size": args.image_size,
            "repeats": args.repeats,
            "diffpure_start": args.diffpure_start,
            "threads": torch.get_num_threads(),
            "aims": AIMS,
            "attack": {"eps": EPS, "steps": STEPS, "step_size": STEP_SIZE},
        }
        provenance = {
            "commit": runs.commit(),
            "command": runs.command(),
            "versions": runs.versions(),
            "started": started,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        record.write(
            run.folder / record.FILE,
            record.Record(
                "benchmark",
                "benchmark",
                dataset,
                "b" if args.data_dir else "all",
                0,
                config,
                metrics,
                {},
                None,
                {"device": device},
                provenance,
            ),
        )
        ctx.print(f"record: {run.folder / record.FILE}")


if __name__ == "__main__":
    cli.run(main)
