"""Kind terd: scans of diffusion weights for a backdoor, a table per dataset and image size of the models."""

from collections.abc import Iterable, Sequence

from report.comparison import Comparison
from report.kind import Csv, Kind, Marker, Pictures, Plot
from report.kinds.terd_grids import GRIDS, grids, legends
from report.kinds.terd_rows import attack_of
from report.kinds.terd_tables import ScanTable, table_of, tables_of
from report.markers import LEGEND as WORDS
from report.markers import OPTIONS, NoRecords, joined, parts_of, runs_left, with_legends
from report.schema import COST, COUNT, DICT, LIST, NUMBER, PROVENANCE, TEXT
from report.text import csv_figures, csv_headings, footnotes, why_marked

# a scan of diffusion weights for a backdoor; truth: what the file says was put in, null where it says
# nothing. tpr, tnr: of triggered, clean noise
SCHEMA = {
    "config": {
        "checkpoint": TEXT,
        "family": TEXT,
        "image_size": COUNT,
        "num_parameters": COUNT,
        "max_timestep": COUNT,
        "noise_schedule": TEXT,
        "trained_seed": COUNT,
        "truth": DICT,
        "schedule": TEXT,
        "estimate_steps": COUNT,
        "refine": TEXT,
        "refine_steps": COUNT,
        "starts": LIST,
        "num_samples": COUNT,
        "rule": TEXT,
    },
    "metrics": {
        "verdict": TEXT,
        "backdoored": NUMBER,
        "mean_kl": NUMBER,
        "var_kl": NUMBER,
        "score": NUMBER,
        "threshold": NUMBER,
        "fitted": NUMBER,
        "gamma": NUMBER,
        "trigger_norm": NUMBER,
        "true_norm": NUMBER,
        "trigger_error": NUMBER,
        "relative_error": NUMBER,
        "reversed_loss": NUMBER,
        "start": TEXT,
        "limits": {"mean_kl": NUMBER, "var_kl": NUMBER, "floor": NUMBER},
        "input": {"tpr": NUMBER, "tnr": NUMBER, "auc": NUMBER},
        "check": {"target_mse": NUMBER, "target_reached": NUMBER, "frechet": NUMBER},
    },
    "per_group": {"start": DICT},
    "cost": {**COST, "scan_s": NUMBER, "nfe": NUMBER, "peak_memory_mb": NUMBER},
    "provenance": {**PROVENANCE, "defense_sha256": TEXT},
}

CSV_CONFIG = ("checkpoint", "family", "num_parameters", "max_timestep", "noise_schedule", "trained_seed")
CSV_TRUTH = ("trigger", "target", "poison_rate", "trigger_scale", "trigger_on", "psi", "solver")
CSV_PLAN = ("schedule", "estimate_steps", "refine", "refine_steps", "num_samples", "rule")
CSV_FIGURES = (
    "mean_kl",
    "var_kl",
    "score",
    "threshold",
    "fitted",
    "gamma",
    "trigger_norm",
    "true_norm",
    "trigger_error",
    "relative_error",
    "relative_error_at_start",
    "shape",
    "answered_mse",
    "reversed_loss",
    "backdoored",
    "input.tpr",
    "input.tnr",
    "input.auc",
    "check.target_mse",
    "check.target_reached",
    "check.frechet",
)
CSV_KEYS = [*(f"metrics.{key}" for key in CSV_FIGURES), "cost.scan_s", "cost.nfe", "cost.peak_memory_mb"]


def markdown(table: ScanTable, parts: Sequence[str] = tuple(GRIDS)) -> str:
    """The setting, the tables named in `parts`, under titles where there are several, and their footnotes; ""
    where there is no such table."""
    views = grids(table, parts)
    texts = [
        "\n".join([*([f"*{view.title}*", ""] if len(views) > 1 else []), *view.markdown()]) for view in views
    ]
    text = "\n\n".join(texts)
    notes = [line for i, line in enumerate(footnotes(table)) if not i or f" †{i} " in text]
    return "\n".join([table.setting, "", text, *(notes if len(notes) > 1 else [])]) if texts else ""


