"""Scans of diffusion weights: models and plans, what is standard and what is harder, wrong verdicts in
words."""

from functools import partial

import pytest

import reading
from reading import lines_of
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
tables_of = partial(reading.tables_of, "terd")
table_of = partial(reading.table_of, "terd")


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
