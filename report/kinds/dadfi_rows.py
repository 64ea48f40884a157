"""From records of disruptions against several translators (kind dadfi) to tables: one per dataset, set of
translators and image size, a row per attack.

Reads records only. Seeds become one row, as in report.rows. A row is held against PGD made on each translator
itself and against random signs.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from report.comparison import Comparison, Runs
from report.looks import Looks, look_of, shown_name
from report.record import Record
from report.rows import FEATURES, SPLIT, Cell, Row, Table, attack_of, differences, one_per_seed

OWN, ALL = "own", "all"
# of DADFI; others are told as they are
VARIANTS = {
    "without-finetuning": "without fine-tuning",
    "distance0": "with the paper's losses alone",
    "y0": "without L_y",
}
# what a label does not say
PROTOCOL = {"attack_target": "gray", "attack_label": "original", "attack_blur": "none"}
STEPS = (10, 0.01)
EPS = (("config.eps",), lambda v, w: f"eps {v[0]} (the others: {w[0]})")
VICTIMS = (
    ("victims",),
    lambda v, w: f"other weights of {', '.join(name for name, sha in v[0] if (name, sha) not in w[0])}",
)
COMPARED = (
    (("config.num_images",), lambda v, w: f"{v[0]} photos (the others: {w[0]})"),
    EPS,
    VICTIMS,
    FEATURES,
    SPLIT,
)


@dataclass
class DisruptionRow(Row):
    """One attack.  `derived` holds, for each translator, share.<name> of own PGD's l2, joint.<name> of that
    of PGD on all at once, and multiple.<name> of random signs' l2, each a Cell."""

    derived: dict = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.defence

    @property
    def kind(self) -> str:
        return self.get("config.attack")

    @property
    def own(self) -> bool:
        return self.get("config.crafted_on") == OWN

    def get(self, key: str) -> Any:
        return (
            tuple(sorted((super().get("provenance.gan_sha256") or {}).items()))
            if key == "victims"
            else super().get(key)
        )

    def cell(self, key: str) -> Cell:
        return self.derived[key] if key in self.derived else super().cell(key)

    def of(self, translator: str, key: str) -> Cell:
        """The Cell of one translator's figure; `distance` is its fid on the standard Inception weights, else
        its frechet."""
        if key in ("share", "joint", "multiple"):
            return self.cell(f"{key}.{translator}")
        key = key if key != "distance" else "fid" if self.has_fid else "frechet"
        return self.cell(f"per_group.translator.{translator}.{key}")

    @property
    def has_fid(self) -> bool:
        return any(
            (m or {}).get("fid") is not None for m in (self.get("per_group.translator") or {}).values()
        )

    @property
    def distance(self) -> tuple[str, str]:
        """(name, key), as of other rows; the key is that of the first translator."""
        name, key = self.get("features.name"), "fid" if self.has_fid else "frechet"
        first = next(iter(self.get("per_group.translator") or {}), "")
        return (key if self.has_fid or not name else f"{key} ({name})"), f"per_group.translator.{first}.{key}"

    def worst(self, translators: Sequence[str]) -> tuple[str, Cell] | None:
        """(translator, Cell of its l2) that breaks least; None where one was not measured."""
        figures = [(name, self.of(name, "l2")) for name in translators]
        return (
            None
            if any(cell.value is None for _, cell in figures)
            else min(figures, key=lambda pair: pair[1].value)
        )


@dataclass
class DisruptionTable(Table):
    """The attacks that one set of translators met at one image size."""

    translators: tuple = ()
    image_size: int | None = None

    @property
    def name(self) -> str:
        return f"{self.dataset}, {self.gan}, {self.image_size} pixels"

    @property
    def file_name(self) -> str:
        return "-".join([self.dataset, *self.translators, str(self.image_size)])

    @property
    def best(self) -> int | None:
        """id of the unmarked row with the largest worst l2 among those that make one image for all; None
        where there are no two."""
        rows = [
            r
            for r in self.rows
            if not r.marks and not r.own and r.kind != "none" and r.worst(self.translators)
        ]
        return id(max(rows, key=lambda r: r.worst(self.translators)[1].value)) if len(rows) > 1 else None


