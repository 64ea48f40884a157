"""python -m purify.depois on folders of images and on the samples of a detector: what is examined, and what
is written for who trains on it."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import detectors
from common.cli import UserError
from models.depois import train
from models.detector.samples import kept_filter, read_kept
from pipeline.scraped import disrupted_names
from purify.depois import examined
from report import record

shared = runpy.run_path(str(Path(__file__).with_name("examinations.py")))
folder, rows = shared["folder"], shared["rows"]
stage = detectors.stage


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


def test_a_photo_of_both_splits_is_refused(stage, tmp_path, run):
    _, examine = run
    shutil.copytree(tmp_path / "data" / "images_b", tmp_path / "data" / "images_a")
    with pytest.raises(UserError, match="20 of its photos are also in .*images_b"):
        examine(
            f"--dataset detector --data_dir {tmp_path}/data --image_size 32 --celeba_crop_size 40"
            f" --gan_weights {tmp_path}/gan.safetensors"
        )


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
