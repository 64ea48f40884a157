"""From records of disruptions against several translators (kind dadfi) to tables: one per dataset, set of
translators and image size, a row per attack.

Reads records only. Seeds become one row, as in compare.py. A row is held against PGD made on each translator
itself and against random signs.
"""

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, field

from report import rows as compare
from report.rows import Cell, Row, Table
from report.text import (
    DASH,
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

OWN, ALL = "own", "all"
# of DADFI; others are told as they are
VARIANTS = {
    "without-finetuning": "without fine-tuning",
    "distance0": "with the paper's losses alone",
    "y0": "without L_y",
}
NAMES = {"none": "undisturbed", "random-sign": "random sign"}
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
    compare.FEATURES,
    compare.SPLIT,
)
PHOTO_COLUMNS = (
    Column("photo PSNR", "metrics.input.psnr", "decibel"),
    Column("photo SSIM", "metrics.input.ssim", "ssim"),
    Column("photo linf", "metrics.input.linf", "small"),
    Column("s/photo", "cost.attack_s_per_image", "seconds"),
)
VICTIM_COLUMNS = (  # of one translator; keys of its part of the record
    Column("rmse", "rmse", "small", spread=True),
    Column("l2_mask", "l2_mask", "small"),
    Column("prop_dist", "prop_dist", "share"),
    Column("sr_mask", "sr_mask", "share"),
    Column("distance", "distance", "distance"),
    Column("of own PGD", "share", "share"),
    Column("of PGD on all", "joint", "share"),
    Column("× random sign", "multiple", "short"),
)
CSV_KEYS = [
    "l1",
    "l2",
    "rmse",
    "prop_dist",
    "linf",
    "l2_mask",
    "sr_mask",
    "psnr",
    "ssim",
    "fid",
    "kid",
    "frechet",
    "share",
    "joint",
    "multiple",
]
CSV_ROW_KEYS = [f"metrics.input.{key}" for key in ("l2", "linf", "psnr", "ssim")] + [
    "cost.attack_s_per_image"
]
LEGEND = (
    "Each translator makes fakes of the protected photos and of the photos themselves in all its domains."
    " *l2*: their mean squared difference in [-1, 1], *worst l2* that of the translator that breaks least;"
    " *rmse*: mean over pairs of the root of each pair's l2 (the DADFI paper's d_pix is read as either);"
    " *l2_mask*: l2 where the translator edits the photo; *prop_dist*, *sr_mask*: share of pairs with l2, or"
    " l2_mask, above 0.05. *own victim*: an image of each photo for each translator, made on that translator,"
    " an upper bound; every other attack makes one image for all, *on all at once* by gradients of all of"
    " them. *of own PGD*: l2 as a share of that of PGD on its own victim, the strongest where there are"
    " several; *of PGD on all*: of that of PGD on all at once, which one image can reach; *× random sign*: l2"
    " as a multiple of that of random signs; all at the same eps, on as many photos, a dash where there is no"
    " such row. *photo*: the protected photo against the photo (PSNR in dB, equal images count as 100; linf"
    " in [-1, 1]); *s/photo*: seconds to make and write one image. [low, high]: bootstrap 95% interval over"
    " photos; ± standard deviation over seeds. **Bold**: the largest worst l2 among attacks that make one"
    " image for all and may be compared. † must not be compared with the other rows."
)


@dataclass
class DisruptionRow(Row):
    """One attack.  `derived` holds, for each translator, share.<name> of own PGD's l2, joint.<name> of that
    of PGD on all at once, and multiple.<name> of random signs' l2, each a Cell."""

    derived: dict = field(default_factory=dict)

    @property
    def label(self):
        return self.defence

    @property
    def kind(self):
        return self.get("config.attack")

    @property
    def own(self):
        return self.get("config.crafted_on") == OWN

    def get(self, key):
        return (
            tuple(sorted((super().get("provenance.gan_sha256") or {}).items()))
            if key == "victims"
            else super().get(key)
        )

    def cell(self, key):
        return self.derived[key] if key in self.derived else super().cell(key)

    def of(self, translator, key):
        """The Cell of one translator's figure; `distance` is its fid on the standard Inception weights, else
        its frechet."""
        if key in ("share", "joint", "multiple"):
            return self.cell(f"{key}.{translator}")
        key = key if key != "distance" else "fid" if self.has_fid else "frechet"
        return self.cell(f"per_group.translator.{translator}.{key}")

    @property
    def has_fid(self):
        return any(
            (m or {}).get("fid") is not None for m in (self.get("per_group.translator") or {}).values()
        )

    @property
    def distance(self):
        """(name, key), as of other rows; the key is that of the first translator."""
        name, key = self.get("features.name"), "fid" if self.has_fid else "frechet"
        first = next(iter(self.get("per_group.translator") or {}), "")
        return (key if self.has_fid or not name else f"{key} ({name})"), f"per_group.translator.{first}.{key}"

    def worst(self, translators):
        """(translator, Cell of its l2) that breaks least; None where one was not measured."""
        found = [(name, self.of(name, "l2")) for name in translators]
        return (
            None
            if any(cell.value is None for _, cell in found)
            else min(found, key=lambda pair: pair[1].value)
        )


