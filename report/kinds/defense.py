"""Kind defense: how well a defence undoes an attack, a table per dataset and translator."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from report.comparison import Comparison
from report.kind import Csv, Kind, Marker, Pictures, Plot
from report.kinds import defense_robustness
from report.kinds.defense_matrix import matrix_of
from report.kinds.defense_robustness import robustness_of, with_robustness
from report.kinds.defense_rows import DefenseTable, table_of
from report.markers import LEGEND as WORDS
from report.markers import OPTIONS, NoRecords, joined, runs_left, with_legends
from report.rows import Table, attack_text
from report.schema import COST, COUNT, DICT, FAKES, NUMBER, PHOTOS, PROVENANCE, TEXT
from report.text import (
    Column,
    Grid,
    csv_figures,
    csv_headings,
    figure,
    footnotes,
    heading,
    mark,
    seeds,
    why_marked,
)

SCHEMA = {
    "config": {
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
        "attack_on": TEXT,
        "attack_through": TEXT,
        "num_images": COUNT,
        "num_pairs": COUNT,
        "image_size": COUNT,
        "gan_training_data": TEXT,
    },
    "metrics": {
        "disrupted": FAKES,
        "purified": FAKES,
        "clean_purified": FAKES,
        "input": {"disrupted": PHOTOS, "purified": PHOTOS, "clean_purified": PHOTOS},
    },
    "per_group": {"domain": DICT},
    "cost": {
        **COST,
        "nfe": NUMBER,
        "attack_s_per_image": NUMBER,
        "purify_s_per_image": NUMBER,
        "peak_memory_mb": NUMBER,
    },
    "provenance": {**PROVENANCE, "gan_sha256": TEXT, "defense_sha256": TEXT, "attacked_key": TEXT},
}

COLUMNS = (
    Column("photos / pairs", "config", "counts", detail=True),
    Column("l2 disrupted", "metrics.disrupted.l2", "small"),
    Column("l2 purified", "metrics.purified.l2", "small", spread=True),
    Column("l2 undisturbed", "metrics.clean_purified.l2", "small"),
    Column("prop_dist", "metrics.purified.prop_dist", "share", detail=True),
    Column("photo l2", "metrics.input.purified.l2", "small", detail=True),
    Column("photo PSNR", "metrics.input.purified.psnr", "decibel"),
    Column("photo SSIM", "metrics.input.purified.ssim", "ssim", detail=True),
    Column("distance", "distance", "distance", detail=True),
    Column("nfe", "cost.nfe", "short"),
    Column("s/photo", "cost.purify_s_per_image", "seconds"),
)
LEGEND = (
    "All l2 are mean squared errors in [-1, 1]. *l2 disrupted*, *purified*, *undisturbed*: fakes of the"
    " disrupted, the purified and the purified undisturbed photo against fakes of the photo itself;"
    " *prop_dist*: share of purified pairs with l2 > 0.05. *photo*: the purified photo against the original"
    " (PSNR in dB, equal images count as 100). [low, high]: bootstrap 95% interval over photos; ± standard"
    " deviation over seeds. *nfe*: network evaluations of the purifier per photo. **Bold**: the smallest l2"
    " purified under its attack among rows that may be compared. † must not be compared with the other rows;"
    " rows with the same mark may be compared with one another."
)
CSV_KEYS = (
    [
        f"metrics.{side}.{key}"
        for side in ("disrupted", "purified", "clean_purified")
        for key in (
            "l1",
            "l2",
            "prop_dist",
            "linf",
            "l2_mask",
            "sr_mask",
            "psnr",
            "ssim",
            "fid",
            "kid",
            "frechet",
        )
    ]
    + [
        f"metrics.input.{side}.{key}"
        for side in ("disrupted", "purified", "clean_purified")
        for key in ("l2", "linf", "psnr", "ssim")
    ]
    + ["cost.nfe", "cost.attack_s_per_image", "cost.purify_s_per_image"]
)


def best_rows(table: Table) -> set[int]:
    """ids of the rows with the smallest purified l2 among those that may be compared with one another.

    Those are the unmarked rows of an attack; where all are marked, the rows with the same mark.
    """
    best = set()
    for attack in table.attacks():
        rows = [r for r in table.block(attack) if r.cell("metrics.purified.l2").value is not None]
        marks = [[]] if any(not r.marks for r in rows) else [[i] for i in range(1, len(table.notes) + 1)]
        groups = [[r for r in rows if r.marks == m] for m in marks]
        best |= {
            id(min(group, key=lambda r: r.cell("metrics.purified.l2").value))
            for group in groups
            if len(group) > 1
        }
    return best


def main_grid(table: Table) -> Grid:
    """A line per attack and defence."""
    best, purified = best_rows(table), 2 + [c.key for c in COLUMNS].index("metrics.purified.l2")
    cells = [
        [attack_text(r.attack), r.defence + mark(r), *(figure(r, c, table) for c in COLUMNS), seeds(r)]
        for r in table.rows
    ]
    return Grid(
        ["attack", "defence", *(heading(c, table) for c in COLUMNS), "seeds"],
        cells,
        2,
        [bool(r.marks) for r in table.rows],
        best={(i, purified) for i, r in enumerate(table.rows) if id(r) in best},
        groups=[r.attack for r in table.rows],
        detail={2 + i for i, c in enumerate(COLUMNS) if c.detail},
    )


def grids(table: DefenseTable) -> list[Grid]:
    """The main grid; where there is a worst case, that before it."""
    main = main_grid(table)
    if table.robustness is None:
        return [main]
    return [defense_robustness.grid_of(table.robustness), replace(main, title="Every attack")]


def markdown(table: DefenseTable) -> str:
    """The grids of a table and the footnotes of all of them."""
    lines = []
    for grid in grids(table):
        lines += [f"### {grid.title}", ""] if grid.title else []
        lines += [grid.note, ""] if grid.note else []
        lines += [*grid.markdown(), ""]
    return "\n".join(lines[:-1] + footnotes(table))


CSV_HEADINGS = [
    "dataset",
    "gan",
    "attack",
    "attack_type",
    "eps",
    "defence",
    "photos",
    "pairs",
    "image_size",
    "seeds",
    "not_comparable",
    "features",
]


def csv_lines(tables: Sequence[Table]) -> Iterable[list]:
    """Every row of every table, each figure with its interval (one seed) or deviation (several)."""
    for table in tables:
        for row in table.rows:
            a = dict(row.attack)
            yield [
                table.dataset,
                table.gan,
                attack_text(row.attack),
                a["attack"],
                a.get("eps"),
                row.defence,
                row.get("config.num_images"),
                row.get("config.num_pairs"),
                row.get("config.image_size"),
                " ".join(map(str, row.seeds)),
                why_marked(row, table),
                row.get("features.name"),
                *csv_figures(map(row.cell, CSV_KEYS)),
            ]


def pictures(table: Table) -> list[Pictures]:
    """Grids of the main attack in sight, those of the others folded away."""
    main, others = [], []
    for row in table.rows:
        path = row.dirs[0] / "grid.png"
        caption = f"{row.defence} | {attack_text(row.attack)} | {row.dirs[0]}"
        (main if row.attack == table.main else others).append((path, f"grid of {row.defence}", caption))
    return [
        Pictures(main, title="Photo, disrupted, purified, and the fake of each"),
        Pictures(others, "grids of the other attacks"),
    ]


MARKER_OPTIONS = {**OPTIONS, **WORDS}


def _left(comparison, dataset, options):
    """The data set's tables of the runs that the options leave."""
    left = runs_left(comparison.tables["defense"], dataset, options, MARKER_OPTIONS)
    return [table_of(dataset, table.gan, runs, comparison.looks, []) for table, runs in left]


