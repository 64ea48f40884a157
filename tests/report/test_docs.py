"""What a README's markers are replaced by: rows of some runs, defences against attacks, a benchmark."""

import dataclasses

import pytest

from common.cli import UserError
from reading import lines, write
from report import docs, record
from synthetic import compare_runs, defense, save


def benchmark(ratio, finished):
    figures = {
        "seconds": 0.1,
        "reference_seconds": 0.1 * ratio,
        "ratio": ratio,
        "ratio_low": ratio - 0.5,
        "ratio_high": ratio + 0.5,
    }
    return record.Record(
        "benchmark",
        "benchmark",
        "drawn",
        "all",
        0,
        {
            "num_images": 8,
            "num_decoded": 256,
            "image_size": 64,
            "repeats": 3,
            "diffpure_start": 300,
            "attack": "pgd",
            "eps": 0.05,
        },
        {"attack": figures, "one-step": figures},
        {},
        None,
        {"device": "cpu, 2 threads"},
        {"commit": None, "command": None, "versions": {}, "started": finished, "finished": finished},
    )


def test_a_matrix_has_a_row_per_defence_and_a_column_per_attack(tmp_path):
    many = [
        defense(name, l2=l2 * (1 if eps == 0.05 else 10), eps=eps, clean=l2 / 2)
        for name, l2 in (("none", 0.4), ("one-step", 0.001))
        for eps in (0.05, 0.1)
    ]
    text = write(
        tmp_path,
        "<!-- matrix:drawn --><!-- /table -->",
        *many,
        defense("none", l2=0.3, attack="fgsm", attack_target="clean"),
        defense("one-step", l2=0.002, attack="fgsm", attack_target="clean"),
        defense("one-step", l2=0.7, attack_through="one-step"),
    )
    found = lines(text)
    assert found["defence"] == ["undisturbed", "eps 0.05", "eps 0.1", "fgsm, target clean"]
    assert found["none"] == ["0.2000", "0.4000", "4.00", "0.3000"]
    # attacks through a defence have no column
    assert found["one-step"] == ["0.00050", "**0.0010**", "**0.0100**", "**0.0020**"]


def test_several_seeds_are_a_mean_and_a_deviation(tmp_path):
    text = write(
        tmp_path,
        "<!-- matrix:drawn --><!-- /table -->",
        defense("none"),
        *(defense("one-step", l2=l2, seed=i) for i, l2 in enumerate((0.001, 0.002, 0.003))),
    )
    assert lines(text)["one-step"][-1] == "**0.0020** ± 0.0010" and lines(text)["none"][-1] == "0.0030"


def test_an_attack_that_one_defence_met_has_no_column_and_a_gap_is_a_dash(tmp_path):
    text = write(
        tmp_path,
        "<!-- matrix:drawn --><!-- /table -->",
        defense("none"),
        defense("jpeg-q75"),
        defense("one-step"),
        defense("none", eps=0.1),
        defense("jpeg-q75", eps=0.1),
        defense("none", eps=0.2),
    )
    found = lines(text)
    assert found["defence"] == ["undisturbed", "eps 0.05", "eps 0.1"] and found["one-step"][-1] == "–"


def test_options_leave_some_runs_and_marks_are_found_anew(tmp_path):
    records = [
        defense(name, images=n, key=key)
        for n, key in ((64, "a" * 64), (32, "b" * 64))
        for name in ("none", "jpeg-q75", "one-step")
    ]
    whole = write(tmp_path, "<!-- table:drawn --><!-- /table -->", *records)
    assert "†1 32 photos in 160 pairs" in whole
    small = write(tmp_path, "<!-- table:drawn photos=32 gan=stargan --><!-- /table -->")
    assert (
        "32 / 160" in small
        and "64 / 320" not in small
        and "†1" not in small
        and all(f"| {name} " in small for name in ("none", "jpeg-q75", "one-step"))
    )


