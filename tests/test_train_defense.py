"""The trainers of the purifiers, run whole on a few tiny photos."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train_defense as script
import weights as tiny
from common import checkpoint, training
from common.cli import UserError
from models.diffusion import build
from purify.one_step import load_robust

ROOT = Path(script.__file__).parent


@pytest.fixture
def stage(tmp_path, face_folder):
    """flags(defence, more) -> argv of a small training; its results folder."""
    face_folder(12, tmp_path / "data" / "images_a")
    gan = tiny.translator(tmp_path / "gan.safetensors")

    def flags(defence, more="", results="results"):
        return (
            f"--defense_model_type {defence} --data_dir {tmp_path}/data --dataset toy --result_dir"
            f" {tmp_path / results} --image_size 32 --celeba_crop_size 40 --gan_weights {gan} --num_steps 4"
            " --batch_size 4 --save_step 2 --log_step 1 --device cpu --num_workers 0"
            f" {'--channel_mult 1' if defence == 'ddpm' else ''} {more}"
        ).split()

    return flags, tmp_path


def log(folder):
    (path,) = folder.rglob("log.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder):
    (path,) = folder.rglob("weights.safetensors")
    return path


def test_diffusion_learns_logs_and_leaves_weights_that_load(stage):
    flags, tmp = stage
    script.main(flags("ddpm"))
    path = weights(tmp / "results")
    assert path.relative_to(tmp / "results").parts[:5] == ("ddpm", "toy", "train", "none-eps0", "000")
    denoiser = build.load(path)
    assert denoiser.max_timestep == 300 and denoiser.image_size == 32 and denoiser.kind == "diffusion"
    assert [r["step"] for r in log(tmp / "results") if "loss" in r] == [1, 2, 3, 4]
    assert {p.name for p in (path.parent / "samples").iterdir()} == {"0000002.png", "0000004.png"}


def test_one_step_starts_from_the_diffusion_network_and_moves(stage):
    flags, tmp = stage
    start = tiny.diffusion(tmp / "diffusion.safetensors")
    script.main(flags("one-step", f"--defense_weights {start}"))
    denoiser, before = build.load(weights(tmp / "results")), build.load(start)
    assert denoiser.kind == "one-step"
    gaps = [
        float((a - b).abs().max())
        for a, b in zip(
            denoiser.network.state_dict().values(), before.network.state_dict().values(), strict=True
        )
    ]
    assert 0 < max(gaps) < 0.1
    last = log(tmp / "results")[-1]
    assert {"val_fake_l2_eps0", "val_fake_l2_eps0.05", "val_photo_l2_eps0.1"} <= set(last)


def test_one_step_robust_starts_small_and_grows(stage):
    flags, tmp = stage
    script.main(flags("one-step-robust", "--num_channels 7 --num_res_blocks 0 --attack_steps 1"))
    small = weights(tmp / "results")
    more = f"--num_channels 7 --num_res_blocks 1 --attack_steps 1 --defense_weights {small}"
    script.main(flags("one-step-robust", more, "grown"))
    network, meta = load_robust(weights(tmp / "grown"))
    assert meta["options"] == {"width": 7, "blocks": 1} and network.branch is not None
    begun = load_robust(small)[0]
    gaps = [
        float((a - b).detach().abs().max())
        for a, b in zip(network.convs.parameters(), begun.convs.parameters(), strict=True)
    ]
    assert 0 < max(gaps) < 0.1
    assert {"val_fake_l2_eps0", "val_fake_l2_eps0.05"} <= set(log(tmp / "grown")[-1])
    with pytest.raises(UserError, match="a network of 7 channels and 1 blocks"):
        grown = weights(tmp / "grown")
        script.main(flags("one-step-robust", f"--num_res_blocks 2 --defense_weights {grown}", "other"))


@pytest.mark.parametrize("attack", ["gaussian", "pgd --attack_steps 1"])
def test_autoencoders_learn_attacked_to_clean(stage, attack):
    flags, tmp = stage
    script.main(flags("defensive-model-1-fixed", f"--attack_type {attack}"))
    assert checkpoint.read_weights(weights(tmp / "results"))[1]["kind"] == "dae"
    assert (tmp / "results" / "attacked").exists() == attack.startswith("pgd")


def test_disruptions_can_replace_the_noise_and_are_made_once_per_photo(stage):
    flags, tmp = stage
    script.main(flags("ddpm", "--attack_type pgd --attack_steps 1"))
    assert weights(tmp / "results").parent.parent.name == "pgd-eps0.05"
    # 12 photos less the held-out 2
    assert len(list((tmp / "results" / "attacked").rglob("*.png"))) == 10
    assert [r["loss"] for r in log(tmp / "results") if "loss" in r] != []


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(stage, monkeypatch):
    flags, tmp = stage
    script.main(flags("ddpm", results="whole"))

    def stopped_after_three_steps(run, args, ctx, parts, step, *rest, loop=training.loop, **more):
        def once(i):
            if i == 3:
                raise KeyboardInterrupt  # the last state is that of step 2
            return step(i)

        return loop(run, args, ctx, parts, once, *rest, **more)

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(training, "loop", stopped_after_three_steps)
        script.main(flags("ddpm", "--resume", results="cut"))
    assert not list((tmp / "cut").rglob("weights.safetensors"))
    script.main(flags("ddpm", "--resume", results="cut"))
    a, b = (checkpoint.read_weights(weights(tmp / r))[0] for r in ("whole", "cut"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert [r["loss"] for r in log(tmp / "whole") if "loss" in r] == [
        r["loss"] for r in log(tmp / "cut") if "loss" in r
    ]


def test_a_finished_run_is_a_no_op_and_other_options_are_refused_with_the_difference(stage):
    flags, tmp = stage
    script.main(flags("ddpm"))
    run = weights(tmp / "results").parent
    before = weights(tmp / "results").stat().st_mtime_ns
    script.main(flags("ddpm", "--resume"))
    assert weights(tmp / "results").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="lr: 0.0002 -> 0.001"):
        script.main(flags("ddpm", f"--lr 1e-3 --resume {run}"))


def test_a_changed_attack_radius_changes_the_run_folder(stage):
    flags, tmp = stage
    script.main(flags("defensive-model-2", "--train_noise_var 0.025"))
    assert weights(tmp / "results").parent.parent.name == "gaussian-eps0.025"


def test_one_step_says_in_its_folder_which_ingredient_was_changed(stage):
    flags, tmp = stage
    start = tiny.diffusion(tmp / "diffusion.safetensors")

    def folder(more):
        return script.training_folder(
            script.parse_args(flags("one-step", f"--defense_weights {start} {more}"))
        ).name

    assert folder("") == "pgd-eps0.11" and folder("--fake_weight 0") == "pgd-eps0.11-fake0"
    assert (
        folder("--clean_share 0.2 --photo_weight 2.5 --noise_share 0.4")
        == "pgd-eps0.11-photo2.5-clean0.2-noise0.4"
    )
    assert script.training_folder(script.parse_args(flags("ddpm", "--clean_share 0"))).name == "none-eps0"


@pytest.mark.parametrize(
    "defence, more, words",
    [
        ("one-step", "", ["one-step is fine-tuned", "--defense_model_type ddpm"]),
        ("one-step", "--photo_weight 0 --fake_weight 0", ["nothing to learn from"]),
        ("one-step", "--clean_share 0.7 --noise_share 0.5", ["--clean_share 0.7", "--noise_share 0.5"]),
        ("ddpm", "--defense_weights GAN", ["StarGAN generator"]),
        ("ddpm", "--max_timestep 2000", ["1000 steps"]),
        ("ddpm", "--image_size 31", ["multiple"]),
        ("ddpm", "--num_channels 20", ["32 channels"]),
        ("defensive-model-1", "--attack_type none", ["learns from disruptions"]),
        ("ddpm", "--batch_size 0", ["--batch_size"]),
        ("ddpm", "--train_noise_var nan", ["nan"]),
        ("ddpm", "--num_stepps 3", ["--num_steps"]),
        ("ddpm", "--data_dir nowhere", ["nowhere"]),
        ("ddpm", "--result_dir /proc/results", ["/proc"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(stage, defence, more, words):
    flags, tmp = stage
    with pytest.raises(UserError) as e:
        script.main(
            [
                w.replace("GAN", str(tmp / "gan.safetensors"))
                for w in flags(defence, "--channel_mult 1,1 " + more)
            ]
        )
    assert all(word in str(e.value) for word in words) and "\n" not in str(e.value)
    assert not (tmp / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize("defence", ["ddpm", "one-step"])
def test_two_processes_give_the_losses_of_one(stage, defence):
    flags, tmp = stage
    more = f"--defense_weights {tiny.diffusion(tmp / 'd.safetensors')}" if defence == "one-step" else ""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for world in (1, 2):
        launch = (
            [sys.executable]
            if world == 1
            else [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        )
        subprocess.run(
            [*launch, str(ROOT / "train_defense.py"), *flags(defence, more, results=f"world{world}")],
            env=env,
            check=True,
            capture_output=True,
            timeout=300,
        )
    one, two = ([r["loss"] for r in log(tmp / f"world{w}") if "loss" in r] for w in (1, 2))
    assert len(one) == 4 and two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("defence", ["ddpm", "defensive-model-2-fixed", "one-step-robust"])
def test_one_photo_is_too_few_and_nothing_is_made(stage, defence):
    flags, tmp = stage
    with pytest.raises(UserError, match="1 photo to learn from is too few: .* or a higher --limit"):
        script.main(flags(defence, "--limit 1"))
    assert not (tmp / "results").exists()


@pytest.mark.parametrize("defence, size", [("defensive-model-1-fixed", 33), ("defensive-model-1", 3)])
def test_a_size_that_a_reformer_cannot_take_is_told_before_anything_is_made(stage, defence, size):
    flags, tmp = stage
    argv = flags(defence, f"--image_size {size}")
    at = argv.index("--gan_weights")
    with pytest.raises(UserError, match=f"--image_size {size}: these networks take multiples of 2"):
        script.main(argv[:at] + argv[at + 2 :])
    assert not (tmp / "results").exists()
