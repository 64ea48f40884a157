"""The table of the worst case: what stands in each column, marks, order, and where the table appears."""

import dataclasses

import pytest

from common.errors import UserError
from reading import comparison_of, lines, write
from report import page
from report.comparison import markdown
from report.kinds import defense as defense_kind
from synthetic import ignoring, met

ASK = "<!-- robustness:drawn legend=no --><!-- /table -->"


def other_gan(name, l2, gan="stgan"):
    found = ignoring(name, l2)
    return dataclasses.replace(found, config={**found.config, "gan": gan})


def won(masked=False, **counts):
    return {"won": {k.replace("_", "-"): n for k, n in counts.items()}, "l2": {}, "masked": masked}


def table(tmp_path, *records, ask=ASK):
    return lines(write(tmp_path, ask, *records))


def named(tmp_path, *records, ask=ASK):
    """{defence: {heading: cell}}."""
    found = table(tmp_path, *records, ask=ask)
    headings = found.pop("defence")
    return {name: dict(zip(headings, cells, strict=True)) for name, cells in found.items()}


def test_a_row_per_defence_with_a_column_for_each_attacker(tmp_path):
    records = []
    for name, factor, clean, nfe in (
        ("none", 100, 0, 0),
        ("jpeg-q75", 10, 0.002, 0),
        ("one-step", 1, 0.001, 1),
    ):
        common = {"clean": clean, "nfe": nfe, "photo_l2": 0.004}
        records += [
            ignoring(name, 0.001 * factor, **common),
            ignoring(name, 0.002 * factor, attack_jpeg="50-95", **common),
            met(name, "low-frequency", 0.0025 * factor, **common),
            other_gan(name, 0.0015 * factor),
            met(name, l2=0.003 * factor, eps=0.03, **common),
            met(name, l2=0.005 * factor, worst=won(apgd=56, square=8), **common),
            met(name, l2=0.008 * factor, eps=0.08, **common),
        ]
    records.append(met("one-step", l2=0.004, through_sha256="c" * 64))
    found = named(tmp_path, *records, ask=ASK.replace("drawn", "drawn gan=stargan"))
    assert list(found) == ["one-step", "jpeg-q75", "none"]  # the best under worst first
    assert found["one-step"] == {
        "undisturbed": "0.0010",
        "ignored": "**0.0010**",
        "JPEG-surviving": "**0.0020**",
        "worst eps 0.03": "**0.0030**",
        "worst eps 0.05": "**0.0050** [0.0045, 0.0055]",
        "worst eps 0.08": "**0.0080**",
        "broken": "0.00",
        "won by": "apgd 88 %",  # 56 of 64
        "low-frequency": "**0.0025**",
        "retrained": "0.0040",
        "ignored on stgan": "**0.0015**",
        "photo l2": "0.0020",
        "photo SSIM": "0.912",
        "nfe": "1",
        "s/photo": "0.02",
        "attack s/photo": "0.1",
        "seeds": "0",
    }
    assert found["none"]["worst eps 0.05"].startswith("0.5000") and found["none"]["retrained"] == "–"
    assert found["none"]["undisturbed"] == "0" and found["none"]["broken"] == "1.00"


def test_only_columns_that_a_record_fills_are_there(tmp_path):
    found = named(tmp_path, met("jpeg-q75", eps=0.2), met("none", l2=0.4, eps=0.2))
    assert [h for h in found["none"] if "eps" in h or "ignored" in h] == ["worst eps 0.2"]
    assert not {"JPEG-surviving", "low-frequency", "retrained", "noise known"} & set(found["none"])


def test_a_defence_that_no_attacker_knew_has_no_row_and_one_with_a_gap_comes_last(tmp_path):
    found = named(
        tmp_path,
        ignoring("blur", 0.001),
        ignoring("jpeg-q75", 0.002),
        met("jpeg-q75", l2=0.3),
        met("none", l2=0.5),
        met("ddpm-t10", "low-frequency", l2=0.01),
        met("none", "low-frequency", l2=0.02),
    )
    assert list(found) == ["jpeg-q75", "none", "ddpm-t10"]
    assert found["ddpm-t10"]["worst eps 0.05"] == found["ddpm-t10"]["won by"] == "–"


def test_the_attack_that_most_defences_met_is_the_one_that_ignores(tmp_path):
    known = [met("jpeg-q75", l2=0.2), met("one-step", l2=0.1), met("none", l2=0.5)]
    pgd = [ignoring(name, 0.01) for name in ("jpeg-q75", "one-step", "none")]
    other = [ignoring(name, 0.04, "apgd", attack_steps=50) for name in ("jpeg-q75", "one-step")]
    found = named(tmp_path, *known, *pgd, *other)
    assert {found[n]["ignored"].strip("*") for n in found} == {"0.0100"}
    # a weaker attack does not fill a gap
    (tmp_path / "b").mkdir()
    found = named(tmp_path / "b", *known, *pgd[:2], *other, ignoring("none", 0.02, attack_target="gray"))
    assert found["none"]["ignored"] == "–"


