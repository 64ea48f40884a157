"""The tables of detectors: what their columns are, as grids, as Markdown and as CSV."""

import json
from collections.abc import Iterable, Sequence

from report.kinds.detector_cross import grids as cross_grids
from report.kinds.detector_rows import DetectorTable
from report.kinds.detector_statistics import ACCURACY
from report.kinds.detector_words import test_words
from report.rows import attack_text
from report.text import (
    DASH,
    Column,
    Grid,
    csv_figures,
    csv_headings,
    deviation,
    figure,
    footnotes,
    heading,
    mark,
    seeds,
    why_marked,
)

LEGEND = (
    "A detector learns real (0) from fake (1) on photos of split B and fakes made from them, and is tested on"
    " photos of split C and fakes of them. *training photos*: B as nobody disrupted it (*clean*), with the"
    " share *poison rate* of it *disrupted*, the same photos all purified by the defence named, *filtered*"
    " (by what) without the samples that a filter has dropped, or both, *+ filtered*: those dropped, the"
    " photos of the others purified; *... of undisturbed photos*: the control, purified though nobody"
    " disrupted them; *[self-blended fakes]*: the training fakes are the photos blended into themselves, and"
    " *lost* and *recovered* are against rows of such fakes. *l2*, *frechet* or *fid*, *nfe*,"
    " *s/photo*: the translator's fakes of such photos (a disrupted photo,"
    " purified or not; in a control an undisturbed one) against fakes of the photos themselves, and what"
    " purifying costs, from test_defense.py's record of the same translator, attack and defence. *accuracy*"
    " (fake from probability 0.5 on), *AUC*, *EER* (equal error rate), *ECE* (expected calibration error): on"
    " clean photos of C and clean fakes; *on disrupted*, *on purified*: accuracy where the photos of C were"
    " disrupted, or disrupted and purified; *on NAME*: on clean photos of C and fakes of them by a translator"
    " that may not have been trained on; *on JPEG Q*: on clean photos and fakes all saved as JPEG of that"
    " quality; *validation*: accuracy on the held-out part of B, which went"
    " through what the training photos went through. *lost*: accuracy of the clean row minus this one, in"
    " points. *recovered*: (accuracy - that of the disrupted row of this poison rate) / (that of the clean"
    " row - the same), a dash unless that loss exceeds its own 95% interval. ± standard deviation over seeds,"
    " or for one seed [low, high]: bootstrap 95% interval over photos. Intervals of *lost* and *recovered*"
    " (95% too; Fieller's for the ratio) are of training noise alone, by Welch's t over seeds; where a row"
    " has one seed, or no seed changes anything, of the drawing of test photos alone, from the bootstrap"
    " intervals combined in quadrature as if each row had test photos of its own. **Bold**: better than the"
    " disrupted row, the 95% interval of the difference above 0. † must not be compared with the other rows;"
    " rows with the same mark may be compared with one another. –: not measured, or nothing to hold it"
    " against."
)
RATES_LEGEND = (
    "Accuracy on clean photos of C and clean fakes against the share of the training photos that was"
    " disrupted; ± standard deviation over seeds. Rate 0: undisturbed photos, purified by the defence named."
)
COLUMNS = (
    Column("poison rate", "config.poison_rate", "short"),
    Column("l2", "l2", "small"),
    Column("distance", "distance", "distance", detail=True),
    Column("nfe", "nfe", "short", detail=True),
    Column("s/photo", "s_per_photo", "short", detail=True),
    Column("accuracy", ACCURACY, "ssim", spread=True),
    Column("AUC", "metrics.auc", "ssim"),
    Column("EER", "metrics.eer", "ssim", detail=True),
    Column("ECE", "metrics.ece", "ssim", detail=True),
    Column("on disrupted", "metrics.disrupted.accuracy", "ssim"),
    Column("on purified", "metrics.purified.accuracy", "ssim"),
    Column("validation", "metrics.validation.accuracy", "ssim", detail=True),
    Column("lost, points", "lost", "points", spread=True),
    Column("recovered", "share", "share", spread=True),
)
CSV_CONFIG = (
    "condition",
    "poison_rate",
    "pretrained",
    "num_photos",
    "num_train",
    "num_validation",
    "num_test",
    "image_size",
    "epochs",
)
CSV_KEYS = (
    ["l2", "distance", "nfe", "s_per_photo", "lost", "gain", "share"]
    + [
        f"metrics.{side}{key}"
        for side in ("", "disrupted.", "purified.")
        for key in ("accuracy", "auc", "ap", "eer", "ece")
    ]
    + ["metrics.validation.accuracy", "metrics.validation.loss", "cost.train_s", "cost.epoch_s"]
)


