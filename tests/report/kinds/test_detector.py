"""Detectors joined with the records of defences: rows and their order, what was lost and recovered, marks,
filters."""

from functools import partial

import pytest

import reading
from reading import comparison_of, line_of, rows_of, seeds_of
from report.kinds import detector as detectors
from report.kinds import detector_figures, detector_tables
from report.schema import problems_of
from synthetic import defense, detector

NOISE = "pgd-eps0.11"
table_of = partial(reading.table_of, "detector")


def test_rows_are_training_photos_by_poison_rate_in_a_fixed_order(tmp_path):
    names = [
        ("one-step", 1.0),
        ("filtered", 1.0),
        ("ddpm-t20", 0.0),
        ("ddpm-t3", 1.0),
        ("disrupted", 1.0),
        ("ddpm-t20", 0.5),
        ("clean", 0.0),
        ("disrupted", 0.5),
    ]
    table = table_of(
        tmp_path,
        *(detector(name, rate=rate, noise=NOISE if name == "one-step" else "none") for name, rate in names),
    )
    assert [(row.label, row.rate) for row in table.rows] == [
        ("clean", 0),
        ("disrupted", 0.5),
        ("disrupted", 1),
        ("ddpm-t3", 1),
        ("ddpm-t20 of undisturbed photos", 0),
        ("ddpm-t20", 0.5),
        (f"one-step [trained on {NOISE}]", 1),
        ("filtered [kept.txt]", 1),
    ]
    assert not table.notes and table.rates == [0.5, 1] and table.common_rate == 1


def test_rows_of_self_blended_fakes_are_held_against_rows_of_such_fakes(tmp_path):
    """0.9 of the translator's clean row, 0.8 of the other; each disrupted row loses against its own."""
    blended = {"training_fakes": "self-blended"}
    names = {"clean": 0.0, "disrupted": 1.0, "jpeg-q75": 1.0}
    table = table_of(
        tmp_path,
        *(detector(n, 0.9 - 0.2 * rate, rate=rate, training_fakes="translator") for n, rate in names.items()),
        *(detector(n, 0.8 - 0.1 * rate, rate=rate, **blended) for n, rate in names.items()),
        detector("disrupted", 0.85, rate=0.5),  # an older record does not say who made its fakes
        detector("disrupted", 0.75, rate=0.5, **blended),
    )
    lost = {(row.label, row.rate): row.derived["lost"].value for row in table.rows}
    end = " [self-blended fakes]"
    assert not table.notes and lost == {
        ("clean", 0): None,
        (f"clean{end}", 0): None,
        ("disrupted", 0.5): pytest.approx(5),
        ("disrupted", 1): pytest.approx(20),
        (f"disrupted{end}", 0.5): pytest.approx(5),
        (f"disrupted{end}", 1): pytest.approx(10),
        ("jpeg-q75", 1): pytest.approx(20),
        (f"jpeg-q75{end}", 1): pytest.approx(10),
    }
    assert {row.purifier for row in table.rows if row.condition == "purified"} == {"jpeg-q75"}
    by_rate = table.by_rate()
    assert {name: sorted(rows) for name, rows in by_rate.items()} == {
        "disrupted": [0, 0.5, 1],
        f"disrupted{end}": [0, 0.5, 1],
        "jpeg-q75": [1],
        f"jpeg-q75{end}": [1],
    }
    first = [line[0] for line in detector_tables.rates_grid(table).cells]
    assert first[:2] == ["disrupted (at 0: clean)", f"disrupted{end} (at 0: clean)"]
    looks = detector_figures.styles(table)
    assert looks[f"jpeg-q75{end}"].color == looks["jpeg-q75"].color
    assert looks[f"jpeg-q75{end}"].line == ":" != looks["jpeg-q75"].line


@pytest.mark.parametrize("value, problems", [("self-blended", 0), (None, 0), (3, 1)])
def test_older_records_do_not_say_who_made_their_fakes(value, problems):
    config = detector(training_fakes=value).config
    schema = {"training_fakes": detectors.SCHEMA["config"]["training_fakes"]}
    assert len(problems_of(config, schema, "config")) == problems
    assert not problems_of({k: v for k, v in config.items() if k != "training_fakes"}, schema, "config")