def test_what_is_stronger_or_weaker_than_the_attack_asked_for_stays_out(tmp_path):
    noise = met("ddpm-t10", l2=0.4, attack_known_noise=True)
    other = met("ddpm-t10", l2=0.45, through_sha256="c" * 64)
    elsewhere = met("ddpm-t10", l2=0.001, through="one-step")
    found = named(tmp_path, met("ddpm-t10", l2=0.2), noise, other, elsewhere, met("jpeg-q75", l2=0.3))
    mine = found["ddpm-t10"]
    assert mine["worst eps 0.05"].startswith("**0.2000**") and mine["noise known"] == "0.4000"
    assert mine["retrained"] == "0.4500" and found["jpeg-q75"]["noise known"] == "–"
    assert "ignored" not in mine and len(found) == 2


@pytest.mark.parametrize("through", ["self", "ddpm"])
def test_of_several_ways_through_a_defence_the_highest_figure_counts(tmp_path, through):
    ways = [
        met("ddpm-t10", l2=l2, through=through, attack_gradient=way, attack_eot=draws)
        for l2, way, draws in ((0.2, "bpda", 20), (0.3, "full", 20), (0.1, "full", 1))
    ]
    found = named(tmp_path, *ways, met("none", l2=0.5))
    assert found["ddpm-t10"]["worst eps 0.05"].startswith("**0.3000**")


@pytest.mark.parametrize("through", [None, "self"])
def test_an_attack_on_the_translator_itself_knows_a_defence_that_changes_it(tmp_path, through):
    records = [
        met("adv", l2=0.2, through=through, attack_on="self"),
        met("adv", l2=0.06),  # through its purifier, which it has none, to the standard translator
        ignoring("adv", 0.05),
        met("adv-blur", l2=0.3, through=None, attack_on="self", defense_params={"sigma": 1.5}),  # half of it
    ]
    for found in records:
        found.metrics["clean_fake_to_standard"] = {"l2": 0.001}
    found = named(tmp_path, *records, met("none", l2=0.5), ignoring("none", 0.4))
    assert list(found) == ["adv †1", "none"] and found["adv †1"]["ignored"] == "0.0500"
    assert found["adv †1"]["worst eps 0.05"].startswith("0.2000")


def test_seeds_are_a_mean_and_a_deviation_and_their_winners_are_added_up(tmp_path):
    several = [
        met("jpeg-q75", l2=l2, seed=i, worst=won(apgd=apgd, square=64 - apgd))
        for i, (l2, apgd) in enumerate(((0.1, 64), (0.2, 32), (0.3, 0)))
    ]
    low = [met("jpeg-q75", "low-frequency", l2, seed=i) for i, l2 in enumerate((0.01, 0.02, 0.03))]
    found = named(tmp_path, *several, *low)["jpeg-q75"]
    assert found["worst eps 0.05"] == "0.2000 ± 0.1000" and found["seeds"] == "0, 1, 2"
    assert found["low-frequency"] == "0.0200 ± 0.0100" and found["won by"] == "apgd 50 %"


def test_a_masked_gradient_has_its_sign(tmp_path):
    found = named(
        tmp_path,
        met("jpeg-q75", l2=0.1, worst=won(True, square=60, apgd=4)),
        met("jpeg-q75", l2=0.2, eps=0.08, worst=won(True, square=60, apgd=4)),
        met("none", l2=0.5, worst=won(apgd=64)),
    )
    assert found["jpeg-q75"]["worst eps 0.05"] == "**0.1000** [0.0900, 0.1100] ‡"
    assert found["jpeg-q75"]["worst eps 0.08"] == "0.2000 ‡"
    assert found["jpeg-q75"]["won by"] == "square 94 %" and "‡" not in found["none"]["worst eps 0.05"]


def test_other_numbers_of_photos_are_marked_or_named(tmp_path):
    records = [met(name, l2=l2) for name, l2 in (("none", 0.5), ("jpeg-q75", 0.2), ("one-step", 0.1))]
    records += [ignoring(name, images=32) for name in ("none", "jpeg-q75", "one-step")]
    text = write(tmp_path, ASK, *records, met("ddpm-t10", l2=0.01, images=16))
    found = lines(text)
    assert "ignored (32 photos)" in found["defence"] and "worst eps 0.05" in found["defence"]
    assert (
        "ddpm-t10 †1" in found and "jpeg-q75" in found and found["one-step"][2].startswith("**0.1000")
    )  # what is marked is not the best
    assert "†1 worst eps 0.05: 16 photos in 80 pairs (the others: 64 in 320)." in text


