"""From records of methods that find poisoned samples (kind depois) to tables: one per dataset, image size and
poison rate, a row per poison and method.

Reads records only. Seeds become one row, as in report.rows. Two views of a table: AUROC of each method on
each poison, and every figure of every row.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from report.comparison import Comparison, Runs
from report.kinds.depois_names import identity, labels_of, parameters
from report.looks import natural
from report.record import Record
from report.rows import SPLIT, TRANSLATOR, Cell, Row, Table, differences, one_per_seed
from report.text import number

# the order of blocks; others follow
POISONS = (
    "label-flip",
    "noise",
    "blend",
    "gradient",
    "gan",
    "bypass",
    "bypass-replica",
    "disruption",
    "none",
)
METHODS = (
    "de-pois",
    "de-pois without synthetic data",
    "de-pois without authenticator",
    "de-pois as published",
    # the order of rows; others follow
    "isolation-forest",
    "isolation-forest-pixels",
    "one-class-svm",
    "knn-labels",
    "loss",
)
AUC = "metrics.auc"
# an AUROC that stays below it, deviation included, is too near to chance: not found
FOUND_FROM = 0.6
MISSED = "not found"
SETTING = (
    (("trusted",), lambda v, w: f"{v[0]} trusted samples (the others: {w[0]})"),
    (("config.num_samples",), lambda v, w: f"{v[0]} samples examined (the others: {w[0]})"),
    (("config.num_classes",), lambda v, w: f"{v[0]} classes (the others: {w[0]})"),
    TRANSLATOR,
    SPLIT,
)
BOUNDARY = (
    ("config.boundary", "config.nominal_fpr"),
    lambda v, w: (
        f"boundary {v[0]} at {number(v[1], 'short')} (the others: {w[0]} at {number(w[1], 'short')}), which"
        " AUROC and TPR do not depend on"
    ),
)
JUDGE = (
    ("config.judge_steps",),
    lambda v, w: (
        f"small classifiers trained for {v[0]} steps (the others: {w[0]}), which nothing else depends on"
    ),
)
TRAINING = (
    ("config.schedule", "config.gan_steps", "config.mimic_steps"),
    # of methods that have a critic
    lambda v, w: (
        f"critic trained by schedule {v[0]}, steps {v[1]} + {v[2]} (the others: {w[0]}, {w[1]} + {w[2]})"
    ),
)


@dataclass
class FilterRow(Row):
    """One method on one poison; `attack` is the poison's identity, `defence` the method."""

    poison: str = ""  # as the table calls it
    # of another setting or training, so that not even its AUROC may be compared
    apart: bool = False

    @property
    def label(self) -> str:
        return self.defence

    def get(self, key: str) -> Any:
        """A value by its dotted path; `trusted`: samples trusted in all, as the part of them that is held
        back differs by a few from seed to seed."""
        return (
            sum(self.get(f"config.{part}") or 0 for part in ("num_trusted", "num_held"))
            if key == "trusted"
            else super().get(key)
        )

    @property
    def auc(self) -> Cell:
        return self.cell(AUC)

    @property
    def trained(self) -> bool:
        return self.get("provenance.mimic_sha256") is not None

    @property
    def missed(self) -> bool:
        """Whether the AUROC stays below FOUND_FROM at its upper end: over seeds mean + deviation, of one seed
        the end of its interval."""
        cell = self.auc
        if cell.value is None:
            return False
        upper = (
            cell.value + cell.std if cell.std is not None else cell.value if cell.high is None else cell.high
        )
        return upper < FOUND_FROM


