"""The two sides of each comparison of evaluation.benchmark, our order of work and the plain one, timed in
turn."""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

import attacks
import purify
from common import compiling, distributed, seeds
from common.distributed import Context
from common.training import descend
from evaluation import reference
from faces.celeba import FaceFolder
from models.conditions import targets
from models.detector.network import Detector
from models.detector.samples import Samples
from models.detector.train import features_of
from models.translators import Translator
from pipeline.attacked import AttackedPhotos

PASSES = 10  # of the generator in a turn
EPS, STEPS, STEP_SIZE = 0.05, 10, 0.01  # the published attack, [-1, 1] units
Clock = Callable[[Callable[[], object]], float]  # work -> seconds


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of one call; work on a GPU is waited for."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def take_turns(works: dict[str, Callable[[], object]], repeats: int, clock: Clock) -> dict[str, list[float]]:
    """{name: [seconds, ...]} of callables that are run in turn, `repeats` rounds.  clock(work) -> seconds."""
    times = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(clock(work))
    return times


def compare(ours: Sequence[float], theirs: Sequence[float], units: int = 1) -> dict[str, float]:
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
    """The same photos disrupted both ways.  compile  of --compile, for ours; auto is off here."""

    def __init__(
        self,
        faces: FaceFolder,
        attributes: Sequence[str],
        translator: Translator,
        ctx: Context,
        scratch: Path | str,
        compile: str = "off",
    ):
        self.faces, self.attributes, self.translator, self.ctx, self.scratch = (
            faces,
            attributes,
            translator,
            ctx,
            Path(scratch),
        )
        self.x, self.c = faces.floats(range(len(faces))).to(ctx.device), faces.labels.to(ctx.device)
        self.turn = 0
        self.compiled = translator
        if compile == "on":
            self.compiled = copy.deepcopy(translator)  # the reference is never compiled
            compiling.fix([self.compiled], compile, ctx, len(faces), 0)
            self.ours(), self.ours("bf16")

    def ours(self, precision: str = "fp32") -> torch.Tensor:
        """As test_defense.py does it: attack once, into a new cache (each turn its own), PNGs included.
        Returns (N, 3, H, W)."""
        self.turn += 1
        attack = attacks.build(
            "pgd",
            self.compiled,
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

    def reference(self) -> list[torch.Tensor]:
        """One attack per target domain, rounded to 8 bits as ours are: C tensors (N, 3, H, W)."""
        release = attacks.build("pgd", self.translator, EPS).release
        starts = [seeds.named(0, self.faces.names, "reference", k) for k in range(len(self.attributes))]
        attacked = reference.attack_per_domain(
            self.translator, self.x, self.c, len(self.attributes), EPS, STEPS, STEP_SIZE, starts
        )
        return [release(self.x, x_adv - self.x) for x_adv in attacked]

    @torch.no_grad()
    def quality(self, disrupted: Sequence[torch.Tensor]) -> dict[str, float]:
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


def time_attack(both: Attacks, repeats: int, clock: Clock) -> dict[str, dict]:
    """Ours in both precisions against the reference; each with its quality, so that no one is fast by doing
    less."""
    last, domains = {}, len(both.attributes)
    works = {
        "attack": lambda: last.update(attack=[both.ours()] * domains),
        "reference": lambda: last.update(reference=both.reference()),
        "attack-bf16": lambda: last.update({"attack-bf16": [both.ours("bf16")] * domains}),
    }
    times, quality = (take_turns(works, repeats, clock), {name: both.quality(x) for name, x in last.items()})
    return {
        name: (
            compare(times[name], times["reference"], len(both.faces))
            | quality[name]
            | {f"reference_{k}": v for k, v in quality["reference"].items()}
        )
        for name in ("attack", "attack-bf16")
    }


def time_dadfi(both: Attacks, weights: str, repeats: int, clock: Clock) -> dict:
    """One pass of the generator against gradients of the translator, photos in memory, each with its quality.

    A pass takes milliseconds: a turn of ours is ten of them.
    """
    built = {
        "dadfi": attacks.build("dadfi", None, EPS, weights=weights),
        "reference": attacks.build(
            "pgd", both.translator, EPS, steps=STEPS, step_size=STEP_SIZE, target="clean", label="iterative"
        ),
    }
    conditions, last = targets(both.translator, both.c, both.attributes).transpose(0, 1), {}

    def once(name, times=1):
        for _ in range(times):
            last[name] = built[name](both.x, conditions, seeds.named(0, both.faces.names, "attack"))

    once("dadfi")
    times = take_turns(
        {"dadfi": lambda: once("dadfi", PASSES), "reference": lambda: once("reference")}, repeats, clock
    )
    quality = {name: both.quality([x] * len(both.attributes)) for name, x in last.items()}
    return (
        compare([t / PASSES for t in times["dadfi"]], times["reference"], len(both.faces))
        | quality["dadfi"]
        | {f"reference_{k}": v for k, v in quality["reference"].items()}
    )


def time_purifiers(
    one_step_weights: str,
    diffusion_weights: str,
    diffpure_start: int,
    x: torch.Tensor,
    names: Sequence[str],
    ctx: distributed.Context,
    repeats: int,
    clock: Clock,
) -> dict[str, dict]:
    """one-step and ddpm against diffpure, all three in turn."""
    options = {"device": ctx.device}
    purifiers = {
        "one-step": purify.build("one-step", one_step_weights, **options),
        "ddpm": purify.build("ddpm", diffusion_weights, start=10, **options),
        "diffpure": purify.build("diffpure", diffusion_weights, start=diffpure_start, **options),
    }

    @torch.no_grad()
    def once(name, images=x):
        purifiers[name](images, seeds.named(0, names[: len(images)], "purify"))

    for name in ("one-step", "ddpm"):  # first calls choose kernels and take memory
        once(name, x[:1])
    times = take_turns({name: lambda name=name: once(name) for name in purifiers}, repeats, clock)
    return {name: compare(times[name], times["diffpure"], len(x)) for name in ("one-step", "ddpm")}


def time_loading(faces: FaceFolder, crop: int, size: int, repeats: int, clock: Clock) -> dict:
    """A warm crop cache against decoding; both on one thread, both to float batches in [-1, 1]."""
    faces.prepare()
    batches = [range(k, min(k + 16, len(faces))) for k in range(0, len(faces), 16)]
    paths = [faces.folder / name for name in faces.names]
    works = {
        "ours": lambda: [faces.floats(rows) for rows in batches],
        "reference": lambda: list(reference.decode_epoch(paths, crop, size, 16)),
    }
    times = take_turns(works, repeats, clock)
    return compare(times["ours"], times["reference"])


def time_detector(faces: FaceFolder, size: int, ctx: distributed.Context, repeats: int, clock: Clock) -> dict:
    """One epoch of batches of 32, features from memory against the base in every batch; both train the same
    head on the same labels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = Detector("mobilenet_v2", size, "frozen").to(ctx.device).train()
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
    times = take_turns(works, repeats, clock)
    return compare(times["ours"], times["reference"])