def test_tables_are_per_dataset_translator_detector_base_and_attack(tmp_path):
    found = comparison_of(
        tmp_path,
        detector(),
        detector(seed=1),
        detector(detector="mobilenet_v2", base="frozen"),
        detector(detector="mobilenet_v2", base="finetuned"),
        detector(eps=0.1),
        detector(dataset="CelebA"),
    )
    assert [table.name.split(":")[0] for table in found.tables["detector"]] == [
        "CelebA, stargan, meso4 (scratch)"
    ] + 2 * ["drawn, stargan, meso4 (scratch)"] + [
        "drawn, stargan, mobilenet_v2 (finetuned)",
        "drawn, stargan, mobilenet_v2 (frozen)",
    ]
    assert detectors.file_names(found.tables["detector"]) == [
        "CelebA-stargan-meso4",
        *(
            f"drawn-stargan-meso4-pgd, eps {eps}, target gray, label original, 10 steps of 0.01"
            for eps in (0.05, 0.1)
        ),
        "drawn-stargan-mobilenet_v2-finetuned",
        "drawn-stargan-mobilenet_v2-frozen",
    ]


def test_rows_are_held_against_the_disrupted_row_of_their_rate(tmp_path):
    table = table_of(
        tmp_path,
        *seeds_of("clean", 0.96, 0.95, 0.94),
        *seeds_of("disrupted", 0.86, 0.85, 0.84, rate=0.5),
        *seeds_of("disrupted", 0.76, 0.75, 0.74),
        *seeds_of("jpeg-q75", 0.91, 0.90, 0.89, rate=0.5),
        *seeds_of("jpeg-q75", 0.86, 0.85, 0.84),
        *seeds_of("jpeg-q75", 0.94, 0.93, 0.92, rate=0.0),
        *seeds_of("filtered", 0.76, 0.75, 0.74, num_train=300),
        *seeds_of("one-step", 0.9, 0.9, 0.9, rate=0.25),
    )
    rows = rows_of(table)
    assert rows["jpeg-q75", 0.5].cell("share").value == pytest.approx(0.5) and rows["jpeg-q75", 1].cell(
        "share"
    ).value == pytest.approx(0.5)
    assert rows["jpeg-q75", 1].cell("lost").value == pytest.approx(10) and rows["jpeg-q75", 1].cell(
        "gain"
    ).value == pytest.approx(10)
    assert (
        rows["jpeg-q75", 1].better
        and not rows["filtered [kept.txt]", 1].better
        and rows["filtered [kept.txt]", 1].cell("share").value == pytest.approx(0)
    )
    control = rows["jpeg-q75 of undisturbed photos", 0]
    assert control.cell("lost").value == pytest.approx(2) and control.cell("share").value is None
    assert (
        rows["one-step", 0.25].cell("share").value is None
        and rows["disrupted", 1].cell("share").value is None
        and rows["clean", 0].cell("lost").value is None
    )
    # a filter's smaller training set is no reason for a mark
    assert not table.notes
    assert detectors.gaps(table)[0].endswith("no training on disrupted photos at that rate beside one-step")


def test_a_filter_has_rows_of_its_own_alone_and_before_a_purifier(tmp_path):
    depois, other = (
        dict(kept_filter="de-pois", kept="kept-rate1.txt", kept_sha256="1" * 64),
        dict(kept_filter="oracle", kept="o.txt", kept_sha256="3" * 64),
    )
    table = table_of(
        tmp_path,
        *seeds_of("clean", 0.96, 0.95, 0.94),
        *seeds_of("disrupted", 0.76, 0.75, 0.74),
        *seeds_of("one-step", 0.86, 0.85, 0.84, noise=NOISE),
        *seeds_of("filtered", 0.81, 0.80, 0.79, num_train=300, **depois),
        *seeds_of("filtered", 0.91, 0.90, 0.89, num_train=200, **other),
        *seeds_of("one-step+filtered", 0.91, 0.90, 0.89, num_train=300, noise=NOISE, **depois),
        *seeds_of("one-step+filtered", 0.95, 0.95, 0.94, num_train=200, noise=NOISE, **other),
        detector("jpeg-q75+filtered", 0.8),
    )
    assert [(row.label, len(row.seeds)) for row in table.rows] == [
        ("clean", 3),
        ("disrupted", 3),
        ("jpeg-q75 + filtered [kept.txt]", 1),
        (f"one-step [trained on {NOISE}]", 3),
        (f"one-step [trained on {NOISE}] + filtered (de-pois)", 3),
        (f"one-step [trained on {NOISE}] + filtered (oracle)", 3),
        ("filtered (de-pois)", 3),
        ("filtered (oracle)", 3),
    ]
    rows = rows_of(table)
    both = rows[f"one-step [trained on {NOISE}] + filtered (de-pois)", 1]
    assert not table.notes  # its smaller training set is no reason for a mark
    assert (
        both.cell("lost").value == pytest.approx(5)
        and both.cell("gain").value == pytest.approx(15)
        and both.cell("share").value == pytest.approx(0.75)
    )
    assert both.better and rows["filtered (de-pois)", 1].cell("share").value == pytest.approx(0.25)


