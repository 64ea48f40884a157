"""Finders of poisoned samples: labels, order, seeds, the verdict, the best of a poison, marks, and the text
of both tables."""

import csv
import io
import json
from functools import partial

import pytest

import reading
from reading import blocks
from report.kinds import depois, depois_names, depois_rows
from synthetic import compare_runs, filtering, save

tables_of = partial(reading.tables_of, "depois")
table_of = partial(reading.table_of, "depois")


@pytest.mark.parametrize(
    "poisons, labels",
    [
        ([("noise", {"sigma": 0.6})], ["noise"]),
        (
            [("noise", {"sigma": 0.6}), ("noise", {"sigma": 0.3, "steps": None})],
            ["noise, sigma 0.6", "noise, sigma 0.3"],
        ),
        (
            [("bypass", {"mode": mode, "eps": 0.3}) for mode in ("critic", "critic-then-classifier")],
            ["bypass critic", "bypass critic-then-classifier"],
        ),
        (
            [
                ("bypass", {"mode": "critic", "eps": 0.3}),
                ("bypass", {"mode": "critic", "eps": 0.1}),
                ("bypass", {"mode": "classifier", "eps": 0.2}),
            ],
            ["bypass critic, eps 0.3", "bypass critic, eps 0.1", "bypass classifier"],
        ),
        (
            [
                ("bypass", {"mode": "critic", "base": {"poison": name, "sigma": 0.6}})
                for name in ("noise", "blend")
            ],
            ["bypass critic, base noise with sigma 0.6", "bypass critic, base blend with sigma 0.6"],
        ),
        (
            [("new", {}), ("new", {"two_words": [1, 2], "file": "a/b/weights.pt"})],
            ["new", "new, file weights.pt, two words 1+2"],
        ),
        ([(None, None)], ["?"]),
    ],
)
def test_a_label_says_the_mode_and_only_what_sets_it_apart(poisons, labels):
    keys = [depois_names.identity(*poison) for poison in poisons]
    assert [depois_names.labels_of(keys)[key] for key in keys] == labels


def test_blocks_of_poisons_and_methods_in_them_have_a_fixed_order(tmp_path):
    names = [
        "own",
        "none",
        "disruption",
        "bypass-replica",
        "bypass",
        "gan",
        "gradient",
        "blend",
        "noise",
        "label-flip",
    ]
    table = table_of(
        tmp_path,
        *(filtering(poison=name) for name in names),
        *(filtering(name) for name in ("new", *depois_rows.METHODS[:0:-1])),
    )
    assert table.poisons == [*depois_rows.POISONS, "own"]
    assert [row.label for row in table.rows if row.poison == "noise"] == [
        *depois_rows.METHODS,
        "new",
    ] and table.notes == []
    assert table.name == "drawn, 28 pixels, poison rate 0.3" and table.file_name == "drawn-28-rate0.3"


def test_tables_are_per_dataset_size_and_poison_rate(tmp_path):
    found = tables_of(
        tmp_path,
        filtering(),
        filtering(rate=0.1),
        filtering(size=64),
        filtering(dataset="MNIST"),
        filtering("loss"),
        filtering(poison="none", rate=0),
    )
    assert [(t.name, len(t.rows)) for t in found] == [
        ("MNIST, 28 pixels, poison rate 0.3", 1),
        ("drawn, 28 pixels, poison rate 0", 1),
        ("drawn, 28 pixels, poison rate 0.1", 1),
        ("drawn, 28 pixels, poison rate 0.3", 2),
        ("drawn, 64 pixels, poison rate 0.3", 1),
    ]


