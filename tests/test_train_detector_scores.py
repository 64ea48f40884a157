"""Scores of a detector that was trained elsewhere become a record, and a row of a table."""

import csv
import json

import pytest

import compare_results
import detectors
import train_detector as script
from common.cli import UserError
from report.record import validate

few_resamples, pictures_where_asked = detectors.few_resamples, detectors.pictures_where_asked
stage, drawn, run, records = detectors.stage, detectors.drawn, detectors.run, detectors.records
DISRUPTED = "--condition disrupted --poison_rate 0.5"


def outside(flags):
    """The flags without those of a training."""
    return flags.replace(" --detector meso4 --epochs 2 --batch_size 8 --seeds 0", "")


def test_the_scores_of_a_run_give_its_figures_again(stage, drawn, tmp_path, capsys):
    flags, results = stage
    run(flags, DISRUPTED)
    (ours,) = records(results)
    (scores,) = results.rglob("scores.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(script, "train", None)
        run(outside(flags), f"{DISRUPTED} --scores {scores} --scores_name theirs")
    folder = results / "detector/toy/stargan/theirs-outside/disrupted/pgd-eps0.05-rate0.5/seed0/000"
    assert {p.name for p in folder.iterdir()} == {
        "options.yaml",
        "scores.csv",
        "roc.png",
        "predictions.png",
        "record.json",
    }
    its = json.loads((folder / "record.json").read_text())
    assert validate(its) == [] and (folder / "scores.csv").read_text() == scores.read_text()
    for which in (None, "disrupted"):
        mine, other = (r["metrics"] if which is None else r["metrics"][which] for r in (ours, its))
        for key in ("accuracy", "accuracy_ci", "auc", "auc_ci", "eer"):
            assert mine[key] == other[key]
    assert its["metrics"]["validation"] is None and its["metrics"]["purified"] is None
    assert (
        its["per_group"].keys() == ours["per_group"].keys() and its["provenance"]["detector_sha256"] is None
    )
    config = its["config"]
    assert (
        config["detector"] == "theirs" and config["base"] == "outside" and config["condition"] == "disrupted"
    )
    assert {config[k] for k in ("epochs", "lr", "lr_schedule", "batch_size", "pretrained")} == {None}
    assert [config[k] for k in ("num_train", "num_validation", "num_test")] == [36, 4, 24]
    run(outside(flags), f"{DISRUPTED} --scores {scores} --scores_name theirs --resume")
    assert "this run is finished" in capsys.readouterr().out and len(records(results)) == 2


def test_it_is_a_row_of_the_tables(stage, tmp_path):
    flags, results = stage
    whole = detectors.opened(flags, DISRUPTED)
    ids = whole.tests()["clean"].ids
    for condition, wrong in (("clean --poison_rate 0", 0), (DISRUPTED.split(" ", 1)[1], 6)):
        path = tmp_path / f"{wrong}.csv"
        p = [float(one.startswith("fake") != (i < wrong)) for i, one in enumerate(ids)]
        path.write_text("name,probability\n" + "".join(f"{a},{b}\n" for a, b in zip(ids, p, strict=True)))
        for seed in (0, 1):
            more = f"--condition {condition} --scores {path} --scores_name theirs --seeds {seed}"
            run(outside(flags), more)
    run(flags, "--condition clean")
    compare_results.main([str(results), "--out", str(tmp_path / "out")])
    with open(tmp_path / "out" / "comparison_detectors.csv") as f:
        rows = {
            (r["detector"], r["condition"]): r for r in csv.DictReader(f) if r["not_comparable"] in ("", None)
        }
    assert set(rows) == {("theirs", "clean"), ("theirs", "disrupted"), ("meso4", "clean")}
    poisoned = rows["theirs", "disrupted"]
    assert (
        float(poisoned["accuracy"]) == 0.75 and float(poisoned["lost"]) == 25 and poisoned["seeds"] == "0 1"
    )
    assert poisoned["epochs"] == "" and poisoned["base"] == "outside" and poisoned["cost.train_s"] == ""
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "toy, stargan, theirs (outside)" in text and "None" not in text


@pytest.mark.parametrize(
    "more, message",
    [
        ("--scores {file}", "--scores needs --scores_name"),
        ("--scores {file} --scores_name a/b", "found 'a/b'"),
        ("--scores {file} --scores_name meso4", "is one of ours"),
        ("--scores_name theirs", "--scores_name names the detector of --scores"),
        ("--scores {file} --scores_name theirs --epochs 3", "--scores trains nothing; drop --epochs"),
        ("--scores {file} --scores_name theirs --seeds 0 1", "those of one training"),
        ("--scores {file} --scores_name theirs", "23 of the 24 images of the test set clean have no score"),
        ("--scores {file}x --scores_name theirs", "cannot be read"),
    ],
)
def test_what_cannot_be_taken_is_one_line_and_leaves_no_run(stage, tmp_path, more, message):
    flags, results = stage
    path = tmp_path / "s.csv"
    path.write_text("name,probability\nreal/000021.png,0.5\n")
    with pytest.raises(UserError, match=message):
        run(outside(flags), "--condition clean --attack_type none " + more.format(file=path))
    assert not (results / "detector").exists()
