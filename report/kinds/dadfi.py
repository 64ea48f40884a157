"""Kind dadfi: disruptions against several translators at once, a table per dataset, set of translators and
image size."""

from collections.abc import Iterable, Sequence

from report.comparison import Comparison
from report.kind import Csv, Kind, Marker, Pictures, Plot
from report.kinds.dadfi_rows import DisruptionTable, table_of, tables_of
from report.markers import LEGEND as WORDS
from report.markers import OPTIONS, joined, runs_left, with_legends
from report.rows import Cell
from report.schema import COST, COUNT, DICT, FAKES, LIST, NUMBER, PHOTOS, PROVENANCE, TEXT, Each, means
from report.text import (
    DASH,
    Column,
    Grid,
    alike,
    csv_figures,
    csv_headings,
    figure,
    footnotes,
    mark,
    number,
    seeds,
    why_marked,
)

# a disruption against several translators; per_group: fakes of the protected photos, rmse = mean over
# pairs of the root of l2
SCHEMA = {
    "config": {
        "translators": LIST,
        "attack": TEXT,
        "eps": NUMBER,
        "attack_steps": COUNT,
        "attack_step_size": NUMBER,
        "attack_target": TEXT,
        "attack_label": TEXT,
        "crafted_on": TEXT,
        "attack_weights": TEXT,
        "trained_on_victims": LIST,
        "finetuning": TEXT,
        "variant": TEXT,
        "num_images": COUNT,
        "image_size": COUNT,
    },
    "metrics": {"input": PHOTOS, "worst": {"l2": NUMBER, "translator": TEXT}},
    "per_group": {"translator": Each({**FAKES, **means("rmse"), "num_pairs": COUNT})},
    "cost": {**COST, "attack_s_per_image": NUMBER, "peak_memory_mb": NUMBER},
    "provenance": {**PROVENANCE, "gan_sha256": DICT, "attacked_key": TEXT},
}

PHOTO_COLUMNS = (
    Column("photo PSNR", "metrics.input.psnr", "decibel"),
    Column("photo SSIM", "metrics.input.ssim", "ssim", detail=True),
    Column("photo linf", "metrics.input.linf", "small", detail=True),
    Column("s/photo", "cost.attack_s_per_image", "seconds", detail=True),
)
VICTIM_COLUMNS = (  # of one translator; keys of its part of the record
    Column("rmse", "rmse", "small", spread=True),
    Column("l2_mask", "l2_mask", "small", detail=True),
    Column("prop_dist", "prop_dist", "share"),
    Column("sr_mask", "sr_mask", "share", detail=True),
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


def attacks_grid(table: DisruptionTable) -> Grid:
    """A row per attack with each translator's l2, the worst, and what became
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
                seeds(row),
            ]
        )
    best, worst = table.best, headings.index("worst l2")
    return Grid(
        headings,
        cells,
        1,
        [bool(row.marks) for row in table.rows],
        best={(i, worst) for i, row in enumerate(table.rows) if id(row) == best},
        detail={worst + 1 + i for i, c in enumerate(PHOTO_COLUMNS) if c.detail},
    )


def translators_grid(table: DisruptionTable) -> Grid:
    """A row per attack and translator with its further figures."""
    distances = list(
        dict.fromkeys(row.distance[0] for row in table.rows if row.cell(row.distance[1]).value is not None)
    )
    headings = [
        "attack",
        "translator",
        *(" or ".join(distances) or "frechet" if c.key == "distance" else c.heading for c in VICTIM_COLUMNS),
    ]
    pairs = [(row, name) for row in table.rows for name in table.translators]
    return Grid(
        headings,
        [
            [row.label + mark(row), name, *(_figure(row.of(name, c.key), c) for c in VICTIM_COLUMNS)]
            for row, name in pairs
        ],
        2,
        [bool(row.marks) for row, _ in pairs],
        groups=[row.label + mark(row) for row, _ in pairs],
        detail={2 + i for i, c in enumerate(VICTIM_COLUMNS) if c.detail},
    )


def _figure(cell, column):
    text = number(cell.value, "small" if column.key == "distance" else column.style)
    if column.spread and cell.std is not None:
        return f"{text} ± {alike(cell.std, text)}"
    return (
        f"{text} [{alike(cell.low, text)}, {alike(cell.high, text)}]"
        if column.spread and cell.low is not None
        else text
    )


def grids(table: DisruptionTable) -> list[Grid]:
    return [attacks_grid(table), translators_grid(table)]


def markdown(table: DisruptionTable) -> str:
    """Both tables of one set of translators with their footnotes."""
    attacks, translators = grids(table)
    return "\n".join([*attacks.markdown(), "", *translators.markdown(), *footnotes(table)])


CSV_HEADINGS = [
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


def csv_lines(tables: Sequence[DisruptionTable]) -> Iterable[list]:
    """A line per attack and translator of all tables, each figure with its interval or deviation."""
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
                why_marked(row, table),
                row.get("features.name"),
                cell.value,
                worst,
            ]
            for name in table.translators:
                yield [
                    *whole,
                    *csv_figures(map(row.cell, CSV_ROW_KEYS)),
                    name,
                    *csv_figures(row.of(name, key) for key in CSV_KEYS),
                ]


def pictures(table: DisruptionTable) -> list[Pictures]:
    """The grid beside the first record of each row, folded away."""
    files = [
        (row.dirs[0] / "grid.png", f"grid of {row.label}", f"{row.label} | {row.dirs[0]}")
        for row in table.rows
    ]
    return [
        Pictures(
            files,
            "grids: photo, protected photo, its change ten times enlarged, each translator's fake of both",
        )
    ]


MARKER_OPTIONS = {
    "photos": OPTIONS["photos"],
    "victims": lambda path, record, names: sorted(record.config["translators"]) == sorted(names.split("+")),
    "radius": lambda path, record, eps: record.config["eps"] == eps or record.config["attack"] == "none",
    "under": OPTIONS["under"],
    **WORDS,
}


def disruptions_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a disruptions marker asks for."""
    left = runs_left(comparison.tables["dadfi"], dataset, options, MARKER_OPTIONS)
    tables = [table_of(dataset, t.translators, t.image_size, runs, comparison.looks, []) for t, runs in left]
    return with_legends(options, joined(tables, markdown), LEGEND)


KIND = Kind(
    name="dadfi",
    schema=SCHEMA,
    tables=tables_of,
    title="Disruptions against several translators",
    counted="disruptions",
    markdown=markdown,
    grids=grids,
    legends=(LEGEND,),
    csv=Csv("comparison_disruptions.csv", CSV_HEADINGS, csv_lines),
    plots={
        "disruptions_l2": Plot(
            "report.kinds.dadfi_figures:l2_by_translator",
            "Fakes of protected photos by translator and attack. Lines: 95% interval over photos, or one"
            " deviation over seeds.",
        )
    },
    names=lambda tables: [table.file_name for table in tables],
    pictures=pictures,
    markers={
        "disruptions": Marker(
            disruptions_part,
            MARKER_OPTIONS,
            "attacks against several translators at once, a row per attack; one table per set of translators."
            " victims=stargan+stgan: those of exactly these (radius keeps the undisturbed photos too)",
        )
    },
)
