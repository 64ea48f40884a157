"""python -m purify.depois: examines, records, writes what to keep, and says in one line what it cannot
examine."""

import csv
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli import UserError
from metrics import finding
from models.depois import train
from models.detector.samples import kept_filter, read_kept
from pipeline.scraped import disrupted_names
from purify.depois import __main__ as depois
from purify.depois import examined, examiner, options
from report import record

shared = runpy.run_path(str(Path(__file__).parents[2] / "detectors.py"))
stage = shared["stage"]
SMALL = (
    "--gan_steps 2 --mimic_steps 4 --n_critic 1 --train_batch_size 8 --judge_steps 3 --seeds 0 --device cpu"
    " --num_workers 0"
)
FEW = "--methods de-pois loss --poison label-flip"


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(finding.measure, "__defaults__", (10,))
    monkeypatch.setattr(finding.measure_classes, "__defaults__", (10,))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(examiner, "fit", lambda *a, **k: shared_network(*a))
    results = tmp_path / "results"
    return results, lambda words: depois.main(f"{SMALL} --result_dir {results} {words}".split())


NETWORKS = {}


def shared_network(labelled, seed):
    """The baselines' classifier is the same for equal trusted images: fitted once, and for a few steps."""
    from models.depois.classifier import fit
    from models.depois.data import content

    key = (content(labelled), seed)
    if key not in NETWORKS:
        NETWORKS[key] = fit(labelled, seed, steps=40)
    return NETWORKS[key]


def folder(results, name="label-flip-rate0.3", seed=0, number=0, dataset="digits"):
    return results / "depois" / dataset / "examined" / name / f"seed{seed}" / f"{number:03d}"


def rows(path):
    return list(csv.DictReader((path / "scores.csv").open()))


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
    with pytest.raises(UserError, match="the critic of one seed; found 2"):
        examine(f"{FEW} --limit 100 --depois_weights {tmp_path}/critic.safetensors --seeds 0 1")


def test_every_poison_and_method_is_examined(run):
    results, examine = run
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


