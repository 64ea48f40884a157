import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import trainings
from common import checkpoint
from common.cli import UserError
from models.starganv2 import train
from models.translators import load_translator

parts, same, killed_at = (getattr(trainings, name) for name in ("parts", "same", "killed_at"))
ROOT = Path(train.__file__).parents[2]
TINY = [
    "--image_size",
    "16",
    "--celeba_crop_size",
    "32",
    "--dim_in",
    "4",
    "--max_conv_dim",
    "8",
    "--hidden_dim",
    "8",
    "--latent_dim",
    "4",
    "--style_dim",
    "6",
    "--selected_attrs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "--min_domain_photos",
    "1",
    "--batch_size",
    "4",
    "--num_steps",
    "4",
    "--log_step",
    "1",
    "--save_step",
    "2",
    "--num_workers",
    "0",
    "--device",
    "cpu",
]


@pytest.fixture
def command(face_folder, tmp_path):
    """command(*flags) -> the argv of a tiny training on 12 photos below `data`, results below `results`."""
    face_folder(12, tmp_path / "data" / "images_a")
    return lambda *flags: [
        "--data_dir",
        str(tmp_path / "data"),
        "--result_dir",
        str(tmp_path / "results"),
        *TINY,
        *flags,
    ]


def folder(tmp_path, number="000"):
    return tmp_path / "results" / "starganv2" / "data" / "train" / "standard" / number


def log(run):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in trainings.log(run)]