def test_runs_are_chosen_by_radius_and_by_folder(tmp_path):
    save(tmp_path / "demo", defense("none", l2=0.11))
    save(tmp_path / "results" / "more", defense("none", l2=0.22, eps=0.1))
    (tmp_path / "README.md").write_text(
        "<!-- table:drawn under=demo --><!-- /table --><!-- table:drawn radius=0.1 --><!-- /table -->"
    )
    text = docs.text_of(
        tmp_path / "README.md",
        compare_runs(tmp_path / "demo", tmp_path / "results", tmp_path / "results" / "more"),
    )
    first, second = text.split("<!-- /table -->")[:2]
    assert (
        "0.1100" in first
        and "0.2200" not in first
        and "0.2200" in second
        and "0.1100" not in second
        and text.count("0.2200 [") == 1
    )


def test_several_translators_follow_one_another_under_their_names(tmp_path):
    other = defense("none", l2=0.25)
    other.config["gan"] = "stargan-seed1"
    text = write(
        tmp_path,
        "<!-- table:drawn --><!-- /table -->\n<!-- table:drawn gan=stargan-seed1 --><!-- /table -->",
        defense("none"),
        other,
    )
    assert (
        text.count("**drawn, stargan**") == 1
        and text.count("**drawn, stargan-seed1**") == 1
        and text.count("0.2500 [") == 2
    )


def test_the_newest_benchmark_is_shown(tmp_path):
    text = write(
        tmp_path,
        "<!-- benchmark:drawn --><!-- /table -->",
        defense("none"),
        benchmark(7.0, "2024-05-01T10:00:00"),
        benchmark(9.0, "2024-05-02T10:00:00"),
    )
    found = lines(text)
    (one_step,) = [v for k, v in found.items() if k.startswith("`one-step`")]
    assert (
        one_step == ["0.1", "0.9", "9.0 (8.5 - 9.5)"]
        and "7.0" not in text
        and "300 steps" in text
        and "cpu, 2 threads; 8 photos of 64 x 64" in text
    )


def test_published_sizes_and_scales_are_asked_for_by_name(tmp_path):
    old = benchmark(7.0, "2024-05-01T10:00:00")
    figures = {**old.metrics["attack"], "precision": "bf16", "unit": "step", "photos_per_unit": 16}
    figures |= {"tflops_per_second": 31.25, "peak_memory_mb": 4096.4}
    figures |= {"share_of_product": None, "joules_per_photo": None}
    alone = {**figures, "unit": "photo", "precision": "fp32", "ratio": None}
    size = {"num_images": 250, "wall_seconds": 61.2, "cpu_per_photo": 0.25, "besides_per_photo": 0.125}
    size |= {"peak_memory_mb": 980.0, "peak_anonymous_mb": None}
    grown = {"memory_mb": 12.0, "cpu_per_further_photo": 0.2, "besides_per_further_photo": 0.1}
    rows = {"train-stargan-bf16": figures, "diffpure": alone}
    named = [
        dataclasses.replace(old, name="official", metrics=rows),
        dataclasses.replace(old, name="scale", metrics={"250": size}, per_group={"growth": grown}),
    ]
    ask = "<!-- benchmark:drawn name={} --><!-- /table -->"
    text = write(
        tmp_path, ask.format("official") + "\n\n" + ask.format("scale"), defense("none"), old, *named
    )
    found = lines(text)
    assert found["`train-stargan`, bf16, a step of 16"] == ["0.1", "0.7", "7.0 (6.5 - 7.5)", "31.2", "4096"]
    assert found["`diffpure`, 300 steps (the reference of purifiers), fp32, a photo"][2] == "–"
    assert "J per photo" not in text and "of the matrix product" not in text
    assert found["250"] == ["61", "0.25", "0.125", "980", "–"]
    assert "to the last +12 MB, a further photo 0.2 CPU s, 0.1 of them besides networks" in text
    usual = write(tmp_path, "<!-- benchmark:drawn --><!-- /table -->", defense("none"))
    assert "attack (reference" in usual and "train-stargan" not in usual