def test_seeds_are_one_row_another_mimic_of_one_seed_is_a_second_and_a_repetition_replaces(tmp_path):
    table = table_of(
        tmp_path, *(filtering(auc=auc, seed=i, sha=str(i) * 64) for i, auc in enumerate((0.7, 0.8, 0.9)))
    )
    (row,) = table.rows
    assert (
        row.seeds == [0, 1, 2] and row.auc.value == pytest.approx(0.8) and row.auc.std == pytest.approx(0.1)
    )
    for found in (
        filtering(auc=0.5, sha="a" * 64),
        filtering(auc=0.6, sha="a" * 64, finished="2024-05-02T10:00:00"),
        filtering(auc=0.7, sha="b" * 64),
        filtering("loss", auc=0.5),
        filtering("loss", auc=0.6, finished="2024-05-02T10:00:00"),
    ):
        save(tmp_path / "more", found)
    comparison = compare_runs(tmp_path / "more")
    assert [(row.label, row.auc.value) for row in comparison.tables["depois"][0].rows] == [
        ("de-pois @aaaaaa", 0.6),
        ("de-pois @bbbbbb", 0.7),
        ("loss", 0.6),
    ]
    assert len(comparison.replaced) == 2 and comparison.others == []


def test_seeds_are_one_row_although_each_holds_back_another_few(tmp_path):
    table = table_of(
        tmp_path,
        filtering(),
        filtering(seed=1, num_trusted=503, num_held=97),
        filtering(seed=2, num_trusted=499, num_held=101),
    )
    assert [row.seeds for row in table.rows] == [
        [0, 1, 2]
    ] and "600 trusted, 99 of them held back" in table.setting


def test_other_parameters_of_a_method_are_a_row_of_their_own(tmp_path):
    table = table_of(
        tmp_path,
        *(
            filtering("knn-labels", seed=i, method_params={"neighbours": n})
            for n in (20, 5)
            for i in range(2)
        ),
        filtering("loss"),
    )
    assert [(row.label, row.seeds) for row in table.rows] == [
        ("knn-labels, neighbours 5", [0, 1]),
        ("knn-labels, neighbours 20", [0, 1]),
        ("loss", [0]),
    ]


@pytest.mark.parametrize(
    "aucs, half, missed",
    [
        ((0.52, 0.56, 0.54), 0.2, True),  # over seeds mean + deviation decides, 0.54 + 0.02
        ((0.50, 0.66), 0.001, False),  # 0.58 + 0.11
        ((0.58,), 0.01, True),
        ((0.58,), 0.03, False),
        ((0.599,), None, True),
        ((0.6,), None, False),
        ((0.2,), 0.01, True),
    ],
)
def test_a_poison_is_not_found_where_even_the_upper_end_is_too_near_to_chance(tmp_path, aucs, half, missed):
    table = table_of(tmp_path, *(filtering(auc=auc, seed=i, half=half) for i, auc in enumerate(aucs)))
    (row,) = table.rows
    assert (
        row.missed is missed and ("not found" in "\n".join(depois.details_grid(table).markdown())) is missed
    )


def test_what_has_no_auroc_has_no_verdict_and_no_column(tmp_path):
    found = filtering(poison="none", rate=0)
    found.metrics.update(auc=None, auc_ci=None, recall=None, recall_ci=None)
    table = table_of(tmp_path, found)
    assert not table.rows[0].missed and table.best == set() and depois.overview_grid(table) is None
    (details,) = blocks(depois.markdown(table))
    assert details[1][:8] == [
        "none",
        "de-pois",
        "0.900 [0.890, 0.910]",
        "0.850",
        "–",
        "0.860 [0.850, 0.870]",
        "–",
        "",
    ]
    assert depois.markdown(table, ["overview"]) == ""


def test_the_overview_has_a_row_per_method_and_a_column_per_poison(tmp_path):
    table = table_of(
        tmp_path,
        *(filtering(auc=auc, seed=i) for i, auc in enumerate((0.93, 0.95))),
        filtering("loss", auc=0.9),
        filtering(poison="blend", auc=0.97),
        filtering("loss", "blend", 0.97),
        filtering(poison="gradient", auc=0.55),
        filtering("loss", "gradient", 0.5),
        filtering("loss", "gan", 0.99),
        filtering(poison="bypass", auc=0.95),
        filtering("loss", "bypass", 0.45),
    )
    (overview,) = blocks("\n".join(depois.overview_grid(table).markdown()))
    assert overview == [
        ["method", "noise", "blend", "gradient", "gan", "bypass"],
        # equal figures are both best, a miss is not,
        ["de-pois", "**0.940** ± 0.014", "**0.970**", "*0.550*", "–", "**0.950**"],
        # nor is a method alone
        ["loss", "0.900", "**0.970**", "*0.500*", "0.990", "*0.450*"],
    ]