def test_a_training_leaves_its_files_and_is_not_done_twice(command, tmp_path, capsys):
    train.main(command())
    run = folder(tmp_path)
    assert {p.name for p in run.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "previous.pt",
        "samples",
        "weights.safetensors",
    }
    assert sorted(p.name for p in (run / "samples").iterdir()) == [
        f"000000{k}-{kind}.png" for k in (2, 4) for kind in ("latent", "reference")
    ]
    # two held-out photos and three domains of each
    assert Image.open(run / "samples" / "0000004-latent.png").size == (4 * 18 + 2, 2 * 18 + 2)
    # under a photo of each domain
    assert Image.open(run / "samples" / "0000004-reference.png").size == (4 * 18 + 2, 3 * 18 + 2)
    lines = log(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert set(lines[0]) == {"step"} | {
        f"{guide}_{k}"
        for guide in ("latent", "reference")
        for k in ("d_real", "d_fake", "d_reg", "g_fake", "g_sty", "g_ds", "g_cyc")
    }
    translator = load_translator(run / "weights.safetensors", c_dim=3, gan_type="starganv2")
    assert (
        translator.meta["domains"] == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
        and translator.image_size == 16
        and translator.meta["trained_on"] == "data"
    )
    assert translator.meta["options"]["generator"] == {
        "dim_in": 4,
        "max_conv_dim": 8,
        "num_downs": 1,
        "style_dim": 6,
        "w_hpf": 0,
    }
    average = {
        k.removeprefix("module."): v for k, v in parts(run)["generator_average"].items() if k != "n_averaged"
    }
    # what is released is the average
    assert same(average, dict(translator.network.generator.state_dict()))
    last = load_translator(run / "last.pt", gan_type="starganv2")
    assert (
        same(last.network.state_dict(), translator.network.state_dict())
        and last.attributes == translator.attributes
    )
    capsys.readouterr()
    train.main(command("--resume"))
    assert "nothing to do" in capsys.readouterr().out and not folder(tmp_path, "001").exists()


@pytest.mark.parametrize("turns", ["both", "alternate"])
def test_a_resumed_training_is_bit_equal_to_an_uninterrupted_one(command, tmp_path, monkeypatch, turns):
    flags = ["--turns", turns, "--save_step", "1"]
    train.main(command(*flags))
    killed_at(3, monkeypatch, train, command(*flags))
    assert checkpoint.load_state(folder(tmp_path, "001") / "last.pt")["step"] == 3
    train.main(command(*flags, "--resume"))
    whole, resumed = folder(tmp_path), folder(tmp_path, "001")
    assert same(parts(whole), parts(resumed)) and log(whole) == log(resumed)
    assert (whole / "weights.safetensors").read_bytes() == (resumed / "weights.safetensors").read_bytes()


def test_without_an_average_the_networks_themselves_are_released(command, tmp_path):
    train.main(command("--ema", "0", "--num_steps", "1"))
    saved = parts(folder(tmp_path))
    assert not [name for name in saved if name.endswith("_average")]
    assert same(
        saved["generator"],
        dict(
            load_translator(
                folder(tmp_path) / "weights.safetensors", gan_type="starganv2"
            ).network.generator.state_dict()
        ),
    )


def one_step(command, tmp_path, turns, step):
    """The names of the networks that a training's step (counted from 0) changes."""
    flags = ["--turns", turns, "--save_step", "1", "--ema", "0", "--weight_decay", "0"]
    before = {}
    if step:
        train.main(command(*flags, "--num_steps", str(step), "--ds_steps", "4"))
        before = parts(folder(tmp_path))
    else:
        before = {
            n: dict(net.state_dict())
            for n, net in train.initial_networks(train.parse_args(command(*flags)), 3).items()
        }
    train.main(command(*flags, "--num_steps", str(step + 1), "--ds_steps", "4"))
    after = parts(folder(tmp_path, "001" if step else "000"))
    return {n for n in before if not n.endswith("_optimiser") and not same(dict(before[n]), dict(after[n]))}


ALL = {"generator", "mapping_network", "style_encoder", "discriminator"}


@pytest.mark.parametrize(
    "turns, step, expected",
    [("both", 0, ALL), ("alternate", 0, ALL), ("alternate", 1, {"generator", "discriminator"})],
)
def test_reference_photos_train_generator_and_discriminator_alone(command, tmp_path, turns, step, expected):
    assert one_step(command, tmp_path, turns, step) == expected


def test_turns_alternate(command, tmp_path):
    train.main(command("--turns", "alternate"))
    assert [{key.split("_")[0] for key in line if key != "step"} for line in log(folder(tmp_path))] == [
        {"latent"},
        {"reference"},
    ] * 2


def test_the_diversity_fades():
    args = train.parse_args(["--lambda_ds", "2", "--num_steps", "100"])
    step = train.Step(args, None, None, dict.fromkeys(ALL), {}, {})
    assert args.ds_steps == 100 and [step.lambda_ds(i) for i in (0, 50, 99, 100)] == pytest.approx(
        [2, 1, 0.02, 0]
    )
    step = train.Step(dataclasses.replace(args, ds_steps=10), None, None, dict.fromkeys(ALL), {}, {})
    assert step.lambda_ds(5) == 1 and step.lambda_ds(50) == 0


def test_published_sizes_are_the_defaults():
    args = train.parse_args([])
    assert (
        args.image_size,
        args.dim_in,
        args.max_conv_dim,
        args.num_downs,
        args.hidden_dim,
        args.latent_dim,
        args.style_dim,
    ) == (256, 64, 512, 4, 512, 16, 64)
    assert (args.num_steps, args.lr, args.f_lr, args.weight_decay, args.ema, args.ds_steps, args.turns) == (
        100000,
        1e-4,
        1e-6,
        1e-4,
        0.999,
        100000,
        "both",
    )
    small = train.parse_args(["--image_size", "64"])
    assert (small.dim_in, small.num_downs) == (256, 2) and train.parse_args(
        ["--image_size", "16"]
    ).num_downs == 1


def test_each_network_has_its_learning_rate(command, tmp_path):
    train.main(command("--lr", "0.001", "--f_lr", "0.00002", "--num_steps", "1"))
    state = parts(folder(tmp_path))
    rates = {n: state[f"{n}_optimiser"]["param_groups"][0] for n in ALL}
    assert {n: g["lr"] for n, g in rates.items()} == dict.fromkeys(ALL, 0.001) | {"mapping_network": 0.00002}
    assert all(tuple(g["betas"]) == (0.0, 0.99) and g["weight_decay"] == 1e-4 for g in rates.values())


def test_seeds_decide(command, tmp_path):
    for flags in ([], [], ["--seed", "1"]):
        train.main(command("--num_steps", "1", *flags))
    first, again, other = (parts(folder(tmp_path, f"00{k}"))["generator"] for k in range(3))
    assert same(first, again) and not same(first, other)


def test_reduced_precision_trains_every_network(command, tmp_path):
    train.main(command("--precision", "bf16", "--num_steps", "1", "--ema", "0"))
    state = parts(folder(tmp_path))
    start = train.initial_networks(train.parse_args(command()), 3)
    assert all(
        not torch.equal(state[n][k], p)
        for n in ALL
        for k, p in start[n].named_parameters()
        if k.endswith(".weight") and "conv" in k
    )


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--image_size", "48"], "--image_size 48: expected a power of 2 from 16"),
        (["--image_size", "8"], "--image_size 8: expected a power of 2 from 16"),
        (["--num_downs", "3"], "--num_downs 3: expected at most 2 at --image_size 16"),
        (["--min_domain_photos", "100"], "0 combinations have --min_domain_photos 100 photos"),
        (["--selected_attrs", "Black_Hair"], "Black_Hair: 1 combinations"),
        (["--selected_attrs", "Male", "Mal"], "Mal"),
        (["--turns", "one"], "unknown value 'one'"),
        (["--lambda_ds", "-1"], "--lambda_ds"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(command, tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        train.main(command(*flags))
    assert not (tmp_path / "results").exists() and [p.name for p in (tmp_path / "data").iterdir()] == [
        "images_a"
    ]


def test_a_dry_run_writes_nothing(command, tmp_path, capsys):
    train.main(command("--dry_run"))
    out = capsys.readouterr().out
    assert '"ds_steps": 4' in out and "10 photos in 3 domains" in out and not (tmp_path / "results").exists()


def test_photos_without_a_domain_are_left_out(command, capsys):
    train.main(command("--selected_attrs", "Black_Hair", "Blond_Hair", "Male", "--dry_run"))
    # every third photo has brown hair
    assert int(capsys.readouterr().out.split(" photos in ")[0].split()[-1]) < 9


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(command, tmp_path):
    train.main(command())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "models.starganv2.train",
            *command(),
        ],
        check=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    for a, b in zip(log(folder(tmp_path)), log(folder(tmp_path, "001")), strict=True):
        assert b == pytest.approx(a, rel=1e-3, abs=1e-5)
