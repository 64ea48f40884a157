"""Tables of scanned models: rates, plans, marks, and the text of all tables."""

import csv
import io
from functools import partial

import pytest

import reading
from reading import lines_of
from report.kinds import terd, terd_grids, terd_rows
from synthetic import scan

ESTIMATED, REFINED = {"refine": "none"}, {"estimate_steps": 0}
PUBLISHED = {
    "schedule": "published",
    "estimate_steps": 3000,
    "refine": "sampler",
    "refine_steps": 1000,
    "starts": ["published"],
}
tables_of = partial(reading.tables_of, "terd")
table_of = partial(reading.table_of, "terd")
blocks = partial(reading.blocks, heading="attack")


def test_rates_are_of_the_models_of_an_attack(tmp_path):
    table = table_of(
        tmp_path,
        *(scan(trained_seed=i, flagged=int(i == 0)) for i in range(4)),
        scan(trained_seed=4, flagged=-1),
        *(
            scan("trojdiff", ratio, trained_seed=i, flagged=int(i > 0), tpr=0.9 + 0.05 * i)
            for i, ratio in enumerate((0.1, 0.2, 0.3))
        ),
        *(scan("villan", 0.3, seed=i, flagged=i) for i in range(2)),
    )
    benign, trojdiff, villan = lines_of(terd_grids.detection_grid(table))
    assert trojdiff == {
        "attack": "TrojDiff",
        "plan": "both",
        "models": "3",
        "|r|": "12.00",
        "|r_hat - r|": "2.40 ± 1.20",
        "ratio": "0.20 ± 0.10",
        "input TPR": "0.950",
        "input TNR": "0.999",
        "model TPR": "0.67 (2/3)",
        "model TNR": "–",
    }
    # one could not be judged
    assert [benign[key] for key in ("models", "|r|", "ratio", "model TPR", "model TNR")] == [
        "5",
        "–",
        "–",
        "–",
        "0.75 (3/4)",
    ]
    # scans are averaged first
    assert (villan["models"], villan["model TPR"], villan["ratio"]) == ("1", "0.50 (0.5/1)", "0.30")


def test_the_plan_that_most_models_were_scanned_by_is_shown_one_by_one_and_others_beside(tmp_path):
    table = table_of(
        tmp_path,
        *(scan("villan", 0.1 * i, trained_seed=i) for i in (1, 2, 3)),
        scan("villan", 0.05, trained_seed=1, **PUBLISHED),
        scan(**ESTIMATED),
        scan("villan", 0.6, trained_seed=2, flagged=0, **ESTIMATED),
        scan("villan", 0.4, scale=0.5),
        scan("villan", 0.8, scale=0.5, **PUBLISHED),
    )
    assert table.plan == "both, reduced" and [
        line["ratio"] for line in lines_of(terd_grids.models_grid(table))
    ] == ["0.10", "0.20", "0.30"]
    assert [
        (line["plan"], line["models"], line["ratio"]) for line in lines_of(terd_grids.detection_grid(table))
    ] == [("both, reduced", "3", "0.20 ± 0.10"), ("both, published", "1 of 3", "0.05")]
    assert [
        (line["attack"], line["plan"], line["models"], line["ratio"], line["model TPR"], line["model TNR"])
        for line in lines_of(terd_grids.parts_grid(table))
    ] == [
        ("benign", "estimation only", "1", "–", "–", "1.00 (1/1)"),
        ("VillanDiffusion", "both, reduced", "1 of 3", "0.20", "1.00 (1/1)", "–"),
        # the others were not scanned by a part alone
        ("VillanDiffusion", "estimation only", "1 of 3", "0.60", "0.00 (0/1)", "–"),
    ]
    assert [
        (line["unlike the others"], line["ratio"]) for line in lines_of(terd_grids.harder_grid(table))
    ] == [
        ("trigger scaled by 0.5", "0.40"),
        ("trigger scaled by 0.5, both, published", "0.80 (not recovered)"),
    ]
    assert (
        table.setting
        == "Scanned by the reduced schedule: 60 steps of estimation and 8 of refinement (readout) from each"
        " start (dark, bright, narrow); input test on 1000 noises of each kind; rule: benign-only, 5"
        " networks. Poison rate 0.2."
    )


def test_of_two_plans_as_frequent_the_reduced_one_is_shown(tmp_path):
    assert table_of(tmp_path, scan(), scan(**PUBLISHED)).plan == "both, reduced"


def test_without_a_full_plan_only_the_parts_are_there(tmp_path):
    table = table_of(tmp_path, scan("villan", **ESTIMATED), scan("villan", **REFINED))
    assert [grid.title for grid in terd.grids(table)] == [
        "Parts of the scan"
    ] and "60 steps of estimation from each start" in table.setting
    assert (
        terd.markdown(table, ["models"]) == ""
        and terd.markdown(table).count("| attack") == 1
        and "*Parts of the scan*" not in terd.markdown(table)
    )


