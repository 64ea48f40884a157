"""From records of methods that find poisoned samples (kind depois) to tables: one per dataset, image size and
poison rate, a row per poison and method.

Reads records only. Seeds become one row, as in compare.py. Two views of a table: AUROC of each method on each
poison, and every figure of every row.
"""

import csv
import io
import json
from collections import defaultdict
from dataclasses import dataclass, field

from report import rows as compare
from report.kinds.depois_names import identity, labels_of, parameters
from report.rows import Row, Table
from report.text import (
    Column,
    alike,
    bold,
    csv_figures,
    csv_headings,
    figure,
    footnotes,
    mark,
    markdown_table,
    number,
)

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
    compare.TRANSLATOR,
    compare.SPLIT,
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
COLUMNS = (
    Column("accuracy", "metrics.accuracy", "ssim", spread=True),
    Column("precision", "metrics.precision", "ssim"),
    Column("recall", "metrics.recall", "ssim"),
    Column("F1", "metrics.f1", "ssim", spread=True),
    Column("AUROC", AUC, "ssim", spread=True),
    Column("verdict", "verdict", "verdict"),
    Column("TPR at 1 % FPR", "metrics.tpr_at_1", "ssim"),
    Column("TPR at 5 % FPR", "metrics.tpr_at_5", "ssim"),
    Column("FPR (nominal)", "metrics.fpr", "nominal"),
    Column("classifier clean", "metrics.classifier.clean", "ssim"),
    Column("classifier poisoned", "metrics.classifier.poisoned", "ssim"),
    Column("classifier kept", "metrics.classifier.kept", "ssim", spread=True),
)
CSV_CONFIG = (
    "boundary",
    "nominal_fpr",
    "num_trusted",
    "num_held",
    "num_samples",
    "num_poisoned",
    "num_classes",
)
# of all samples, and of each class
CSV_SCORES = ("accuracy", "precision", "recall", "f1", "auc", "tpr_at_1", "tpr_at_5", "fpr")
CSV_KEYS = [
    "metrics.threshold",
    *(f"metrics.classifier.{key}" for key in ("clean", "poisoned", "kept")),
    "cost.train_s",
    "cost.score_s_per_image",
]
LEGENDS = {
    "overview": (
        "AUROC: how often a method ranks a poisoned sample as more suspicious than a clean one, whatever the"
        " boundary; 1 is all found, 0.5 is chance, below it the poison looks cleaner than clean samples."
        " **Bold**: the best method of a poison among rows that may be compared, none where no method finds"
        f" it. *Italic*: below {FOUND_FROM:g} even at its upper end, so the poison is not found this way. ±"
        " standard deviation over seeds."
    ),
    "details": (
        "Poisoned = 1. A sample is dropped where it looks worse than a boundary set by trusted samples held"
        " back. *accuracy*, *precision*, *recall*, *F1*: of dropping the poisoned and keeping the clean."
        " *AUROC*: how often a poisoned sample is ranked as more suspicious than a clean one, whatever the"
        f" boundary (0.5 is chance); *verdict*: not found where it lies below {FOUND_FROM:g} even at its"
        " upper end. *TPR*: share of the poison found where at most 1 % or 5 % of the clean samples are"
        " dropped; *FPR*: share of the clean samples that the boundary drops, in brackets the rate it was"
        " set for. *AUROC*, *recall*, *FPR* with the name of a class: of its samples alone. *classifier*:"
        " accuracy on clean test images of a small classifier trained on the examined samples *clean*"
        " (before poisoning), *poisoned*, and on those that the method *kept*. [low, high]: bootstrap 95%"
        " interval over samples; ± standard deviation over seeds. **Bold**: the best AUROC of a poison,"
        " where it is found. † must not be compared with the other rows, except for what its footnote leaves"
        " out."
    ),
}
LEGEND = "\n\n".join(LEGENDS.values())