@pytest.mark.parametrize(
    "marker, message",
    [
        (
            "<!-- matrix:CelebA -->",
            r"matrix:CelebA --> asks for rows that no record has \(data sets found: drawn\)",
        ),
        ("<!-- table:drawn photos=7 -->", "asks for rows that no record has"),
        ("<!-- table:drawn photos=many -->", "photos=many: expected a number"),
        ("<!-- table:drawn split=b -->", "unknown option split; one of: photos, gan, radius, under"),
        ("<!-- matrix:drawn photos=64 -->", "asks for attacks that several defences met"),
        ("<!-- benchmark:drawn -->", "asks for a benchmark record"),
        ("<!-- benchmark:drawn name=scale -->", "evaluation.benchmark --scale --result_dir results"),
        ("<!-- benchmark:drawn photos=8 -->", "unknown option photos; one of: name, size, under"),
        ("<!-- detectors:drawn -->", r"asks for rows that no record has \(data sets found: none\)"),
        ("<!-- detectors:drawn rate=all -->", "rate=all: expected a number"),
        ("<!-- disruptions:drawn -->", r"asks for rows that no record has \(data sets found: none\)"),
        (
            "<!-- disruptions:drawn gan=stargan -->",
            "unknown option gan; one of: photos, victims, radius, under, legend",
        ),
        ("<!-- filters:drawn -->", r"asks for rows that no record has \(data sets found: none\)"),
        ("<!-- filters:drawn rate=some -->", "rate=some: expected a number"),
        ("<!-- filters:drawn part=all -->", "part=all: one of overview, details"),
        (
            "<!-- filters:drawn photos=64 -->",
            "unknown option photos; one of: rate, poison, method, under, part, legend",
        ),
        ("<!-- scans:drawn -->", r"asks for rows that no record has \(data sets found: none\)"),
        ("<!-- scans:drawn size=small -->", "size=small: expected a number"),
        ("<!-- scans:drawn part=all -->", "part=all: one of models, detection, variants"),
        (
            "<!-- scans:drawn rate=1 -->",
            "unknown option rate; one of: size, attack, schedule, under, part, legend",
        ),
        ("<!-- table:drawn rate=1 -->", "unknown option rate; one of: photos, gan, radius, under"),
        (
            "<!-- rates:drawn split=b -->",
            "unknown option split; one of: photos, gan, radius, under, detector, base, attack, target, rate",
        ),
    ],
)
def test_a_marker_that_asks_for_what_is_not_there_is_one_line(tmp_path, marker, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, f"{marker}<!-- /table -->", defense("none"))


def test_parts_without_records_are_kept_where_that_is_asked_for(tmp_path):
    save(tmp_path / "results", defense("none", l2=0.2222))
    (tmp_path / "README.md").write_text(
        "<!-- table:drawn -->\nstale\n<!-- /table -->\n<!-- rates:real -->\nlong ago\n<!-- /table -->\n"
        "<!-- benchmark:drawn -->\nfast\n<!-- /table -->\n"
    )
    kept, comparison = [], compare_runs(tmp_path / "results")
    text = docs.text_of(tmp_path / "README.md", comparison, kept)
    assert (
        kept == ["<!-- rates:real -->", "<!-- benchmark:drawn -->"]
        and "0.2222" in text
        and "stale" not in text
    )
    assert text.endswith(
        "<!-- rates:real -->\nlong ago\n<!-- /table -->\n<!-- benchmark:drawn -->\nfast\n<!-- /table -->\n"
    )
    with pytest.raises(UserError, match="rates:real --> asks for rows"):
        docs.text_of(tmp_path / "README.md", comparison)
    (tmp_path / "README.md").write_text("<!-- table:drawn photos=many -->\nstale\n<!-- /table -->")
    with pytest.raises(UserError, match="expected a number"):  # a mistake in the marker stays one
        docs.text_of(tmp_path / "README.md", comparison, [])


def test_a_table_stands_without_its_legend_where_that_is_asked_for(tmp_path):
    markers = "<!-- table:drawn --><!-- /table -->\n<!-- table:drawn legend=no --><!-- /table -->"
    text = write(tmp_path, markers, defense("none"))
    whole, bare = text.split("<!-- /table -->")[:2]
    assert "All l2 are mean squared errors" in whole and "All l2" not in bare
    assert lines(whole) == lines(bare) != {}
