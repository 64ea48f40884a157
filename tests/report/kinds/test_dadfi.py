"""Disruptions against several translators: labels, order, shares by hand, marks, text and the picture."""

import csv
import io

import pytest
from PIL import Image

from report.kinds import dadfi, dadfi_figures, dadfi_rows
from report.rows import Cell
from synthetic import LOOKS, compare_runs, disruption, save

BOTH = "trained on stargan+stgan"


def tables_of(folder, *records):
    for found in records:
        save(folder, found)
    return compare_runs(folder).tables["dadfi"]


def table_of(folder, *records):
    (table,) = tables_of(folder, *records)
    return table


def rows_of(table):
    return {row.label: row for row in table.rows}


def blocks(text):
    """The Markdown tables of a text, each as lists of cells."""
    return [
        [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in block.splitlines()
            if line.startswith("| ")
        ]
        for block in text.split("\n\n")
        if block.startswith("|")
    ]


@pytest.mark.parametrize(
    "record, label",
    [
        (disruption(), "DADFI, trained on stargan+stgan"),
        (
            disruption(trained_on=["stargan"], finetuning="no"),
            "DADFI without fine-tuning, trained on stargan",
        ),
        (disruption("pgd", crafted_on="all"), "pgd on all at once, target clean"),
        (disruption(variant="distance0"), "DADFI with the paper's losses alone, trained on stargan+stgan"),
        (disruption(variant="x5"), "DADFI x5, trained on stargan+stgan"),
        (disruption("pgd", attack_target="gray"), "pgd, own victim"),
        (disruption("pgd", crafted_on="stgan", attack_target="gray"), "pgd on stgan"),
        (
            disruption("mim", attack_label="iterative", attack_steps=20),
            "mim, own victim, target clean, label iterative, 20 steps of 0.01",
        ),
        (disruption("fgsm", attack_steps=1, attack_blur="eot"), "fgsm, own victim, target clean, blur eot"),
        (disruption("random-sign"), "random sign"),
        (disruption("none"), "undisturbed"),
        (disruption("gaussian"), "gaussian"),
        (disruption("universal", perturbation="cmua.pt"), "universal, cmua.pt"),
    ],
)
def test_a_label_says_the_attack_and_what_differs_from_the_usual_protocol(record, label):
    assert dadfi_rows.label_of(record.config, LOOKS) == label


def test_rows_go_from_controls_to_the_upper_bound(tmp_path):
    table = table_of(
        tmp_path,
        disruption("pgd"),
        disruption(),
        disruption(finetuning="no"),
        disruption(trained_on=["stargan"]),
        disruption("pgd", crafted_on="stgan"),
        disruption("universal"),
        disruption("random-sign"),
        disruption("none", (0, 0)),
    )
    assert [row.label for row in table.rows] == [
        "undisturbed",
        "random sign",
        "universal",
        "pgd on stgan, target clean",
        f"DADFI without fine-tuning, {BOTH}",
        "DADFI, trained on stargan",
        f"DADFI, {BOTH}",
        "pgd, own victim, target clean",
    ]
    assert (
        table.notes == []
        and table.name == "drawn, stargan + stgan, 64 pixels"
        and table.file_name == "drawn-stargan-stgan-64"
    )


def test_shares_of_own_pgd_and_multiples_of_random_signs_by_hand(tmp_path):
    rows = rows_of(
        table_of(
            tmp_path,
            disruption(l2=(0.6, 0.01)),
            disruption("random-sign", (0.05, 0.004)),
            disruption("pgd", (0.8, 0.04)),
            disruption("pgd", (0.2, 0.05), attack_target="gray"),
            disruption("mim", (9, 9)),
            disruption("pgd", (8, 8), crafted_on="stargan"),
            disruption("pgd", (0.5, 0.02), crafted_on="all"),
        )
    )
    mine = rows[f"DADFI, {BOTH}"]
    share, joint, multiple = (
        [mine.of(name, key).value for name in ("stargan", "stgan")] for key in ("share", "joint", "multiple")
    )
    # of what one image reaches by gradients of all
    assert joint == pytest.approx([0.6 / 0.5, 0.01 / 0.02])
    assert share == pytest.approx([0.6 / 0.8, 0.01 / 0.05])  # the strongest PGD on its own victim
    assert multiple == pytest.approx([0.6 / 0.05, 0.01 / 0.004])
    assert (
        rows["pgd, own victim, target clean"].of("stargan", "share").value == 1
        and rows["random sign"].of("stgan", "multiple").value == 1
    )
    assert mine.worst(["stargan", "stgan"]) == ("stgan", mine.of("stgan", "l2"))


