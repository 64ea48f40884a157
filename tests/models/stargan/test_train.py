import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import trainings
from attacks import build
from common import checkpoint
from common.cli import UserError
from common.distributed import Context
from models.stargan import step as game
from models.stargan import train
from models.translators import load_translator

log, parts, same, killed_at = (getattr(trainings, name) for name in ("log", "parts", "same", "killed_at"))
ROOT = Path(train.__file__).parents[2]
TINY = (
    "--image_size 16 --celeba_crop_size 32 --g_conv_dim 4 --d_conv_dim 4 --g_repeat_num 1 --d_repeat_num 2"
    " --batch_size 4 --n_critic 2 --num_steps 4 --log_step 1 --save_step 2 --num_workers 0 --device cpu"
).split()


@pytest.fixture
def command(face_folder, tmp_path):
    """command(*flags) -> the argv of a tiny training on 8 photos below `data`, results below `results`."""
    face_folder(8, tmp_path / "data" / "images_a")
    return lambda *flags: [
        "--data_dir",
        str(tmp_path / "data"),
        "--result_dir",
        str(tmp_path / "results"),
        *TINY,
        *flags,
    ]


def main(argv):
    train.main(argv, build_attack=build)


TRAINER = SimpleNamespace(Step=game.Step, main=main)  # as killed_at takes it


def rate(options, i):
    return game.learning_rate(options.lr, options.decay_steps, options.num_steps, i)


def folder(tmp_path, kind="standard", number="000"):
    return tmp_path / "results" / "stargan" / "data" / "train" / kind / number


def test_a_training_leaves_its_files_and_is_not_done_twice(command, tmp_path, capsys):
    main(command("--ema", "0.9"))
    run = folder(tmp_path)
    assert {p.name for p in run.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "previous.pt",
        "samples",
        "weights.safetensors",
    }
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["0000002.png", "0000004.png"]
    # photo and five domains of one held-out photo
    assert Image.open(run / "samples" / "0000004.png").size == ((6 * 18 + 2) * 2, (18 + 2) * 2)
    lines = log(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4] and set(lines[0]) >= {
        "d_real",
        "d_fake",
        "d_cls",
        "d_gp",
    }
    assert "g_rec" in lines[1] and "g_rec" not in lines[0]  # the generator has every second turn
    translator = load_translator(run / "weights.safetensors")
    assert (
        translator.attributes[3] == "Male"
        and translator.image_size == 16
        and translator.meta["trained_on"] == "data"
    )
    assert same(
        {k.removeprefix("module."): v for k, v in parts(run)["average"].items() if k != "n_averaged"},
        translator.network.state_dict(),
    )  # what is released is the average
    before = (run / "weights.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    main(command("--ema", "0.9", "--resume"))
    assert "nothing to do" in capsys.readouterr().out
    assert (run / "weights.safetensors").stat().st_mtime_ns == before and not folder(
        tmp_path, number="001"
    ).exists()


def test_a_resumed_training_is_bit_equal_to_an_uninterrupted_one(command, tmp_path, monkeypatch):
    main(command("--ema", "0.9", "--save_step", "1"))
    killed_at(3, monkeypatch, TRAINER, command("--ema", "0.9", "--save_step", "1"))
    assert checkpoint.load_state(folder(tmp_path, number="001") / "last.pt")["step"] == 3
    main(command("--ema", "0.9", "--save_step", "1", "--resume"))
    whole, resumed = folder(tmp_path), folder(tmp_path, number="001")
    assert same(parts(whole), parts(resumed))
    assert (whole / "weights.safetensors").read_bytes() == (resumed / "weights.safetensors").read_bytes()
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in log(whole)] == [
        {k: v for k, v in line.items() if k != "seconds"} for line in log(resumed)
    ]


def test_the_learning_rate_falls_to_nothing():
    args = train.parse_args(["--num_steps", "200000", "--decay_steps", "100000", "--lr", "1e-4"])
    rates = [rate(args, i) for i in (0, 99_999, 100_000, 150_000, 199_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-4, 5e-5, 1e-9])
    # half of the steps, unless said otherwise
    short = train.parse_args(["--num_steps", "2000", "--lr", "1e-4"])
    assert short.decay_steps == 1000 and rate(short, 0) == 1e-4
    shortened = train.parse_args(["--num_steps", "4", "--decay_steps", "100", "--lr", "1e-4"])
    assert [rate(shortened, i) for i in (0, 3)] == pytest.approx([1e-4, 2.5e-5])
    constant = train.parse_args(["--num_steps", "10", "--decay_steps", "0", "--lr", "1e-4"])
    assert rate(constant, 9) == 1e-4


