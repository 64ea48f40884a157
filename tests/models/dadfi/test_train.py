import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import trainings
import weights
from common import checkpoint
from common.cli import RunError, UserError
from models.dadfi import train
from models.dadfi.network import load_perturber
from models.dadfi.validation import Validation
from models.stargan.network import Generator
from models.victims import load_victims

ROOT = Path(train.__file__).parents[2]


log, parts, same, killed_at = (getattr(trainings, name) for name in ("log", "parts", "same", "killed_at"))


def collapsed(monkeypatch, what="no effect: a test says so"):
    monkeypatch.setattr(Validation, "finding", lambda self, network: what)


def test_a_training_leaves_its_files_and_is_not_done_twice(command, main, folder, capsys, never_collapsed):
    main(command())
    run = folder()
    assert {p.name for p in run.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "previous.pt",
        "samples",
        "weights.safetensors",
    }
    # photo, protected, change, two fakes
    assert Image.open(run / "samples" / "0000004.png").size == ((5 * 34 + 2) * 2, (34 + 2) * 2)
    lines = log(run)
    assert [line["step"] for line in lines] == [1, 2, 2, 3, 4, 4] and set(lines[0]) >= {
        "ide_x",
        "ide_y",
        "g_x",
        "g_y",
        "g_hinge",
        "mean_p",
        "stargan_share",
    }
    assert set(lines[2]) == {
        "step",
        "val_mean_p",
        "val_psnr",
        "val_stargan_l2",
        "val_stargan_l2_noise",
        "val_stargan_l2_pgd",
    }
    network = load_perturber(run / "weights.safetensors")
    assert (network.lim, network.image_size, network.meta["finetuning"], network.meta["finding"]) == (
        0.05,
        32,
        True,
        None,
    )
    victim = network.meta["victims"][0]
    assert (
        victim["gan"] == "stargan"
        and victim["attributes"] == weights.ATTRIBUTES
        and len(victim["sha256"]) == 64
    )
    before = (run / "weights.safetensors").read_bytes()
    main(command("--resume"))
    assert "nothing to do" in capsys.readouterr().out and (run / "weights.safetensors").read_bytes() == before


def test_basic_perturbations_are_made_once_and_shared(command, main, folder, tmp_path, never_collapsed):
    main(command("--num_steps", "1"))
    (cache,) = (tmp_path / "results" / "attacked" / "data").iterdir()
    assert cache.name.startswith("pgd-eps0.05-clean-iterative-") and len(list(cache.glob("*.png"))) == 8
    made = {p.name: p.stat().st_mtime_ns for p in cache.glob("*.png")}
    main(command("--num_steps", "1", "--lambda_distance", "5", "--seed", "0"))
    assert folder("stargan-distance5").exists()
    assert made == {p.name: p.stat().st_mtime_ns for p in cache.glob("*.png")}


@pytest.mark.parametrize(
    "flags", [[], ["--optimiser", "paper", "--bound", "hinge", "--gan_loss", "saturating", "--ema", "0.9"]]
)
def test_a_resumed_training_is_bit_equal_to_an_uninterrupted_one(
    command, main, folder, monkeypatch, never_collapsed, flags
):
    flags = [*flags, "--save_step", "1"]
    main(command(*flags))
    killed_at(3, monkeypatch, SimpleNamespace(Step=train.Step, main=main), command(*flags))
    # what differs is told
    kind = "stargan" + ("-bound-hinge-gan_loss-saturating-optimiser-paper" if "--bound" in flags else "")
    whole, resumed = folder(kind), folder(kind, "001")
    assert checkpoint.load_state(resumed / "last.pt")["step"] == 3
    main(command(*flags, "--resume"))
    assert same(parts(whole), parts(resumed))
    assert (whole / "weights.safetensors").read_bytes() == (resumed / "weights.safetensors").read_bytes()
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in log(whole)] == [
        {k: v for k, v in line.items() if k != "seconds"} for line in log(resumed)
    ]


def test_the_ablation_has_no_second_recogniser_and_breaks_no_training_photos(
    command, main, folder, tmp_path, monkeypatch
):
    collapsed(monkeypatch, "no effect: 0.1 of a grey level")
    main(command("--without_finetuning"))
    run = folder("stargan-without-finetuning")
    assert set(parts(run)) == {"generator", "ide_x", "generator_optimiser", "ide_x_optimiser"} and not {
        "ide_y",
        "g_y",
        "stargan_share",
    } & set(log(run)[0])
    # kept, and told
    assert load_perturber(run / "weights.safetensors").meta["finding"] == "no effect: 0.1 of a grey level"
    (cache,) = (tmp_path / "results" / "attacked" / "data").iterdir()
    assert len(list(cache.glob("*.png"))) == 1  # the held-out photo, which the result is measured against


def test_a_collapse_is_an_error_that_leaves_the_state_and_no_weights(command, main, folder, monkeypatch):
    collapsed(monkeypatch)
    with pytest.raises(RunError, match="has collapsed, no effect: a test says so"):
        main(command())
    assert (folder() / "last.pt").exists() and not (folder() / "weights.safetensors").exists()
    with pytest.raises(RunError, match="has collapsed"):  # and continuing finds it again
        main(command("--resume"))


