"""The plan: what the scripts are read to ask for, and hours, disk and memory against those of hand."""

import json
from types import SimpleNamespace

import pytest
import torch

from common.cli import UserError
from evaluation import benchmark
from evaluation.speed import figures, official, plan, scripts
from evaluation.speed.plan import SCORED, Stage
from report import record

GAN = ["--gan_weights", "G.ckpt"]


def row(seconds, photos=1, memory=2000.0):
    return {"seconds": seconds, "photos_per_unit": photos, "peak_memory_mb": memory, "unit": "photo"}


def test_hours_disk_and_memory_are_those_of_hand():
    rows = {"train-diffusion-bf16": row(0.064, 32), "one-step": row(0.01, memory=500.0)}
    sizes = {"plain": 1e6, "disrupted": 2e6, "crops": 5e5}
    measured = figures.complete(rows, {"seconds": 0.1, "peak_memory_mb": 100.0}, sizes, 300)
    stage = Stage("some", {"train-diffusion-bf16": 1000, "one-step": 50, SCORED: 20})
    stage.keep("plain", 3)
    stage.keep("disrupted", 4)
    stage.host = 600
    # 1,000 photos of 2 ms, 50 of 10 ms, 20 of 100 ms
    assert measured.seconds(stage, 1) == pytest.approx(2.0 + 0.5 + 2.0)
    assert measured.seconds(stage, 8) == pytest.approx(4.5 / 8)
    stage.shares = 3
    assert measured.seconds(stage, 8) == pytest.approx(4.5 / 3)
    assert measured.disk_gb(stage) == pytest.approx(0.003 + 0.008)
    assert measured.memory_gb(stage) == pytest.approx(2.0 + 0.3)
    text = plan.table([stage, stage], measured, [1, 8])
    assert text.splitlines()[-1].split() == ["all", "0.0025", "0.000833", "0.022", "2.3"]


def test_evaluations_of_a_respaced_chain_are_counted():
    assert plan.evaluations(10, "") == 10 and plan.evaluations(300, "") == 300
    # 30 of 1,000 are 999 / 29 apart, from 0: nine of them lie below 300
    assert plan.evaluations(300, "30") == 9


def test_costs_of_purifications_are_units_of_rows():
    assert plan.purification("none", None, "", 300) is None
    assert plan.purification("jpeg", None, "", 300) == ("jpeg", 1.0)
    assert plan.purification("one-step-plain", None, "", 300) == ("one-step", 1.0)
    assert plan.purification("ddpm", 20, "", 300) == ("ddpm", 2.0)
    assert plan.purification("both", None, "", 300) == ("ddpm", 1.0)
    assert plan.purification("diffpure", None, "", 150) == ("diffpure", 2.0)
    assert plan.purification("diffpure", 300, "30", 300) == ("diffpure", 9 / 300)
    with pytest.raises(UserError, match="how many steps it takes depends on the photos"):
        plan.purification("ddpm", "auto", "", 300)


def commands(script):
    """What scripts.record would give, made small."""
    shared = ["--image_size", "64", *GAN]
    if script == "train_CelebA.sh":
        ddpm = "--defense_model_type ddpm --num_steps 100 --batch_size 32 --precision bf16"
        return [["split_dataset.py", "--ratios", "0.7", "0.2", "0.1"], ["train_defense.py", *ddpm.split()]]
    if script == "test_CelebA.sh":
        test = ["test_defense.py", "--defense_model_type", "none", "ddpm-20", "--limit", "50", *shared]
        gray, clean = ["--attack_label", "original"], ["--attack_target", "clean", "--attack_label", "target"]
        return [[*test, *gray], [*test, *clean], ["compare_results.py", "results"]]
    train = ["train_detector.py", "--epochs", "2", "--batch_size", "10", "--seeds", "0", "1", *shared]
    return [
        [*train, "--condition", "clean"],
        [*train, "--condition", "disrupted", "--poison_rate", "0.5"],
        [*train, "--condition", "purified", "--defense_model_type", "jpeg-75", "--poison_rate", "0.5"],
    ]