def test_another_form_of_the_attack_is_marked(tmp_path):
    records = [met(name, attack_grid=8) for name in ("none", "jpeg-q75")]
    text = write(tmp_path, ASK, *records, met("ddpm-t10", attack_grid=4))
    assert "ddpm-t10 †1" in text and "grid 4 (the others: worst," in text


def test_the_same_number_of_photos_as_the_main_column_comes_first(tmp_path):
    both = [ignoring("jpeg-q75", l2, images=n) for n, l2 in ((64, 0.01), (500, 0.02))]
    assert named(tmp_path, met("jpeg-q75"), *both)["jpeg-q75"]["ignored"] == "0.0100"


def test_purifiers_of_other_weights_are_rows_of_their_own(tmp_path):
    records = [
        met("one-step", attack, l2, sha=sha * 64, through="self" if attack == "worst" else None)
        for sha, l2 in (("1", 0.1), ("2", 0.2))
        for attack in ("worst", "pgd")
    ]
    records.append(dataclasses.replace(met("one-step", "low-frequency", 0.05, sha="1" * 64)))
    found = named(tmp_path, *records, other_gan("one-step", 0.9))
    assert list(found) == ["one-step @111111", "one-step @222222"]
    assert [found[n]["ignored"].strip("*") for n in found] == ["0.1000", "0.2000"]
    assert [found[n]["low-frequency"] for n in found] == ["0.0500", "–"]
    assert "ignored on stgan" not in found["one-step @111111"]  # other weights met that


def test_it_stands_in_the_comparison_and_on_the_page_where_there_is_a_worst_case(tmp_path):
    marked = met("ddpm-t10", l2=0.01, images=16)
    records = [met("none", l2=0.5), met("jpeg-q75", l2=0.2), met("one-step", l2=0.1), marked]
    plain = comparison_of(tmp_path / "plain", ignoring("none"), ignoring("jpeg-q75"))
    for text in (markdown(plain), page.html(plain, {})):
        assert "The worst case" not in text and "moves first" not in text
    known = comparison_of(tmp_path / "known", *records, ignoring("none"), ignoring("jpeg-q75"))
    text, html = markdown(known), page.html(known, {})
    assert 0 < text.index("### The worst case") < text.index("### Every attack")
    assert text.count("The protector moves first") == 1
    assert (
        0 < html.index(">The worst case</h4>") < html.index(">Every attack</h4>") and "<em>worst</em>" in html
    )
    (whole,) = known.tables["defense"]
    # footnotes of both tables share one list
    assert all(f"†{i} {note}." in text for i, note in enumerate(whole.notes, 1))
    assert any(note.startswith("worst eps 0.05: 16 photos") for note in whole.notes)
    # the table's own marker knows nothing of it
    assert "worst eps 0.05:" not in write(tmp_path, "<!-- table:drawn --><!-- /table -->", *records)


def test_the_main_attack_is_one_that_ignores_the_defence_and_own_attacks_are_no_reason_for_a_mark(tmp_path):
    known = [
        met(name, key=key * 64, images=128)
        for name, key in (("jpeg-q75", "1"), ("ddpm-t10", "2"), ("blur", "3"))
    ]
    comparison = comparison_of(tmp_path, *known, ignoring("none", images=128), ignoring("blur", images=128))
    (found,) = comparison.tables["defense"]
    assert dict(found.main)["attack"] == "pgd" and not found.notes


def test_attacks_on_other_weights_or_of_known_noise_are_attacks_of_their_own(tmp_path):
    records = [
        met("ddpm-t10"),
        met("ddpm-t10", through_sha256="c" * 64),
        met("ddpm-t10", attack_known_noise=True),
    ]
    comparison = comparison_of(tmp_path, *records)
    assert not comparison.replaced
    text = markdown(comparison)
    assert "through self, of other weights cccccccc" in text and "through self, noise known" in text


def test_jpeg_surviving_attacks_have_a_column_in_a_matrix(tmp_path):
    records = [ignoring(n, **c) for n in ("none", "jpeg-q75") for c in ({}, {"attack_jpeg": "50-95"})]
    found = lines(write(tmp_path, "<!-- matrix:drawn --><!-- /table -->", *records))
    assert found["defence"] == ["undisturbed", "eps 0.05", "jpeg 50-95"]


def test_without_a_worst_case_the_marker_says_so(tmp_path):
    with pytest.raises(
        UserError, match="robustness:drawn .* asks for the attack worst, and no defence met it"
    ):
        write(tmp_path, ASK, ignoring("none"))
    with pytest.raises(UserError, match="unknown option split"):
        write(tmp_path, ASK.replace("legend=no", "split=b"))
    assert "robustness" in defense_kind.KIND.markers
