"""Kind detector: what a detector learned from clean, disrupted and purified photos, a table per dataset,
translator, detector and attack."""

from collections.abc import Sequence

from report.comparison import Comparison
from report.kind import Csv, Kind, Marker, Pictures, Plot
from report.kinds.detector_rows import DetectorTable, reference, tables_of
from report.kinds.detector_tables import (
    CSV_HEADINGS,
    LEGEND,
    RATES_LEGEND,
    cross_markdown,
    csv_lines,
    grids,
    markdown,
    rates_markdown,
    trainings_markdown,
)
from report.markers import LEGEND as WORDS
from report.markers import OPTIONS, NoRecords, runs_left, with_legends
from report.rows import attack_text
from report.schema import COST, COUNT, DICT, NUMBER, PROVENANCE, TEXT, Later, means, scores

JUDGED = {**means("accuracy"), **scores("auc", "ap", "eer", "ece")}  # a detector on one test set
# fake = 1, real = 0; one training seed, tested on clean photos of C and clean fakes, beside it on
# disrupted and purified ones
SCHEMA = {
    "config": {
        "detector": TEXT,
        "base": TEXT,
        "pretrained": TEXT,
        "condition": TEXT,
        "gan": TEXT,
        "defense": TEXT,
        "defense_params": DICT,
        "defense_noise": TEXT,
        "attack": TEXT,
        "eps": NUMBER,
        "attack_steps": COUNT,
        "attack_step_size": NUMBER,
        "attack_target": TEXT,
        "attack_label": TEXT,
        "poison_rate": NUMBER,
        "num_photos": COUNT,
        "num_train": COUNT,
        "num_validation": COUNT,
        "num_test": COUNT,
        "image_size": COUNT,
        "epochs": COUNT,
        "kept": TEXT,
        "gan_training_data": TEXT,
        "training_fakes": Later(TEXT),
    },
    "metrics": {
        **JUDGED,
        "disrupted": JUDGED,
        "purified": JUDGED,
        "validation": {"accuracy": NUMBER, "loss": NUMBER},
    },
    "per_group": {"domain": DICT},
    "cost": {**COST, "train_s": NUMBER, "epoch_s": NUMBER, "peak_memory_mb": NUMBER},
    "provenance": {
        **PROVENANCE,
        "detector_sha256": TEXT,
        "gan_sha256": TEXT,
        "defense_sha256": TEXT,
        "attacked_key": TEXT,
    },
}

TRAINING_PICTURES = ("curves.png", "roc.png", "predictions.png")  # of a detector, beside its record


def pictures(table: DetectorTable) -> list[Pictures]:
    """The pictures beside the first record of each row, folded away."""
    files = [
        (
            row.dirs[0] / name,
            f"{name.partition('.')[0]} of {row.label}",
            f"{row.label} | poison rate {row.rate:g} | {row.dirs[0] / name}",
        )
        for row in table.rows
        for name in TRAINING_PICTURES
    ]
    return [Pictures(files, "pictures of the trainings")]


def file_names(tables: Sequence[DetectorTable]) -> list[str]:
    """A name for the files of each table, <dataset>-<gan>-<detector>[-<base>], with the attack where several
    would share it."""
    names = [
        "-".join(
            [t.dataset, t.gan, t.detector]
            + ([t.base] if t.base not in ("scratch", "?") else [])
            + ["".join(c if c.isalnum() else "-" for c in words) for words in t.protocol]
        )
        for t in tables
    ]
    return [
        f"{name}-{attack_text(t.main)}" if names.count(name) > 1 else name
        for name, t in zip(names, tables, strict=True)
    ]


def gaps(table: DetectorTable) -> list[str]:
    """Why a table has dashes: what its rows could not be held against or joined with, one line each."""
    whose = {
        "no clean training to hold against": [
            r for r in table.rows if r.condition != "clean" and reference(r, table.rows, "clean") is None
        ],
        "no training on disrupted photos at that rate beside": [
            r
            for r in table.rows
            if r.rate
            and r.condition in ("purified", "filtered")
            and reference(r, table.rows, "disrupted") is None
        ],
        "no record of test_defense.py under this attack for": [
            r for r in table.rows if r.condition in ("disrupted", "purified") and r.source is None
        ],
    }
    return [
        f"{table.name}: {what} {', '.join(dict.fromkeys(r.label for r in rows))}"
        for what, rows in whose.items()
        if rows
    ]