def columns_of(table: DetectorTable) -> list[Column]:
    """COLUMNS, and one for each further test set behind the others."""
    others = [Column(f"on {test_words(t)}", f"metrics.other.{t}.accuracy", "ssim") for t in table.other_tests]
    behind = 1 + next(i for i, c in enumerate(COLUMNS) if c.key == "metrics.purified.accuracy")
    return [*COLUMNS[:behind], *others, *COLUMNS[behind:]]


def main_grid(table: DetectorTable) -> Grid:
    """A line per kind of training photos and poison rate."""
    devices = {r.source.get("cost.device") for r in table.rows if r.source}
    columns = columns_of(table)
    headings = ["training photos", *(heading(c, table) for c in columns), "seeds"]
    cells = [[r.label + mark(r), *(figure(r, c, table) for c in columns), seeds(r)] for r in table.rows]
    seconds, share = headings.index("s/photo"), headings.index("recovered")
    for row, texts in zip(table.rows, cells, strict=True):
        if row.source and len(devices) > 1 and row.condition == "purified" and texts[seconds] != DASH:
            texts[seconds] += f" ({row.source.get('cost.device') or 'unknown device'})"
    best = {(i, share) for i, r in enumerate(table.rows) if r.better and cells[i][share] != DASH}
    return Grid(
        headings,
        cells,
        1,
        [bool(r.marks) for r in table.rows],
        best=best,
        detail={1 + i for i, c in enumerate(columns) if c.detail},
    )


def rates_grid(table: DetectorTable) -> Grid | None:
    """Accuracy of every kind of training photos at every poison rate; None where there are not two above
    0."""
    if len(table.rates) < 2:
        return None
    by_rate = table.by_rate()
    rates = [0, *table.rates] if any(0 in rows for rows in by_rate.values()) else table.rates

    def label(name):
        return name + (" (at 0: clean)" if name.startswith("disrupted") and 0 in by_rate[name] else "")

    def accuracy(row):
        return deviation(row.cell(ACCURACY) if row else None, "ssim")

    return Grid(
        ["training photos", *(f"{rate:g}" for rate in rates)],
        [[label(name), *(accuracy(rows.get(rate)) for rate in rates)] for name, rows in by_rate.items()],
        1,
        [False] * len(by_rate),
        note=RATES_LEGEND,
    )


def grids(table: DetectorTable) -> list[Grid]:
    return [grid for grid in (main_grid(table), rates_grid(table)) if grid] + cross_grids(
        table.setting_tables
    )


def trainings_markdown(table: DetectorTable) -> str:
    """One table of detectors with its footnotes."""
    return "\n".join(main_grid(table).markdown() + footnotes(table))


def rates_markdown(table: DetectorTable) -> str:
    """Accuracy against poison rate; "" where there are no two."""
    grid = rates_grid(table)
    return "\n".join(grid.markdown()) if grid else ""


def cross_markdown(tables: Sequence[DetectorTable]) -> str:
    """The cross tables of tables of one setting; "" without one."""
    parts = [
        part
        for grid in cross_grids(tables)
        for part in (f"**{grid.title}**", grid.note, "\n".join(grid.markdown()))
        if part
    ]
    return "\n\n".join(parts)


def markdown(table: DetectorTable) -> str:
    """All its tables, and the cross tables of its setting below the first of that."""
    rates = rates_markdown(table)
    parts = [
        trainings_markdown(table),
        *([RATES_LEGEND, rates] if rates else []),
        cross_markdown(table.setting_tables),
    ]
    return "\n\n".join(filter(None, parts))


CSV_HEADINGS = [
    "dataset",
    "gan",
    "detector",
    "base",
    "attack",
    "attack_type",
    "eps",
    "training_photos",
    *CSV_CONFIG,
    "seeds",
    "not_comparable",
    "other_accuracy",
    "distance_name",
    *csv_headings(CSV_KEYS),
]


def csv_lines(tables: Sequence[DetectorTable]) -> Iterable[list]:
    """Every row of every table, each figure with its interval or deviation; *lost* and *gain* in points."""
    for table in tables:
        a = dict(table.main)
        for row in table.rows:
            yield [
                table.dataset,
                table.gan,
                table.detector,
                table.base,
                attack_text(table.main),
                a["attack"],
                a.get("eps"),
                row.label,
                *(row.get(f"config.{key}") for key in CSV_CONFIG),
                " ".join(map(str, row.seeds)),
                why_marked(row, table),
                json.dumps({t: row.cell(f"metrics.other.{t}.accuracy").value for t in table.other_tests}),
                row.distance[0] if row.source else None,
                *csv_figures(map(row.cell, CSV_KEYS)),
            ]
