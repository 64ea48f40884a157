"""What a README's markers of detectors, disruptions, finders and scans are replaced by."""

import pytest

from common.errors import UserError
from reading import lines, write
from report import docs
from synthetic import compare_runs, defense, detector, disruption, filtering, scan


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