MARKER_OPTIONS = {
    **OPTIONS,
    "photos": lambda path, record, n: record.config["num_photos"] == n,
    "detector": lambda path, record, name: record.config["detector"] == name,
    "base": lambda path, record, name: record.config["base"] == name,
    "attack": lambda path, record, name: record.config["attack"] == name,
    "target": lambda path, record, name: record.config["attack_target"] == name,
    "rate": lambda path, record, rate: (
        record.config["poison_rate"] == rate or record.config["condition"] == "clean"
    ),
    **WORDS,
}


def _left(comparison, dataset, options):
    """The data set's tables of the runs that the options leave."""
    runs = [
        run
        for _, mine in runs_left(comparison.tables["detector"], dataset, options, MARKER_OPTIONS)
        for run in mine
    ]
    if "rate" in options and not any(record.config["poison_rate"] == options["rate"] for _, record in runs):
        # the clean ones alone are not meant
        raise NoRecords("asks for a poison rate that no record has")
    return tables_of(runs, Comparison(comparison.looks, comparison.tables))


def detectors_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a detectors marker asks for."""
    tables = _left(comparison, dataset, options)
    text = "\n\n".join(f"**{t.name}**\n\n{trainings_markdown(t)}" for t in tables)
    return with_legends(options, text, LEGEND)


def rates_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a rates marker asks for."""
    texts = {t.name: text for t in _left(comparison, dataset, options) if (text := rates_markdown(t))}
    if not texts:
        raise NoRecords("asks for several poison rates, and no table of detectors has them")
    text = "\n\n".join(f"**{name}**\n\n{text}" for name, text in texts.items())
    return with_legends(options, text, RATES_LEGEND)


def cross_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a cross marker asks for."""
    texts = [
        f"**{t.setting}**\n\n{text}"
        for t in _left(comparison, dataset, options)
        if (text := cross_markdown(t.setting_tables))
    ]
    if not texts:
        raise NoRecords("asks for detectors of several attacks, and there are none")
    return "\n\n".join(texts)


KIND = Kind(
    name="detector",
    schema=SCHEMA,
    tables=tables_of,
    title="Detectors",
    counted="detectors",
    markdown=markdown,
    grids=grids,
    legends=(LEGEND,),
    gaps=gaps,
    csv=Csv("comparison_detectors.csv", CSV_HEADINGS, csv_lines),
    plots={
        "detectors_accuracy": Plot(
            "report.kinds.detector_figures:accuracy",
            "Accuracy by training photos, bars from chance; hatched: purified after a filter. Whiskers: one"
            " deviation over seeds, or the 95% interval over photos of one seed.",
        ),
        "detectors_rate": Plot(
            "report.kinds.detector_figures:by_rate",
            "Accuracy against the poison rate; rate 0 of a defence: undisturbed photos, purified. Points of"
            " one rate stand side by side.",
        ),
        "detectors_cross": Plot(
            "report.kinds.detector_cross_figure:worst_guess",
            "Accuracy of each cure where the attacker ignored it, and where the attacker guessed it: a cure"
            " is worth its lower point. One panel for each test set.",
            wide=True,
        ),
    },
    names=file_names,
    pictures=pictures,
    markers={
        "detectors": Marker(
            detectors_part,
            MARKER_OPTIONS,
            "what detectors learned from clean, disrupted, purified photos; one table per detector and"
            " attack. photos: training photos; rate=1: those of one poison rate with the clean ones",
        ),
        "rates": Marker(
            rates_part,
            MARKER_OPTIONS,
            "accuracy of detectors, a row per kind of training photos and a column per poison rate",
        ),
        "cross": Marker(
            cross_part,
            MARKER_OPTIONS,
            "accuracy of detectors, a row per kind of training photos and a column per attack on them",
        ),
    },
)