def test_stages_hold_the_counts_of_the_scripts():
    stages, notes = plan.plan(commands, 1000, 300)
    assert notes == ["split: 700 : 200 : 100 photos"]
    train, gray, clean, images, detectors = stages
    assert train.work == {"train-diffusion-bf16": 3200} and train.images == {"crops": 700}
    # photo and disrupted, and two more a defence; 20 steps are two units of ddpm, for disrupted and clean
    assert gray.work == {"attack": 50, SCORED: 100, "ddpm": 200, "fakes": 300}
    assert gray.images == {"disrupted": 50, "plain": 100, "crops": 200}
    # five domains are attacked; the clean photos are purified already
    assert clean.work == {"attack": 250, SCORED: 100, "ddpm": 500, "fakes": 300}
    assert clean.images == {"disrupted": 250, "plain": 250}
    # half of B and all of C disrupted; of B the other half and the disrupted half purified, and C
    assert images.work == {"attack": 200, "jpeg": 300, "fakes": pytest.approx((300 + 200 + 300) / 5)}
    # 180 photos and their fakes are 36 batches of 10, two epochs, two seeds, three conditions
    assert detectors.work == {"train-detector": 36 * 10 * 2 * 2 * 3}
    assert detectors.shares == 2 and detectors.host == 2 * 2 * 200


def test_real_scripts_are_read(tmp_path):
    found = scripts.record("train_CelebA.sh", tmp_path, ["--image_size", "64"])
    assert [scripts.name_of(c) for c in found][:2] == ["split_dataset", "train_defense"]
    (last,) = scripts.options_of(found[-1])
    assert (last.adversarial, last.image_size, last.batch_size) == ("both", 64, 16)
    stages, _ = plan.plan(lambda s: scripts.record(s, tmp_path), 202599, 300)
    steps = {stage.name: stage.work for stage in stages}
    assert steps["train ddpm"] == {"train-diffusion-bf16": 100000 * 32}
    assert {"attack", "one-step", "diffpure", "fakes", SCORED} <= set(steps["test 20 defences, gray"])
    assert set(figures.rows_of(stages)) <= set(benchmark.known_rows())


