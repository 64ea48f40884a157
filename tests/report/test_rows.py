"""Rows, marks and their reasons, seeds joined into one row, and the tables' text."""

import csv
import io

import pytest

from common.cli import UserError
from report import rows as compare
from report.comparison import markdown
from report.kinds import defense as defense_kind
from report.text import number
from synthetic import LOOKS, compare_runs, defense, detector, save


def table_of(folder, *records):
    for found in records:
        save(folder, found)
    (table,) = compare_runs(folder).tables["defense"]
    return table


def by_defence(table):
    return {row.defence: row for row in table.rows}


def notes_of(table, row):
    return "; ".join(table.notes[i - 1] for i in row.marks)


def test_rows_are_attack_by_defence_in_a_fixed_order(tmp_path):
    table = table_of(
        tmp_path,
        *(defense(n) for n in ("one-step", "ddpm-t20", "none", "ddpm-t3", "jpeg-q75")),
        defense("none", attack="fgsm"),
    )
    assert [(dict(r.attack)["attack"], r.defence) for r in table.rows] == [
        ("pgd", "none"),
        ("pgd", "jpeg-q75"),
        ("pgd", "ddpm-t3"),
        ("pgd", "ddpm-t20"),
        ("pgd", "one-step"),
        ("fgsm", "none"),
    ]
    assert not table.notes and not any(r.marks for r in table.rows)


def test_tables_are_per_dataset_and_translator(tmp_path):
    for dataset, kind in (("drawn", "stargan"), ("CelebA", "stargan"), ("drawn", "stgan")):
        found = defense(dataset=dataset)
        found.config["gan"] = kind
        save(tmp_path, found)
    assert [t.name for t in compare_runs(tmp_path).tables["defense"]] == [
        "CelebA, stargan",
        "drawn, stargan",
        "drawn, stgan",
    ]


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(images=32), "32 photos in 160 pairs (the others: 64 in 320)"),
        (dict(size=128), "image size 128 (the others: 64)"),
        (
            dict(features="e" * 64),
            "features attribute-classifier eeeeeeee (the others: attribute-classifier ffffffff)",
        ),
        (dict(gan="c" * 64), "another translator, sha256 cccccccc (the others: bbbbbbbb)"),
        (dict(key="d" * 64), "other attacked images, key dddddddd (the others under this attack: aaaaaaaa)"),
        (dict(seed=4), "seed 4 (the others: 0)"),
    ],
)
def test_a_row_that_must_not_be_compared_is_marked_with_its_reason(tmp_path, change, reason):
    table = table_of(tmp_path, defense("none"), defense("jpeg-q75"), defense("ddpm-t10", **change))
    rows = by_defence(table)
    assert rows["ddpm-t10"].marks == [1] and reason in notes_of(table, rows["ddpm-t10"])
    assert not rows["none"].marks and not rows["jpeg-q75"].marks
    assert "ddpm-t10 †1" in defense_kind.markdown(table) and f"†1 {table.notes[0]}" in defense_kind.markdown(
        table
    )


def test_marked_rows_with_one_reason_share_a_footnote_and_other_attacks_are_held_against_the_main_one(
    tmp_path,
):
    small = [defense(n, images=16, eps=0.02, key="e" * 64) for n in ("none", "jpeg-q75")]
    table = table_of(tmp_path, defense("none"), defense("jpeg-q75"), *small)
    assert [r.marks for r in table.rows] == [[], [], [1], [1]] and len(table.notes) == 1
    # other images under another attack are no reason
    assert "attacked images" not in table.notes[0]


def test_on_a_tie_the_larger_run_is_the_standard(tmp_path):
    table = table_of(tmp_path, defense("none", images=64), defense("jpeg-q75", images=500))
    assert [r.defence for r in table.rows if r.marks] == ["none"]


def test_white_box_on_itself_is_a_row_of_its_own(tmp_path):
    shared = defense("adv-train", gan="c" * 64)
    shared.metrics["clean_fake_to_standard"] = {"l2": 0.0312}
    table = table_of(
        tmp_path, defense("none"), shared, defense("adv-train", gan="c" * 64, key="d" * 64, attack_on="self")
    )
    rows = by_defence(table)
    assert "attacked white-box on itself" in notes_of(table, rows["adv-train (attacked itself)"])
    assert "attacked images" not in notes_of(table, rows["adv-train"])
    assert "l2 0.0312 from the standard translator's" in notes_of(table, rows["adv-train"])


