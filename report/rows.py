"""From records to tables: one per dataset and translator, a row per attack and defence, and marks on rows
that must not be compared.

Reads records only. Runs of one configuration that differ in the seed become one row; a repeated run replaces
the older one.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import mean, stdev

from attacks import WITHOUT_TRANSLATOR
from common.cli import UserError
from report import record

DEFENCES = (
    "none",
    "jpeg",
    "blur",
    "defensive-model-1",
    "defensive-model-2",
    "ddpm",
    "diffpure",
    "one-step-plain",
    "one-step",
    # the order of rows; the longest matching name decides
    "adv-train",
    "both",
)


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
    def first(self):
        return self.runs[0][1]

    @property
    def seeds(self):
        return [found.seed for _, found in self.runs]

    @property
    def dirs(self):
        return [path.parent for path, _ in self.runs]

    def get(self, key):
        """A value of the row's first record by its dotted path, None where it is absent."""
        return _value(self.first, key)

    def cell(self, key):
        """The figure at a dotted path such as `metrics.purified.l2`, over all seeds that measured it."""
        values = [(v, f) for _, f in self.runs if (v := _value(f, key)) is not None]
        if not values:
            return Cell(None)
        if len(values) > 1:
            return Cell(mean(v for v, _ in values), std=stdev(v for v, _ in values))
        low, high = _value(values[0][1], key + "_ci") or (None, None)
        return Cell(values[0][0], low, high)

    def distance_of(self, side):
        """(name, key) of the distance of a side of `metrics`: `fid` on the standard Inception weights, else
        `frechet (features)`."""
        if self.get(f"metrics.{side}.fid") is not None:
            return "fid", f"metrics.{side}.fid"
        name = self.get("features.name")
        return (f"frechet ({name})" if name else "frechet"), f"metrics.{side}.frechet"

    @property
    def distance(self):
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

    @property
    def name(self):
        return f"{self.dataset}, {self.gan}"

    def block(self, attack):
        return [row for row in self.rows if row.attack == attack]

    def attacks(self):
        return list(dict.fromkeys(row.attack for row in self.rows))

    def mark(self, reasons):
        """Give the rows in `reasons` {id(row): text} a footnote; equal texts share one."""
        for row in self.rows:
            if note := reasons.get(id(row)):
                self.notes += [note] if note not in self.notes else []
                row.marks = [self.notes.index(note) + 1]


@dataclass
class Comparison:
    tables: list  # of kind defense
    detectors: list  # [report.kinds.detector.DetectorTable]
    disruptions: list  # [report.kinds.dadfi.DisruptionTable]
    filters: list  # [report.kinds.depois.FilterTable]
    scans: list  # [report.kinds.terd.ScanTable]
    others: list  # [(path, Record)] of kinds that have no table here
    problems: list  # one line per record.json that could not be read
    replaced: list  # paths of older runs that a repeated run replaced