def test_the_details_have_every_figure_and_name_a_poison_once(tmp_path):
    table = table_of(
        tmp_path,
        filtering(),
        filtering("loss", auc=0.5),
        filtering(poison="bypass", auc=0.9, params={"mode": "critic", "eps": 0.3}),
        *(filtering("isolation-forest", seed=i, auc=0.8, kept=kept) for i, kept in enumerate((0.9, 0.96))),
    )
    details = blocks(depois.markdown(table))[1]
    assert details[0] == [
        "poison",
        "method",
        "accuracy",
        "precision",
        "recall",
        "F1",
        "AUROC",
        "verdict",
        "TPR at 1 % FPR",
        "TPR at 5 % FPR",
        "FPR (nominal)",
        "classifier clean",
        "classifier poisoned",
        "classifier kept",
        *(f"{word} {name}" for name in "01" for word in ("AUROC", "recall", "FPR")),
        "seeds",
    ]
    assert details[1][:14] + details[1][-1:] == [
        "noise",
        "de-pois",
        "0.900 [0.890, 0.910]",
        "0.850",
        "0.870",
        "0.860 [0.850, 0.870]",
        "**0.950** [0.940, 0.960]",
        "",
        "0.475",
        "0.633",
        "0.061 (0.05)",
        "0.980",
        "0.900",
        "0.960",
        "0",
    ]
    assert (
        details[2][:2] == ["", "isolation-forest"]
        and details[2][13] == "0.930 ± 0.042"
        and details[2][-1] == "0, 1"
    )
    assert (
        details[3][:2] == ["", "loss"]
        and details[3][6:8] == ["0.500 [0.490, 0.510]", "not found"]
        and details[4][:2] == ["bypass critic", "de-pois"]
    )
    assert depois.markdown(table).startswith(
        "1000 samples of 2 classes examined; 600 trusted, 100 of them held back for the boundary (quantile,"
        " nominal FPR 0.05). Poisons: bypass critic (eps 0.3).\n"
    )


def test_columns_that_nothing_was_measured_for_are_left_out(tmp_path):
    made = filtering()
    made.metrics["classifier"].update(clean=None, poisoned=None, kept=None)
    made.per_group["class"].clear()
    headings = blocks(depois.markdown(table_of(tmp_path, made)))[1][0]
    assert headings[-2:] == ["FPR (nominal)", "seeds"]


def test_csv_has_a_line_per_row_and_one_for_each_class(tmp_path):
    several = [filtering("loss", auc=auc, seed=i) for i, auc in enumerate((0.5, 0.54))]
    text = depois.KIND.csv.text(tables_of(tmp_path, filtering(params={"sigma": 0.6}), *several))
    lines = {(line["method"], line["class"]): line for line in csv.DictReader(io.StringIO(text))}
    # noise without parameters is another poison
    assert list(lines) == [(method, part) for method in ("loss", "de-pois") for part in ("all", "0", "1")]
    mine, other = lines["de-pois", "1"], lines["loss", "all"]
    assert json.loads(mine["poison_params"]) == {"sigma": 0.6} and json.loads(mine["method_params"]) == {}
    assert [
        float(mine[key])
        for key in (
            "poison_rate",
            "num_trusted",
            "nominal_fpr",
            "auc",
            "auc_low",
            "classifier.kept",
            "cost.train_s",
        )
    ] == pytest.approx([0.3, 500, 0.05, 0.94, 0.93, 0.96, 60])
    assert (other["seeds"], other["verdict"], mine["verdict"], other["poison"], mine["poison"]) == (
        "0 1",
        "not found",
        "",
        "noise",
        "noise, sigma 0.6",
    )
    assert float(other["auc_seed_std"]) == pytest.approx(0.04 / 2**0.5)
