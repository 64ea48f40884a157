"""Kind depois: methods that find poisoned samples among those examined, a table per dataset, image size and
poison rate. Two views of it: AUROC of each method on each poison, and every figure of every row."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

from report.comparison import Comparison
from report.kind import Csv, Kind, Marker, Pictures, Plot
from report.kinds.depois_names import names_of
from report.kinds.depois_rows import AUC, FOUND_FROM, MISSED, FilterTable, order, table_of, tables_of
from report.markers import LEGEND as WORDS
from report.markers import OPTIONS, NoRecords, joined, parts_of, runs_left, with_legends
from report.schema import COST, COUNT, DICT, NUMBER, PROVENANCE, TEXT, Each, scores
from report.text import (
    Column,
    Grid,
    csv_figures,
    csv_headings,
    deviation,
    figure,
    footnotes,
    mark,
    number,
    seeds,
    why_marked,
)

# a finder of poisoned samples
FOUND = scores("accuracy", "precision", "recall", "f1", "auc", "tpr_at_1", "tpr_at_5", "fpr")
# one method that finds poisoned samples among those examined; poisoned = 1. per_group: each class alone
SCHEMA = {
    "config": {
        "method": TEXT,
        "method_params": DICT,
        "poison": TEXT,
        "poison_params": DICT,
        "poison_rate": NUMBER,
        "boundary": TEXT,
        "nominal_fpr": NUMBER,
        "num_trusted": COUNT,
        "num_held": COUNT,
        "num_samples": COUNT,
        "num_poisoned": COUNT,
        "num_classes": COUNT,
        "image_size": COUNT,
    },
    "metrics": {
        **FOUND,
        "threshold": NUMBER,
        "classifier": {"clean": NUMBER, "poisoned": NUMBER, "kept": NUMBER},
    },
    "per_group": {"class": Each({**FOUND, "num_samples": COUNT, "num_poisoned": COUNT})},
    "cost": {**COST, "train_s": NUMBER, "score_s_per_image": NUMBER, "peak_memory_mb": NUMBER},
    "provenance": {**PROVENANCE, "mimic_sha256": TEXT},
}

COLUMNS = (
    Column("accuracy", "metrics.accuracy", "ssim", spread=True),
    Column("precision", "metrics.precision", "ssim", detail=True),
    Column("recall", "metrics.recall", "ssim"),
    Column("F1", "metrics.f1", "ssim", spread=True, detail=True),
    Column("AUROC", AUC, "ssim", spread=True),
    Column("verdict", "verdict", "verdict"),
    Column("TPR at 1 % FPR", "metrics.tpr_at_1", "ssim"),
    Column("TPR at 5 % FPR", "metrics.tpr_at_5", "ssim", detail=True),
    Column("FPR (nominal)", "metrics.fpr", "nominal"),
    Column("classifier clean", "metrics.classifier.clean", "ssim", detail=True),
    Column("classifier poisoned", "metrics.classifier.poisoned", "ssim", detail=True),
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


def overview_grid(table: FilterTable) -> Grid | None:
    """AUROC, a line per method, a column per poison; None where none was measured."""
    poisons = [
        p for p in table.poisons if any(row.poison == p and row.auc.value is not None for row in table.rows)
    ]
    if not poisons:
        return None
    lines = defaultdict(dict)
    for row in sorted(table.rows, key=lambda r: (*order(r), r.marks)):
        lines[row.label + mark(row)][row.poison] = row
    behind = [[line.get(p) for p in poisons] for line in lines.values()]
    places = [(i, 1 + j, row) for i, line in enumerate(behind) for j, row in enumerate(line) if row]
    cells = [[deviation(row and row.auc, "ssim") for row in line] for line in behind]
    return Grid(
        ["method", *poisons],
        [[label, *line] for label, line in zip(lines, cells, strict=True)],
        1,
        [False] * len(lines),
        best={(i, j) for i, j, row in places if id(row) in table.best},
        missed={(i, j) for i, j, row in places if row.missed},
        italic=True,
    )


def columns_of(table: FilterTable) -> list[Column]:
    """COLUMNS without those that nothing was measured for, and AUROC, recall and FPR of each class alone
    where the records have them."""
    classes = dict.fromkeys(name for row in table.rows for name in row.get("per_group.class") or {})
    alone = [
        Column(f"{word} {name}", f"per_group.class.{name}.{key}", "ssim", detail=True)
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


def details_grid(table: FilterTable) -> Grid:
    """Every figure, a line per poison and method, in the order of the table's rows."""
    columns = columns_of(table)
    headings = ["poison", "method", *(c.heading for c in columns), "seeds"]
    auc, verdict = headings.index("AUROC"), headings.index("verdict")
    return Grid(
        headings,
        [[r.poison, r.label + mark(r), *(_figure(r, c) for c in columns), seeds(r)] for r in table.rows],
        2,
        [bool(r.marks) for r in table.rows],
        best={(i, auc) for i, r in enumerate(table.rows) if id(r) in table.best},
        missed={(i, j) for i, r in enumerate(table.rows) if r.missed for j in (auc, verdict)},
        groups=[r.poison for r in table.rows],
        detail={2 + i for i, c in enumerate(columns) if c.detail},
    )