@dataclass
class FilterRow(Row):
    """One method on one poison; `attack` is the poison's identity, `defence` the method."""

    poison: str = ""  # as the table calls it
    # of another setting or training, so that not even its AUROC may be compared
    apart: bool = False

    @property
    def label(self):
        return self.defence

    def get(self, key):
        """A value by its dotted path; `trusted`: samples trusted in all, as the part of them that is held
        back differs by a few from seed to seed."""
        return (
            sum(self.get(f"config.{part}") or 0 for part in ("num_trusted", "num_held"))
            if key == "trusted"
            else super().get(key)
        )

    @property
    def auc(self):
        return self.cell(AUC)

    @property
    def trained(self):
        return self.get("provenance.mimic_sha256") is not None

    @property
    def missed(self):
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
    def name(self):
        return f"{self.dataset}, {self.image_size} pixels, poison rate {number(self.rate, 'short')}"

    @property
    def file_name(self):
        return f"{self.dataset}-{self.image_size}-rate{self.rate if self.rate is None else format(self.rate, 'g')}"

    @property
    def poisons(self):
        return list(dict.fromkeys(row.poison for row in self.rows))

    @property
    def setting(self):
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


def _order(row):
    """Sort key of a row among those of its poison: by method, those of another setting last."""
    return row.apart, _place(row.get("config.method"), METHODS), compare.natural(row.label)


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


def table_of(dataset, image_size, rate, runs, replaced):
    """The FilterTable of some runs [(path, Record)]; replaced: see compare.table_of."""
    groups = defaultdict(list)
    for path, found in runs:
        c, row = found.config, FilterRow((), "", [(path, found)])
        setting = (
            row.get(key)
            for keys, _ in (*SETTING, BOUNDARY, JUDGE, *([TRAINING] if row.trained else []))
            for key in keys
        )
        groups[
            (identity(c["poison"], c["poison_params"]), identity(c["method"], c["method_params"]), *setting)
        ].append((path, found))
    poisons, methods = labels_of({key[0] for key in groups}), labels_of({key[1] for key in groups})

    def made_by(found):
        return found.provenance["mimic_sha256"]

    rows = [
        FilterRow(key[0], methods[key[1]] + suffix, mine, poison=poisons[key[0]])
        for key, group in groups.items()
        for mine, suffix in compare.one_per_seed(group, replaced, made_by)
    ]
    standard = sorted(
        rows, key=lambda r: (-(r.get("config.num_samples") or 0), -(r.get("config.num_trusted") or 0))
    )
    reasons = {}
    for row in rows:
        found = compare.differences(row, standard, SETTING)
        found += (
            compare.differences(row, [r for r in standard if r.trained], (TRAINING,)) if row.trained else []
        )
        row.apart = bool(found)
        reasons[id(row)] = "; ".join(found + compare.differences(row, standard, (BOUNDARY, JUDGE)))
    rows.sort(
        key=lambda r: (
            _place(r.get("config.poison"), POISONS),
            compare.natural(r.poison),
            *_order(r),
            reasons[id(r)],
        )
    )
    table = FilterTable(dataset, "", rows, rows[0].attack, image_size=image_size, rate=rate, best=_best(rows))
    table.mark(reasons)
    return table


def tables_of(runs, replaced):
    """[FilterTable] of runs [(path, Record)] of kind depois."""
    groups = defaultdict(list)
    for path, found in runs:
        groups[(found.dataset or "?", found.config["image_size"], found.config["poison_rate"])].append(
            (path, found)
        )
    return [
        table_of(*key, group, replaced)
        for key, group in sorted(
            groups.items(), key=lambda item: (item[0][0], item[0][1] or 0, item[0][2] or 0)
        )
    ]


def overview_grid(table):
    """(headings, rows of cell texts, rows of the FilterRow behind each cell): AUROC, a line per method, a
    column per poison; None where none was measured."""
    poisons = [
        p for p in table.poisons if any(row.poison == p and row.auc.value is not None for row in table.rows)
    ]
    if not poisons:
        return None
    lines = defaultdict(dict)
    for row in sorted(table.rows, key=lambda r: (*_order(r), r.marks)):
        lines[row.label + mark(row)][row.poison] = row
    behind = [[None, *(line.get(p) for p in poisons)] for line in lines.values()]
    cells = [
        [label, *(_deviation(row) for row in rows[1:])] for label, rows in zip(lines, behind, strict=True)
    ]
    return ["method", *poisons], cells, behind


def _deviation(row):
    text = number(row and row.auc.value, "ssim")
    return text + (f" ± {alike(row.auc.std, text)}" if row and row.auc.std is not None else "")