@dataclass
class FilterTable(Table):
    """The methods that examined one dataset at one image size and poison rate."""

    image_size: int | None = None
    rate: float | None = None
    best: set = field(default_factory=set)  # ids of the rows with the best AUROC of their poison

    @property
    def name(self) -> str:
        return f"{self.dataset}, {self.image_size} pixels, poison rate {number(self.rate, 'short')}"

    @property
    def file_name(self) -> str:
        rate = self.rate if self.rate is None else format(self.rate, "g")
        return f"{self.dataset}-{self.image_size}-rate{rate}"

    @property
    def poisons(self) -> list[str]:
        return list(dict.fromkeys(row.poison for row in self.rows))

    @property
    def setting(self) -> str:
        """What the unmarked rows have in common, and the parameters of the poisons: a sentence each."""
        row = next((r for r in self.rows if not r.marks), self.rows[0])
        samples, classes, trusted = (
            number(row.get(key), "count") for key in ("config.num_samples", "config.num_classes", "trusted")
        )
        held = number(row.cell("config.num_held").value, "count")
        boundary = (
            f"{row.get('config.boundary')}, nominal FPR {number(row.get('config.nominal_fpr'), 'short')}"
        )
        told = {r.poison: parameters(r.get("config.poison_params")) for r in self.rows}
        poisons = "; ".join(
            f"{poison} ({words})" for poison, words in told.items() if words and not poison.endswith(words)
        )
        return (
            f"{samples} samples of {classes} classes examined; {trusted} trusted, {held} of them held back"
            f" for the boundary ({boundary})." + (f" Poisons: {poisons}." if poisons else "")
        )


def _place(name, order):
    return order.index(name) if name in order else len(order)


def order(row: FilterRow) -> tuple:
    """Sort key of a row among those of its poison: by method, those of another setting last."""
    return row.apart, _place(row.get("config.method"), METHODS), natural(row.label)


def _best(rows):
    """ids of the rows with the highest AUROC of their poison, equal figures included; none where no method
    finds it or only one tried."""
    best, by_poison = set(), defaultdict(list)
    for row in rows:
        if not row.apart and row.auc.value is not None:
            by_poison[row.poison].append(row)
    for mine in by_poison.values():
        if len({row.label for row in mine}) > 1:
            top = number(max(row.auc.value for row in mine), "ssim")
            best |= {id(row) for row in mine if number(row.auc.value, "ssim") == top and not row.missed}
    return best


def table_of(
    dataset: str, image_size: int | None, rate: float | None, runs: Runs, replaced: list
) -> FilterTable:
    """The FilterTable of some runs [(path, Record)]; paths of runs that a repetition replaced
    are appended to `replaced`."""
    groups = defaultdict(list)
    for path, record in runs:
        c, row = record.config, FilterRow((), "", [(path, record)])
        setting = (
            row.get(key)
            for keys, _ in (*SETTING, BOUNDARY, JUDGE, *([TRAINING] if row.trained else []))
            for key in keys
        )
        groups[
            (identity(c["poison"], c["poison_params"]), identity(c["method"], c["method_params"]), *setting)
        ].append((path, record))
    poisons, methods = labels_of({key[0] for key in groups}), labels_of({key[1] for key in groups})

    def made_by(record: Record) -> str | None:
        return record.provenance["mimic_sha256"]

    rows = [
        FilterRow(key[0], methods[key[1]] + suffix, mine, poison=poisons[key[0]])
        for key, group in groups.items()
        for mine, suffix in one_per_seed(group, replaced, made_by)
    ]
    standard = sorted(
        rows, key=lambda r: (-(r.get("config.num_samples") or 0), -(r.get("config.num_trusted") or 0))
    )
    reasons = {}
    for row in rows:
        differing = differences(row, standard, SETTING)
        differing += differences(row, [r for r in standard if r.trained], (TRAINING,)) if row.trained else []
        row.apart = bool(differing)
        reasons[id(row)] = "; ".join(differing + differences(row, standard, (BOUNDARY, JUDGE)))
    rows.sort(
        key=lambda r: (_place(r.get("config.poison"), POISONS), natural(r.poison), *order(r), reasons[id(r)])
    )
    table = FilterTable(dataset, "", rows, rows[0].attack, image_size=image_size, rate=rate, best=_best(rows))
    table.mark(reasons)
    return table


def tables_of(runs: Runs, comparison: Comparison) -> list[FilterTable]:
    """[FilterTable] of runs [(path, Record)] of kind depois."""
    groups = defaultdict(list)
    for path, record in runs:
        groups[(record.dataset or "?", record.config["image_size"], record.config["poison_rate"])].append(
            (path, record)
        )
    return [
        table_of(*key, group, comparison.replaced)
        for key, group in sorted(
            groups.items(), key=lambda item: (item[0][0], item[0][1] or 0, item[0][2] or 0)
        )
    ]
