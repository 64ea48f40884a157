"""From records of scans of diffusion weights for a backdoor (kind terd) to tables: one per dataset and image
size of the models.

Reads records only. Views of a table: the standard models one by one, rates by attack, the harder models one
by one, and what each part of the scan is worth.
"""

import csv
import io
from collections import Counter, defaultdict
from dataclasses import dataclass

from report import rows as compare
from report.kinds.terd_rows import (
    ATTACKS,
    BENIGN,
    BOTH,
    FLAGGED,
    NOT_RECOVERED,
    PASSED,
    TOO_FAR,
    UNKNOWN,
    GroupRow,
    ScanRow,
    attack_name,
    plan_labels,
    plan_of,
    unlike,
    why_not,
)
from report.rows import Table
from report.text import (
    DASH,
    Column,
    csv_figures,
    csv_headings,
    figure,
    footnotes,
    mark,
    markdown_table,
    number,
)

COLUMNS = (  # of a model
    Column("target MSE", "metrics.check.target_mse", "small"),
    Column("frechet", "metrics.check.frechet", "small"),
    Column("M_r", "metrics.mean_kl", "small"),
    Column("V_r", "metrics.var_kl", "small"),
    Column("score", "metrics.score", "points"),
    Column("verdict", "verdict", "verdict"),
    Column("|r|", "metrics.true_norm", "small"),
    Column("|r_hat|", "metrics.trigger_norm", "small"),
    Column("|r_hat - r|", "metrics.trigger_error", "small"),
    Column("ratio", "metrics.relative_error", "ratio"),
    Column("ratio at start", "metrics.relative_error_at_start", "share"),
    Column("shape", "metrics.shape", "share"),
    Column("answered", "metrics.answered_mse", "small"),
    Column("input TPR", "metrics.input.tpr", "ssim"),
    Column("input TNR", "metrics.input.tnr", "ssim"),
    Column("scan s", "cost.scan_s", "seconds"),
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


@dataclass
class ScanTable(Table):
    """The scans of the models of one dataset at one image size; `gan` stays empty."""

    image_size: int | None = None
    # label of the plan of which the models are shown one by one; "" where no plan has both parts
    plan: str = ""

    @property
    def name(self):
        return f"{self.dataset}, {self.image_size} pixels"

    @property
    def file_name(self):
        return f"{self.dataset}-{self.image_size}"

    @property
    def standard(self):
        """Rows of standard models, by any plan."""
        return [row for row in self.rows if row.standard]

    @property
    def models(self):
        """Standard models and those of which nobody knows what is in them, by the table's plan."""
        return [
            row for row in self.rows if row.defence == self.plan and (row.standard or row.kind == UNKNOWN)
        ]

    @property
    def harder(self):
        """Models unlike the standard ones, by every plan with both parts."""
        return sorted(
            (row for row in self.rows if row.parts == BOTH and row.unlike and row.kind != UNKNOWN),
            key=lambda row: _place(row.kind),
        )

    def groups(self, rows):
        """[GroupRow] of some rows by attack and plan, the table's own plan first and more parts before
        fewer."""
        found, models = defaultdict(list), defaultdict(set)
        for row in rows:
            found[(row.kind, row.defence)].append(row)
        for row in self.standard:
            models[row.kind].add(row.model)
        order = sorted(
            found, key=lambda key: (_place(key[0]), key[1] != self.plan, found[key][0].parts != BOTH, key[1])
        )
        return [
            GroupRow(
                (),
                plan,
                [run for row in found[kind, plan] for run in row.runs],
                sorted({i for row in found[kind, plan] for i in row.marks}),
                found[kind, plan],
                len(models[kind]),
            )
            for kind, plan in order
        ]

    @property
    def setting(self):
        """What the unmarked rows of the table's plan have in common, in sentences."""
        rows = [row for row in self.rows if row.defence == self.plan]
        row = next((r for r in rows if r.standard and not r.marks), rows[0] if rows else self.rows[0])
        c, rates = (
            row.first.config,
            {r.first.config["truth"].get("poison_rate") for r in self.standard if r.backdoored},
        )
        steps = [f"{number(c['estimate_steps'], 'count')} steps of estimation"] if c["estimate_steps"] else []
        steps += (
            [f"{number(c['refine_steps'], 'count')} of refinement ({c['refine']})"]
            if c["refine"] not in (None, "none")
            else []
        )
        starts, samples = ", ".join(map(str, c["starts"] or ["?"])), number(c["num_samples"], "count")
        return (
            f"Scanned by the {c['schedule']} schedule: {' and '.join(steps) or 'no step'} from each start"
            f" ({starts}); input test on {samples} noises of each kind; rule: {c['rule'] or 'none'}."
            + "".join(f" Poison rate {number(rate, 'short')}." for rate in rates if rate is not None)
        )


def _place(kind):
    order = [*ATTACKS]
    return order.index(kind) if kind in order else len(order) + (kind == UNKNOWN), kind


def _most(values, largest=False):
    """The most frequent value, on a tie the smallest or the largest; None where there is none."""
    met = Counter(v for v in values if v is not None)
    return max(met, key=lambda v: (met[v], v if largest else -v), default=None)


def _main_plan(rows):
    """Label of the plan with both parts by which most models were scanned; on a tie the reduced one."""
    met = Counter(row.defence for row in rows if row.parts == BOTH)
    reduced = {row.defence for row in rows if row.get("config.schedule") == "reduced"}
    return max(met, key=lambda label: (met[label], label in reduced), default="")


def table_of(dataset, image_size, runs, replaced):
    """The ScanTable of some runs [(path, Record)]; replaced: see compare.table_of."""
    labels, groups = plan_labels([found.config for _, found in runs]), defaultdict(list)
    for path, found in runs:
        plan = plan_of(found.config)
        groups[(ScanRow((), "", [(path, found)]).model, plan)].append((path, found))

    def made_by(found):
        return found.provenance["defense_sha256"]

    rows = [
        ScanRow((), labels[plan], mine)
        for (_, plan), group in groups.items()
        for mine, _ in compare.one_per_seed(group, replaced, made_by)
    ]
    known = list({row.model: row for row in rows if row.kind != UNKNOWN}.values())
    rate = _most(((row.get("config.truth") or {}).get("poison_rate") for row in known), largest=True)
    size = _most(row.get("config.num_parameters") for row in known)
    for row in rows:
        row.unlike = unlike(row, rate, size if row.kind != UNKNOWN else row.get("config.num_parameters"))

    def same(row):
        return (row.kind, row.label, row.unlike, row.get("config.trained_seed"), row.defence)

    met = Counter(map(same, rows))
    for row in [row for row in rows if met[same(row)] > 1]:
        row.twin = f" @{str(made_by(row.first))[:6]}"
    plan = _main_plan(rows)
    rows.sort(
        key=lambda r: (
            r.defence != plan,
            r.defence,
            bool(r.unlike),
            _place(r.kind),
            compare.natural(r.label),
            r.unlike,
            r.get("config.trained_seed") or 0,
        )
    )
    table = ScanTable(dataset, "", rows, (), image_size=image_size, plan=plan)
    standard = table.models or rows
    table.mark({id(row): note for row in rows if row.defence == plan and (note := why_not(row, standard))})
    return table


def tables_of(runs, replaced):
    """[ScanTable] of runs [(path, Record)] of kind terd."""
    groups = defaultdict(list)
    for path, found in runs:
        groups[(found.dataset or "?", found.config["image_size"])].append((path, found))
    return [
        table_of(*key, group, replaced)
        for key, group in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or 0))
    ]


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