CSV_HEADINGS = [
    "dataset",
    "image_size",
    "name",
    "attack",
    *CSV_TRUTH,
    "unlike",
    *CSV_CONFIG,
    "plan",
    *CSV_PLAN,
    "starts",
    "scan_seeds",
    "not_comparable",
    "verdict",
    "wrong",
    *csv_headings(CSV_KEYS),
]


def csv_lines(tables: Sequence[ScanTable]) -> Iterable[list]:
    """A line for each model and plan of all tables, every figure with its deviation over scans."""
    for table in tables:
        for row in table.rows:
            truth = row.get("config.truth") or {}
            yield [
                table.dataset,
                table.image_size,
                row.first.name,
                row.kind,
                *(truth.get(key) for key in CSV_TRUTH),
                row.unlike,
                *(row.get(f"config.{key}") for key in CSV_CONFIG),
                row.defence,
                *(row.get(f"config.{key}") for key in CSV_PLAN),
                " ".join(row.get("config.starts") or []),
                " ".join(map(str, row.seeds)),
                why_marked(row, table),
                row.verdict,
                row.wrong,
                *csv_figures(map(row.cell, CSV_KEYS)),
            ]


def pictures(table: ScanTable) -> list[Pictures]:
    """The picture beside the first scan of each model by each plan, folded away."""
    files = [
        (
            row.dirs[0] / "trigger.png",
            f"trigger of {row.first.name}",
            f"{row.first.name} | {row.defence} | {row.dirs[0]}",
        )
        for row in table.rows
    ]
    return [Pictures(files, "pictures: triggers, true and found, and what the models make of them")]


MARKER_OPTIONS = {
    "size": lambda path, record, pixels: record.config["image_size"] == pixels,
    "attack": lambda path, record, names: attack_of(record.config) in names.split("+"),
    "schedule": lambda path, record, name: record.config["schedule"] == name,
    "under": OPTIONS["under"],
    "part": lambda path, record, word: True,
    **WORDS,
}


def scans_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a scans marker asks for."""
    parts = parts_of(options, tuple(GRIDS))
    left = runs_left(comparison.tables["terd"], dataset, options, MARKER_OPTIONS)
    tables = [table_of(dataset, t.image_size, runs, []) for t, runs in left]
    if not (tables := [t for t in tables if markdown(t, parts)]):
        raise NoRecords(f"asks for {' and '.join(parts)}, and no record of a scan belongs there")
    return with_legends(options, joined(tables, lambda table: markdown(table, parts)), *legends(parts))


KIND = Kind(
    name="terd",
    schema=SCHEMA,
    tables=tables_of,
    title="Scans of diffusion weights",
    counted="scanned models",
    markdown=markdown,
    grids=grids,
    intro=lambda table: table.setting,
    legends=tuple(legends()),
    csv=Csv("comparison_scans.csv", CSV_HEADINGS, csv_lines),
    plots={
        "scans_kl": Plot(
            "report.kinds.terd_figures:kl",
            "Mean and variance of the divergence of the trigger found from clean noise; one point per model."
            " Circles: benign; crosses: backdoored; pale: harder models, with what makes them so. Grey: what"
            " the benign rule passes, by the limit of most models.",
        )
    },
    names=lambda tables: [table.file_name for table in tables],
    pictures=pictures,
    markers={
        "scans": Marker(
            scans_part,
            MARKER_OPTIONS,
            "scans of diffusion weights for a backdoor: models, rates by attack, harder models, parts of the"
            " scan. size=16: models of one image size, attack=villan (or benign+villan): what was put in,"
            " schedule=reduced, part=models, part=detection or part=variants",
        )
    },
)
