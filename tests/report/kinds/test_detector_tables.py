"""Tables of detectors as text: figures of the defences' records, dashes, seeds, poison rates, CSV."""

import csv
import io
import math
from functools import partial

import pytest
from scipy import stats

import reading
from reading import comparison_of, line_of, rows_of, seeds_of
from report.comparison import markdown
from report.kinds import detector as detectors
from synthetic import defense, detector

NOISE = "pgd-eps0.11"
table_of = partial(reading.table_of, "detector")


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
