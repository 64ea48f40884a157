"""--compile on through whole commands. The quick tests trace the networks and leave out the C++ compiler."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

import trainings
from attacks import build
from attacks.__main__ import main as attack
from attacks.gradient import PGD
from common import checkpoint, compiling, images, seeds
from common.cli import UserError
from common.distributed import Context
from models.diffusion import build as diffusion
from models.diffusion import official
from models.stargan import step as game
from models.stargan import train
from models.stargan.frozen import StarGAN
from purify.one_step import OneStep

CPU = Context(0, 1, torch.device("cpu"))
TINY = (
    "--image_size 16 --celeba_crop_size 32 --g_conv_dim 4 --d_conv_dim 4 --g_repeat_num 1 --d_repeat_num 2"
    " --batch_size 4 --n_critic 1 --num_steps 2 --log_step 1 --save_step 1 --num_workers 0 --device cpu"
).split()
compiles = pytest.mark.skipif(compiling.lacking(CPU.device) is not None, reason="needs a C++ compiler")


@pytest.fixture
def traced(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr(compiling, "lacking", lambda device: None)


@pytest.fixture
def disrupt(face_folder, tmp_path, tiny_generator):
    photos, weights = face_folder(4), tmp_path / "G.safetensors"
    meta = {"kind": "stargan-generator", "attributes": list("ABCDE")}
    checkpoint.save_weights(weights, tiny_generator.state_dict(), meta)

    def run(choice):
        out = tmp_path / choice
        flags = f"--gan_weights {weights} --batch_size 3 --attack_steps 3 --device cpu --num_workers 1"
        attack([*f"--input {photos} --output {out} {flags} --compile {choice}".split()])
        return np.stack([images.load_png(path) for path in sorted(out.glob("*.png"))])

    run.output = tmp_path / "on"
    return run


def test_the_attack_with_an_odd_last_batch(disrupt, traced):
    compiled, plain, auto = (disrupt(choice) for choice in ("on", "off", "auto"))
    # of a random network many gradients are near zero, and rounding decides their signs
    assert (compiled != plain).mean() <= 0.05 and (auto == plain).all()


def test_without_a_compiler_nothing_is_begun(disrupt, monkeypatch):
    monkeypatch.setattr(compiling, "lacking", lambda device: "a C++ compiler (g++)")
    with pytest.raises(UserError, match="--compile on: needs a C"):
        disrupt("on")
    assert not list(disrupt.output.glob("*.png"))


def trained(data, results, *flags):
    train.main(["--data_dir", str(data), "--result_dir", str(results), *TINY, *flags], build_attack=build)


def test_a_training_and_its_resumption(face_folder, tmp_path, monkeypatch, traced):
    face_folder(8, tmp_path / "data" / "images_a")
    run = functools.partial(trained, tmp_path / "data")
    run(tmp_path / "whole", "--compile", "on")
    game_as_it_was = SimpleNamespace(Step=game.Step, main=lambda argv: run(tmp_path / "cut", *argv))
    trainings.killed_at(1, monkeypatch, game_as_it_was, ["--compile", "on"])
    run(tmp_path / "cut", "--compile", "on", "--resume")
    run(tmp_path / "plain")
    whole, cut, plain = (
        tmp_path / name / "stargan/data/train/standard/000" for name in ("whole", "cut", "plain")
    )
    assert trainings.same(trainings.parts(whole), trainings.parts(cut))
    assert yaml.safe_load((whole / "options.yaml").read_text())["options"]["compile"] == "on"
    with (
        safe_open(whole / "weights.safetensors", "pt") as a,
        safe_open(plain / "weights.safetensors", "pt") as b,
    ):
        assert set(a.keys()) == set(b.keys())
    for a, b in zip(trainings.log(whole), trainings.log(plain), strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=1e-4, abs=1e-5
        )


def test_a_run_goes_on_with_another_choice(face_folder, tmp_path, monkeypatch, traced):
    face_folder(8, tmp_path / "data" / "images_a")
    run = functools.partial(trained, tmp_path / "data", tmp_path / "results")
    game_as_it_was = SimpleNamespace(Step=game.Step, main=lambda argv: run(*argv))
    trainings.killed_at(1, monkeypatch, game_as_it_was, ["--compile", "off"])
    run("--compile", "on", "--resume")
    assert [p.name for p in (tmp_path / "results/stargan/data/train/standard").iterdir()] == ["000"]


@pytest.mark.slow
@compiles
def test_attack_and_fakes_really_compiled(tiny_generator, faces):
    x, c = faces(5)
    plain, compiled = StarGAN(tiny_generator), StarGAN(tiny_generator)
    compiling.fix([compiled], "on", CPU, 4, 1)
    torch.testing.assert_close(compiled(x[:4], c[:4]), plain(x[:4], c[:4]), rtol=0, atol=1e-4)

    def attacked(translator, rows):
        rng = seeds.named(0, [str(i) for i in range(5)][rows], "attack")
        return PGD(translator, 0.05)(x[rows], c[rows][:, None], rng)

    for rows in (slice(0, 4), slice(4, 5)):
        a, b = attacked(compiled, rows), attacked(plain, rows)
        assert (a != b).float().mean() <= 0.01
        l2 = [float((plain(y, c[rows]) - plain(x[rows], c[rows])).square().mean()) for y in (a, b)]
        assert l2[0] == pytest.approx(l2[1], rel=0.01)


@pytest.mark.slow
@compiles
def test_a_purifier_really_compiled(faces):
    torch.manual_seed(0)
    options = diffusion.options_for(32, num_channels=32, channel_mult="1,2", attention_resolutions="16")
    network = diffusion.create_network(options)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.05)
    meta = {"kind": "one-step", "options": {**official.DIFFUSION, **options}, "max_timestep": 300}
    denoiser = diffusion.denoiser(network.eval().requires_grad_(False), meta, "ours")
    purifier, x = OneStep(denoiser), faces(3)[0].requires_grad_(True)
    wanted = purifier(x)
    compiling.fix(purifier.networks(), "on", CPU, 2, 1)
    got = torch.cat([purifier(x[:2]), purifier(x[2:])])
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
    a, b = (torch.autograd.grad(y.square().sum(), x)[0] for y in (got, wanted))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
