"""The detectors' engine, run whole on tiny splits B and C: what is trained on, what is tested on, what is
refused."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import detectors
import train_detector as script
from common import images
from common.cli import UserError
from models.detector import pictures
from models.detector.network import load_detector
from models.detector.samples import join

ROOT = Path(__file__).resolve().parents[1]

few_resamples, pictures_where_asked = detectors.few_resamples, detectors.pictures_where_asked
stage, drawn = detectors.stage, detectors.drawn
run, records, only, opened, translator = (
    getattr(detectors, k) for k in ("run", "records", "only", "opened", "translator")
)


def test_the_run_leaves_weights_scores_pictures_and_a_record(stage, drawn):
    flags, results = stage
    run(flags, "--condition disrupted --attack_target clean --seeds 0 1")
    folders = sorted(p.parent for p in results.rglob("record.json"))
    assert [str(f.relative_to(results)) for f in folders] == [
        f"detector/toy/stargan/meso4/disrupted/pgd-eps0.05-clean/seed{s}/000" for s in (0, 1)
    ]
    for folder in folders:
        there = {p.name for p in folder.iterdir()}
        assert {
            "options.yaml",
            "log.jsonl",
            "weights.safetensors",
            "scores.csv",
            "curves.png",
            "roc.png",
            "predictions.png",
            "record.json",
        } <= there
    found = records(results)[0]
    assert (
        found["config"]["num_photos"] == 20
        and found["config"]["num_train"] == 36
        and found["config"]["num_validation"] == 4
    )
    assert found["config"]["num_test"] == 24 and found["config"]["poison_rate"] == 1 and found["split"] == "c"
    rows = list(csv.DictReader((folders[0] / "scores.csv").open()))
    clean = [r for r in rows if r["test_set"] == "clean"]
    assert len(rows) == 48 and len(clean) == 24 and {r["label"] for r in clean} == {"real", "fake"}
    right = [(float(r["probability_fake"]) >= 0.5) == (r["label"] == "fake") for r in clean]
    assert found["metrics"]["accuracy"] == pytest.approx(sum(right) / 24)
    assert load_detector(folders[0] / "weights.safetensors").sha256 == found["provenance"]["detector_sha256"]
    assert records(results)[1]["provenance"]["detector_sha256"] != found["provenance"]["detector_sha256"]


def test_no_test_photo_and_no_fake_of_one_is_trained_on(stage):
    flags, _ = stage
    opened_stage = opened(flags, "--condition disrupted --poison_rate 0.5")
    training, validation = opened_stage.training()
    tests = opened_stage.tests()
    seen = set(training.names) | set(validation.names)
    assert seen == set(opened_stage.b.names) and not set(training.names) & set(validation.names)
    for samples in tests.values():
        assert set(samples.names) == set(opened_stage.c.names) and not set(samples.names) & seen

    def bytes_of(s):
        return {image.tobytes() for image in s.pixels}

    assert not (bytes_of(training) | bytes_of(validation)) & bytes_of(tests["clean"])


def test_labels_and_domains_belong_to_the_images(stage):
    flags, _ = stage
    opened_stage = opened(flags, "--condition clean")
    clean = opened_stage.tests()["clean"]
    for name, domain, label, image in zip(
        clean.names, clean.domains, clean.labels.tolist(), clean.pixels, strict=True
    ):
        position = opened_stage.c.names.index(name)
        photo = opened_stage.c.load([position])[0]
        assert (label == 0) == np.array_equal(image, photo) == (domain is None)
        if domain:
            own, target = opened_stage.c.labels[position], opened_stage.options.selected_attrs.index(domain)
            changed = own.clone()
            changed[target] = 1 - own[target] if target > 2 else 1
            if target <= 2:
                changed[[k for k in range(3) if k != target]] = 0
            assert not torch.equal(changed, own)
            fake = opened_stage.standard(images.to_float(photo)[None], changed[None])
            assert np.abs(images.to_uint8(fake.clamp(-1, 1))[0].astype(int) - image).max() <= 1


def test_a_poison_rate_disrupts_that_share_and_a_higher_one_adds_to_it(stage):
    flags, _ = stage
    pixels = {}
    for rate in ("0", "0.25", "1"):
        condition = "clean" if rate == "0" else f"disrupted --poison_rate {rate}"
        samples = join(opened(flags, f"--condition {condition}").training())
        pixels[rate] = {
            (n, label): image.tobytes()
            for n, label, image in zip(samples.names, samples.labels.tolist(), samples.pixels, strict=True)
        }
    changed = {
        rate: {key for key in pixels["0"] if pixels[rate][key] != pixels["0"][key]} for rate in ("0.25", "1")
    }
    assert (
        len({n for n, label in changed["0.25"] if label == 0}) == 5
        and len({n for n, label in changed["1"] if label == 0}) == 20
    )
    assert all(pixels["0.25"][key] == pixels["1"][key] for key in changed["0.25"])


def test_purified_means_all_photos_and_the_caches_are_those_of_test_defense(stage):
    import test_defense

    flags, results = stage
    plain = join(opened(flags, "--condition clean").training())
    for rate in ("0", "0.5"):
        samples = join(
            opened(flags, f"--condition purified --defense_model_type jpeg --poison_rate {rate}").training()
        )
        assert samples.names == plain.names and all(
            (a != b).any() for a, b in zip(samples.pixels, plain.pixels, strict=True)
        )
    made = {
        p: p.stat().st_mtime_ns
        for p in [*(results / "attacked").rglob("*.png"), *(results / "purified").rglob("*.png")]
    }
    shared = [
        w
        for w in flags.split("--")
        if w.split(" ")[0]
        in (
            "data_dir",
            "dataset",
            "result_dir",
            "image_size",
            "celeba_crop_size",
            "gan_weights",
            "attack_steps",
            "device",
            "num_workers",
        )
    ]
    test_defense.main(("--" + "--".join(shared) + " --defense_model_type jpeg --features none").split())
    assert (
        len(list((results / "attacked" / "toy").iterdir())) == 1
        and len(list((results / "purified" / "toy").iterdir())) == 2
    )
    assert {p: p.stat().st_mtime_ns for p in made} == made


def test_images_are_made_once_and_a_finished_run_is_left_alone(stage, drawn, capsys):
    flags, results = stage
    run(flags, "--condition disrupted --resume")
    made = {p: p.stat().st_mtime_ns for p in results.rglob("*.png")}
    run(flags, "--condition disrupted --resume")
    assert (
        "finished" in capsys.readouterr().out
        and {p: p.stat().st_mtime_ns for p in results.rglob("*.png")} == made
    )
    run(flags, "--condition disrupted --resume --seeds 0 1")  # another seed trains that seed alone
    assert len(records(results)) == 2 and all(p.stat().st_mtime_ns == t for p, t in made.items())


def test_equal_seeds_give_equal_detectors(stage, tmp_path):
    flags, results = stage
    for _ in range(2):
        run(flags, "--condition clean")
    a, b = records(results)
    assert (
        a["provenance"]["detector_sha256"] == b["provenance"]["detector_sha256"]
        and a["metrics"] == b["metrics"]
    )


@pytest.mark.parametrize(
    "more, message",
    [
        ("--condition purified", "--defense_model_type"),
        ("--condition disrupted --defense_model_type jpeg", "purifies nothing"),
        ("--condition clean --poison_rate 0.5", "is --condition disrupted"),
        ("--condition disrupted --poison_rate 0", "is --condition clean"),
        ("--condition disrupted --poison_rate 1.5", "from 0 to 1"),
        ("--condition disrupted --attack_type none", "disrupts nothing"),
        ("--condition disrupted --attack_label target", "a scraped photo carries one"),
        ("--condition filtered", "--kept_names"),
        ("--condition disrupted --kept_names kept.txt", "filters nothing"),
        ("--condition clean --seeds 0 1 --resume results/000", "name its seed"),
        ("--condition clean --seeds 1 1", "each seed once"),
        ("--condition clean --batch_size 1", "two images"),
        ("--condition clean --weights imagenet", "no ImageNet weights of meso4"),
        ("--condition clean --base frozen", "needs ImageNet weights"),
        ("--condition clean --base layernorm", "meso4 has no LayerNorms; vit_b_16, vit_b_32 do"),
        ("--condition clean --detector vit_b_32 --weights none --base layernorm", "needs ImageNet weights"),
        ("--condition filtered --kept_names k.txt --training_fakes self-blended", "drop --kept_names"),
        (
            "--condition purified --defense_model_type adv-train --training_fakes self-blended",
            "adv-train is one",
        ),
        ("--condition disrupted --detectr meso4", "did you mean --detector"),
    ],
)
def test_flags_that_cannot_be_trained_are_one_line(stage, more, message):
    with pytest.raises(UserError, match=message):
        script.parse_args(f"{stage[0]} {more}".split())


def test_the_grid_shows_the_rows_that_the_scores_name(stage, drawn, monkeypatch):
    flags, results = stage
    shown = {}
    whole = pictures.prediction_grid
    monkeypatch.setattr(
        pictures,
        "prediction_grid",
        lambda *a: shown.update(zip(("x", "names", "labels", "p"), a, strict=True)) or whole(*a),
    )
    run(flags, "--condition clean")
    rows = list(csv.DictReader(next(results.rglob("scores.csv")).open()))
    told = {(r["name"], r["label"]): float(r["probability_fake"]) for r in rows if r["test_set"] == "clean"}
    assert len(shown["names"]) == 16 and sorted(shown["labels"]) == [0] * 8 + [1] * 8
    clean = opened(flags, "--condition clean").tests()["clean"]
    for name, label, p, x in zip(shown["names"], shown["labels"], shown["p"], shown["x"], strict=True):
        assert told[name, ("real", "fake")[label]] == pytest.approx(p, abs=1e-6)
        row = [i for i in range(len(clean)) if clean.names[i] == name and int(clean.labels[i]) == label]
        assert np.array_equal(images.to_uint8(x), clean.pixels[row[0]])


def test_bad_data_is_one_line_and_leaves_nothing(stage, tmp_path):
    flags, results = stage
    with pytest.raises(UserError, match="0.01 of 20 photos is none of them"):
        run(flags, "--condition disrupted --poison_rate 0.01")
    single = translator(tmp_path / "one.safetensors", c_dim=1)
    with pytest.raises(UserError, match="none of the target domains Black_Hair changes its labels"):
        run(flags, f"--condition clean --gan_weights {single} --selected_attrs Black_Hair --dry_run")
    with pytest.raises(UserError, match="found 9 photos, expected 10"):
        run(flags, "--condition clean --limit 9")
    for more in ("", " --dry_run"):
        with pytest.raises(UserError, match="no such weight file"):
            run(
                flags.replace("--detector meso4", "--detector mobilenet_v2"),
                f"--condition clean --weights {tmp_path / 'none.pth'}{more}",
            )
    with pytest.raises(UserError, match="not torchvision's weights of mobilenet_v2"):
        run(
            flags.replace("--detector meso4", "--detector mobilenet_v2"),
            f"--condition clean --weights {tmp_path / 'gan.safetensors'}",
        )
    shutil.rmtree(tmp_path / "data" / "images_c")
    shutil.copytree(tmp_path / "data" / "images_b", tmp_path / "data" / "images_c")
    with pytest.raises(UserError, match="20 of its photos are also in"):
        run(flags, "--condition clean")
    assert not results.exists()


def test_a_cache_of_other_weights_is_refused(stage):
    flags, results = stage
    run(flags, "--condition clean")
    folder = next((results / "fakes" / "toy").iterdir())
    definition = json.loads((folder / "definition.json").read_text())
    (folder / "definition.json").write_text(json.dumps({**definition, "translator": "0" * 64}))
    with pytest.raises(UserError, match=r"belongs to something else \(translator: 0000"):
        run(flags, "--condition disrupted --poison_rate 0.5")


def test_dry_run_checks_everything_and_writes_nothing(stage, capsys):
    flags, results = stage
    run(flags, "--condition purified --defense_model_type jpeg --dry_run")
    assert not results.exists() and '"lr_schedule": "linear"' in capsys.readouterr().out


def test_from_scratch_is_said_loudly(stage, capsys):
    run(
        stage[0].replace("--detector meso4", "--detector mobilenet_v2"),
        "--condition clean --weights none --dry_run",
    )
    assert "FROM SCRATCH" in capsys.readouterr().out


def test_the_second_columns_are_disrupted_and_purified_photos_of_c(stage):
    flags, results = stage
    run(flags, "--condition purified --defense_model_type jpeg --jpeg_quality 50")
    metrics = only(results)["metrics"]
    assert metrics["disrupted"]["accuracy"] is not None and metrics["purified"]["accuracy"] is not None
    assert only(results)["name"] == "jpeg-q50" and only(results)["config"]["defense_params"] == {
        "quality": 50
    }
    opened_stage = opened(flags, "--condition purified --defense_model_type jpeg --jpeg_quality 50")
    sets = opened_stage.tests()
    assert (sets["disrupted"].pixels != sets["clean"].pixels).any() and (
        sets["purified"].pixels != sets["disrupted"].pixels
    ).any()
    assert (
        sets["disrupted"].labels.tolist() == sets["clean"].labels.tolist()
        and sets["disrupted"].domains == sets["clean"].domains
    )


@pytest.mark.slow
def test_two_processes_share_the_seeds_and_find_what_one_finds(stage, tmp_path):
    flags, results = stage
    found = {}
    for world, where in ((1, "one"), (2, "two")):
        launch = (
            [sys.executable]
            if world == 1
            else [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        )
        words = (
            flags.replace("--seeds 0", "--seeds 0 1 2")
            .replace(f"--result_dir {results}", f"--result_dir {tmp_path / where}")
            .split()
        )
        subprocess.run(
            [*launch, str(ROOT / "train_detector.py"), *words, "--condition", "disrupted"],
            check=True,
            capture_output=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        found[where] = {r["seed"]: r["metrics"] for r in records(tmp_path / where)}
    assert set(found["one"]) == {0, 1, 2} and found["two"].keys() == found["one"].keys()
    for seed, metrics in found["one"].items():
        # a pixel of an attack may differ by rounding
        assert found["two"][seed]["accuracy"] == pytest.approx(metrics["accuracy"], abs=0.05)