def _figure(row, column):
    if column.style == "verdict":
        return MISSED if row.missed else ""
    if column.style == "nominal":
        return (
            f"{number(row.cell(column.key).value, 'ssim')} ({number(row.get('config.nominal_fpr'), 'short')})"
        )
    return figure(row, column)


PARTS = {"overview": overview_grid, "details": details_grid}


def grids(table: FilterTable, parts: Sequence[str] = tuple(PARTS)) -> list[Grid]:
    """The views named in `parts`, without one that has no figure."""
    return [grid for part in parts if (grid := PARTS[part](table))]


def markdown(table: FilterTable, parts: Sequence[str] = tuple(PARTS)) -> str:
    """The setting, the tables named in `parts` and the footnotes; "" where no such table has a figure."""
    texts = ["\n".join(grid.markdown()) for grid in grids(table, parts)]
    return "\n".join([table.setting, "", "\n\n".join(texts), *footnotes(table)]) if texts else ""


CSV_HEADINGS = [
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


def csv_lines(tables: Sequence[FilterTable]) -> Iterable[list]:
    """A line for each row of all tables, and one for each of its classes: every figure with its interval or
    deviation."""
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
                why_marked(row, table),
                MISSED if row.missed else "",
                *csv_figures(map(row.cell, CSV_KEYS)),
            ]
            for name, where in (
                ("all", "metrics"),
                *((c, f"per_group.class.{c}") for c in row.get("per_group.class") or {}),
            ):
                yield [*whole, name, *csv_figures(row.cell(f"{where}.{key}") for key in CSV_SCORES)]


def pictures(table: FilterTable) -> list[Pictures]:
    """The picture of the first run of each poison, which lies beside the folders of its methods, folded
    away."""
    paths = {
        row.poison: path
        for row in reversed(table.rows)
        if (path := row.dirs[0].parent / "found.png").is_file()
    }
    files = [(paths[p], f"samples of {p}", f"{p} | {paths[p]}") for p in table.poisons if p in paths]
    return [Pictures(files, "pictures: samples dropped and kept, rightly and wrongly")]


MARKER_OPTIONS = {
    "rate": lambda path, record, rate: record.config["poison_rate"] == rate,
    "poison": lambda path, record, name: (
        name.replace("+", " ") in names_of(record.config["poison"], record.config["poison_params"])
    ),
    "method": lambda path, record, name: record.config["method"] == name.replace("+", " "),
    "under": OPTIONS["under"],
    "part": lambda path, record, word: True,
    **WORDS,
}


def filters_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a filters marker asks for."""
    parts = parts_of(options, tuple(PARTS))
    left = runs_left(comparison.tables["depois"], dataset, options, MARKER_OPTIONS)
    tables = [table_of(dataset, t.image_size, t.rate, runs, []) for t, runs in left]
    if not (tables := [t for t in tables if markdown(t, parts)]):
        raise NoRecords("asks for AUROC, and no record has one")
    text = joined(tables, lambda table: markdown(table, parts))
    return with_legends(options, text, *(LEGENDS[p] for p in parts))


KIND = Kind(
    name="depois",
    schema=SCHEMA,
    tables=tables_of,
    title="Finding poisoned samples",
    counted="finders of poisoned samples",
    markdown=markdown,
    grids=grids,
    intro=lambda table: table.setting,
    legends=tuple(LEGENDS.values()),
    csv=Csv("comparison_filters.csv", CSV_HEADINGS, csv_lines),
    plots={
        "filters_auc": Plot(
            "report.kinds.depois_figures:auc_by_poison",
            "AUROC by poison and method, bars from chance. Lines: one deviation over seeds, or the 95%"
            " interval over samples of one seed. Grey: not found, where the whole line lies in it.",
        )
    },
    names=lambda tables: [table.file_name for table in tables],
    pictures=pictures,
    markers={
        "filters": Marker(
            filters_part,
            MARKER_OPTIONS,
            "methods that find poisoned samples, AUROC by poison and all figures; one table per image size"
            " and poison rate. poison=noise (or bypass+critic, that of one mode), method=de-pois, rate=0.3,"
            " part=overview or part=details: one of both tables",
        )
    },
)