def _value(found, key):
    value = getattr(found, key.split(".")[0])
    for part in key.split(".")[1:]:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def attack_of(config):
    """What decides the attack, as ((key, value), ...): rows with equal keys met the same attack."""
    c = {k: v for k, v in config.items() if v not in (None, "none") or k == "attack"}
    extra = sorted(
        k
        for k in c
        if (k.startswith("attack_") and k != "attack_on")
        or k in ("gradient", "eot", "perturbation", "perturbation_fit")
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
    if c.get("attack") in WITHOUT_TRANSLATOR:
        keys = [
            k
            for k in keys
            if k not in ("attack_target", "attack_steps", "attack_step_size")
            and not (k == "attack_label" and c.get(k) != "target")
        ]
    if c.get("attack") == "none":
        keys = ["attack"]
    if not c.get("attack_through"):
        keys = [k for k in keys if k not in ("gradient", "eot", "attack_gradient", "attack_eot")]
    return tuple((k, c[k]) for k in keys if k in c)


def protocol_of(attack):
    """The attack without its radius: what one curve over eps has in common."""
    return tuple(part for part in attack if part[0] != "eps")


def attack_text(attack, eps=True):
    """`pgd, eps 0.05, target gray, label original, 10 steps of 0.01` in words that stand in a table."""
    a = dict(attack)
    if a["attack"] == "none":
        return "undisturbed"
    words = [str(a.pop("attack"))]
    radius = a.pop("eps", None)
    if eps and radius is not None:
        words.append(f"eps {radius:g}")
    words += [f"{k.removeprefix('attack_')} {a.pop(k)}" for k in ("attack_target", "attack_label") if k in a]
    steps, size = a.pop("attack_steps", None), a.pop("attack_step_size", None)
    if words[0] != "fgsm" and steps is not None:
        words.append(f"{steps:g} steps of {size:g}" if size is not None else f"{steps:g} steps")
    if "attack_through" in a:
        words.append(f"through {a.pop('attack_through')}")
    if "attack_weights" in a:
        words.append(f"weights {a.pop('attack_weights')[:8]}")
    words += [f"{k.removeprefix('attack_')} {str(v).rsplit('/', 1)[-1]}" for k, v in a.items()]
    return ", ".join(words)


def trained_on(config):
    """What a learned defence was trained on, as an ending of its label; "" where that is no disruption."""
    noise = str(config.get("defense_noise") or "none")
    return "" if noise.startswith("none") else f" [trained on {noise}]"


def defence_label(path, found):
    """The folder name with parameters where the run lies in the usual tree, else the record's name; with what
    else sets it apart."""
    parents = path.parents
    usual = len(parents) > 5 and parents[4].name == found.dataset
    label = (usual and parents[5].name) or found.name
    return (
        label
        + trained_on(found.config)
        + (" (attacked itself)" if found.config.get("attack_on") == "self" else "")
    )


def natural(label):
    """Sort key: the fixed order of defences, then numbers by value (t3 before t10)."""
    family = max((d for d in DEFENCES if label.startswith(d)), key=len, default=None)
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return (
        DEFENCES.index(family) if family else len(DEFENCES),
        [float(p) if i % 2 else p for i, p in enumerate(parts)],
    )


def one_per_seed(runs, replaced, made_by=lambda found: found.provenance.get("defense_sha256")):
    """Split the runs of one configuration into rows with one run per seed; the newest of equal runs (seed and
    `made_by`) stays."""
    newest = {}
    for path, found in sorted(runs, key=lambda r: (str(r[1].provenance.get("finished") or ""), str(r[0]))):
        key = (found.seed, made_by(found))
        if key in newest:
            replaced.append(newest[key][0])
        newest[key] = (path, found)
    kept = sorted(newest.values(), key=lambda r: (r[1].seed is None, r[1].seed, str(r[0])))
    if len({found.seed for _, found in kept}) == len(kept):
        return [(kept, "")]
    by_weights = defaultdict(list)  # the same seed with other weights: rows of their own
    for path, found in kept:
        by_weights[made_by(found)].append((path, found))
    return [(mine, f" @{str(sha)[:6]}") for sha, mine in by_weights.items()]


def _rows(runs, replaced):
    groups = defaultdict(list)
    for path, found in runs:
        c = found.config
        groups[
            (
                attack_of(c),
                defence_label(path, found),
                found.split,
                c["num_images"],
                c["num_pairs"],
                c["image_size"],
                c["gan_training_data"],
                found.provenance.get("gan_sha256"),
                (found.features or {}).get("sha256"),
            )
        ].append((path, found))
    return [
        Row(key[0], key[1] + suffix, mine)
        for key, group in groups.items()
        for mine, suffix in one_per_seed(group, replaced)
    ]


def _main_attack(rows):
    def weight(attack):
        mine = [r for r in rows if r.attack == attack]
        a = dict(attack)
        default = (
            (a["attack"] == "pgd")
            + (a.get("attack_target") == "gray")
            + (a.get("attack_label") == "original")
        )
        return (
            len({r.defence for r in mine}),
            max(r.get("config.num_images") or 0 for r in mine),
            -abs((a.get("eps") or 0) - 0.05),
            default,
        )

    return max(dict.fromkeys(r.attack for r in rows), key=weight)


def _most(values):
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
COMPARED = (
    (
        ("config.num_images", "config.num_pairs"),
        lambda v, w: f"{v[0]} photos in {v[1]} pairs (the others: {w[0]} in {w[1]})",
    ),
    IMAGE_SIZE,
    FEATURES,
    TRANSLATOR,
    SPLIT,
)


def _short(features):
    return "none" if features[0] is None else f"{features[0]} {str(features[1])[:8]}"


def differences(row, standard, compared):
    """In what a row differs from most of the rows `standard` (on a tie from the first): texts of `compared`,
    in its order."""
    reasons = []
    for keys, say in compared:
        usual = _most([tuple(r.get(k) for k in keys) for r in standard])
        mine = tuple(row.get(k) for k in keys)
        if mine != usual:
            reasons.append(say(mine, usual))
    return reasons


def _why_not(row, table):
    """Why a row must not be compared with the main block, or with the other rows of its own: the text of a
    footnote, or ""."""
    # on a tie the larger run is the standard
    main = sorted(table.block(table.main), key=lambda r: -(r.get("config.num_images") or 0))
    reasons = differences(row, main, COMPARED)
    if (gap := row.cell("metrics.clean_fake_to_standard.l2").value) is not None:
        reasons.append(f"its fakes of undisturbed photos lie l2 {gap:.4f} from the standard translator's")
    block = sorted(table.block(row.attack), key=lambda r: r.get("config.attack_on") == "self")
    keys = {found.seed: found.provenance.get("attacked_key") for _, found in row.runs}
    seed = _most([s for r in block for s in r.seeds])
    usual = _most([f.provenance.get("attacked_key") for r in block for _, f in r.runs if f.seed == seed])
    if seed not in keys:
        reasons.append(f"seed {', '.join(map(str, keys))} (the others: {seed}), so other attacked images")
    elif keys[seed] != usual:
        self_made = "attacked white-box on itself, so " if row.get("config.attack_on") == "self" else ""
        reasons.append(
            f"{self_made}other attacked images, key {str(keys[seed])[:8]} (the others under this attack:"
            f" {str(usual)[:8]})"
        )
    return "; ".join(reasons)


def table_of(dataset, gan, runs, replaced):
    """The Table of some runs [(path, Record)]: rows sorted and marked; paths of runs that a repetition
    replaced are appended to `replaced`."""
    rows = _rows(runs, replaced)
    table = Table(dataset, gan, rows, _main_attack(rows))
    protocol = protocol_of(table.main)
    reasons = {id(row): note for row in rows if (note := _why_not(row, table))}
    rows.sort(
        key=lambda r: (
            r.attack != table.main,
            "attack_through" in dict(r.attack),
            protocol_of(r.attack) != protocol,
            attack_text(r.attack, eps=False),
            dict(r.attack).get("eps") or 0,
            id(r) in reasons,
            natural(r.defence),
        )
    )
    table.mark(reasons)
    return table


def compare(*folders):
    """Read every record below the folders.  Returns a Comparison; raises UserError if a folder has none or
    none can be read."""
    from report.kinds import dadfi as disruptions
    from report.kinds import depois as filters
    from report.kinds import detector as detectors
    from report.kinds import terd as scans

    records, problems = {}, []
    for folder in folders:
        found, unread = record.read_all(folder)
        # a folder inside another counts once
        records |= {path.resolve(): (path, read) for path, read in found}
        problems += [p for p in unread if p not in problems]
    if not records:
        raise UserError(
            f"{', '.join(map(str, folders))}: none of its {len(problems)} records can be read; the first:"
            f" {problems[0]}"
        )
    by_kind = defaultdict(list)
    for path, found in records.values():
        by_kind[found.kind].append((path, found))
    replaced, datasets = [], defaultdict(list)
    for path, found in by_kind.pop("defense", []):
        datasets[(found.dataset or "?", found.config["gan"] or "?")].append((path, found))
    tables = [table_of(*key, runs, replaced) for key, runs in sorted(datasets.items())]
    judged = detectors.tables_of(by_kind.pop("detector", []), tables, replaced)
    disrupted = disruptions.tables_of(by_kind.pop("dadfi", []), replaced)
    filtered = filters.tables_of(by_kind.pop("depois", []), replaced)
    scanned = scans.tables_of(by_kind.pop("terd", []), replaced)
    return Comparison(
        tables,
        judged,
        disrupted,
        filtered,
        scanned,
        [pair for runs in by_kind.values() for pair in runs],
        problems,
        replaced,
    )