def label_of(config: dict, looks: Looks) -> str:
    """`DADFI, trained on stargan+stgan`, `pgd, own victim, target clean`, `random sign`: the attack in words,
    without its radius and the usual protocol."""
    c, attack = config, config.get("attack")
    shown = shown_name(str(attack), looks.attacks)
    if attack == "dadfi":
        variant = c.get("variant")
        words = [
            shown + (f" {VARIANTS.get(variant, variant)}" if variant else ""),
            "trained on " + "+".join(c.get("trained_on_victims") or ["?"]),
        ]
    elif c.get("crafted_on"):
        words = [
            (
                f"{shown}, own victim"
                if c["crafted_on"] == OWN
                else f"{shown} on {'all at once' if c['crafted_on'] == ALL else c['crafted_on']}"
            )
        ]
        words += [
            f"{k.removeprefix('attack_')} {c[k]}"
            for k, usual in PROTOCOL.items()
            if c.get(k) not in (None, usual)
        ]
        steps = (c.get("attack_steps"), c.get("attack_step_size"))
        words += (
            [f"{steps[0]} steps of {steps[1]:g}"]
            if attack != "fgsm" and None not in steps and steps != STEPS
            else []
        )
    else:
        words = [shown] + ([c["perturbation"]] if c.get("perturbation") else [])
    return ", ".join(words)


def _place(row, attacks):
    """Order of rows: as attacks declare it (controls, one image for all made on one translator or on many),
    then the upper bounds."""
    look = look_of(str(row.kind), attacks)
    return (
        row.own,
        look is None,
        look.order if look else 0,
        not row.get("config.variant"),
        len(row.get("config.trained_on_victims") or []),
        row.label,
        row.get("config.eps") or 0,
    )


def _comparable(a, b):
    return all(a.get(key) == b.get(key) for key in ("config.num_images", "config.eps", "victims", "split"))


def _hold_against(row, rows, translators):
    own = [r for r in rows if r.kind == "pgd" and r.own and _comparable(r, row)]
    signs = [r for r in rows if r.kind == "random-sign" and _comparable(r, row)]
    joint = [r for r in rows if r.get("config.crafted_on") == ALL and _comparable(r, row)]
    for key, references in (("share", own), ("joint", joint), ("multiple", signs)):
        for name in translators:
            mine, theirs = (
                row.of(name, "l2").value,
                max((v for r in references if (v := r.of(name, "l2").value)), default=None),
            )
            row.derived[f"{key}.{name}"] = Cell(mine / theirs if mine is not None and theirs else None)


def _why_not(row, standard):
    """Why a row must not be compared with most others: the text of a footnote, or "". The undisturbed photo
    has no eps."""
    return "; ".join(
        differences(row, standard, [part for part in COMPARED if row.kind != "none" or part is not EPS])
    )


def table_of(
    dataset: str, translators: tuple, image_size: int | None, runs: Runs, looks: Looks, replaced: list
) -> DisruptionTable:
    """The DisruptionTable of some runs [(path, Record)]; paths of runs that a repetition
    replaced are appended to `replaced`."""
    groups = defaultdict(list)
    for path, record in runs:
        # trainings with other seeds become one row
        attack = attack_of({k: v for k, v in record.config.items() if k != "attack_weights"}, looks)
        row = DisruptionRow(attack, label_of(record.config, looks), [(path, record)])
        groups[(attack, row.label, *(row.get(key) for keys, _ in COMPARED for key in keys))].append(
            (path, record)
        )

    def made_by(record: Record) -> str | None:
        return record.config["attack_weights"] or record.provenance["attacked_key"]

    rows = [
        DisruptionRow(key[0], key[1] + suffix, mine)
        for key, group in groups.items()
        for mine, suffix in one_per_seed(group, replaced, made_by)
    ]
    for row in rows:
        _hold_against(row, rows, translators)
    standard = (
        sorted((r for r in rows if r.kind != "none"), key=lambda r: -(r.get("config.num_images") or 0))
        or rows
    )
    reasons = {id(row): note for row in rows if (note := _why_not(row, standard))}
    rows.sort(key=lambda r: (reasons.get(id(r), ""), _place(r, looks.attacks)))
    table = DisruptionTable(
        dataset,
        " + ".join(translators),
        rows,
        rows[0].attack,
        looks=looks,
        translators=tuple(translators),
        image_size=image_size,
    )
    table.mark(reasons)
    return table


def tables_of(runs: Runs, comparison: Comparison) -> list[DisruptionTable]:
    """[DisruptionTable] of runs [(path, Record)] of kind dadfi."""
    groups = defaultdict(list)
    for path, record in runs:
        groups[
            (
                record.dataset or "?",
                tuple(sorted(record.config["translators"] or [])),
                record.config["image_size"],
            )
        ].append((path, record))
    return [
        table_of(*key, group, comparison.looks, comparison.replaced)
        for key, group in sorted(groups.items(), key=lambda item: (item[0][:2], item[0][2] or 0))
    ]
