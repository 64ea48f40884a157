"""python -m purify.depois: examines, records, and says in one line what it cannot examine."""

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from common import figures
from common.cli import UserError
from models.depois import train
from purify.depois import __main__ as depois
from purify.depois import examiner, options, outliers
from report import record

shared = runpy.run_path(str(Path(__file__).with_name("examinations.py")))
folder, rows = shared["folder"], shared["rows"]
FEW = "--methods de-pois loss --poison label-flip"


def test_a_run_leaves_scores_names_pictures_and_records(run):
    results, examine = run
    examine(f"{FEW} --limit 200")
    path = folder(results)
    found = rows(path)
    assert len(found) == 200 and sum(int(r["poisoned"]) for r in found) == 60
    assert all((r["label"] != r["label_before"]) == bool(int(r["poisoned"])) for r in found)
    for method in ("de-pois", "loss"):
        made = record.read(path / method / "record.json")
        dropped = [bool(int(r[f"{method}_dropped"])) for r in found]
        poisoned = [bool(int(r["poisoned"])) for r in found]
        hits = sum(d and p for d, p in zip(dropped, poisoned, strict=True))
        assert made.metrics["recall"] == pytest.approx(hits / 60) and made.metrics["fpr"] == pytest.approx(
            (sum(dropped) - hits) / 140
        )
        assert (
            made.config["num_samples"] == 200
            and made.config["num_poisoned"] == 60
            and made.config["nominal_fpr"] == 0.05
        )
        assert all(v is not None for v in made.metrics["classifier"].values())
        kept = (path / method / "kept.txt").read_text().splitlines()
        assert kept[0] == f"# filter: {method}" and kept[2:] == [
            r["name"] for r, gone in zip(found, dropped, strict=True) if not gone
        ]
    assert (path / "found.png").stat().st_size > 5000
    critics = {
        method: record.read(path / method / "record.json").provenance["mimic_sha256"]
        for method in ("de-pois", "loss")
    }
    assert critics["de-pois"] and critics["loss"] is None


def test_a_finished_examination_is_not_repeated_and_other_options_are_another_run(run, capsys):
    results, examine = run
    examine(f"{FEW} --limit 100")
    with pytest.raises(UserError, match="--resume RUN continues one examination"):
        depois.parse_args(["--resume", "somewhere", "--seeds", "0"])
    before = {p: p.stat().st_mtime_ns for p in results.rglob("*") if p.is_file()}
    examine(f"{FEW} --limit 100 --resume")
    assert {p: p.stat().st_mtime_ns for p in results.rglob("*") if p.is_file()} == before
    assert "this run is finished" in capsys.readouterr().out
    examine(f"{FEW} --limit 100 --clean_quantile 0.1")
    assert (folder(results, number=1) / "scores.csv").exists() and len(
        list((results / "depois/digits/train/full").iterdir())
    ) == 1


