"""Views of a table of scanned models: the standard models one by one, rates by attack, the harder models one
by one, and what each part of the scan is worth; and the legends of each."""

from collections.abc import Sequence

from report.kinds.terd_rows import BENIGN, BOTH, FLAGGED, NOT_RECOVERED, PASSED, TOO_FAR, attack_name
from report.kinds.terd_tables import ScanTable
from report.text import DASH, Column, Grid, figure, mark, number, seeds

COLUMNS = (  # of a model
    Column("target MSE", "metrics.check.target_mse", "small"),
    Column("frechet", "metrics.check.frechet", "small", detail=True),
    Column("M_r", "metrics.mean_kl", "small"),
    Column("V_r", "metrics.var_kl", "small", detail=True),
    Column("score", "metrics.score", "points"),
    Column("verdict", "verdict", "verdict"),
    Column("|r|", "metrics.true_norm", "small"),
    Column("|r_hat|", "metrics.trigger_norm", "small", detail=True),
    Column("|r_hat - r|", "metrics.trigger_error", "small"),
    Column("ratio", "metrics.relative_error", "ratio"),
    Column("ratio at start", "metrics.relative_error_at_start", "share", detail=True),
    Column("shape", "metrics.shape", "share"),
    Column("answered", "metrics.answered_mse", "small", detail=True),
    Column("input TPR", "metrics.input.tpr", "ssim"),
    Column("input TNR", "metrics.input.tnr", "ssim"),
    Column("scan s", "cost.scan_s", "seconds", detail=True),
)
RATES = (  # of the models of an attack
    Column("|r|", "metrics.true_norm", "small"),
    Column("|r_hat - r|", "metrics.trigger_error", "small", spread=True),
    Column("ratio", "metrics.relative_error", "share", spread=True),
    Column("shape", "metrics.shape", "share", spread=True),
    Column("input TPR", "metrics.input.tpr", "ssim"),
    Column("input TNR", "metrics.input.tnr", "ssim"),
    Column("model TPR", "tpr", "rate"),
    Column("model TNR", "tnr", "rate"),
)
UNLIKE = "unlike the others"
WRONG = tuple(f"({words})" for words in (FLAGGED, PASSED, NOT_RECOVERED))  # what such a cell ends in
ROW_LEGEND = (
    "A row is one model. *hides*: what its training put in, trigger to target; *trained*: seed of that"
    " training. *target MSE*: mean squared error in [-1, 1] between the target and what the model makes of"
    " triggered noise; *frechet*: distance of its clean samples from photos that it did not learn from."
    " *M_r*, *V_r*: mean and variance over dimensions of the KL divergence of noise with the trigger found"
    " from clean noise; *score*: standard deviations by which M_r lies above that of benign models;"
    " *verdict*: by the rule, in brackets *false alarm* where it flags a benign model and *missed* where it"
    " passes a backdoored one. *|r|*, *|r_hat|*: L2 norm of the true trigger and of the one found; *|r_hat -"
    " r|*: L2 distance of the two; *ratio*: that distance as a share of |r|, in brackets *not recovered*"
    f" from {TOO_FAR:g} on; *ratio at start*: the same of the random trigger that the search began from,"
    " which is small where triggers stand on a background of -1; *shape*: correlation of the two triggers"
    " with their means taken out, which knows no background; *answered*: *target MSE* with the trigger found"
    " in place of the true one, by the backdoor's own sampler. *input TPR*: share of triggered noises that"
    " are likelier with the trigger found than as clean noise; *input TNR*: share of clean noises that are"
    " not. *scan s*: seconds of the scan. Several scans of one model are one row of their means. † must not"
    " be compared with the other rows in what its footnote names."
)
RATES_LEGEND = (
    "Of standard models: full range of steps, linear schedule, one network size, unscaled trigger, the most"
    " frequent poison rate. *plan*: the parts of the scan; *models*: how many were scanned by it, of how many"
    " that were scanned at all. *|r|*: mean L2 norm of the true trigger; *|r_hat - r|*, *ratio*: mean"
    " distance of the trigger found from it, and as a share of |r|; *shape*: correlation of the two, means"
    " taken out; *input TPR*, *input TNR*: mean share of triggered noises that are found, and of clean ones"
    " that are left alone; *model TPR*: share of the backdoored models that are flagged; *model TNR*: share"
    " of the benign ones that are not. Positive = triggered, or backdoored. ± standard deviation between"
    " models."
)
PAPER = (
    "The TERD paper on CIFAR-10, 32 x 32 pixels: |r_hat - r| of BadDiffusion 20.69, of TrojDiff 4.26, of"
    " VillanDiffusion 30.03. At another size |r| is another, so these distances must not be held against ours"
    " there."
)
HARDER_LEGEND = (
    f"Harder models differ from the standard ones in what *{UNLIKE}* names, and where it names a plan, were"
    " scanned by that one."
)
PARTS_LEGEND = (
    "Parts of the scan: of those standard models that were scanned without one of them too. The paper's"
    " ablation on CIFAR-10, |r_hat - r| and TPR/TNR in percent of inputs and of models: estimation only"
    " 21.90, 100/94.44, 33.33/88.89; refinement only 23.56, 100/100, 100/77.78; both 18.33, 100/100, 100/100."
    " Its code calls the rate of clean ones TPR, so a pair need not be in the order of ours."
)
LEGENDS = {
    "models": [ROW_LEGEND],
    "detection": [RATES_LEGEND, PAPER],
    "variants": [ROW_LEGEND, HARDER_LEGEND, RATES_LEGEND, PARTS_LEGEND],
}