def test_a_filter_is_one_line_over_the_rates_and_two_of_its_lists_at_one_rate_are_told_apart(tmp_path):
    lists = {
        rate: dict(rate=rate, kept=f"kept-rate{rate:g}.txt", kept_sha256=str(i) * 64, kept_filter="de-pois")
        for i, rate in enumerate((0.5, 1.0), 1)
    }
    once = [
        detector("clean", 0.95),
        *(
            detector(name, 0.9 - 0.1 * rate, **({"rate": rate} if name == "disrupted" else lists[rate]))
            for name in ("disrupted", "filtered", "one-step+filtered")
            for rate in lists
        ),
    ]
    table = table_of(tmp_path / "once", *once)
    both = "one-step + filtered (de-pois)"
    assert set(table.by_rate()) == {"disrupted", "filtered (de-pois)", both} and all(
        set(rates) >= {0.5, 1} for rates in table.by_rate().values()
    )
    assert line_of(detectors.rates_markdown(table), both) == {
        "training photos": both,
        "0": "–",
        "0.5": "0.850",
        "1": "0.800",
    }
    table = table_of(
        tmp_path / "twice", *once, detector("filtered", 0.7, **{**lists[1.0], "kept_sha256": "9" * 64})
    )
    assert [(row.label, row.rate) for row in table.rows if row.condition == "filtered"] == [
        ("filtered (de-pois)", 0.5),
        ("filtered (de-pois) @222222", 1),
        ("filtered (de-pois) @999999", 1),
    ]


def test_what_purifying_costs_after_a_filter_comes_from_the_defence(tmp_path):
    one = defense("one-step", l2=0.001, nfe=1, defense_noise=NOISE)
    one.provenance["defense_sha256"] = "1" * 64
    text = detectors.trainings_markdown(
        table_of(
            tmp_path,
            one,
            detector(),
            detector("one-step+filtered", noise=NOISE, sha="1" * 64, kept_filter="de-pois"),
        )
    )
    line = line_of(text, f"one-step [trained on {NOISE}] + filtered (de-pois)")
    assert [line[name] for name in ("l2", "nfe", "s/photo")] == ["0.0010", "1", "0.02"]


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(photos=200), "200 photos (the others: 400); 360 training images (the others: 720)"),
        (dict(num_train=700), "700 training images (the others: 720)"),
        (dict(num_test=100), "tested on 100 images (the others: 200)"),
        (dict(size=128), "image size 128 (the others: 64)"),
        (dict(epochs=5), "5 epochs (the others: 20)"),
        (dict(gan="c" * 64), "another translator, sha256 cccccccc (the others: bbbbbbbb)"),
        (dict(pretrained="imagenet.pth"), "begun from imagenet.pth (the others: no weights)"),
        (dict(split="b"), "split b (the others: c)"),
    ],
)
def test_a_row_that_must_not_be_compared_is_marked_and_held_against_its_like_alone(tmp_path, change, reason):
    table = table_of(
        tmp_path,
        detector("clean", 0.95),
        detector("disrupted", 0.75),
        detector("jpeg-q75", 0.85),
        detector("one-step", 0.90, **change),
    )
    odd = table.rows[-1]
    assert (
        odd.label == "one-step"
        and odd.marks == [1]
        and table.notes == [reason]
        and [row.marks for row in table.rows[:-1]] == [[], [], []]
    )
    assert odd.cell("lost").value is None and odd.cell("share").value is None
    assert "one-step †1" in detectors.trainings_markdown(
        table
    ) and f"†1 {reason}" in detectors.trainings_markdown(table)
    table = table_of(
        tmp_path,
        detector("clean", 0.90, **change),
        detector("disrupted", 0.80, **change),
        detector("ddpm-t3", 0.9),
        detector("ddpm-t5", 0.9),
    )
    assert [row.label for row in table.rows[-3:]] == ["clean", "disrupted", "one-step"] and table.rows[
        -1
    ].cell("share").value == pytest.approx(1)
    assert table.rows[-1].marks == table.rows[-2].marks == [1]