def test_an_interrupted_examination_is_taken_up_with_the_critic_that_was_trained(run, monkeypatch):
    results, examine = run
    with monkeypatch.context() as patch:
        patch.setattr(depois, "write_output", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            examine(f"{FEW} --limit 100")
    assert not (folder(results) / "scores.csv").exists()
    monkeypatch.setattr(train, "train", lambda *a: pytest.fail("trained again"))
    examine(f"{FEW} --limit 100 --resume")
    assert not folder(results, number=1).exists() and (folder(results) / "scores.csv").exists()


def test_a_critic_trained_elsewhere_is_taken_where_it_learned_from_the_same_images(run, tmp_path):
    results, examine = run
    examine(f"{FEW} --limit 100")
    (weights,) = (results / "depois/digits/train").rglob("weights.safetensors")
    shutil.move(weights, tmp_path / "critic.safetensors")
    shutil.rmtree(results)
    examine(f"{FEW} --limit 100 --depois_weights {tmp_path}/critic.safetensors")
    assert (
        not (results / "depois/digits/train").exists()
        and record.read(folder(results) / "de-pois" / "record.json").cost["train_s"] is None
    )
    with pytest.raises(UserError, match="learned from other trusted images than those of seed 1"):
        examine(f"{FEW} --limit 100 --depois_weights {tmp_path}/critic.safetensors --seeds 1")
    (tmp_path / "bad").write_bytes(b"")
    with pytest.raises(UserError, match="bad: truncated or not a weight file"):
        examine(f"{FEW} --limit 100 --depois_weights {tmp_path}/bad --seeds 1")
    assert not list(results.rglob("seed1"))
    with pytest.raises(UserError, match="the critic of one seed; found 2"):
        examine(f"{FEW} --limit 100 --depois_weights {tmp_path}/critic.safetensors --seeds 0 1")


@pytest.mark.slow
def test_every_poison_and_method_is_examined(run, monkeypatch):
    results, examine = run
    # pictures, and forests of the declared size, have tests of their own
    monkeypatch.setattr(figures, "png", lambda figure: b"")
    monkeypatch.setattr(outliers.Forest, "params", {**outliers.Forest.params, "trees": 8})
    examine(
        f"--poison {' '.join(options.DEFAULTS['mnist'])} --limit 60 --judge_steps 0 --clean_quantile 0.1"
        " --poison_steps 3"
    )
    found = {(r.config["poison"], r.config["method"]) for _, r in record.read_all(results)[0]}
    assert {p for p, _ in found} == set(options.DEFAULTS["mnist"])
    assert {m for _, m in found} == {name for _, name in options.CRITICS.values()} | set(options.METHODS[4:])
    assert len(found) == 7 * 9 and all(
        r.metrics["classifier"]["kept"] is None for _, r in record.read_all(results)[0]
    )
    bypass = record.read(folder(results, "bypass-rate0.3") / "de-pois" / "record.json")
    assert bypass.config["poison_params"]["mode"] == "critic" and bypass.config["poison_params"]["eps"] == 0.3


def test_without_poison_only_false_alarms_are_left(run):
    results, examine = run
    examine("--methods loss --poison_rate 0 --limit 200")
    made = record.read(folder(results, "none") / "loss" / "record.json")
    assert (
        made.config["num_poisoned"] == 0
        and made.metrics["auc"] is None
        and made.metrics["recall"] is None
        and made.metrics["fpr"] is not None
    )


def test_the_published_boundary(run):
    results, examine = run
    examine("--methods de-pois --poison label-flip --limit 100 --boundary std --boundary_z 1")
    made = record.read(folder(results) / "de-pois" / "record.json")
    assert made.config["nominal_fpr"] == pytest.approx(0.1587, abs=1e-4) and made.config["boundary"] == "std"


@pytest.mark.parametrize(
    "words, message",
    [
        ("--poison_rate 1", "expected a number from 0 to below 1"),
        ("--poison_rate 1.5", "expected a number from 0 to 1"),
        ("--poison_rate -0.1", "expected a number from 0 to 1"),
        ("--poison label-flop", "did you mean label-flip"),
        ("--methods loss loss", "each once"),
        ("--seeds 1 1", "each once"),
        ("--dataset mnist", "--dataset mnist needs --data_root DIR"),
        ("--data_root x", "--data_root is for --dataset mnist, found --dataset digits"),
        ("--dataset folder --input x", "--dataset folder needs --trusted DIR"),
        ("--poison disruption", "--poison disruption is of --dataset detector"),
        ("--kept_names k.txt --seeds 0 1 --poison noise", "found 1 poisons, 2 seeds"),
        ("--trusted_share 0", "expected a share above 0 and below 1"),
        ("--trusted_share 0.005", "7 trusted images for 10 classes"),
        ("--blend_alpha 0", "blends nothing"),
        ("--gradient_eps 0.001", "expected a radius from"),
        ("--clean_quantile 0", "expected a share above 0 and below 1"),
        ("--clean_quantile 0.001", "expected 1000 or more for a false positive rate of 0.001"),
        ("--dataset mnist --data_root nowhere", "lacks train-images-idx3-ubyte"),
        ("--dataset folder --input nowhere --trusted nowhere", "no such folder"),
        ("--dataset detector --data_dir nowhere --gan_weights G.ckpt", "G.ckpt: no such weight file"),
    ],
)
def test_bad_input_is_one_line(run, words, message):
    results, examine = run
    with pytest.raises(UserError, match=message):
        examine(f"--limit 60 --methods loss --poison noise {words}" if "--methods" not in words else words)
    assert not list(results.rglob("record.json"))


def test_scores_that_are_nan_are_one_line_that_names_the_method(run, monkeypatch):
    results, examine = run
    monkeypatch.setattr(
        examiner, "load_mimic", lambda *a: (lambda x, y: torch.full((len(x),), float("nan")), {})
    )
    with pytest.raises(UserError, match="de-pois: scores: 47 of 47 are NaN or infinite"):
        examine(FEW)
    assert not (folder(results) / "scores.csv").exists()


def test_a_dry_run_writes_nothing(run, capsys):
    results, examine = run
    examine("--dry_run")
    assert not results.exists() and json.loads(capsys.readouterr().out)["dataset"] == "digits"


def test_flags_that_play_no_part_do_not_make_another_run(run, capsys):
    results, examine = run
    examine(f"{FEW} --limit 100")
    examine(f"{FEW} --limit 100 --resume --noise_sigma 0.4 --attack_steps 3 --image_size 99")
    assert "this run is finished" in capsys.readouterr().out and not folder(results, number=1).exists()
