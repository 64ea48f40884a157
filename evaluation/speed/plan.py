"""Hours, disk and memory of the CelebA scripts: measured seconds times counts read from the scripts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError
from evaluation.speed.jobs import BF16, PLAIN, TRAININGS
from evaluation.speed.scripts import name_of, options_of, parts_of
from faces.celeba import held_out
from models.diffusion import build
from purify.defences import DEFENCES, purifier_class

DDPM_STEPS = 10  # evaluations of the row ddpm
SCORED = "besides networks"  # CPU seconds of a photo and a defence in test_defense.py; of a scale record


@dataclass
class Stage:
    """A line of the plan.

    work    row -> how many photos go through it;  shares  how many devices it can use at most, None = all
    images  kind -> how many images it leaves on the disk: "plain" or "disrupted" PNGs, or 8-bit "crops"
    host    photos that it holds in memory as 8-bit arrays
    """

    name: str
    work: dict[str, float] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    shares: int | None = None
    host: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, row: str, units: float) -> None:
        self.work[row] = self.work.get(row, 0) + units

    def keep(self, kind: str, count: int) -> None:
        self.images[kind] = self.images.get(kind, 0) + count


@dataclass(frozen=True)
class Measured:
    """rows  {row, SCORED among them: {"seconds" of a photo, "peak_memory_mb"}};  bytes_of  {kind: bytes of an
    image};  diffpure_start  evaluations of the row diffpure"""

    rows: dict[str, dict]
    bytes_of: dict[str, float]
    diffpure_start: int

    def seconds(self, stage: Stage, devices: int) -> float:
        """Of a stage on that many devices, each of which does an equal part."""
        one = sum(units * self.rows[row]["seconds"] for row, units in stage.work.items())
        return one / min(devices, stage.shares or devices)

    def disk_gb(self, stage: Stage) -> float:
        return sum(count * self.bytes_of[kind] for kind, count in stage.images.items()) / 1e9

    def memory_gb(self, stage: Stage) -> float:
        rows = [self.rows[row]["peak_memory_mb"] or 0.0 for row in stage.work]
        return max(rows, default=0.0) / 1e3 + stage.host * self.bytes_of["crops"] / 1e9


def row_of(name: str, precision: str) -> str:
    return name + (BF16 if precision == "bf16" else "")


def evaluations(start: int, respacing: str) -> int:
    """Network evaluations of a reverse chain from t* = start over the kept ones of 1,000 steps."""
    return sum(step <= start - 1 for step in build.kept_steps(1000, respacing))


def purification(name: str, start: Any, respacing: str, diffpure_start: int) -> tuple[str, float] | None:
    """(row, units of it) of one photo through a defence, None where nothing is done to it.

    Raises: UserError for a defence whose cost depends on the photos, or that no row is like
    """
    purifier = DEFENCES[name].purifier
    if purifier == "none":
        return None
    if purifier in PLAIN:
        return purifier, 1.0
    if purifier in ("one-step", "one-step-robust", "one-step-plain"):
        return "one-step", 1.0
    start = start or purifier_class(name).defaults["start"]
    if start == "auto":
        raise UserError(f"{name} from auto: how many steps it takes depends on the photos")
    per_row = {"ddpm": DDPM_STEPS, "diffpure": diffpure_start}
    if purifier not in per_row:
        raise UserError(f"{name}: no row of the benchmark is like it")
    return purifier, evaluations(start, respacing) / per_row[purifier]


def plan_training(command: Sequence[str], parts: dict[str, int], first: bool) -> Stage:
    """A training of train_CelebA.sh.  first: the one that decodes split A"""
    (o,) = options_of(command)
    kind = "adv" if name_of(command) == "models.stargan.train" else o.defense_model_type
    likened = {"ddpm": "diffusion", "one-step-robust": "one-step"}
    base = f"train-{likened.get(kind, kind)}"
    if base not in TRAININGS:
        raise UserError(f"{kind}: no row of the benchmark is like its training")
    stage = Stage(f"train {kind if kind != 'adv' else 'adv-train'}")
    stage.add(row_of(base, o.precision), o.num_steps * o.batch_size)
    if first:
        stage.keep("crops", parts["a"])
    return stage


def plan_test(command: Sequence[str], parts: dict[str, int], seen: set, diffpure_start: int) -> Stage:
    """One call of test_defense.py in test_CelebA.sh.  seen: what the shared caches hold by then, added to"""
    every = options_of(command)
    o = every[0]
    n, domains = min(o.limit or parts["b"], parts["b"]), len(o.selected_attrs)
    sets = domains if o.attack_label == "target" else 1
    per_attack = o.attack_steps / 10 * sets
    who = o.defense_model_type if o.attack_on == "self" else f"{len(every)} defences"
    stage = Stage(f"test {who}, {o.attack_target}" + (", on itself" if o.attack_on == "self" else ""))
    # defences that attack themselves share one adversarially trained translator, and so its attack
    attacked = ("attacked", o.attack_on, o.attack_target, o.attack_label)
    if attacked not in seen:
        stage.add(row_of("attack", o.precision), n * per_attack)
        stage.keep("disrupted", n * sets)
    if not any(key[0] == "crops" for key in seen):
        stage.keep("crops", parts["b"])
    seen |= {attacked, ("crops",)}
    versions = 2  # of the photo and of the disrupted photo
    for own in every:
        versions += 2
        stage.add(SCORED, n)
        try:
            unit = purification(own.defense_model_type, own.ddpm_start_num, own.respacing, diffpure_start)
        except UserError as e:
            stage.notes.append(f"left out of `{stage.name}`: {e}")
            continue
        if unit is None:
            continue
        purifier = DEFENCES[own.defense_model_type].purifier
        for source, count in ((attacked, n * sets), (("photos",), n)):
            key = ("purified", purifier, own.ddpm_start_num, own.respacing, own.jpeg_quality, source)
            if key not in seen:
                stage.add(row_of(unit[0], own.precision), count * unit[1])
                stage.keep("plain", count)
                seen.add(key)
    stage.add(row_of("fakes", o.precision), n * versions)
    return stage


def plan_detectors(commands: Iterable[Sequence[str]], parts: dict[str, int], diffpure_start: int) -> list:
    """The images that train_detector_CelebA.sh makes, each once, and its trainings: [Stage, Stage]."""
    images, trainings = Stage("images for detectors"), Stage("train detectors")
    every, rates = [], {}
    for command in commands:
        if name_of(command) == "compare_results":
            continue
        if name_of(command) == "purify.depois" or "--kept_names" in command:
            images.notes.append("left out: what De-Pois drops, which no row measures")
            continue
        every += options_of(command)
    if not every:
        raise UserError("train_detector_CelebA.sh: trains nothing that can be planned")
    o = every[0]
    b, c, share = parts["b"], parts["c"], 1 / len(o.selected_attrs)
    attack, fakes = row_of("attack", o.precision), row_of("fakes", o.precision)
    most = max(own.poison_rate for own in every)
    for own in every:
        if own.condition == "purified":
            key = (own.defense_model_type, own.ddpm_start_num, own.respacing, own.jpeg_quality)
            rates.setdefault(key, []).append(own.poison_rate)
    plain, disrupted = b + c, (b * most + c if most else 0)
    images.add(attack, disrupted * o.attack_steps / 10)
    images.keep("crops", c)  # B's are there since the test
    images.keep("disrupted", round(disrupted))
    count = plain + disrupted
    for (name, start, respacing, _), of in rates.items():
        try:
            unit = purification(name, start, respacing, diffpure_start)
        except UserError as e:
            images.notes.append(f"left out of `{images.name}`: {e}")
            continue
        photos = b * (1 - min(of)) + b * max(of) + c
        if unit:
            images.add(row_of(unit[0], o.precision), photos * unit[1])
            images.keep("plain", round(photos))
        count += photos
    images.add(fakes, count * share)
    images.keep("plain", round(count))
    learned = len(held_out([str(i) for i in range(b)])[0])
    for own in every:
        steps = own.epochs * -(-2 * learned // own.batch_size)
        trainings.add(row_of("train-detector", own.precision), steps * own.batch_size * len(own.seeds))
    trainings.shares, trainings.host = max(len(own.seeds) for own in every), 2 * 2 * b
    return [images, trainings]


def plan(
    record: Callable[[str], list[list[str]]], photos: int, diffpure_start: int
) -> tuple[list[Stage], list[str]]:
    """(stages, notes) of the three scripts.  record  script -> its command lines, see scripts.record"""
    training = record("train_CelebA.sh")
    split, notes = next((c for c in training if name_of(c) == "split_dataset"), None), []
    if split is None:
        raise UserError("train_CelebA.sh: splits nothing, so how many photos each part holds is not known")
    parts = parts_of(photos, split)
    commands = [c for c in training if c is not split]
    stages = [plan_training(c, parts, first=c is commands[0]) for c in commands]
    seen: set = set()
    for command in record("test_CelebA.sh"):
        if name_of(command) == "test_defense":
            stages.append(plan_test(command, parts, seen, diffpure_start))
    stages += plan_detectors(record("train_detector_CelebA.sh"), parts, diffpure_start)
    for stage in stages:
        notes += [note for note in stage.notes if note not in notes]
    return stages, [f"split: {parts['a']} : {parts['b']} : {parts['c']} photos", *notes]


def table(stages: Sequence[Stage], measured: Measured, devices: Sequence[int]) -> str:
    """The stages with their hours on each number of devices, disk and memory, and the sums."""
    width = max(len(stage.name) for stage in stages) + 1
    heads = "".join(f" {f'hours on {n}':>12s}" for n in devices)
    lines = [f"{'':{width}s}{heads} {'disk GB':>9s} {'memory GB':>10s}"]
    sums = [0.0] * len(devices)
    for stage in stages:
        hours = [measured.seconds(stage, n) / 3600 for n in devices]
        sums = [a + b for a, b in zip(sums, hours, strict=True)]
        text = f"{stage.name:{width}s}" + "".join(f" {h:12.3g}" for h in hours)
        lines.append(text + f" {measured.disk_gb(stage):9.3g} {measured.memory_gb(stage):10.3g}")
    disk, memory = sum(map(measured.disk_gb, stages)), max(map(measured.memory_gb, stages))
    text = f"{'all':{width}s}" + "".join(f" {h:12.3g}" for h in sums)
    return "\n".join([*lines, text + f" {disk:9.3g} {memory:10.3g}"])


def assumptions(measured: Measured, rows: dict[str, dict], devices: Sequence[int]) -> list[str]:
    """What the table rests on, one line each.  rows  figures as records hold them"""
    of = measured.bytes_of
    batches = {row: m["photos_per_unit"] for row, m in rows.items() if m["unit"] == "step"}
    return [
        "",
        "assumed:",
        "steps, photos of a step, defences, rates and seeds are those of the scripts and of the commands' own"
        " defaults, with the variables of this shell",
        "a step takes its seconds in proportion to its photos; measured with "
        + ", ".join(f"{batch} ({row})" for row, batch in batches.items()),
        f"on {' and '.join(map(str, devices))} devices: each does an equal part and none waits for another;"
        " detectors use one device a seed",
        f"a chain of T evaluations takes T / {DDPM_STEPS} of the row ddpm, or T / {measured.diffpure_start}"
        " of diffpure; one-step-plain and one-step-robust take one-step's time (robust's training takes"
        " longer: it attacks through itself)",
        f"{SCORED}: {measured.rows[SCORED]['seconds']:.4f} CPU s of a photo and a defence, one after another",
        f"disk: PNGs of drawn faces of this size, {of['plain']:.0f} bytes a photo, {of['disrupted']:.0f} with"
        f" every value moved by 6 grey levels, and {of['crops']:.0f} of a crop; checkpoints, features and"
        " pictures of results are left out",
        "fakes in a test: of the photo, of the disrupted photo, and of two more for each defence",
        "memory: the most that a row of the stage held, at the photos of a step that were measured; of"
        " detectors also their photos, twice",
        "detectors are trained from scratch (kept ImageNet features cost less); the split, loading of"
        " weights, validation and saving are left out",
    ]