def test_shares_need_equal_photos_eps_and_translators(tmp_path):
    for number, other in enumerate(
        ({"images": 32}, {"eps": 0.1}, {"sha": {"stgan": "c" * 64}}, {"split": "c"})
    ):
        rows = rows_of(
            table_of(
                tmp_path / str(number),
                disruption(),
                disruption("pgd", (0.8, 0.4), **other),
                disruption("random-sign", (0, 0)),
            )
        )
        mine = rows[f"DADFI, {BOTH}"]
        # random signs of no effect: no multiple
        assert mine.of("stargan", "share") == Cell(None) and mine.of("stargan", "multiple") == Cell(None)


def test_rows_that_must_not_be_compared_say_why_and_come_last(tmp_path):
    table = table_of(
        tmp_path,
        disruption("none", (0, 0)),
        disruption("random-sign"),
        disruption("gaussian"),
        disruption(images=32),
        disruption("pgd", eps=0.1),
        disruption("universal", sha={"stgan": "c" * 64}),
        disruption("fgsm", split="c"),
    )
    marked = {row.label: table.notes[row.marks[0] - 1] for row in table.rows if row.marks}
    assert marked == {
        f"DADFI, {BOTH}": "32 photos (the others: 64)",
        "pgd, own victim, target clean": "eps 0.1 (the others: 0.05)",
        "universal": "other weights of stgan",
        "fgsm, own victim, target clean": "split c (the others: b)",
    }
    assert [bool(row.marks) for row in table.rows] == [False] * 3 + [True] * 4


def test_tables_are_per_dataset_translators_and_size(tmp_path):
    found = tables_of(
        tmp_path,
        disruption(),
        disruption("pgd", dataset="CelebA"),
        disruption(victims=("stargan",), l2=(0.3,)),
        disruption(size=128),
        disruption("random-sign", victims=("stgan", "stargan")),
    )
    assert [(t.name, len(t.rows)) for t in found] == [
        ("CelebA, stargan + stgan, 64 pixels", 1),
        ("drawn, stargan, 64 pixels", 1),
        ("drawn, stargan + stgan, 64 pixels", 2),
        ("drawn, stargan + stgan, 128 pixels", 1),
    ]


def test_seeds_are_one_row_other_weights_of_one_seed_are_two_and_a_repetition_replaces(tmp_path):
    table = table_of(
        tmp_path,
        *(disruption(l2=(l2, 0.1), seed=i, weights=str(i) * 64) for i, l2 in enumerate((0.1, 0.2, 0.3))),
    )
    (row,) = table.rows
    assert (
        row.seeds == [0, 1, 2]
        and row.of("stargan", "l2").value == pytest.approx(0.2)
        and row.of("stargan", "l2").std == pytest.approx(0.1)
    )
    old = disruption(l2=(0.5, 0.5), weights="a" * 64)
    for found in (
        old,
        disruption(l2=(0.4, 0.4), weights="a" * 64, finished="2024-05-02T10:00:00"),
        disruption(l2=(0.3, 0.3), weights="b" * 64),
    ):
        save(tmp_path / "more", found)
    comparison = compare_runs(tmp_path / "more")
    assert [(row.label, row.of("stgan", "l2").value) for row in comparison.tables["dadfi"][0].rows] == [
        (f"DADFI, {BOTH} @aaaaaa", 0.4),
        (f"DADFI, {BOTH} @bbbbbb", 0.3),
    ]
    assert len(comparison.replaced) == 1 and comparison.others == []