def test_seeds_of_one_configuration_become_one_row(tmp_path):
    table = table_of(
        tmp_path,
        *(defense("jpeg-q75", l2=l2, seed=s, key=str(s) * 64) for s, l2 in enumerate((0.01, 0.02, 0.03))),
        defense("none"),
    )
    row = by_defence(table)["jpeg-q75"]
    cell = row.cell("metrics.purified.l2")
    assert row.seeds == [0, 1, 2] and not row.marks
    assert cell.value == pytest.approx(0.02) and cell.std == pytest.approx(0.01) and cell.low is None
    assert "0.0200 ± 0.0100" in defense_kind.markdown(table)


def test_a_single_seed_shows_its_interval(tmp_path):
    table = table_of(tmp_path, defense("jpeg-q75", l2=0.02))
    assert "0.0200 [0.0180, 0.0220]" in defense_kind.markdown(table)


def test_a_repeated_run_replaces_the_older_one(tmp_path):
    save(tmp_path, defense(l2=0.01, finished="2024-05-02T00:00:00"))
    old = save(tmp_path, defense(l2=0.09, finished="2024-05-01T00:00:00"))
    found = compare_runs(tmp_path)
    (row,) = found.tables["defense"][0].rows
    assert row.cell("metrics.purified.l2").value == 0.01 and found.replaced == [old]
    assert str(old) in markdown(found)


def test_other_weights_under_one_seed_are_rows_of_their_own(tmp_path):
    for sha in ("1" * 64, "2" * 64):
        found = defense("one-step", finished=sha[:1])
        found.provenance["defense_sha256"] = sha
        save(tmp_path, found)
    assert [r.defence for r in compare_runs(tmp_path).tables["defense"][0].rows] == [
        "one-step @111111",
        "one-step @222222",
    ]


def test_the_attack_is_written_out():
    attack = compare.attack_of(defense(attack_through="one-step", gradient="full", eot=4).config, LOOKS)
    assert (
        compare.attack_text(attack)
        == "pgd, eps 0.05, target gray, label original, 10 steps of 0.01, through one-step, eot 4, gradient"
        " full"
    )
    stepless = {"attack_steps": None, "attack_step_size": None}
    gaussian = defense(attack="gaussian", **stepless).config
    assert compare.attack_text(compare.attack_of(gaussian, LOOKS)) == "gaussian, eps 0.05"
    assert compare.attack_text(compare.attack_of(defense(attack="none").config, LOOKS)) == "undisturbed"
    one_pass = defense(attack="dadfi", attack_weights="0123456789abcdef", **stepless).config
    assert compare.attack_text(compare.attack_of(one_pass, LOOKS)) == "dadfi, eps 0.05, weights 01234567"
    feature = defense(attack="feature", attack_target=None, attack_features="0123456789abcdef").config
    said = "feature, eps 0.05, 10 steps of 0.01, features 01234567"
    assert compare.attack_text(compare.attack_of(feature, LOOKS)) == said
    plain = compare.attack_of(defense().config, LOOKS)
    assert plain == compare.attack_of(defense(gradient="bpda", eot=1, attack_blur="none").config, LOOKS)
    assert plain != compare.attack_of(defense(attack_blur="eot").config, LOOKS)


def test_the_best_row_is_bold_among_comparable_rows_only(tmp_path):
    table = table_of(
        tmp_path,
        defense("none", l2=0.4),
        defense("jpeg-q75", l2=0.02),
        defense("ddpm-t10", l2=0.001, images=8),
    )
    text = defense_kind.markdown(table)
    assert "**0.0200**" in text and "**0.0010**" not in text


@pytest.mark.parametrize(
    "value, style, text",
    [
        (None, "small", "–"),
        (0, "small", "0"),
        (0.41823, "small", "0.4182"),
        (0.00031, "small", "0.00031"),
        (0.000012, "small", "0.000012"),
        (2e-7, "small", "2.0e-07"),
        (3.14159, "small", "3.14"),
        (12345.6, "small", "12346"),
        (0.987, "share", "0.99"),
        (33.26, "decibel", "33.3"),
        (22.99, "short", "23"),
        (500, "count", "500"),
    ],
)
def test_figures_as_text(value, style, text):
    assert number(value, style) == text


