"""Rows of the published sizes: their names, their figures against those of hand, whole runs, tiny."""

import pytest
import torch

from common.cli import UserError
from evaluation import benchmark
from evaluation.speed import jobs, meters, networks, official
from report import record

CPU = torch.device("cpu")


@pytest.fixture
def words(tmp_path, face_folder, monkeypatch):
    """Flags of a run on tiny networks, whose smallest side StarGAN's discriminator sets."""
    monkeypatch.setattr(networks, "STARGAN", {"conv_dim": 4, "c_dim": 5, "repeat_num": 1})
    face_folder(4, tmp_path / "faces" / "images_b")
    flags = {"data_dir": tmp_path / "faces", "image_size": 64, "celeba_crop_size": 40, "num_images": 1}
    flags |= {"repeats": 1, "diffpure_start": 2, "device": "cpu", "result_dir": tmp_path / "results"}
    flags |= {f"{name}_batch": 1 for name in ("stargan", "one_step", "autoencoder")}
    flags |= {"diffusion_batch": 2, "detector_batch": 2, "architecture": "official"}
    return [str(word) for key, value in flags.items() for word in (f"--{key}", value)]


def test_names_of_rows_hold_their_precision_and_their_group():
    assert official.split_row("attack-bf16") == ("attack", "bf16")
    assert official.split_row("train-one-step") == ("train-one-step", "fp32")
    assert official.group_of("ddpm-bf16") == official.group_of("one-step") == "purifiers"
    on_cpu = official.default_rows(CPU)
    assert [row for row in on_cpu if row.endswith("bf16")] == ["attack-bf16"]
    on_gpu = official.default_rows(torch.device("cuda"))
    assert len(on_gpu) == 2 * (len(on_cpu) - 1)
    with pytest.raises(
        UserError, match=r"--rows attak: no such row \(did you mean attack\?\); one of: attack"
    ):
        official.check_rows(["attack", "attak"], ["attack", "fakes"])


def test_batches_are_those_of_the_trainers():
    parse = jobs.trainings.parse_script
    ddpm = parse("train_defense.py", ["--defense_model_type", "ddpm"])
    one_step = ["--defense_model_type", "one-step", "--gan_weights", "G", "--defense_weights", "W"]
    assert jobs.TRAININGS["train-diffusion"] == ddpm.batch_size
    assert jobs.TRAININGS["train-one-step"] == parse("train_defense.py", one_step).batch_size
    assert jobs.TRAININGS["train-stargan"] == jobs.trainings.stargan_trainer.parse_args([]).batch_size
    assert ddpm.max_timestep == networks.MAX_TIMESTEP


def test_figures_of_a_row_are_those_of_hand():
    job = jobs.Job({}, lambda: None, units=4, photos=2)
    turns = [
        {"seconds": 2.0, "peak_mb": 100.0, "joules": 80.0},
        {"seconds": 4.0, "peak_mb": 90.0, "joules": None},
    ]
    m = official.figures_of("train-stargan-bf16", job, turns, [6.0, 8.0], 12e12, {"bf16": 8e12})
    assert (m["seconds"], m["reference_seconds"], m["ratio"]) == (0.75, 1.75, 2.5)
    assert (m["unit"], m["precision"], m["photos_per_unit"], m["flops"]) == ("step", "bf16", 2, 3e12)
    assert m["tflops_per_second"] == pytest.approx(4) and m["share_of_product"] == pytest.approx(0.5)
    assert m["peak_memory_mb"] == 100 and m["joules_per_photo"] == pytest.approx(80 / 4 / 2)
    alone = official.figures_of("diffpure", job, turns, [], 12e12, {})
    assert alone["ratio"] is None and alone["share_of_product"] is None
    assert alone["reference_seconds"] == alone["seconds"] == 0.75