def image_folders(path, count, seed, size=12, classes=("cat", "dog")):
    rng = np.random.default_rng(seed)
    for k, name in enumerate(classes):
        (path / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray((rng.integers(0, 100, (size, size + 4, 3)) + 120 * k).astype(np.uint8)).save(
                path / name / f"{seed}-{i:02d}.png"
            )
    return path


def test_folders_of_unknown_samples_are_filtered_and_nothing_is_measured(run, tmp_path, capsys):
    results, examine = run
    trusted, scraped = image_folders(tmp_path / "known", 12, 0), image_folders(tmp_path / "scraped", 10, 1)
    examine(
        f"--dataset folder --input {scraped} --trusted {trusted} --image_size 12 --clean_quantile 0.3"
        f" --kept_names {tmp_path}/kept.txt"
    )
    path = folder(results, "unknown", dataset="scraped")
    found = rows(path)
    assert [r["poisoned"] for r in found] == [""] * 20 and found[0]["name"] == "cat/1-00.png"
    assert not list(results.rglob("record.json")) and (path / "found.png").exists()
    kept = [line for line in (tmp_path / "kept.txt").read_text().splitlines() if not line.startswith("#")]
    assert (
        kept == [r["name"] for r in found if r["de-pois_dropped"] == "0"]
        and "drops" in capsys.readouterr().out
    )


def test_a_detectors_samples_are_those_of_train_detector(run, stage, tmp_path):
    results, examine = run
    data = tmp_path / "data"
    shutil.copytree(data / "images_c", data / "images_a")
    words = (
        f"--data_dir {data} --image_size 32 --celeba_crop_size 40 --gan_weights {tmp_path}/gan.safetensors"
        " --attack_steps 2"
    )
    examine(
        f"--dataset detector {words} --trusted_share 0.35 --poison disruption --poison_rate 0.5 --methods"
        f" de-pois --clean_quantile 0.4 --kept_names {tmp_path}/kept.txt"
    )
    found = rows(folder(results, "disruption-rate0.5", dataset="data"))
    names = [f"{i + 1:06d}.png" for i in range(20)]
    hit = disrupted_names(names, 0.5, 0)
    assert [r["name"] for r in found] == sorted(
        (r["name"] for r in found), key=lambda n: (n.partition("/")[2], n.startswith("fake"))
    )
    assert {r["name"].partition("/")[2] for r in found if r["poisoned"] == "1"} == hit and sum(
        r["poisoned"] == "1" for r in found
    ) == 20
    kept = read_kept(tmp_path / "kept.txt", names)
    assert (
        kept == {r["name"] for r in found if r["de-pois_dropped"] == "0"}
        and kept_filter(tmp_path / "kept.txt") == "de-pois"
    )
    made = record.read(folder(results, "disruption-rate0.5", dataset="data") / "de-pois" / "record.json")
    assert (
        made.provenance["gan_sha256"]
        and made.config["poison_params"]["attack"] == "pgd"
        and set(made.per_group["class"]) == {"real", "fake"}
        and made.split == "b"
    )


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


def test_folders_that_do_not_fit(run, tmp_path):
    _, examine = run
    trusted = image_folders(tmp_path / "known", 12, 0)
    more = image_folders(tmp_path / "more", 4, 1, classes=("cat", "dog", "emu"))
    with pytest.raises(UserError, match="holds the class emu, which .* lacks"):
        examine(f"--dataset folder --input {more} --trusted {trusted} --image_size 12")
    with pytest.raises(UserError, match="24 images are trusted and examined at once"):
        examine(f"--dataset folder --input {trusted} --trusted {trusted} --image_size 12")
    (trusted / "cat" / "0-00.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="0-00.png"):
        examine(
            f"--dataset folder --input {image_folders(tmp_path / 'scraped', 4, 2)} --trusted {trusted}"
            " --image_size 12"
        )


def test_scores_that_are_nan_are_one_line_that_names_the_method(run, monkeypatch):
    results, examine = run
    monkeypatch.setattr(
        examiner, "load_mimic", lambda *a: (lambda x, y: torch.full((len(x),), float("nan")), {})
    )
    with pytest.raises(UserError, match="de-pois: scores: 47 of 47 are NaN or infinite"):
        examine(FEW)
    assert not (folder(results) / "scores.csv").exists()


def test_a_photo_of_both_splits_is_refused(stage, tmp_path, run):
    _, examine = run
    shutil.copytree(tmp_path / "data" / "images_b", tmp_path / "data" / "images_a")
    with pytest.raises(UserError, match="20 of its photos are also in .*images_b"):
        examine(
            f"--dataset detector --data_dir {tmp_path}/data --image_size 32 --celeba_crop_size 40"
            f" --gan_weights {tmp_path}/gan.safetensors"
        )


def test_a_dry_run_writes_nothing(run, capsys):
    results, examine = run
    examine("--dry_run")
    assert not results.exists() and json.loads(capsys.readouterr().out)["dataset"] == "digits"


def test_a_dry_run_on_a_detectors_samples_makes_no_image(stage, tmp_path, run):
    results, examine = run
    shutil.copytree(tmp_path / "data" / "images_c", tmp_path / "data" / "images_a")
    words = (
        f"--dataset detector --data_dir {tmp_path}/data --image_size 32 --celeba_crop_size 40 --gan_weights"
        f" {tmp_path}/gan.safetensors"
    )
    examine(f"{words} --dry_run")
    train.main(
        f"{words} --result_dir {results} --dry_run".split(),
        examined.add_task_flags,
        examined.resolve_task,
        examined.open_task,
    )
    assert not results.exists()
    with pytest.raises(UserError, match="disrupts nothing"):
        examine(f"{words} --attack_type none")
    with pytest.raises(UserError, match="images_a"):
        shutil.rmtree(tmp_path / "data" / "images_a")
        examine(words)


def test_images_that_were_added_since_are_examined(run, tmp_path):
    results, examine = run
    trusted, scraped = image_folders(tmp_path / "known", 12, 0), image_folders(tmp_path / "scraped", 5, 1)
    words = (
        f"--dataset folder --input {scraped} --trusted {trusted} --image_size 12 --clean_quantile 0.3"
        f" --kept_names {tmp_path}/new/kept.txt --resume"
    )
    examine(words)
    image_folders(scraped, 5, 2)
    examine(words)
    assert (
        "of 20 samples" in (tmp_path / "new" / "kept.txt").read_text()
        and len(rows(folder(results, "unknown", number=1, dataset="scraped"))) == 20
    )
    assert len(list((results / "depois/scraped/train/full").iterdir())) == 1


def test_equal_names_of_other_images_are_no_overlap_and_a_limit_takes_all_classes(run, tmp_path):
    results, examine = run
    trusted, scraped = image_folders(tmp_path / "known", 12, 0), image_folders(tmp_path / "scraped", 6, 1)
    for path in scraped.rglob("*.png"):
        path.rename(path.with_name(path.name.replace("1-", "0-")))
    (scraped / "cat" / "0-00.png").write_bytes(b"broken")
    words = f"--dataset folder --input {scraped} --trusted {trusted} --image_size 12 --clean_quantile 0.3"
    examine(f"{words} --limit 6 --skip_damaged")
    assert [r["name"] for r in rows(folder(results, "unknown", dataset="scraped"))] == [
        "cat/0-01.png",
        "cat/0-02.png",
        *(f"dog/0-0{i}.png" for i in range(3)),
    ]
    for path in scraped.rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match="no image is left of 12"):
        examine(f"{words} --skip_damaged")


def test_flags_that_play_no_part_do_not_make_another_run(run, capsys):
    results, examine = run
    examine(f"{FEW} --limit 100")
    examine(f"{FEW} --limit 100 --resume --noise_sigma 0.4 --attack_steps 3 --image_size 99")
    assert "this run is finished" in capsys.readouterr().out and not folder(results, number=1).exists()