def test_the_optimisers_use_that_learning_rate(command, tmp_path):
    main(command("--lr", "0.01", "--num_steps", "4", "--decay_steps", "4"))
    state = parts(folder(tmp_path))
    for name in ("g_optimiser", "d_optimiser"):
        assert state[name]["param_groups"][0]["lr"] == pytest.approx(0.01 / 4)


def test_seeds_decide(command, tmp_path):
    for flags in ([], [], ["--seed", "1"]):
        main(command("--num_steps", "2", *flags))
    first, again, other = (parts(folder(tmp_path, number=f"00{k}"))["generator"] for k in range(3))
    assert same(first, again) and not same(first, other)


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--image_size", "18"], "--image_size 18: expected a multiple of 4"),
        (
            ["--image_size", "20", "--d_repeat_num", "3"],
            "--image_size 20 is not divisible by 8 .2.d_repeat_num.: use 16",
        ),
        (["--image_size", "16", "--d_repeat_num", "6"], "not divisible by 64"),
        (["--adversarial", "both"], "give --init_from"),
        (["--adversarial", "all"], "unknown value 'all'"),
        (["--init_from", "none.ckpt"], "none.ckpt: no such weight file"),
        (["--selected_attrs", "Black_Hair", "Mal"], "Mal"),
        (["--train_noise_var", "nan"], "--train_noise_var"),
        (["--batch_size", "0"], "--batch_size"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(command, tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        main(command(*flags))
    assert not (tmp_path / "results").exists() and [p.name for p in (tmp_path / "data").iterdir()] == [
        "images_a"
    ]


def test_a_dry_run_writes_nothing(command, tmp_path, capsys):
    main(command("--dry_run"))
    assert '"decay_steps": 2' in capsys.readouterr().out and not (tmp_path / "results").exists()


def test_one_photo_is_enough_to_start_from(command, tmp_path):
    main(command("--limit", "1", "--num_steps", "1"))
    assert (folder(tmp_path) / "samples" / "0000001.png").exists()


def trained(command, tmp_path, *flags):
    main(command("--num_steps", "2", *flags))
    return folder(tmp_path) / "last.pt"


def test_init_from_continues_both_networks(command, tmp_path):
    path = trained(command, tmp_path)
    args = train.parse_args(command("--init_from", str(path)))
    generator, discriminator = train.initial_networks(args)
    saved = checkpoint.load_state(path)["parts"]
    assert same(saved["generator"], dict(generator.state_dict())) and same(
        saved["discriminator"], dict(discriminator.state_dict())
    )
    for flags, words in (
        (["--d_conv_dim", "8"], "its discriminator is another network"),
        (["--selected_attrs", "Male"], "knows 5 attributes"),
    ):
        with pytest.raises(UserError, match=words):
            main(command("--init_from", str(path), *flags))


@pytest.mark.parametrize("kind", ["generator", "both"])
def test_adversarial_training_runs_and_resumes_to_the_same_bits(command, tmp_path, monkeypatch, kind):
    flags = [
        "--adversarial",
        kind,
        "--init_from",
        str(trained(command, tmp_path)),
        "--attack_steps",
        "2",
        "--num_steps",
        "3",
        "--save_step",
        "2",
    ]
    main(command(*flags))
    whole, cut = folder(tmp_path, f"adv-{kind}"), folder(tmp_path, f"adv-{kind}", "001")
    killed_at(2, monkeypatch, TRAINER, command(*flags))
    main(command(*flags, "--resume", str(cut)))
    assert (
        same(parts(whole), parts(cut))
        and load_translator(whole / "weights.safetensors").meta["adversarial"] == kind
    )


class Batch:
    """One fixed batch, as faces.loader.Batches gives it."""

    def __init__(self, x, c):
        self.x, self.c = x, c

    def get(self, step):
        return self.x, self.c, torch.arange(len(self.x))


@pytest.mark.parametrize("kind", ["generator", "both"])
def test_the_cycle_loss_reaches_the_first_pass_of_the_generator(faces, monkeypatch, kind):
    """The original subtracted `x_fake` from itself, so that this gradient was exactly zero."""
    args = train.parse_args(
        [*TINY, "--adversarial", kind, "--init_from", "x", "--n_critic", "1", "--attack_steps", "1"]
    )
    args = dataclasses.replace(args, init_from=None)
    generator, discriminator = train.initial_networks(args)
    passes, disturbed, found = [], [], {}
    forward = generator.forward

    def watch(x, c):
        out = forward(x, c)
        # not the attack's own passes
        if out.requires_grad and any(p.requires_grad for p in generator.parameters()):
            passes.append((x.detach(), out))
        return out

    def measured(D, fake, reconstruction, real, target, lambda_cls, lambda_rec):
        cycle = (real - reconstruction).abs().mean()
        found["first"] = torch.autograd.grad(cycle, passes[0][1], retain_graph=True)[0]
        return original(D, fake, reconstruction, real, target, lambda_cls, lambda_rec)

    disrupt = train.training_attack(args, build)

    def disturb(G, x, c, rng):
        disturbed.append(disrupt(G, x, c, rng))
        return disturbed[-1]

    original = game.losses.generator_loss
    monkeypatch.setattr(generator, "forward", watch)
    monkeypatch.setattr(game.losses, "generator_loss", measured)
    x, c = faces(4, 16)
    optimisers = [torch.optim.Adam(n.parameters(), 1e-4) for n in (generator, discriminator)]
    step = game.Step(
        args,
        Context(0, 1, torch.device("cpu")),
        Batch(x, c),
        c,
        generator,
        discriminator,
        None,
        optimisers,
        disturb,
        kind == "both",
    )
    step(0)
    assert float(found["first"].abs().max()) > 1e-6
    assert len(disturbed) == (3 if kind == "both" else 2) and len(passes) == 2
    # the first pass sees the disrupted photo
    assert torch.equal(passes[0][0], disturbed[0]) and not torch.equal(disturbed[0], x)
    # the second one the disrupted fake
    assert torch.allclose(passes[1][0], disturbed[-1], atol=0.51 / 127.5)
    assert float((passes[1][0] - passes[0][1].detach()).abs().max()) > 0.5 / 127.5
    assert all(p.requires_grad for n in (generator, discriminator) for p in n.parameters())


def test_the_generators_disruption_is_made_only_where_it_is_used(faces):
    args = train.parse_args([*TINY, "--adversarial", "generator", "--init_from", "x", "--n_critic", "2"])
    args = dataclasses.replace(args, init_from=None)
    generator, discriminator = train.initial_networks(args)
    calls, (x, c) = [], faces(4, 16)
    optimisers = [torch.optim.Adam(n.parameters(), 1e-4) for n in (generator, discriminator)]
    step = game.Step(
        args,
        Context(0, 1, torch.device("cpu")),
        Batch(x, c),
        c,
        generator,
        discriminator,
        None,
        optimisers,
        lambda G, x, c, rng: calls.append(1) or x,
    )
    step(0)
    assert len(calls) == 1  # a turn of the discriminator alone: the photo
    step(1)
    assert len(calls) == 3  # and the fake, for the cycle


@pytest.mark.slow
@pytest.mark.parametrize("adversarial", [False, True])
def test_two_processes_give_the_losses_of_one(command, tmp_path, adversarial):
    flags = ["--num_steps", "4", "--ema", "0.9"]
    if adversarial:
        flags += [
            "--adversarial",
            "both",
            "--init_from",
            str(trained(command, tmp_path)),
            "--attack_steps",
            "1",
        ]
    kind = "adv-both" if adversarial else "standard"
    main(command(*flags))
    one = folder(tmp_path, kind, "000")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "models.stargan.train",
            *command(*flags),
        ],
        check=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    two = folder(tmp_path, kind, "001")
    assert (two / "weights.safetensors").exists()
    for a, b in zip(log(one), log(two), strict=True):
        a.pop("seconds"), b.pop("seconds")
        assert b == pytest.approx(a, rel=1e-5, abs=1e-7)