def test_what_was_not_measured_is_a_dash(tmp_path):
    found = defense("jpeg-q75", frechet=None)
    found.metrics["clean_purified"] = None
    found.metrics["input"] = None
    found.cost["nfe"] = None
    table = table_of(tmp_path, found)
    line = defense_kind.markdown(table).splitlines()[2]
    assert line.count("–") == 6


def test_the_distance_names_its_features(tmp_path):
    table = table_of(tmp_path, defense("none"), defense("jpeg-q75"))
    assert "frechet (attribute-classifier)" in defense_kind.markdown(table)
    inception = defense("ddpm-t10", frechet=None, features="9" * 64)
    inception.features["name"] = "inception-2015-12-05-2048"
    inception.metrics["purified"]["fid"] = 12.5
    mixed = table_of(tmp_path, inception)
    text = defense_kind.markdown(mixed)
    assert "frechet (attribute-classifier) or fid" in text and "12.50 fid" in text and "1.50 frechet" in text


def test_seconds_name_their_device_where_a_table_has_several(tmp_path):
    alike, other = table_of(tmp_path / "a", defense("none"), defense("jpeg-q75")), defense("one-step")
    assert "(cpu)" not in defense_kind.markdown(alike)
    other.cost["device"] = "cuda:0"
    mixed = defense_kind.markdown(table_of(tmp_path / "b", defense("none"), other))
    assert mixed.count("0.01 (cpu)") == 1 and mixed.count("0.01 (cuda:0)") == 1


def test_csv_holds_every_row_and_figure(tmp_path):
    for found in (defense("none", l2=0.4), defense("jpeg-q75", l2=0.02), defense("ddpm-t10", images=8)):
        save(tmp_path, found)
    rows = list(
        csv.DictReader(io.StringIO(defense_kind.KIND.csv.text(compare_runs(tmp_path).tables["defense"])))
    )
    assert [r["defence"] for r in rows] == ["none", "jpeg-q75", "ddpm-t10"]
    assert float(rows[1]["purified.l2"]) == 0.02 and float(rows[1]["purified.l2_low"]) == pytest.approx(0.018)
    assert rows[0]["not_comparable"] == "" and "8 photos" in rows[2]["not_comparable"]
    assert rows[0]["purified.fid"] == ""


def test_detectors_have_a_table_and_other_kinds_are_listed(tmp_path):
    save(tmp_path, detector("clean", 0.97))
    save(tmp_path, detector("disrupted", 0.81, half=0.02))
    other = defense()
    bench = other.__class__(
        "benchmark",
        "speed",
        "drawn",
        "b",
        0,
        {**other.config},
        {},
        {},
        None,
        {"device": "cpu"},
        other.provenance,
    )
    save(tmp_path, bench)
    found = compare_runs(tmp_path)
    text = markdown(found)
    (table,) = found.tables["detector"]
    assert not found.tables["defense"] and [row.label for row in table.rows] == ["clean", "disrupted"]
    assert "## Detectors" in text and "0.810 [0.790, 0.830]" in text and "benchmark: speed" in text


def test_unknown_and_damaged_records_are_listed(tmp_path):
    save(tmp_path, defense())
    for name, content in (("a", '{"format": 1, "kind": "novel"}'), ("b", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(content)
    found = compare_runs(tmp_path)
    assert len(found.tables["defense"]) == 1 and len(found.problems) == len(found.unknown) == 1
    assert "not compared: kind novel" in markdown(found) and "b/record.json: damaged" in markdown(found)


def test_nothing_readable_is_one_line(tmp_path):
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(UserError, match="none of its 1 records"):
        compare_runs(tmp_path)


def test_who_won_in_the_worst_case_is_no_part_of_what_the_attack_is():
    known = {"attack": "worst", "attack_through": "self", "attack_eot": None, "attack_gradient": None}
    a, b = (
        compare.attack_of(defense(worst={"won": {"apgd": k}, "l2": {}}, **known).config, LOOKS)
        for k in (1, 2)
    )
    assert a == b and ("attack_through", "self") in a
