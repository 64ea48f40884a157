"""What a README's markers are replaced by: rows of some runs, defences against attacks, a benchmark."""

import pytest

from common.cli import UserError
from report import docs, record
from synthetic import compare_runs, defense, detector, disruption, filtering, save, scan


def write(tmp_path, text, *records):
    for found in records:
        save(tmp_path / "results", found)
    (tmp_path / "README.md").write_text(text)
    return docs.text_of(tmp_path / "README.md", compare_runs(tmp_path / "results"))


def lines(text):
    """{first cell: the others} of a Markdown table."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return {row[0]: row[1:] for row in rows}


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


def trainings(**config):
    """Records of a clean, a disrupted and a purified training."""
    return [
        detector("clean", 0.95, **config),
        *(
            detector(name, accuracy, rate=rate, **config)
            for name, accuracy, rate in (
                ("disrupted", 0.85, 0.5),
                ("disrupted", 0.75, 1.0),
                ("one-step", 0.90, 1.0),
                ("one-step", 0.93, 0.0),
            )
        ),
    ]


def test_detectors_are_joined_with_all_defences_of_the_data_set(tmp_path):
    text = write(
        tmp_path,
        "<!-- detectors:drawn rate=1 --><!-- /table -->",
        *trainings(),
        *trainings(photos=100),
        defense("one-step", l2=0.0077),
    )
    small = write(tmp_path, "<!-- detectors:drawn photos=100 --><!-- /table -->")
    assert (
        "**drawn, stargan, meso4 (scratch): pgd, eps 0.05" in text
        and "A detector learns" in text
        and "**0.75** [" in text
        and "†1 100 photos" in text
    )
    assert (
        "of undisturbed photos |" not in text
        and "| clean " in text
        and "0.0077" in text
        and text.count("| disrupted ") == 2
    )
    assert (
        "†1" not in small
        and lines(small)["one-step of undisturbed photos"][5].startswith("0.930")
        and lines(small)["one-step"][-2].startswith("**0.75**")
    )


@pytest.mark.parametrize(
    "option, figure",
    [
        ("detector=mobilenet_v2", "0.111"),
        ("base=finetuned", "0.222"),
        ("target=clean", "0.333"),
        ("attack=fgsm", "0.444"),
        ("radius=0.1", "0.555"),
        ("gan=other", "0.666"),
    ],
)
def test_detectors_are_chosen_by_options(tmp_path, option, figure):
    settings = (
        {},
        {"detector": "mobilenet_v2"},
        {"base": "finetuned"},
        {"attack_target": "clean"},
        {"attack": "fgsm"},
        {"eps": 0.1},
        {"gan": "other"},
    )
    records = [detector("clean", 0.111 * i) for i in range(len(settings))]
    for found, changed in zip(records, settings, strict=True):
        found.config.update(changed)
    text = write(tmp_path, f"<!-- detectors:drawn {option} --><!-- /table -->", *records)
    assert text.count("| clean ") == 1 and lines(text)["clean"][5].startswith(figure)


def test_rates_have_a_column_per_poison_rate(tmp_path):
    text = write(
        tmp_path,
        "<!-- rates:drawn --><!-- /table -->",
        *trainings(),
        *trainings(detector="mobilenet_v2", base="frozen"),
    )
    assert text.count("| training photos ") == 2 and lines(text)["disrupted (at 0: clean)"] == [
        "0.950",
        "0.850",
        "0.750",
    ]
    assert (
        lines(text)["one-step"] == ["0.930", "–", "0.900"]
        and text.count("Accuracy on clean photos of C") == 1
    )
    with pytest.raises(UserError, match="asks for several poison rates"):
        write(tmp_path, "<!-- rates:drawn rate=1 --><!-- /table -->")
    with pytest.raises(UserError, match="asks for a poison rate that no record has"):
        write(tmp_path, "<!-- detectors:drawn rate=0.25 --><!-- /table -->")


def test_disruptions_have_a_table_per_set_of_translators_and_options_leave_some_runs(tmp_path):
    records = [
        disruption("none", (0, 0)),
        disruption("random-sign", (0.01, 0.02)),
        disruption(l2=(0.2, 0.1)),
        disruption(l2=(0.3, 0.2), eps=0.1),
        disruption("random-sign", (0.05, 0.02), images=8),
        disruption(l2=(0.4,), victims=("stargan",)),
    ]
    text = write(tmp_path, "<!-- disruptions:drawn --><!-- /table -->", *records)
    assert (
        "**drawn, stargan + stgan, 64 pixels**" in text
        and "**drawn, stargan, 64 pixels**" in text
        and "†1" in text
        and text.count("Each translator makes fakes") == 1
    )
    chosen = write(
        tmp_path,
        "<!-- disruptions:drawn victims=stgan+stargan photos=64 radius=0.05 under=results legend=no --><!--"
        " /table -->",
    )
    found = lines(chosen.split("| attack")[1])
    assert (
        list(found) == ["undisturbed", "random sign", "DADFI, trained on stargan+stgan"]
        and "†1" not in chosen
        and "**drawn" not in chosen
    )
    assert (
        found["DADFI, trained on stargan+stgan"][2] == "**0.1000** (stgan)"
        and "Each translator" not in chosen
    )
    (tmp_path / "README.md").write_text("<!-- disruptions:real -->\nlong ago\n<!-- /table -->")
    kept = []
    assert "long ago" in docs.text_of(
        tmp_path / "README.md", compare_runs(tmp_path / "results"), kept
    ) and kept == ["<!-- disruptions:real -->"]


def test_finders_of_poisoned_samples_have_a_table_per_poison_rate_and_options_leave_some_runs(tmp_path):
    records = [
        filtering(),
        filtering("loss", auc=0.91),
        filtering("de-pois without authenticator", auc=0.93),
        filtering(rate=0.1, auc=0.9),
        filtering(poison="bypass", params={"mode": "critic"}),
        filtering(poison="bypass", auc=0.94, params={"mode": "classifier"}),
        filtering(poison="none", rate=0),
    ]
    records[-1].metrics.update(auc=None, auc_ci=None)
    text = write(tmp_path, "<!-- filters:drawn --><!-- /table -->", *records)
    assert [f"**drawn, 28 pixels, poison rate {rate}**" in text for rate in ("0", "0.1", "0.3")] == [True] * 3
    assert (
        text.count("Poisoned = 1.") == text.count("AUROC: how often") == 1
        and text.count("| method ") == 2 + 3
        and "| none " in text
    )
    chosen = write(
        tmp_path,
        "<!-- filters:drawn rate=0.3 poison=bypass method=de-pois under=results part=overview legend=no"
        " --><!-- /table -->",
    )
    assert lines(chosen) == {"method": ["bypass classifier", "bypass critic"], "de-pois": ["0.940", "0.950"]}
    assert "Poisoned = 1." not in chosen and "AUROC: how often" not in chosen and "**drawn" not in chosen
    mode = write(tmp_path, "<!-- filters:drawn poison=bypass+critic part=details --><!-- /table -->")
    assert (
        list(lines(mode)) == ["poison", "bypass critic"]
        and "Poisoned = 1." in mode
        and "AUROC: how often" not in mode
    )
    spaced = write(
        tmp_path, "<!-- filters:drawn method=de-pois+without+authenticator part=overview --><!-- /table -->"
    )
    assert lines(spaced) == {"method": ["noise"], "de-pois without authenticator": ["0.930"]}
    with pytest.raises(UserError, match="asks for AUROC, and no record has one"):
        write(tmp_path, "<!-- filters:drawn rate=0 part=overview --><!-- /table -->")
    (tmp_path / "README.md").write_text("<!-- filters:drawn rate=0.2 -->\nlong ago\n<!-- /table -->")
    kept = []
    assert "long ago" in docs.text_of(
        tmp_path / "README.md", compare_runs(tmp_path / "results"), kept
    ) and kept == ["<!-- filters:drawn rate=0.2 -->"]


def test_scans_have_a_table_per_image_size_and_options_leave_some_runs(tmp_path):
    published = dict(
        schedule="published", estimate_steps=3000, refine="sampler", refine_steps=1000, starts=["published"]
    )
    records = [
        scan(),
        scan("villan"),
        scan("trojdiff", 0.1),
        scan("trojdiff", 0.7, scale=0.5),
        scan("trojdiff", 0.3, refine="none"),
        scan("trojdiff", 0.25, **published),
        scan(size=32),
    ]
    text = write(tmp_path, "<!-- scans:drawn --><!-- /table -->", *records)
    assert (
        "**drawn, 16 pixels**" in text
        and "**drawn, 32 pixels**" in text
        and text.count("A row is one model.") == text.count("Of standard models") == 1
    )
    assert text.count("| attack ") == 4 + 2 and "0.70 (not recovered)" in text and "both, published" in text
    chosen = write(
        tmp_path,
        "<!-- scans:drawn size=16 attack=trojdiff+villan schedule=reduced under=results part=detection"
        " legend=no --><!-- /table -->",
    )
    assert lines(chosen.replace("\\|", "")) == {
        "attack": [
            "plan",
            "models",
            "r",
            "r_hat - r",
            "ratio",
            "input TPR",
            "input TNR",
            "model TPR",
            "model TNR",
        ],
        "TrojDiff": ["both", "1", "12.00", "1.20", "0.10", "1.000", "0.999", "1.00 (1/1)", "–"],
        "VillanDiffusion": ["both", "1", "12.00", "2.40", "0.20", "1.000", "0.999", "1.00 (1/1)", "–"],
    }
    assert "Of standard models" not in chosen and "**drawn" not in chosen
    one = write(tmp_path, "<!-- scans:drawn schedule=published part=models --><!-- /table -->")
    assert (
        list(lines(one)) == ["attack", "TrojDiff"]
        and "A row is one model." in one
        and "Of standard models" not in one
        and "Scanned by the published schedule" in one
    )
    with pytest.raises(UserError, match="asks for variants, and no record of a scan belongs there"):
        write(tmp_path, "<!-- scans:drawn size=32 part=variants --><!-- /table -->")
    (tmp_path / "README.md").write_text(
        "<!-- scans:drawn attack=benign part=variants -->\nlong ago\n<!-- /table -->"
    )
    kept = []
    assert "long ago" in docs.text_of(
        tmp_path / "README.md", compare_runs(tmp_path / "results"), kept
    ) and kept == ["<!-- scans:drawn attack=benign part=variants -->"]


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