def models_grid(table):
    """(headings, rows of cell texts, ScanRows): a line per standard or unknown model; None where there is
    none."""
    return _models_grid(table, table.models)


def harder_grid(table):
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
            ", ".join(map(str, row.seeds)),
        ]
        for row in rows
    ]
    return (
        (["attack", "hides", *more, "trained", *(c.heading for c in columns), "scan seeds"], cells, rows)
        if rows
        else None
    )


def detection_grid(table):
    """(headings, rows of cell texts, GroupRows): a line per attack and plan with both parts; None where there
    is none."""
    return _rates_grid(table, [row for row in table.standard if row.parts == BOTH])


def parts_grid(table):
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
    return (["attack", "plan", "models", *(c.heading for c in columns)], cells, groups) if groups else None


GRIDS = {
    "models": {"Models": models_grid},
    "detection": {"Detection": detection_grid},
    "variants": {"Harder models": harder_grid, "Parts of the scan": parts_grid},
}


def grids(table, parts=tuple(GRIDS)):
    """{title: (headings, rows of cell texts, rows behind them)} of the parts, without empty ones."""
    return {title: grid for part in parts for title, make in GRIDS[part].items() if (grid := make(table))}


def markdown(table, parts=tuple(GRIDS)):
    """The setting, the tables named in `parts`, under titles where there are several, and their footnotes; ""
    where there is no such table."""
    found, texts = grids(table, parts), []
    for title, (headings, cells, _) in found.items():
        for before, line in zip([None, *(c[0] for c in cells)], cells, strict=False):
            line[0] = "" if line[0] == before else line[0]  # an attack is named once
        texts.append(
            "\n".join(
                ([f"*{title}*", ""] if len(found) > 1 else [])
                + markdown_table(headings, cells, left=3 if UNLIKE in headings else 2)
            )
        )
    text = "\n\n".join(texts)
    notes = [line for i, line in enumerate(footnotes(table)) if not i or f" †{i} " in text]
    return "\n".join([table.setting, "", text, *(notes if len(notes) > 1 else [])]) if texts else ""


def legends(parts=tuple(GRIDS)):
    """The legends of some parts, each once."""
    return list(dict.fromkeys(text for part in parts for text in LEGENDS[part]))


LEGEND = "\n\n".join(legends())


def csv_text(tables):
    """A line for each model and plan of all tables, every figure with its deviation over scans."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
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
    )
    for table in tables:
        for row in table.rows:
            truth = row.get("config.truth") or {}
            writer.writerow(
                [
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
                    "; ".join(table.notes[i - 1] for i in row.marks),
                    row.verdict,
                    row.wrong,
                    *csv_figures(map(row.cell, CSV_KEYS)),
                ]
            )
    return out.getvalue()
