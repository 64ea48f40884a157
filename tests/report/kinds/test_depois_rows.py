"""Finders of poisoned samples: rows that must not be compared."""

from functools import partial

import reading
from reading import blocks
from report.kinds import depois
from synthetic import filtering

table_of = partial(reading.table_of, "depois")


def test_rows_of_another_setting_say_why_come_last_and_are_not_the_best(tmp_path):
    table = table_of(
        tmp_path,
        filtering(),
        filtering("isolation-forest"),
        filtering("one-class-svm"),
        filtering(num_trusted=50, num_held=10, auc=0.99),
        filtering("loss", num_samples=80),
        filtering("knn-labels", split="c"),
        filtering("knn-labels", num_classes=10),
    )
    marked = {
        row.label + str(row.get("config.num_classes")): table.notes[row.marks[0] - 1]
        for row in table.rows
        if row.marks
    }
    assert marked == {
        "de-pois2": "60 trusted samples (the others: 600)",
        "loss2": "80 samples examined (the others: 1000)",
        "knn-labels2": "split c (the others: all)",
        "knn-labels10": "10 classes (the others: 2)",
    }
    assert [bool(row.marks) for row in table.rows] == [False] * 3 + [True] * 4 and table.best == {
        id(row) for row in table.rows[:3]
    }
    overview, details = blocks(depois.markdown(table))
    assert [line[0] for line in overview[1:5]] == [
        "de-pois",
        "isolation-forest",
        "one-class-svm",
        "de-pois †1",
    ] and overview[4][1] == "0.990"
    assert details[4][1] == "de-pois †1" and "†1 60 trusted samples" in depois.markdown(table)


def test_another_boundary_is_marked_but_its_auroc_still_counts(tmp_path):
    published = filtering("de-pois as published", auc=0.97, boundary="std", nominal_fpr=0.1587)
    table = table_of(tmp_path, filtering(), published, filtering("loss"), filtering("knn-labels"))
    assert [(row.label, row.marks, id(row) in table.best) for row in table.rows] == [
        ("de-pois", [], False),
        ("de-pois as published", [1], True),
        ("knn-labels", [], False),
        ("loss", [], False),
    ]
    assert table.notes == [
        "boundary std at 0.159 (the others: quantile at 0.05), which AUROC and TPR do not depend on"
    ]


def test_another_training_sets_the_critics_apart_and_nobody_else(tmp_path):
    table = table_of(
        tmp_path,
        *(
            filtering(method, seed=i, mimic_steps=steps, auc=0.9 + steps / 1e4)
            for i, steps in enumerate((400, 800))
            for method in ("de-pois", "loss")
        ),
        filtering("de-pois without authenticator"),
    )
    assert [(row.label, row.seeds, row.marks) for row in table.rows] == [
        ("de-pois", [0], []),
        ("de-pois without authenticator", [0], []),
        ("loss", [0, 1], []),
        ("de-pois", [1], [1]),
    ]
    assert table.notes == [
        "critic trained by schedule reduced, steps 200 + 800 (the others: reduced, 200 + 400)"
    ]


def test_other_small_classifiers_are_marked_but_the_auroc_still_counts(tmp_path):
    table = table_of(
        tmp_path, filtering(), filtering("knn-labels"), filtering("loss", judge_steps=0, auc=0.99)
    )
    assert [(row.label, row.marks, id(row) in table.best) for row in table.rows] == [
        ("de-pois", [], False),
        ("knn-labels", [], False),
        ("loss", [1], True),
    ]
    assert table.notes == [
        "small classifiers trained for 0 steps (the others: 400), which nothing else depends on"
    ]