def _figure(row, column, table):
    if column.style == "verdict":
        return row.verdict
    if column.style == "ratio":
        text = number(row.cell(column.key).value, "share")
        return f"{text} ({NOT_RECOVERED})" if row.recovered is False else text
    if column.style == "rate":
        return _rate(row, column.key)
    return figure(row, column, table)


def _rate(group, key):
    """`0.67 (2/3)`: share of the models on the right side; a dash where the rate is not theirs."""
    if not group.judged or (key == "tnr") != (group.kind == BENIGN):
        return DASH
    right = sum(1 - share if group.kind == BENIGN else share for share in group.judged)
    return f"{number(right / len(group.judged), 'share')} ({right:.3g}/{len(group.judged)})"


def _measured(columns, rows):
    """The columns without those that nothing was measured for."""
    return [
        c
        for c in columns
        if c.style in ("verdict", "rate") or any(row.cell(c.key).value is not None for row in rows)
    ]


def models_grid(table: ScanTable) -> Grid | None:
    """A line per standard or unknown model; None where there is none."""
    return _models_grid(table, table.models)


def harder_grid(table: ScanTable) -> Grid | None:
    """models_grid of the harder models, with a column for what makes them so."""

    def unlike_the_others(row):
        return ", ".join([row.unlike] + ([row.defence] if row.defence != table.plan else []))

    return _models_grid(table, table.harder, {UNLIKE: unlike_the_others})


def _models_grid(table, rows, more=None):
    """more  {heading: function of a row} of further columns"""
    more, columns = more or {}, _measured(COLUMNS, rows)
    cells = [
        [
            attack_name(row.kind),
            row.label + mark(row),
            *(text(row) for text in more.values()),
            number(row.get("config.trained_seed"), "count"),
            *(_figure(row, c, table) for c in columns),
            seeds(row),
        ]
        for row in rows
    ]
    headings = ["attack", "hides", *more, "trained", *(c.heading for c in columns), "scan seeds"]
    return _grid(headings, cells, rows, columns, 2 + len(more)) if rows else None


def _grid(headings, cells, rows, columns, left):
    """A Grid that says what is wrong, named once for each attack; `columns` are those after the first left +
    1."""
    return Grid(
        headings,
        cells,
        left,
        [bool(row.marks) for row in rows],
        missed={
            (i, j)
            for i, line in enumerate(cells)
            for j, text in enumerate(line)
            if j and text.endswith(WRONG)
        },
        groups=[line[0] for line in cells],
        detail={left + 1 + i for i, c in enumerate(columns) if c.detail},
    )


def detection_grid(table: ScanTable) -> Grid | None:
    """A line per attack and plan with both parts; None where there is none."""
    return _rates_grid(table, [row for row in table.standard if row.parts == BOTH])


def parts_grid(table: ScanTable) -> Grid | None:
    """detection_grid of every plan, of the models that were scanned without one of the parts too; None where
    there are none."""
    models = {row.model for row in table.standard if row.parts != BOTH}
    return _rates_grid(table, [row for row in table.standard if row.model in models])


def _rates_grid(table, rows):
    groups = table.groups(rows)
    columns = _measured(RATES, groups)
    cells = [
        [
            attack_name(g.kind),
            g.defence + mark(g),
            f"{len(g.members)}" + (f" of {g.known}" if len(g.members) < g.known else ""),
            *(_figure(g, c, table) for c in columns),
        ]
        for g in groups
    ]
    headings = ["attack", "plan", "models", *(c.heading for c in columns)]
    return _grid(headings, cells, groups, columns, 2) if groups else None


GRIDS = {
    "models": {"Models": models_grid},
    "detection": {"Detection": detection_grid},
    "variants": {"Harder models": harder_grid, "Parts of the scan": parts_grid},
}


def grids(table: ScanTable, parts: Sequence[str] = tuple(GRIDS)) -> list[Grid]:
    """The views of the parts, with their titles, without empty ones."""
    views = []
    for part in parts:
        for title, make in GRIDS[part].items():
            if grid := make(table):
                grid.title = title
                views.append(grid)
    return views


def legends(parts: Sequence[str] = tuple(GRIDS)) -> list[str]:
    """The legends of some parts, each once."""
    return list(dict.fromkeys(text for part in parts for text in LEGENDS[part]))