@dataclass
class DisruptionTable(Table):
    """The attacks that one set of translators met at one image size."""

    translators: tuple = ()
    image_size: int | None = None

    @property
    def name(self):
        return f"{self.dataset}, {self.gan}, {self.image_size} pixels"

    @property
    def file_name(self):
        return "-".join([self.dataset, *self.translators, str(self.image_size)])

    @property
    def best(self):
        """id of the unmarked row with the largest worst l2 among those that make one image for all; None
        where there are no two."""
        rows = [
            r
            for r in self.rows
            if not r.marks and not r.own and r.kind != "none" and r.worst(self.translators)
        ]
        return id(max(rows, key=lambda r: r.worst(self.translators)[1].value)) if len(rows) > 1 else None


def label_of(config):
    """`DADFI, trained on stargan+stgan`, `pgd, own victim, target clean`, `random sign`: the attack in words,
    without its radius and the usual protocol."""
    c, attack = config, config.get("attack")
    if attack == "dadfi":
        variant = c.get("variant")
        words = [
            "DADFI" + (f" {VARIANTS.get(variant, variant)}" if variant else ""),
            "trained on " + "+".join(c.get("trained_on_victims") or ["?"]),
        ]
    elif c.get("crafted_on"):
        words = [
            (
                f"{attack}, own victim"
                if c["crafted_on"] == OWN
                else f"{attack} on {'all at once' if c['crafted_on'] == ALL else c['crafted_on']}"
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
        words = [NAMES.get(attack, str(attack))] + ([c["perturbation"]] if c.get("perturbation") else [])
    return ", ".join(words)


def _place(row):
    """Order of rows: controls, one image for all made on one translator or on many, the upper bounds."""
    order = ("none", "random-sign", "gaussian", "universal")
    rank = (
        order.index(row.kind) if row.kind in order else len(order) + (2 if row.own else row.kind == "dadfi")
    )
    return (
        rank,
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
        compare.differences(
            row, standard, [part for part in COMPARED if row.kind != "none" or part is not EPS]
        )
    )


def table_of(dataset, translators, image_size, runs, replaced):
    """The DisruptionTable of some runs [(path, Record)]; replaced: see compare.table_of."""
    groups = defaultdict(list)
    for path, found in runs:
        # trainings with other seeds become one row
        attack = compare.attack_of({k: v for k, v in found.config.items() if k != "attack_weights"})
        row = DisruptionRow(attack, label_of(found.config), [(path, found)])
        groups[(attack, row.label, *(row.get(key) for keys, _ in COMPARED for key in keys))].append(
            (path, found)
        )

    def made_by(found):
        return found.config["attack_weights"] or found.provenance["attacked_key"]

    rows = [
        DisruptionRow(key[0], key[1] + suffix, mine)
        for key, group in groups.items()
        for mine, suffix in compare.one_per_seed(group, replaced, made_by)
    ]
    for row in rows:
        _hold_against(row, rows, translators)
    standard = (
        sorted((r for r in rows if r.kind != "none"), key=lambda r: -(r.get("config.num_images") or 0))
        or rows
    )
    reasons = {id(row): note for row in rows if (note := _why_not(row, standard))}
    rows.sort(key=lambda r: (reasons.get(id(r), ""), _place(r)))
    table = DisruptionTable(
        dataset,
        " + ".join(translators),
        rows,
        rows[0].attack,
        translators=tuple(translators),
        image_size=image_size,
    )
    table.mark(reasons)
    return table


def tables_of(runs, replaced):
    """[DisruptionTable] of runs [(path, Record)] of kind dadfi."""
    groups = defaultdict(list)
    for path, found in runs:
        groups[
            (
                found.dataset or "?",
                tuple(sorted(found.config["translators"] or [])),
                found.config["image_size"],
            )
        ].append((path, found))
    return [
        table_of(*key, group, replaced)
        for key, group in sorted(groups.items(), key=lambda item: (item[0][:2], item[0][2] or 0))
    ]


def attacks_grid(table):
    """(headings, rows of cell texts): a row per attack with each translator's l2, the worst, and what became
    of the photos."""
    headings = [
        "attack",
        *(f"l2 {name}" for name in table.translators),
        "worst l2",
        *(c.heading for c in PHOTO_COLUMNS),
        "photos",
        "seeds",
    ]
    cells = []
    for row in table.rows:
        l2 = [
            figure(row, Column("l2", f"per_group.translator.{name}.l2", "small", spread=True), table)
            for name in table.translators
        ]
        worst = row.worst(table.translators)
        cells.append(
            [
                row.label + mark(row),
                *l2,
                f"{number(worst[1].value)} ({worst[0]})" if worst else DASH,
                *(figure(row, c, table) for c in PHOTO_COLUMNS),
                number(row.get("config.num_images"), "count"),
                ", ".join(map(str, row.seeds)),
            ]
        )
    return headings, cells


def translators_grid(table):
    """(headings, rows of cell texts): a row per attack and translator with its further figures."""
    distances = list(
        dict.fromkeys(row.distance[0] for row in table.rows if row.cell(row.distance[1]).value is not None)
    )
    headings = [
        "attack",
        "translator",
        *(" or ".join(distances) or "frechet" if c.key == "distance" else c.heading for c in VICTIM_COLUMNS),
    ]
    return headings, [
        [row.label + mark(row), name, *(_figure(row.of(name, c.key), c) for c in VICTIM_COLUMNS)]
        for row in table.rows
        for name in table.translators
    ]


def _figure(cell, column):
    text = number(cell.value, "small" if column.key == "distance" else column.style)
    if column.spread and cell.std is not None:
        return f"{text} ± {alike(cell.std, text)}"
    return (
        f"{text} [{alike(cell.low, text)}, {alike(cell.high, text)}]"
        if column.spread and cell.low is not None
        else text
    )


def markdown(table):
    """Both tables of one set of translators with their footnotes."""
    headings, cells = attacks_grid(table)
    for row, texts in zip(table.rows, cells, strict=True):
        if id(row) == table.best:
            texts[headings.index("worst l2")] = bold(texts[headings.index("worst l2")])
    more, figures = translators_grid(table)
    for before, texts in zip([None, *(c[0] for c in figures)], figures, strict=False):
        texts[0] = "" if texts[0] == before else texts[0]  # an attack is named once
    return "\n".join(
        [
            *markdown_table(headings, cells, left=1),
            "",
            *markdown_table(more, figures, left=2),
            *footnotes(table),
        ]
    )


def csv_text(tables):
    """A line per attack and translator of all tables, each figure with its interval or deviation."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "dataset",
            "translators",
            "image_size",
            "attack",
            "attack_type",
            "eps",
            "crafted_on",
            "trained_on",
            "finetuning",
            "photos",
            "seeds",
            "not_comparable",
            "features",
            "worst_l2",
            "worst_translator",
            *csv_headings(CSV_ROW_KEYS),
            "translator",
            *csv_headings(CSV_KEYS),
        ]
    )
    for table in tables:
        for row in table.rows:
            worst, cell = row.worst(table.translators) or (None, Cell(None))
            whole = [
                table.dataset,
                " ".join(table.translators),
                table.image_size,
                row.label,
                row.kind,
                row.get("config.eps"),
                row.get("config.crafted_on"),
                " ".join(row.get("config.trained_on_victims") or []),
                row.get("config.finetuning"),
                row.get("config.num_images"),
                " ".join(map(str, row.seeds)),
                "; ".join(table.notes[i - 1] for i in row.marks),
                row.get("features.name"),
                cell.value,
                worst,
            ]
            for name in table.translators:
                writer.writerow(
                    [
                        *whole,
                        *csv_figures(map(row.cell, CSV_ROW_KEYS)),
                        name,
                        *csv_figures(row.of(name, key) for key in CSV_KEYS),
                    ]
                )
    return out.getvalue()
