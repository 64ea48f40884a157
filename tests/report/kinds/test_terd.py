"""Scans of diffusion weights: models and plans, what is standard and what is harder, wrong verdicts in words,
rates by attack, marks, and the text of all tables."""

import csv
import io

import pytest

from report.kinds import terd, terd_grids, terd_rows
from synthetic import compare_runs, save, scan

ESTIMATED, REFINED = {"refine": "none"}, {"estimate_steps": 0}
PUBLISHED = {
    "schedule": "published",
    "estimate_steps": 3000,
    "refine": "sampler",
    "refine_steps": 1000,
    "starts": ["published"],
}


def tables_of(folder, *records):
    for found in records:
        save(folder, found)
    return compare_runs(folder).tables["terd"]


def table_of(folder, *records):
    (table,) = tables_of(folder, *records)
    return table


def lines_of(grid):
    """[{heading: cell text}] of a grid."""
    return [dict(zip(grid.headings, texts, strict=True)) for texts in grid.cells]


def blocks(text):
    """The Markdown tables of a text, each as lists of cells."""
    return [
        [
            [cell.strip() for cell in line.replace("\\|", "&").strip("|").split("|")]
            for line in block.splitlines()
            if line.startswith("| ")
        ]
        for block in text.split("\n\n")
        if "| attack" in block
    ]


@pytest.mark.parametrize(
    "found, attack, content",
    [
        (scan(), "benign", "nothing"),
        (scan("unknown"), "unknown", ""),
        (scan("baddiffusion"), "baddiffusion", "stop sign to shoe"),
        (scan("villan", psi=0.0), "villan", "stop sign to shoe, psi 0, ode"),
        (scan("trojdiff", on="photo", trigger="hello"), "trojdiff", "hello to shoe, on the photo"),
        (scan("novel", target="hat"), "novel", "stop sign to hat"),
    ],
)
def test_what_is_hidden_is_told_in_words(found, attack, content):
    assert (terd_rows.attack_of(found.config), terd_rows.content_of(found.config)) == (attack, content)


@pytest.mark.parametrize(
    "changes, labels",
    [
        ([{}], ["both"]),
        ([{}, {}], ["both", "both"]),
        ([ESTIMATED, REFINED, {}], ["estimation only", "refinement only", "both"]),
        # steps of what does not run
        (
            [{**ESTIMATED, "refine_steps": 0}, {**ESTIMATED, "refine_steps": 8}],
            ["estimation only", "estimation only"],
        ),
        ([{}, PUBLISHED], ["both, reduced", "both, published"]),
        ([{}, {"starts": ["dark"]}], ["both, starts dark+bright+narrow", "both, starts dark"]),
        (
            [REFINED, {**REFINED, "refine": "sampler"}, {}],
            ["refinement only, refine readout", "refinement only, refine sampler", "both"],
        ),
        (
            [{}, {"refine_steps": 4}, PUBLISHED],
            ["both, reduced, refine steps 8", "both, reduced, refine steps 4", "both, published"],
        ),
        ([{**ESTIMATED, **REFINED}], ["starts only"]),
    ],
)
def test_a_plan_is_called_by_its_parts_and_what_sets_it_apart(changes, labels):
    configs = [scan(**change).config for change in changes]
    known = terd_rows.plan_labels(configs)
    assert [known[terd_rows.plan_of(c)] for c in configs] == labels


def test_tables_are_per_dataset_and_image_size(tmp_path):
    found = tables_of(
        tmp_path,
        scan(),
        scan("villan"),
        scan(size=32),
        scan("unknown", dataset="unknown", size=256, name="ffhq"),
    )
    assert [(t.name, t.file_name, len(t.rows)) for t in found] == [
        ("drawn, 16 pixels", "drawn-16", 2),
        ("drawn, 32 pixels", "drawn-32", 1),
        ("unknown, 256 pixels", "unknown-256", 1),
    ]
    assert terd.markdown(found[2]).splitlines()[4].startswith("| unknown | ffhq  |")


def test_trainings_are_rows_scans_of_one_model_are_one_and_a_repetition_replaces(tmp_path):
    records = [
        scan("villan", trained_seed=1),
        scan("villan", ratio=0.1),
        scan("villan", ratio=0.3, seed=1),
        scan("villan", ratio=0.9, finished="2024-04-01T10:00:00"),
    ]
    comparison = compare_runs(*[save(tmp_path, found) and tmp_path for found in records])
    (table,) = comparison.tables["terd"]
    assert [(row.get("config.trained_seed"), row.seeds) for row in table.rows] == [(0, [0, 1]), (1, [0])]
    assert (
        table.rows[0].cell("metrics.relative_error").value == pytest.approx(0.2)
        and len(comparison.replaced) == 1
        and comparison.others == []
    )


def test_models_that_are_the_same_in_words_are_told_apart_by_their_weights(tmp_path):
    table = table_of(
        tmp_path,
        scan(sha="a" * 64),
        scan(sha="b" * 64),
        scan(trained_seed=1),
        scan(sha="a" * 64, **ESTIMATED),
    )
    assert [row.label for row in table.models] == ["nothing", "nothing @aaaaaa", "nothing @bbbbbb"]
    assert [row.label for row in table.rows if row.defence != "both"] == ["nothing"]


