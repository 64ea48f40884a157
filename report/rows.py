"""What rows of any kind of record share: cells, rows, tables, attacks in words, and marks on rows that must
not be compared.

Runs of one configuration that differ in the seed become one row; a repeated run replaces the older one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from report.looks import Looks
from report.record import Record

Run = tuple[Path, Record]


@dataclass(frozen=True)
class Cell:
    """One figure of a row: over seeds its mean and standard deviation, of a single seed its 95% interval over
    photos."""

    value: float | None
    low: float | None = None
    high: float | None = None
    std: float | None = None


@dataclass
class Row:
    """One attack x defence. `runs` is [(path of record.json, Record)], one per seed, in the order of
    seeds."""

    attack: tuple  # ((key, value), ...): what the attack is
    defence: str
    runs: list
    # numbers of footnotes: why it must not be compared with the others
    marks: list = field(default_factory=list)

    @property
    def first(self) -> Record:
        return self.runs[0][1]

    @property
    def seeds(self) -> list[int]:
        return [record.seed for _, record in self.runs]

    @property
    def dirs(self) -> list[Path]:
        return [path.parent for path, _ in self.runs]

    def get(self, key: str) -> Any:
        """A value of the row's first record by its dotted path, None where it is absent."""
        return _value(self.first, key)

    def cell(self, key: str) -> Cell:
        """The figure at a dotted path such as `metrics.purified.l2`, over all seeds that measured it."""
        values = [(v, f) for _, f in self.runs if (v := _value(f, key)) is not None]
        if not values:
            return Cell(None)
        if len(values) > 1:
            return Cell(mean(v for v, _ in values), std=stdev(v for v, _ in values))
        low, high = _value(values[0][1], key + "_ci") or (None, None)
        return Cell(values[0][0], low, high)

    def distance_of(self, side: str) -> tuple[str, str]:
        """(name, key) of the distance of a side of `metrics`: `fid` on the standard Inception weights, else
        `frechet (features)`."""
        if self.get(f"metrics.{side}.fid") is not None:
            return "fid", f"metrics.{side}.fid"
        name = self.get("features.name")
        return (f"frechet ({name})" if name else "frechet"), f"metrics.{side}.frechet"

    @property
    def distance(self) -> tuple[str, str]:
        return self.distance_of("purified")


@dataclass
class Table:
    """The rows of one dataset and translator; `main` is the attack that most defences met, against which the
    rest is marked."""

    dataset: str
    gan: str
    rows: list
    main: tuple
    notes: list = field(default_factory=list)  # footnote i + 1 belongs to mark i + 1
    looks: Looks = field(default_factory=Looks)

    @property
    def name(self) -> str:
        return f"{self.dataset}, {self.gan}"

    def block(self, attack: tuple) -> list[Row]:
        return [row for row in self.rows if row.attack == attack]

    def attacks(self) -> list[tuple]:
        return list(dict.fromkeys(row.attack for row in self.rows))

    def mark(self, reasons: Mapping[int, str]) -> None:
        """Give the rows in `reasons` {id(row): text} a footnote; equal texts share one."""
        for row in self.rows:
            if note := reasons.get(id(row)):
                self.notes += [note] if note not in self.notes else []
                row.marks = [self.notes.index(note) + 1]


def _value(record, key):
    value = getattr(record, key.split(".")[0])
    for part in key.split(".")[1:]:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def attack_of(config: dict, looks: Looks) -> tuple:
    """What decides the attack, as ((key, value), ...): rows with equal keys met the same attack."""
    c = {k: v for k, v in config.items() if v not in (None, "none") or k == "attack"}
    extra = sorted(
        k
        for k in c
        if (k.startswith("attack_") and k != "attack_on")
        or k in ("gradient", "eot", "perturbation", "perturbation_fit", "through_sha256")
    )
    named = [
        "attack",
        "attack_target",
        "attack_label",
        "attack_through",
        "attack_steps",
        "attack_step_size",
        "eps",
    ]
    keys = named + [k for k in extra if k not in named]
    if c.get("attack") in looks.without_translator:
        keys = [
            k for k in keys if k != "attack_target" and not (k == "attack_label" and c.get(k) != "target")
        ]
    if c.get("attack") == "none":
        keys = ["attack"]
    if not c.get("attack_through"):
        keys = [k for k in keys if k not in ("gradient", "eot", "attack_gradient", "attack_eot")]
    return tuple((k, c[k]) for k in keys if k in c)