def test_sides_take_turns_and_a_row_may_be_the_reference():
    order = []
    job = jobs.Job({"one-step": lambda: order.append("a"), "diffpure": None}, lambda: order.append("r"), 1, 1)
    with meters.Power(CPU) as power:
        found = official.measure_job(job, CPU, 2, power, {})
    turns = "".join(order).replace("aa", "a").replace("rr", "r")
    while "aa" in turns or "rr" in turns:
        turns = turns.replace("aa", "a").replace("rr", "r")
    assert turns.endswith("arar")
    assert set(found) == {"one-step", "diffpure"} and found["diffpure"]["ratio"] is None
    order.clear()
    with meters.Power(CPU) as power:
        official.measure_job(
            jobs.Job({"fakes": lambda: None}, lambda: order.append("r"), 1, 1), CPU, 1, power, {}, False
        )
    assert not order


def test_a_short_call_is_repeated_in_a_turn():
    seconds = iter([0.3, 0.05])
    assert official.passes_of(lambda: None, 0.1, lambda work: next(seconds)) == 4
    assert official.passes_of(lambda: None, 60.0, lambda work: 0.05, always=True) == 4
    assert official.passes_of(lambda: None, 60.0, lambda work: 1 / 0) == 1


@pytest.mark.slow
def test_whole_run_on_tiny_networks_writes_a_valid_record(words, tmp_path, capsys):
    rows = ["attack", "attack-bf16", "one-step", "diffpure", "train-diffusion-bf16"]
    words += ["--image_size", "32"]
    benchmark.main([*words, "--dry_run"])
    assert not (tmp_path / "results").exists()
    benchmark.main([*words, "--rows", *rows])
    found = record.read(tmp_path / "results" / "benchmark" / "faces" / "000" / "record.json")
    assert found.name == "official" and set(found.metrics) == set(found.config["rows"]) == set(rows)
    assert all(m["flops"] > 0 and m["seconds"] > 0 for m in found.metrics.values())
    # in fp32 a CPU leaves the constant label planes out of the steps
    flops = [found.metrics[row]["flops"] for row in ("attack", "attack-bf16")]
    assert flops[0] < flops[1] < 2 * flops[0]
    # two reverse steps against one evaluation of a network of the same size
    assert found.metrics["diffpure"]["flops"] == 2 * found.metrics["one-step"]["flops"]
    printed = capsys.readouterr().out
    assert "train-diffusion-bf16, a step of 2" in printed and "TFLOP/s" in printed


@pytest.mark.slow
def test_every_row_runs_on_tiny_networks(words, tmp_path):
    benchmark.main([*words, "--rows", *official.ROWS])
    found = record.read(tmp_path / "results" / "benchmark" / "faces" / "000" / "record.json")
    assert set(found.metrics) == set(official.ROWS)


def test_a_run_that_is_killed_keeps_its_rows(words, tmp_path, monkeypatch):
    figures = {"seconds": 1.0, "reference_seconds": 2.0, "ratio": 2.0, "ratio_low": 2.0, "ratio_high": 2.0}
    more = {"unit": "photo", "photos_per_unit": 1, "tflops_per_second": 1.0, "peak_memory_mb": 1.0}

    def measure(bench, rows):
        yield {"attack": {**figures, **more}}
        raise KeyboardInterrupt

    monkeypatch.setattr(official, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main([*words, "--rows", "attack", "fakes"])
    found = record.read(tmp_path / "results" / "benchmark" / "faces" / "000" / "record.json")
    assert list(found.metrics) == ["attack"] and found.config["rows"] == ["attack", "fakes"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--rows", "train-stargan2"], "--rows train-stargan2: no such row"),
        (["--scale"], "drop --architecture official"),
        (["--plan", "--rows", "attack"], "--plan has no rows"),
        (["--num_images", "9"], r"holds 4 photos, fewer than 9 \(--num_images"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words, flags, message):
    with pytest.raises(UserError, match=message):
        benchmark.main([*words, *flags])