@pytest.mark.parametrize(
    "hides, flagged, verdict, wrong",
    [
        ("benign", [0], "clean", ""),
        ("benign", [1], "backdoored (false alarm)", "false alarm"),
        ("villan", [1], "backdoored", ""),
        ("villan", [0], "clean (missed)", "missed"),
        ("villan", [1, 0, 1], "backdoored in 2 of 3 (missed)", "missed"),
        ("benign", [0, 1], "backdoored in 1 of 2 (false alarm)", "false alarm"),
        ("villan", [-1], "not applicable", ""),
        ("unknown", [1], "backdoored", ""),
    ],
)
def test_a_wrong_verdict_is_told_in_words(tmp_path, hides, flagged, verdict, wrong):
    (row,) = table_of(tmp_path, *(scan(hides, flagged=f, seed=i) for i, f in enumerate(flagged))).rows
    assert (row.verdict, row.wrong) == (verdict, wrong)


@pytest.mark.parametrize(
    "ratio, text",
    [(0.2, "0.20"), (0.499, "0.50"), (0.5, "0.50 (not recovered)"), (1.3, "1.30 (not recovered)")],
)
def test_a_trigger_that_is_too_far_from_the_true_one_is_told_in_words(tmp_path, ratio, text):
    (line,) = lines_of(terd_grids.models_grid(table_of(tmp_path, scan("trojdiff", ratio))))
    assert line["ratio"] == text


def test_a_model_is_told_with_all_its_figures_benign_ones_first(tmp_path):
    table = table_of(
        tmp_path,
        scan("unknown", name="found.pt"),
        scan("novel"),
        scan("villan", trained_seed=2),
        scan("trojdiff"),
        scan("baddiffusion"),
        scan(trained_seed=1),
    )
    lines = lines_of(terd_grids.models_grid(table))
    assert [line["attack"] for line in lines] == [
        "benign",
        "BadDiffusion",
        "TrojDiff",
        "VillanDiffusion",
        "novel",
        "unknown",
    ]
    assert lines[3] == {
        "attack": "VillanDiffusion",
        "hides": "stop sign to shoe, psi 1, ode",
        "trained": "2",
        "target MSE": "0.0031",
        "frechet": "3.25",
        "M_r": "0.1200",
        "V_r": "0.0144",
        "score": "120.0",
        "verdict": "backdoored",
        "|r|": "12.00",
        "|r_hat|": "14.40",
        "|r_hat - r|": "2.40",
        "ratio": "0.20",
        "input TPR": "1.000",
        "input TNR": "0.999",
        "scan s": "48.3",
        "scan seeds": "0",
    }
    assert [lines[0][key] for key in ("hides", "trained", "target MSE", "|r|", "|r_hat|", "ratio")] == [
        "nothing",
        "1",
        "–",
        "–",
        "0.4000",
        "–",
    ]
    assert (lines[5]["hides"], lines[5]["trained"]) == ("found.pt", "–") and terd_grids.harder_grid(
        table
    ) is None


def test_columns_that_nothing_was_measured_for_are_left_out(tmp_path):
    headings = terd_grids.models_grid(table_of(tmp_path, scan(check=False))).headings
    assert headings == [
        "attack",
        "hides",
        "trained",
        "M_r",
        "V_r",
        "score",
        "verdict",
        "|r_hat|",
        "scan s",
        "scan seeds",
    ]


def test_models_unlike_the_standard_ones_are_harder_and_say_why(tmp_path):
    table = table_of(
        tmp_path,
        *(scan(trained_seed=i) for i in range(3)),
        *(scan("baddiffusion", trained_seed=i) for i in range(2)),
        scan("baddiffusion", rate=0.05),
        scan("baddiffusion", scale=0.5),
        scan("villan", noise_schedule="ve"),
        scan(max_timestep=300),
        scan(num_parameters=200000),
        scan("unknown", num_parameters=7, max_timestep=500),
        scan("baddiffusion", rate=0.05, scale=0.1, on="photo"),
    )
    assert [
        (line["attack"], line["unlike the others"]) for line in lines_of(terd_grids.harder_grid(table))
    ] == [
        ("benign", "200,000 parameters"),
        ("benign", "truncated at t 300"),
        ("BadDiffusion", "poison rate 0.05"),
        ("BadDiffusion", "trigger scaled by 0.5"),
        ("BadDiffusion", "trigger scaled by 0.1, poison rate 0.05"),
        ("VillanDiffusion", "ve schedule"),
    ]
    assert [line["attack"] for line in lines_of(terd_grids.models_grid(table))] == ["benign"] * 3 + [
        "BadDiffusion"
    ] * 2 + ["unknown"]
    assert [line["models"] for line in lines_of(terd_grids.detection_grid(table))] == [
        "3",
        "2",
    ] and "Poison rate 0.2." in table.setting


def test_of_two_poison_rates_as_frequent_the_higher_is_the_usual_one(tmp_path):
    table = table_of(
        tmp_path,
        scan("trojdiff", rate=0.1),
        scan("villan", rate=0.2),
        scan(num_parameters=5),
        scan(num_parameters=5, trained_seed=1),
    )
    assert [row.unlike for row in table.rows] == [
        "",
        "",
        "poison rate 0.1, 123,456 parameters",
        "123,456 parameters",
    ]


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