def protocol_of(attack: tuple) -> tuple:
    """The attack without its radius: what one curve over eps has in common."""
    return tuple(part for part in attack if part[0] != "eps")


def attack_text(attack: tuple, eps: bool = True) -> str:
    """`pgd, eps 0.05, target gray, label original, 10 steps of 0.01` in words that stand in a table."""
    a = dict(attack)
    if a["attack"] == "none":
        return "undisturbed"
    words = [str(a.pop("attack"))]
    sha, known = a.pop("through_sha256", None), a.pop("attack_known_noise", None)
    radius = a.pop("eps", None)
    if eps and radius is not None:
        words.append(f"eps {radius:g}")
    words += [f"{k.removeprefix('attack_')} {a.pop(k)}" for k in ("attack_target", "attack_label") if k in a]
    steps, size = a.pop("attack_steps", None), a.pop("attack_step_size", None)
    if words[0] != "fgsm" and steps is not None:
        words.append(f"{steps:g} steps of {size:g}" if size is not None else f"{steps:g} steps")
    if "attack_through" in a:
        words.append(f"through {a.pop('attack_through')}")
    for k in ("attack_weights", "attack_features"):
        if k in a:
            words.append(f"{k.removeprefix('attack_')} {a.pop(k)[:8]}")
    words += [f"{k.removeprefix('attack_')} {str(v).rsplit('/', 1)[-1]}" for k, v in a.items()]
    words += [f"of other weights {sha[:8]}"] if sha else []
    words += ["noise known"] if known else []
    return ", ".join(words)


def trained_on(config: dict) -> str:
    """What a learned defence was trained on, as an ending of its label; "" where that is no disruption."""
    noise = str(config.get("defense_noise") or "none")
    return "" if noise.startswith("none") else f" [trained on {noise}]"


def one_per_seed(
    runs: Sequence[Run],
    replaced: list[Path],
    made_by: Callable[[Record], object] = lambda record: record.provenance.get("defense_sha256"),
) -> list[tuple[list[Run], str]]:
    """Split the runs of one configuration into rows with one run per seed; the newest of equal runs (seed and
    `made_by`) stays."""
    newest = {}
    for path, record in sorted(runs, key=lambda r: (str(r[1].provenance.get("finished") or ""), str(r[0]))):
        key = (record.seed, made_by(record))
        if key in newest:
            replaced.append(newest[key][0])
        newest[key] = (path, record)
    kept = sorted(newest.values(), key=lambda r: (r[1].seed is None, r[1].seed, str(r[0])))
    if len({record.seed for _, record in kept}) == len(kept):
        return [(kept, "")]
    by_weights = defaultdict(list)  # the same seed with other weights: rows of their own
    for path, record in kept:
        by_weights[made_by(record)].append((path, record))
    return [(mine, f" @{str(sha)[:6]}") for sha, mine in by_weights.items()]


def most(values: Sequence) -> object:
    """The most frequent value, the first of them on a tie."""
    return Counter(values).most_common(1)[0][0] if values else None


# (dotted keys that must agree, what a footnote says about a row that differs)
IMAGE_SIZE = (("config.image_size",), lambda v, w: f"image size {v[0]} (the others: {w[0]})")
TRANSLATOR = (
    ("provenance.gan_sha256",),
    lambda v, w: f"another translator, sha256 {str(v[0])[:8]} (the others: {str(w[0])[:8]})",
)
SPLIT = (("split",), lambda v, w: f"split {v[0]} (the others: {w[0]})")
FEATURES = (
    ("features.name", "features.sha256"),
    lambda v, w: f"its distance uses the features {_short(v)} (the others: {_short(w)})",
)


def _short(features):
    return "none" if features[0] is None else f"{features[0]} {str(features[1])[:8]}"


def differences(row: Row, standard: Sequence[Row], compared: Sequence[tuple]) -> list[str]:
    """In what a row differs from most of the rows `standard` (on a tie from the first): texts of `compared`,
    in its order."""
    reasons = []
    for keys, say in compared:
        usual = most([tuple(r.get(k) for k in keys) for r in standard])
        mine = tuple(row.get(k) for k in keys)
        if mine != usual:
            reasons.append(say(mine, usual))
    return reasons