def test_markdown_has_a_row_per_attack_and_one_per_translator(tmp_path):
    text = dadfi.markdown(
        table_of(
            tmp_path,
            disruption("random-sign", (0.01, 0.02)),
            disruption(l2=(0.2, 0.1)),
            disruption("pgd", (0.8, 0.4), seconds=None),
            disruption(l2=(0.9, 0.9), eps=0.1),
        )
    )
    attacks, translators = blocks(text)
    assert attacks[0] == [
        "attack",
        "l2 stargan",
        "l2 stgan",
        "worst l2",
        "photo PSNR",
        "photo SSIM",
        "photo linf",
        "s/photo",
        "photos",
        "seeds",
    ]
    assert attacks[2] == [
        f"DADFI, {BOTH}",
        "0.2000 [0.1800, 0.2200]",
        "0.1000 [0.0900, 0.1100]",
        "**0.1000** (stgan)",
        "33.2",
        "0.912",
        "0.0471",
        "0.01",
        "64",
        "0",
    ]
    assert (
        attacks[3][0] == "pgd, own victim, target clean"
        and attacks[3][3] == "0.4000 (stgan)"
        and attacks[3][7] == "–"
        and attacks[4][0].endswith("†1")
    )
    assert translators[0][:2] == ["attack", "translator"] and translators[0][6:] == [
        "frechet (attribute-classifier)",
        "of own PGD",
        "of PGD on all",
        "× random sign",
    ]
    assert translators[3] == [
        f"DADFI, {BOTH}",
        "stargan",
        "0.4472 [0.4025, 0.4919]",
        "0.4000",
        "1.00",
        "0.50",
        "20.00",
        "0.25",
        "–",
        "20",
    ]
    assert (
        translators[4][:2] == ["", "stgan"]
        and translators[7][-2:] == ["–", "–"]
        and "†1 eps 0.1 (the others: 0.05)." in text
    )


def test_csv_has_a_line_per_attack_and_translator(tmp_path):
    text = dadfi.KIND.csv.text(
        tables_of(
            tmp_path,
            disruption("random-sign", (0.01, 0.02)),
            disruption(l2=(0.2, 0.1)),
            disruption("pgd", (0.8, 0.4)),
        )
    )
    lines = {(line["attack_type"], line["translator"]): line for line in csv.DictReader(io.StringIO(text))}
    assert len(lines) == 6
    mine = lines["dadfi", "stgan"]
    assert (mine["trained_on"], mine["finetuning"], mine["crafted_on"], mine["worst_translator"]) == (
        "stargan stgan",
        "yes",
        "",
        "stgan",
    )
    assert [
        float(mine[k])
        for k in ("l2", "l2_low", "rmse", "share", "multiple", "input.psnr", "cost.attack_s_per_image")
    ] == pytest.approx([0.1, 0.09, 0.1**0.5, 0.25, 5, 33.25, 0.01])
    assert lines["pgd", "stargan"]["crafted_on"] == "own" and lines["random-sign", "stargan"]["share"] == str(
        0.01 / 0.8
    )


def test_what_was_not_measured_is_a_dash(tmp_path):
    found = disruption()
    found.per_group["translator"]["stgan"] = None
    table = table_of(tmp_path, found, disruption("pgd"))
    attacks, _ = blocks(dadfi.markdown(table))
    assert attacks[1][2:4] == ["–", "–"] and dadfi.KIND.draw(table)


def test_the_picture_has_a_bar_per_attack_and_translator_without_marked_rows(tmp_path):
    table = table_of(
        tmp_path,
        disruption("none", (0, 0)),
        disruption("random-sign", (0.01, 0.02)),
        disruption(l2=(0.2, 0.1)),
        disruption("pgd", (0.8, 0.4)),
        disruption(l2=(0.9, 0.9), eps=0.1),
    )
    (axes,) = dadfi_figures.l2_by_translator(table).axes
    ends = [round(bar.get_x() + bar.get_width(), 6) for bar in axes.patches]
    assert (
        ends == [0.01, 0.2, 0.8, 0.02, 0.1, 0.4]
        and axes.get_xscale() == "log"
        and [t.get_text() for t in axes.get_yticklabels()] == ["stargan", "stgan"]
    )
    (picture,) = dadfi.KIND.draw(table).values()
    assert Image.open(io.BytesIO(picture)).format == "PNG" and list(dadfi.KIND.plots) == ["disruptions_l2"]
    assert dadfi.KIND.draw(table_of(tmp_path / "one", disruption())) == {}