def test_variables_of_the_scripts_count(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFENSES", "one-step")
    found = scripts.record("train_CelebA.sh", tmp_path)
    assert len(found) == 2 and "one-step" in found[1]
    monkeypatch.setenv("DEFENSES", "nonsense")
    with pytest.raises(UserError, match="train_CelebA.sh: DEFENSES names nonsense"):
        scripts.record("train_CelebA.sh", tmp_path)


@pytest.mark.parametrize(
    "command, message",
    [
        (["purify.py", "--depois"], "purify: no plan knows"),
        (["-m", "purify.depois"], "purify.depois: no plan knows"),
        (["train_defense.py", "--defense_model_type", "x"], "unknown value 'x'"),
    ],
)
def test_a_command_that_no_plan_knows_is_one_line(command, message):
    with pytest.raises(UserError, match=message):
        scripts.options_of(command)


def test_too_few_photos_are_refused():
    with pytest.raises(UserError, match="--photos 2: too few for a split"):
        plan.plan(commands, 2, 300)


def write(folder, number, name, device, finished, size=64, **more):
    config = {"num_images": 1, "image_size": size, "diffpure_start": 100}
    said = {"commit": None, "command": None, "versions": {}, "started": finished, "finished": finished}
    one = record.Record(
        "benchmark", name, "drawn", "all", 0, config, more.get("metrics", {}), more.get("groups", {}), None,
        {"device": device}, said,
    )  # fmt: skip
    (folder / number).mkdir(parents=True)
    record.write(folder / number / "record.json", one)


def test_figures_are_of_the_newest_record_of_this_device_and_size(tmp_path):
    write(tmp_path, "000", "official", "card", "2024-05-02")
    write(tmp_path, "001", "official", "card", "2024-05-03")
    write(tmp_path, "002", "official", "other card", "2024-05-04")
    write(tmp_path, "003", "official", "card", "2024-05-05", size=128)
    write(tmp_path, "004", "scale", "card", "2024-05-06")
    (tmp_path / "005").mkdir()
    (tmp_path / "005" / "record.json").write_text("{")
    assert figures.newest(tmp_path, "official", 64, "card").provenance["finished"] == "2024-05-03"
    assert figures.newest(tmp_path, "official", 64, "third card") is None
    assert (
        figures.newest(tmp_path / "lost", "official", 64, "card") is None is figures.newest(None, "x", 1, "y")
    )


def test_a_plan_from_records_measures_nothing(tmp_path, monkeypatch, capsys):
    rows = dict.fromkeys(benchmark.known_rows(), row(3.6))
    device = benchmark.device_name(torch.device("cpu"))
    growth = {"growth": {"besides_per_further_photo": 0.5}}
    size = {"6": {"peak_memory_mb": 300.0}}
    write(tmp_path / "r", "000", "official", device, "2024-05-02", metrics=rows)
    write(tmp_path / "r", "001", "scale", device, "2024-05-02", metrics=size, groups=growth)
    asked = []
    monkeypatch.setattr(official, "measure", lambda bench, some, sided: asked.append((some, sided)) or [])
    for name, value in {"DEFENSES": "none", "CONDITIONS": "clean", "NUM": "10"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(benchmark.plan, "plan", lambda *a: (plan_of_test(), ["a note"]))
    words = ["--plan", "--image_size", "64", "--result_dir", tmp_path / "r", "--device", "cpu"]
    words += ["--num_images", "2", "--diffusion_batch", "2", "--num_workers", "1", "--devices", "1", "4"]
    benchmark.main([str(word) for word in words])
    printed = capsys.readouterr().out
    assert asked == [([], False)]
    line = next(text for text in printed.splitlines() if text.startswith("some work"))
    # 1,000 photos of 3.6 s and 360 of 0.5 s
    assert line.split()[2:4] == ["1.05", "0.263"]
    assert "measured now: none" in printed and "a note" in printed and "T / 100 of diffpure" in printed
    benchmark.main([*map(str, words), "--dry_run"])
    assert "to be measured: nothing" in capsys.readouterr().out


def plan_of_test():
    return [Stage("some work", {"attack": 1000, SCORED: 360}, {"plain": 5, "disrupted": 5, "crops": 5})]


def test_no_record_of_the_device_means_measuring(tmp_path, monkeypatch, capsys):
    write(tmp_path, "000", "official", "another card", "2024-05-02", metrics={"attack": row(1.0)})
    monkeypatch.setattr(benchmark.plan, "plan", lambda *a: (plan_of_test(), []))
    words = ["--plan", "--image_size", "64", "--result_dir", str(tmp_path), "--device", "cpu", "--dry_run"]
    benchmark.main(words)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "to be measured: attack"
    assert json.loads(printed[: printed.index("to be measured")])["architecture"] == "official"


def test_bytes_are_those_of_files(tmp_path):
    pixels = torch.full((2, 16, 16, 3), 100, dtype=torch.uint8).numpy()
    sizes = figures.bytes_of(SimpleNamespace(load=lambda rows: pixels), 2, tmp_path)
    assert sizes["crops"] == 16 * 16 * 3 and sizes["plain"] < 120 < sizes["disrupted"] < 600


def test_a_measured_scale_is_a_row():
    told = SimpleNamespace(
        per_group={"growth": {"besides_per_further_photo": -0.1}}, metrics={"6": {"peak_memory_mb": 7.0}}
    )
    assert figures.scored(told, None, 64, 178, "cpu", 1) == {"seconds": 0.0, "peak_memory_mb": 7.0}