def columns_of(table):
    """COLUMNS without those that nothing was measured for, and AUROC, recall and FPR of each class alone
    where the records have them."""
    classes = dict.fromkeys(name for row in table.rows for name in row.get("per_group.class") or {})
    alone = [
        Column(f"{word} {name}", f"per_group.class.{name}.{key}", "ssim")
        for name in classes
        for word, key in (("AUROC", "auc"), ("recall", "recall"), ("FPR", "fpr"))
    ]
    taught = [
        c
        for c in COLUMNS
        if not c.key.startswith("metrics.classifier")
        or any(row.cell(c.key).value is not None for row in table.rows)
    ]
    return [*taught, *alone]


def details_grid(table):
    """(headings, rows of cell texts): every figure, a line per poison and method, in the order of the table's
    rows."""
    columns = columns_of(table)
    return (
        ["poison", "method", *(c.heading for c in columns), "seeds"],
        [
            [
                row.poison,
                row.label + mark(row),
                *(_figure(row, c) for c in columns),
                ", ".join(map(str, row.seeds)),
            ]
            for row in table.rows
        ],
    )


def _figure(row, column):
    if column.style == "verdict":
        return MISSED if row.missed else ""
    if column.style == "nominal":
        return (
            f"{number(row.cell(column.key).value, 'ssim')} ({number(row.get('config.nominal_fpr'), 'short')})"
        )
    return figure(row, column)


def _italic(text):
    return bold(text).replace("**", "*")


def overview(table):
    """AUROC as Markdown; "" where none was measured."""
    if not (grid := overview_grid(table)):
        return ""
    headings, cells, behind = grid
    for texts, rows in zip(cells, behind, strict=True):
        texts[1:] = [
            bold(t) if id(r) in table.best else _italic(t) if r and r.missed else t
            for t, r in zip(texts[1:], rows[1:], strict=False)
        ]
    return "\n".join(markdown_table(headings, cells, left=1))


def details(table):
    """Every figure as Markdown."""
    headings, cells = details_grid(table)
    auc, before = headings.index("AUROC"), None
    for row, texts in zip(table.rows, cells, strict=True):
        texts[auc] = bold(texts[auc]) if id(row) in table.best else texts[auc]
        # a poison is named once
        texts[0], before = ("" if row.poison == before else row.poison), row.poison
    return "\n".join(markdown_table(headings, cells, left=2))


PARTS = {"overview": overview, "details": details}


def markdown(table, parts=tuple(PARTS)):
    """The setting, the tables named in `parts` and the footnotes; "" where no such table has a figure."""
    texts = [text for part in parts if (text := PARTS[part](table))]
    return "\n".join([table.setting, "", "\n\n".join(texts), *footnotes(table)]) if texts else ""


def csv_text(tables):
    """A line for each row of all tables, and one for each of its classes: every figure with its interval or
    deviation."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "dataset",
            "image_size",
            "poison_rate",
            "poison",
            "poison_type",
            "poison_params",
            "method",
            "method_type",
            "method_params",
            *CSV_CONFIG,
            "seeds",
            "not_comparable",
            "verdict",
            *csv_headings(CSV_KEYS),
            "class",
            *csv_headings(CSV_SCORES),
        ]
    )
    for table in tables:
        for row in table.rows:
            poison_params, method_params = (
                json.dumps(row.get(f"config.{key}"), sort_keys=True)
                for key in ("poison_params", "method_params")
            )
            whole = [
                table.dataset,
                table.image_size,
                table.rate,
                row.poison,
                row.get("config.poison"),
                poison_params,
                row.label,
                row.get("config.method"),
                method_params,
                *(row.get(f"config.{key}") for key in CSV_CONFIG),
                " ".join(map(str, row.seeds)),
                "; ".join(table.notes[i - 1] for i in row.marks),
                MISSED if row.missed else "",
                *csv_figures(map(row.cell, CSV_KEYS)),
            ]
            for name, where in (
                ("all", "metrics"),
                *((c, f"per_group.class.{c}") for c in row.get("per_group.class") or {}),
            ):
                writer.writerow(
                    [*whole, name, *csv_figures(row.cell(f"{where}.{key}") for key in CSV_SCORES)]
                )
    return out.getvalue()