def table_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a table marker asks for."""
    return with_legends(options, joined(_left(comparison, dataset, options), markdown), LEGEND)


def matrix_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a matrix marker asks for."""
    return joined(_left(comparison, dataset, options), matrix_of)


def robustness_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a robustness marker asks for; gan= leaves the rows of a translator, the others stay columns."""
    every = _left(comparison, dataset, {k: v for k, v in options.items() if k != "gan"})
    asked = [t for t in every if options.get("gan") in (None, t.gan)]
    tables = [found for t in asked if (found := robustness_of(t, every, []))]
    if not tables:
        raise NoRecords("asks for the attack worst, and no defence met it")
    return with_legends(options, joined(tables, defense_robustness.markdown), defense_robustness.LEGEND)


FIGURES, WORST = "report.kinds.defense_figures", "report.kinds.defense_robustness_figures"
KIND = Kind(
    name="defense",
    schema=SCHEMA,
    tables=with_robustness,
    counted="defences",
    markdown=markdown,
    grids=grids,
    legends=(LEGEND,),
    csv=Csv("comparison.csv", CSV_HEADINGS + csv_headings(CSV_KEYS), csv_lines, always=True),
    plots={
        "l2_by_eps": Plot(
            f"{FIGURES}:l2_by_eps",
            "Purified fakes against the eps that the attack reached. eps 0: the undisturbed photo, purified.",
            wide=True,
        ),
        "l2_by_defence": Plot(
            f"{FIGURES}:l2_by_defence",
            "Purified fakes by defence. Lines: 95% interval over photos, or one deviation over seeds. Pale:"
            " marked † beside unmarked ones.",
            wide=True,
        ),
        "photo_against_fake": Plot(
            f"{FIGURES}:photo_against_fake",
            "The purified photo against its fakes: the lower left corner is best.",
        ),
        "cost_against_fake": Plot(
            f"{FIGURES}:cost_against_fake",
            "Network evaluations per photo against the error of the fakes. Defences of equal cost stand side"
            " by side.",
        ),
        "l2_by_steps": Plot(
            f"{WORST}:l2_by_steps",
            "Purified fakes against the steps of an attacker who knows the defence: where a line still rises,"
            " a longer attack would do more.",
        ),
        "worst_against_ignored": Plot(
            f"{WORST}:worst_against_ignored",
            "Each defence under an attacker who ignores it (hollow) and under the worst of those who know it"
            " (filled).",
            wide=True,
        ),
    },
    names=lambda tables: [f"{table.dataset}-{table.gan}" for table in tables],
    pictures=pictures,
    markers={
        "table": Marker(
            table_part, MARKER_OPTIONS, "the rows of a data set; several translators follow one another"
        ),
        "matrix": Marker(
            matrix_part, MARKER_OPTIONS, "l2 of the purified fakes, a row per defence and a column per attack"
        ),
        "robustness": Marker(
            robustness_part, MARKER_OPTIONS, "a row per defence, a column for what each attacker knows of it"
        ),
    },
)
