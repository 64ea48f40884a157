"""From records of scans of diffusion weights (kind terd) to tables: one per dataset and image size of the
models.

Reads records only.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from report.comparison import Comparison, Runs
from report.kinds.terd_rows import (
    ATTACKS,
    BOTH,
    UNKNOWN,
    GroupRow,
    ScanRow,
    plan_labels,
    plan_of,
    unlike,
    why_not,
)
from report.looks import natural
from report.rows import Table, one_per_seed
from report.text import number


@dataclass
class ScanTable(Table):
    """The scans of the models of one dataset at one image size; `gan` stays empty."""

    image_size: int | None = None
    # label of the plan of which the models are shown one by one; "" where no plan has both parts
    plan: str = ""

    @property
    def name(self) -> str:
        return f"{self.dataset}, {self.image_size} pixels"

    @property
    def file_name(self) -> str:
        return f"{self.dataset}-{self.image_size}"

    @property
    def standard(self) -> list[ScanRow]:
        """Rows of standard models, by any plan."""
        return [row for row in self.rows if row.standard]

    @property
    def models(self) -> list[ScanRow]:
        """Standard models and those of which nobody knows what is in them, by the table's plan."""
        return [
            row for row in self.rows if row.defence == self.plan and (row.standard or row.kind == UNKNOWN)
        ]

    @property
    def harder(self) -> list[ScanRow]:
        """Models unlike the standard ones, by every plan with both parts."""
        return sorted(
            (row for row in self.rows if row.parts == BOTH and row.unlike and row.kind != UNKNOWN),
            key=lambda row: _place(row.kind),
        )

    def groups(self, rows: Iterable[ScanRow]) -> list[GroupRow]:
        """[GroupRow] of some rows by attack and plan, the table's own plan first and more parts before
        fewer."""
        rows_of, models = defaultdict(list), defaultdict(set)
        for row in rows:
            rows_of[(row.kind, row.defence)].append(row)
        for row in self.standard:
            models[row.kind].add(row.model)
        order = sorted(
            rows_of,
            key=lambda key: (_place(key[0]), key[1] != self.plan, rows_of[key][0].parts != BOTH, key[1]),
        )
        return [
            GroupRow(
                (),
                plan,
                [run for row in rows_of[kind, plan] for run in row.runs],
                sorted({i for row in rows_of[kind, plan] for i in row.marks}),
                rows_of[kind, plan],
                len(models[kind]),
            )
            for kind, plan in order
        ]

    @property
    def setting(self) -> str:
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


def table_of(dataset: str, image_size: int | None, runs: Runs, replaced: list) -> ScanTable:
    """The ScanTable of some runs [(path, Record)]; paths of runs that a repetition replaced are
    appended to `replaced`."""
    labels, groups = plan_labels([record.config for _, record in runs]), defaultdict(list)
    for path, record in runs:
        plan = plan_of(record.config)
        groups[(ScanRow((), "", [(path, record)]).model, plan)].append((path, record))

    def made_by(record):
        return record.provenance["defense_sha256"]

    rows = [
        ScanRow((), labels[plan], mine)
        for (_, plan), group in groups.items()
        for mine, _ in one_per_seed(group, replaced, made_by)
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
            natural(r.label),
            r.unlike,
            r.get("config.trained_seed") or 0,
        )
    )
    table = ScanTable(dataset, "", rows, (), image_size=image_size, plan=plan)
    standard = table.models or rows
    table.mark({id(row): note for row in rows if row.defence == plan and (note := why_not(row, standard))})
    return table


def tables_of(runs: Runs, comparison: Comparison) -> list[ScanTable]:
    """[ScanTable] of runs [(path, Record)] of kind terd."""
    groups = defaultdict(list)
    for path, record in runs:
        groups[(record.dataset or "?", record.config["image_size"])].append((path, record))
    return [
        table_of(*key, group, comparison.replaced)
        for key, group in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or 0))
    ]
