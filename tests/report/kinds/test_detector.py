"""Detectors joined with the records of defences: rows and their order, what was lost and recovered, marks,
dashes, text."""

import csv
import io
import math
from pathlib import Path

import pytest
from scipy import stats

from report.comparison import markdown
from report.kinds import detector as detectors
from report.kinds import detector_statistics
from report.kinds.detector_rows import DetectorRow
from report.rows import Cell
from synthetic import compare_runs, defense, detector, save

NOISE = "pgd-eps0.11"


def comparison_of(folder, *records):
    for found in records:
        save(folder, found)
    return compare_runs(folder)


def table_of(folder, *records):
    (table,) = comparison_of(folder, *records).tables["detector"]
    return table


def rows_of(table):
    return {(row.label, row.rate): row for row in table.rows}


def seeds_of(name, *accuracies, **config):
    return [detector(name, accuracy, seed=i, **config) for i, accuracy in enumerate(accuracies)]


def row_of(name, *accuracies, half=0.01):
    return DetectorRow(
        (), name, [(Path("record.json"), found) for found in seeds_of(name, *accuracies, half=half)]
    )


def line_of(text, start):
    """{heading: text} of the Markdown row that starts so."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    (found,) = [cells for cells in lines if cells[0] == start]
    return dict(zip(lines[0], found, strict=True))


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


def test_the_share_by_hand():
    clean, disrupted, mine = row_of("clean", 0.95), row_of("disrupted", 0.75), row_of("one-step", 0.90)
    loss, share = (
        detector_statistics.difference(clean, disrupted),
        detector_statistics.share_recovered(mine, disrupted, clean),
    )
    half = math.hypot(0.01, 0.01)
    assert loss.value == pytest.approx(0.20) and (loss.low, loss.high) == pytest.approx(
        (0.20 - half, 0.20 + half)
    )
    assert share.value == pytest.approx(0.75)
    # Fieller: there 0.15 - s 0.20 is as far from 0 as its own interval reaches
    for end in (share.low, share.high):
        assert abs(0.15 - end * 0.20) == pytest.approx(0.01 * math.sqrt(1 + (1 - end) ** 2 + end**2))
    assert share.low < 0.75 < share.high


def test_over_seeds_the_loss_has_welchs_interval():
    clean, disrupted = (0.95, 0.96, 0.94), (0.80, 0.86, 0.77, 0.81)
    loss = detector_statistics.difference(row_of("clean", *clean), row_of("disrupted", *disrupted))
    expected = stats.ttest_ind(clean, disrupted, equal_var=False).confidence_interval()
    assert (loss.low, loss.high) == pytest.approx((expected.low, expected.high))
    share = detector_statistics.share_recovered(
        row_of("one-step", 0.90, 0.91, 0.92), row_of("disrupted", *disrupted), row_of("clean", *clean)
    )
    assert (
        share.value == pytest.approx((0.91 - 0.81) / (0.95 - 0.81))
        and 0 < share.low < share.value < share.high
    )


@pytest.mark.parametrize(
    "clean, disrupted",
    [((0.95, 0.95, 0.95), (0.75, 0.75)), ((0.95,), (0.70, 0.75, 0.80)), ((0.9, 0.95, 1.0), (0.75,))],
)
def test_one_seed_on_a_side_or_equal_seeds_on_both_take_the_bootstrap_intervals(clean, disrupted):
    loss = detector_statistics.difference(row_of("clean", *clean), row_of("disrupted", *disrupted, half=0.02))
    half = math.hypot(0.01, 0.02)
    assert (loss.value, loss.low, loss.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half))


def test_seeds_that_agree_on_one_side_keep_welchs_interval():
    loss = detector_statistics.difference(
        row_of("clean", 0.1, 0.1, 0.1), row_of("disrupted", 0.04, 0.05, 0.06)
    )
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert (loss.low, loss.high) == pytest.approx((0.05 - half, 0.05 + half))


def test_a_loss_inside_its_interval_has_no_share(tmp_path):
    # 0.95 - 0.94 < 0.0141 < 0.95 - 0.93
    for number, (accuracy, shown) in enumerate(((0.94, False), (0.93, True))):
        rows = rows_of(
            table_of(
                tmp_path / str(number),
                detector("clean", 0.95),
                detector("disrupted", accuracy),
                detector("one-step", 0.95),
            )
        )
        share = rows["one-step", 1].cell("share")
        assert (share.value is not None) == shown and (share.value is None or share.value == pytest.approx(1))
        assert rows["disrupted", 1].cell("lost").value == pytest.approx(100 * (0.95 - accuracy))


def test_without_an_interval_the_loss_is_shown_and_no_share():
    clean = row_of("clean", 0.95)
    clean.first.metrics["accuracy_ci"] = None
    assert detector_statistics.difference(clean, row_of("disrupted", 0.75)) == Cell(pytest.approx(0.2))
    assert detector_statistics.share_recovered(
        row_of("one-step", 0.9), row_of("disrupted", 0.75), clean
    ) == Cell(None)


def test_a_share_whose_range_is_not_one_piece_has_none():
    clean, disrupted = (0.95, 0.95, 0.951), (0.90, 0.91, 0.92)
    share = detector_statistics.share_recovered(
        row_of("one-step", 0.80, 0.99), row_of("disrupted", *disrupted), row_of("clean", *clean)
    )
    assert detector_statistics.difference(row_of("clean", *clean), row_of("disrupted", *disrupted)).low > 0
    assert share.value is not None and share.low is None


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


def test_figures_of_the_photos_come_from_the_defence_of_the_same_weights(tmp_path):
    weights = dict(sha="1" * 64, noise=NOISE)
    one, other, small, unlike = (
        defense("one-step", l2=l2, clean=l2 / 10, nfe=1, defense_noise=NOISE, images=n, disrupted=d)
        for l2, n, d in ((0.001, 64, 0.41), (0.5, 640, 0.42), (0.6, 32, 0.43), (0.7, 6400, 0.44))
    )
    for found, sha in ((one, "1"), (other, "2"), (small, "1")):
        found.provenance["defense_sha256"] = sha * 64
    unlike.provenance.update(defense_sha256="1" * 64, gan_sha256="9" * 64)
    table = table_of(
        tmp_path,
        one,
        other,
        small,
        unlike,
        defense("one-step", l2=0.8, images=999, eps=0.1),
        defense("none", images=500, attack_on="self"),
        defense("none", dataset="CelebA", images=900),
        detector(),
        detector("disrupted"),
        detector("one-step", **weights),
        detector("one-step", rate=0.0, **weights),
        detector("ddpm-t20"),
        detector("filtered"),
    )
    rows = rows_of(table)
    figures = {
        key: [row.cell(name).value for name in ("l2", "distance", "nfe", "s_per_photo")]
        for key, row in rows.items()
    }
    label = f"one-step [trained on {NOISE}]"
    assert figures[label, 1] == [0.001, 1.5, 1, 0.02]
    assert figures[label + " of undisturbed photos", 0] == [0.0001, 0.5, 1, 0.02]
    # of the largest record under this attack, whatever the defence
    assert figures["disrupted", 1] == [0.42, 80.0, 0, 0]
    assert figures["clean", 0] == [0, None, 0, 0]
    assert figures["ddpm-t20", 1] == figures["filtered [kept.txt]", 1] == [None] * 4
    line = line_of(detectors.trainings_markdown(table), "ddpm-t20")
    assert [line[name] for name in ("l2", "frechet (attribute-classifier)", "nfe", "s/photo")] == [
        "–"
    ] * 4 and line["accuracy"] == "0.950 [0.940, 0.960]"
    assert [text for text in detectors.gaps(table) if "no record of test_defense.py" in text] == [
        f"{table.name}: no record of test_defense.py under this attack for ddpm-t20"
    ]


def test_without_any_defence_record_there_are_dashes(tmp_path):
    found = comparison_of(tmp_path, detector("disrupted"), detector("one-step", rate=0.0))
    (table,) = found.tables["detector"]
    assert line_of(detectors.trainings_markdown(table), "disrupted")["frechet"] == "–"
    text = markdown(found)
    assert (
        "no clean training to hold against disrupted, one-step of undisturbed photos" in text
        and "under this attack for disrupted, one-step of" in text
    )


def test_seconds_name_their_device_where_a_table_has_several(tmp_path):
    slow, fast = defense("one-step"), defense("ddpm-t20")
    fast.cost["device"] = "cuda:0"
    text = detectors.trainings_markdown(
        table_of(
            tmp_path, slow, fast, detector(), detector("one-step"), detector("ddpm-t20"), detector("jpeg-q75")
        )
    )
    assert (
        line_of(text, "one-step")["s/photo"] == "0.01 (cpu)"
        and line_of(text, "ddpm-t20")["s/photo"] == "0.01 (cuda:0)"
    )
    assert line_of(text, "jpeg-q75")["s/photo"] == "–" and line_of(text, "clean")["s/photo"] == "0"


def test_three_seeds_are_a_mean_and_a_deviation_and_a_repetition_replaces_the_older_run(tmp_path):
    found = comparison_of(
        tmp_path,
        *seeds_of("clean", 0.94, 0.95, 0.96),
        *seeds_of("disrupted", 0.74, 0.75, 0.76),
        *seeds_of("one-step", 0.89, 0.90, 0.91),
        detector("disrupted", 0.1, seed=2, finished="2023-01-01T00:00:00"),
    )
    text = detectors.trainings_markdown(found.tables["detector"][0])
    assert (
        len(found.replaced) == 1
        and line_of(text, "disrupted")["accuracy"] == "0.750 ± 0.010"
        and line_of(text, "disrupted")["seeds"] == "0, 1, 2"
    )
    half = stats.t.ppf(0.975, 4) * math.sqrt(2e-4 / 3) * 100
    assert line_of(text, "disrupted")["lost, points"] == f"20.0 [{20 - half:.1f}, {20 + half:.1f}]"
    assert (
        line_of(text, "one-step")["recovered"].startswith("**0.75** [0.")
        and line_of(text, "clean")["lost, points"] == "–"
    )


def test_accuracy_by_poison_rate_is_a_table_where_there_are_several(tmp_path):
    once = [detector("clean", 0.95), detector("disrupted", 0.75), detector("one-step", 0.90)]
    assert detectors.rates_markdown(table_of(tmp_path / "a", *once)) == ""
    table = table_of(
        tmp_path / "b",
        *once,
        *seeds_of("disrupted", 0.84, 0.86, rate=0.5),
        detector("one-step", 0.93, rate=0.0),
        detector("filtered", 0.7, rate=0.5),
        detector("one-step", 0.5, rate=0.5, photos=100),
    )
    found = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in detectors.rates_markdown(table).splitlines()
    ]
    assert found[0] == ["training photos", "0", "0.5", "1"] and found[2:] == [
        # the marked row is left out
        ["disrupted (at 0: clean)", "0.950", "0.850 ± 0.014", "0.750"],
        ["one-step", "0.930", "–", "0.900"],
        ["filtered [kept.txt]", "–", "0.700", "–"],
    ]


def test_csv_holds_every_figure_of_every_row(tmp_path):
    found = comparison_of(
        tmp_path,
        defense("one-step"),
        detector("clean", 0.95),
        detector("disrupted", 0.75),
        detector("one-step", 0.90),
        detector("jpeg-q75", photos=8),
    )
    rows = {
        r["training_photos"]: r
        for r in csv.DictReader(io.StringIO(detectors.KIND.csv.text(found.tables["detector"])))
    }
    mine = rows["one-step"]
    assert (
        list(rows) == ["clean", "disrupted", "one-step", "jpeg-q75"]
        and mine["condition"] == "purified"
        and mine["detector"] == "meso4"
        and mine["eps"] == "0.05"
    )
    assert (
        float(mine["accuracy"]) == 0.90
        and float(mine["accuracy_low"]) == 0.89
        and float(mine["disrupted.accuracy"]) == 0.8
        and float(mine["purified.auc"]) == 0.87
    )
    assert (
        float(mine["share"]) == pytest.approx(0.75)
        and float(mine["gain"]) == pytest.approx(15)
        and float(mine["lost_high"]) > 5
        and mine["l2"] == "0.003"
    )
    assert (
        rows["clean"]["share"] == rows["clean"]["purified.accuracy"] == ""
        and "8 photos" in rows["jpeg-q75"]["not_comparable"]
    )
    assert (
        mine["distance_name"] == "frechet (attribute-classifier)"
        and mine["seeds"] == "0"
        and mine["num_test"] == "200"
    )
