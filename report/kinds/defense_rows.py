"""From records of defences to tables: one per dataset and translator, a row per attack and defence, and marks
on rows that must not be compared.

Reads records only.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from report.comparison import Comparison, Runs
from report.looks import Looks, natural, shown_name
from report.record import Record
from report.rows import (
    FEATURES,
    IMAGE_SIZE,
    SPLIT,
    TRANSLATOR,
    Row,
    Table,
    attack_of,
    attack_text,
    differences,
    most,
    one_per_seed,
    protocol_of,
    trained_on,
)

COMPARED = (
    (
        ("config.num_images", "config.num_pairs"),
        lambda v, w: f"{v[0]} photos in {v[1]} pairs (the others: {w[0]} in {w[1]})",
    ),
    IMAGE_SIZE,
    FEATURES,
    TRANSLATOR,
    SPLIT,
)


@dataclass
class DefenseTable(Table):
    """robustness: its worst case (report.kinds.defense_robustness), None without records of that."""

    robustness: Any = None


def defence_label(record: Record, looks: Looks) -> str:
    """The record's name, which has the defence's parameters, with what else sets it apart."""
    return (
        shown_name(record.name, looks.defences)
        + trained_on(record.config)
        + (" (attacked itself)" if record.config.get("attack_on") == "self" else "")
    )


def _rows(runs, looks, replaced):
    groups = defaultdict(list)
    for path, record in runs:
        c = record.config
        groups[
            (
                attack_of(c, looks),
                defence_label(record, looks),
                record.split,
                c["num_images"],
                c["num_pairs"],
                c["image_size"],
                c["gan_training_data"],
                record.provenance.get("gan_sha256"),
                (record.features or {}).get("sha256"),
            )
        ].append((path, record))
    return [
        Row(key[0], key[1] + suffix, mine)
        for key, group in groups.items()
        for mine, suffix in one_per_seed(group, replaced)
    ]


def _main_attack(rows):
    def weight(attack):
        mine = [r for r in rows if r.attack == attack]
        a = dict(attack)
        default = (
            (a["attack"] == "pgd")
            + (a.get("attack_target") == "gray")
            + (a.get("attack_label") == "original")
        )
        return (
            "attack_through" not in a,
            len({r.defence for r in mine}),
            max(r.get("config.num_images") or 0 for r in mine),
            -abs((a.get("eps") or 0) - 0.05),
            default,
        )

    return max(dict.fromkeys(r.attack for r in rows), key=weight)


def standard_gap(row: Row) -> list[str]:
    """That the fakes of a defence's own translator are others even of undisturbed photos, as a reason."""
    gap = row.cell("metrics.clean_fake_to_standard.l2").value
    return (
        []
        if gap is None
        else [f"its fakes of undisturbed photos lie l2 {gap:.4f} from the standard translator's"]
    )


def _why_not(row, table):
    """Why a row must not be compared with the main block, or with the other rows of its own: the text of a
    footnote, or ""."""
    # on a tie the larger run is the standard
    main = sorted(table.block(table.main), key=lambda r: -(r.get("config.num_images") or 0))
    reasons = differences(row, main, COMPARED) + standard_gap(row)
    block = sorted(table.block(row.attack), key=lambda r: r.get("config.attack_on") == "self")
    keys = {record.seed: record.provenance.get("attacked_key") for _, record in row.runs}
    seed = most([s for r in block for s in r.seeds])
    usual = most([f.provenance.get("attacked_key") for r in block for _, f in r.runs if f.seed == seed])
    if seed not in keys:
        reasons.append(f"seed {', '.join(map(str, keys))} (the others: {seed}), so other attacked images")
    elif keys[seed] != usual and dict(row.attack).get("attack_through") != "self":
        self_made = "attacked white-box on itself, so " if row.get("config.attack_on") == "self" else ""
        reasons.append(
            f"{self_made}other attacked images, key {str(keys[seed])[:8]} (the others under this attack:"
            f" {str(usual)[:8]})"
        )
    return "; ".join(reasons)


def table_of(dataset: str, gan: str, runs: Runs, looks: Looks, replaced: list) -> DefenseTable:
    """The Table of some runs [(path, Record)]: rows sorted and marked; paths of runs that a repetition
    replaced are appended to `replaced`."""
    rows = _rows(runs, looks, replaced)
    table = DefenseTable(dataset, gan, rows, _main_attack(rows), looks=looks)
    protocol = protocol_of(table.main)
    reasons = {id(row): note for row in rows if (note := _why_not(row, table))}
    rows.sort(
        key=lambda r: (
            r.attack != table.main,
            "attack_through" in dict(r.attack),
            protocol_of(r.attack) != protocol,
            attack_text(r.attack, eps=False),
            dict(r.attack).get("eps") or 0,
            id(r) in reasons,
            natural(r.defence, looks.defences),
        )
    )
    table.mark(reasons)
    return table


def tables_of(runs: Runs, comparison: Comparison) -> list[DefenseTable]:
    """The tables of runs [(path, Record)] of kind defense."""
    groups = defaultdict(list)
    for path, record in runs:
        groups[(record.dataset or "?", record.config["gan"] or "?")].append((path, record))
    return [
        table_of(*key, group, comparison.looks, comparison.replaced) for key, group in sorted(groups.items())
    ]