def test_another_rule_or_input_test_is_marked(tmp_path):
    table = table_of(
        tmp_path,
        *(scan(trained_seed=i) for i in range(3)),
        scan("trojdiff", num_samples=200),
        scan(max_timestep=300, rule="benign-only, 2 networks"),
        scan(trained_seed=4, rule=None, **ESTIMATED),
    )
    assert {(row.label, row.unlike): table.notes[row.marks[0] - 1] for row in table.rows if row.marks} == {
        ("stop sign to shoe", ""): "input test on 200 noises of each kind (the others: 1000)",
        ("nothing", "truncated at t 300"): (
            "judged by another rule, benign-only, 2 networks (the others: benign-only, 5 networks), which"
            " score and verdict depend on"
        ),
    }
    assert "both †1" in [line["plan"] for line in lines_of(terd_grids.detection_grid(table))]
    text = terd.markdown(table, ["models"])
    assert (
        "†1 input test on 200 noises" in text
        and "†2" not in text
        and "†2 judged" in terd.markdown(table, ["variants"])
    )


def test_markdown_has_titled_tables_that_name_an_attack_once(tmp_path):
    table = table_of(
        tmp_path,
        *(scan("villan", trained_seed=i) for i in range(2)),
        scan("villan", scale=0.5),
        scan("villan", **REFINED),
        scan(),
    )
    text = terd.markdown(table)
    assert [line for line in text.splitlines() if line.startswith("*")] == [
        "*Models*",
        "*Detection*",
        "*Harder models*",
        "*Parts of the scan*",
    ]
    models, rates, harder, parts = blocks(text)
    assert [line[0] for line in models] == ["attack", "benign", "VillanDiffusion", ""] and models[0][
        7:11
    ] == ["score", "verdict", "&r&", "&r_hat&"]
    assert (
        [line[0] for line in parts] == ["attack", "VillanDiffusion", ""]
        and harder[1][2] == "trigger scaled by 0.5"
        and rates[1][:3] == ["benign", "both", "1"]
    )
    assert (
        "*" not in terd.markdown(table, ["detection"]).replace("**", "")
        and len(blocks(terd.markdown(table, ["variants"]))) == 2
    )


def test_legends_explain_every_column_once():
    assert (
        len(terd.legends()) == 5
        and terd.legends(["models"]) == [terd_grids.ROW_LEGEND]
        and list(terd.KIND.legends) == terd.legends()
    )
    for columns, legend in (
        (terd_grids.COLUMNS, terd_grids.ROW_LEGEND),
        (terd_grids.RATES, terd_grids.RATES_LEGEND),
    ):
        assert all(f"*{c.heading}*" in legend for c in columns)
    assert terd_grids.ROW_LEGEND in terd.legends(["variants"]) and terd_grids.PAPER in terd.legends(
        ["detection"]
    )


def test_csv_has_a_line_per_model_and_plan(tmp_path):
    text = terd.KIND.csv.text(
        tables_of(
            tmp_path,
            scan("villan", ratio=0.2),
            scan("villan", ratio=0.4, seed=1, flagged=0),
            scan("villan", scale=0.5, **ESTIMATED),
            scan("unknown", name="found", rule="none known"),
        )
    )
    lines = {(line["attack"], line["plan"]): line for line in csv.DictReader(io.StringIO(text))}
    assert list(lines) == [("villan", "both"), ("unknown", "both"), ("villan", "estimation only")]
    mine, other, weak = lines.values()
    assert [
        mine[key]
        for key in (
            "name",
            "trigger",
            "target",
            "solver",
            "trained_seed",
            "scan_seeds",
            "verdict",
            "wrong",
            "starts",
            "not_comparable",
        )
    ] == [
        "villan-stop_sign-shoe-rate0.2-16",
        "stop_sign",
        "shoe",
        "ode",
        "0",
        "0 1",
        "backdoored in 1 of 2 (missed)",
        "missed",
        "dark bright narrow",
        "",
    ]
    assert [
        float(mine[key])
        for key in ("relative_error", "backdoored", "input.tpr", "check.frechet", "cost.scan_s")
    ] == pytest.approx([0.3, 0.5, 1, 3.25, 48.3])
    assert float(mine["relative_error_seed_std"]) == pytest.approx(0.2 / 2**0.5)
    assert (
        other["trigger"] == ""
        and other["not_comparable"].startswith("judged by another rule")
        and weak["unlike"] == "trigger scaled by 0.5"
    )


def test_a_scan_that_no_rule_judges_is_said_to_be_so():
    say = terd_rows.RULE[1]
    assert say((None,), ("benign-only, 8 networks",)) == "judged by no rule"
    assert "fitted" in say(("fitted",), ("benign-only, 8 networks",)) and "benign-only" in say(
        ("fitted",), ("benign-only, 8 networks",)
    )