def test_several_victims_keep_their_own_labels(command, main, folder, tmp_path, monkeypatch, never_collapsed):
    """Two translators of other attributes, under two names; the batches carry the union of their columns."""
    monkeypatch.setitem(
        train.load_victims.__globals__["TRANSLATORS"], "stgan", "models.stargan.frozen:StarGAN"
    )
    other = tmp_path / "other.safetensors"
    checkpoint.save_weights(
        other,
        Generator(4, 2, 1).state_dict(),
        {"kind": "stargan-generator", "attributes": ["Young", "Blond_Hair"], "image_size": 32},
    )
    named = [f"stargan={tmp_path / 'gan.safetensors'}", f"stgan={other}"]
    victims, columns = load_victims(named, weights.ATTRIBUTES, 32, "fp32", "cpu")
    assert columns == weights.ATTRIBUTES and victims[1].rows == [4, 1]
    labels = torch.tensor([[1.0, 0, 0, 1, 0]])
    assert victims[1].conditions(labels).tolist() == [[[1, 0]], [[0, 1]]]  # flip Young; make blond
    main(command("--victims", *named))
    run = folder("stargan+stgan")
    assert {"stargan_share", "stgan_share"} <= set(log(run)[0]) and {
        "val_stgan_l2",
        "val_stargan_l2_pgd",
    } <= set(log(run)[-1])
    assert [v["attributes"] for v in load_perturber(run / "weights.safetensors").meta["victims"]] == [
        weights.ATTRIBUTES,
        ["Young", "Blond_Hair"],
    ]


def test_seeds_decide(command, main, folder, never_collapsed):
    for flags in ([], [], ["--seed", "1"]):
        main(command("--num_steps", "1", *flags))
    first, again, other = (parts(folder(number=f"00{k}"))["generator"] for k in range(3))
    assert same(first, again) and not same(first, other)


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--victims", "stargna=x"], "unknown translator 'stargna' .did you mean stargan"),
        (["--victims", "x.ckpt"], "expected NAME=FILE"),
        (["--victims", "stargan="], "expected NAME=FILE"),
        (["--victims", "stargan=none.ckpt"], "none.ckpt: no such weight file"),
        (["--victims", "stargan=a.ckpt", "stargan=b.ckpt"], "stargan is there 2 times"),
        (
            ["--image_size", "16"],
            "gan.safetensors: stargan was trained at 32 pixels, --image_size is 16: give --image_size 32",
        ),
        (["--image_size", "8"], "--image_size 8: expected at least 16"),
        (["--lim", "0.001"], "--lim"),
        (["--lim", "nan"], "--lim"),
        (["--bound", "soft"], "unknown value 'soft'"),
        (["--lambda_y", "-1"], "--lambda_y"),
        (["--optimiser", "sgd"], "unknown value 'sgd'"),
        (["--pgd_steps", "0"], "--pgd_steps"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(command, main, tmp_path, flags, words):
    with pytest.raises(UserError, match=words) as e:
        main(command(*flags))
    assert "\n" not in str(e.value) and not (tmp_path / "results").exists()


def test_victims_of_different_sizes_and_of_unsaid_attributes_are_told(command, main, tmp_path, monkeypatch):
    monkeypatch.setitem(
        train.load_victims.__globals__["TRANSLATORS"], "stgan", "models.stargan.frozen:StarGAN"
    )
    for name, meta in (("larger", {"attributes": weights.ATTRIBUTES, "image_size": 64}), ("silent", {})):
        checkpoint.save_weights(tmp_path / f"{name}.safetensors", Generator(4, 5, 1).state_dict(), meta)
    gan = f"stargan={tmp_path / 'gan.safetensors'}"
    with pytest.raises(UserError, match="different ones .stargan 32, stgan 64.") as e:
        main(command("--victims", gan, f"stgan={tmp_path / 'larger.safetensors'}"))
    assert "\n" not in str(e.value)
    with pytest.raises(
        UserError, match="--selected_attrs: 1 names .Male., .*silent.safetensors knows 5 attributes"
    ):
        main(command("--victims", f"stargan={tmp_path / 'silent.safetensors'}", "--selected_attrs", "Male"))
    assert not (tmp_path / "results").exists()


def test_a_dry_run_writes_nothing(command, main, tmp_path, capsys):
    main(command("--dry_run"))
    assert '"lambda_distance"' in capsys.readouterr().out and not (tmp_path / "results").exists()


def test_one_photo_is_enough_to_start_from(command, main, folder, never_collapsed):
    main(command("--limit", "1", "--num_steps", "1"))
    assert (folder() / "samples" / "0000001.png").exists()


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(command, main, folder):
    flags = ["--ema", "0.9"]
    # four steps are no training: whether what they leave counts as collapsed is not asked
    with contextlib.suppress(RunError):
        main(command(*flags))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "models.dadfi.train",
            *command(*flags),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    one, two = log(folder()), log(folder(number="001"))
    assert one[-1]["step"] == 4
    for a, b in zip(one, two, strict=True):
        a.pop("seconds", None), b.pop("seconds", None)
        assert b == pytest.approx(a, rel=1e-4, abs=1e-6)
