"""python -m tools.describe: every kind of file is told apart, nothing is executed, what is damaged is one
line."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import weights
from attacks.universal import save_perturbation
from common import checkpoint, files
from common.cli import UserError
from models.classifier.network import AttributeClassifier
from models.dae.network import create
from models.depois.network import Critic
from models.diffusion.mindiffusion import NaiveUnet
from models.stargan.network import Discriminator, Generator
from models.starganv2 import network as v2
from models.stgan.network import Generator as EditingGenerator
from tiny import weights_file
from tools.describe import describe, main


def size(network):
    return sum(p.numel() for p in network.parameters())


def test_our_translator_says_all_that_it_knows(tmp_path, capsys):
    network, path = Generator(4, 5, 1), tmp_path / "w.safetensors"
    checkpoint.save_weights(
        path,
        network.state_dict(),
        {
            "kind": "stargan-generator",
            "attributes": ["Male", "Young"],
            "image_size": 64,
            "trained_on": "drawn",
            "steps": 4500,
            "ema": True,
        },
        half=True,
    )
    found = describe(path)
    assert (
        found["kind"] == "stargan-generator"
        and found["family"] == "ours"
        and found["parameters"] == size(network)
    )
    assert (
        found["options"] == {"conv_dim": 4, "c_dim": 5, "repeat_num": 1, "upsampling": "transposed"}
        and found["image_size"] == 64
        and found["step"] == 4500
    )
    assert (
        found["attributes"] == ["Male", "Young"]
        and found["trained_on"] == "drawn"
        and "F16" in found["format"]
    )
    assert (
        found["sha256"] == files.sha256(path)
        and found["bytes"] == path.stat().st_size
        and found["used_as"] == "--gan_weights with --gan_type stargan"
    )
    assert main([str(path)]) is None
    printed = capsys.readouterr().out
    assert (
        "stargan-generator" in printed
        and found["sha256"] in printed
        and "Male, Young" in printed
        and "conv_dim 4" in printed
    )


def test_official_stargan_pair(tmp_path):
    """The published files hold statistics of the normalisation too; they are no parameters."""
    generator, discriminator = Generator(4, 5, 1), Discriminator(32, 4, 5, 3)
    extra = {
        "main.1.running_mean": torch.zeros(4),
        "main.1.running_var": torch.ones(4),
        "main.1.num_batches_tracked": torch.tensor(3),
    }
    torch.save({**generator.state_dict(), **extra}, tmp_path / "200000-G.ckpt")
    torch.save(discriminator.state_dict(), tmp_path / "200000-D.ckpt")
    g, d = describe(tmp_path / "200000-G.ckpt"), describe(tmp_path / "200000-D.ckpt")
    assert (
        g["kind"] == "stargan-generator" and "official" in g["family"] and g["parameters"] == size(generator)
    )
    assert (
        d["kind"] == "stargan-discriminator"
        and d["parameters"] == size(discriminator)
        and "discriminator" in d["not_usable"]
    )


@pytest.mark.parametrize("kind, use", [("diffusion", "ddpm, diffpure"), ("one-step", "of one-step")])
def test_our_diffusion_weights(tmp_path, kind, use):
    found = describe(weights_file(tmp_path / "w.safetensors", kind, trained_on="drawn"))
    assert (
        found["kind"] == kind
        and found["image_size"] == 8
        and found["max_timestep"] == 300
        and use in found["used_as"]
    )
    assert found["options"]["num_channels"] == 32 and found["trained_on"] == "drawn"


def test_families_of_diffusion_weights_without_metadata(tmp_path):
    state, _ = checkpoint.read_weights(weights_file(tmp_path / "w.safetensors"))
    torch.save(state, tmp_path / "ema.pt")
    (tmp_path / "ema.pt.yaml").write_text("image_size: 8\n")
    naive = NaiveUnet(n_feat=8)
    torch.save(
        {f"eps_model.{k}": v for k, v in naive.state_dict().items()} | {"beta_t": torch.zeros(1001)},
        tmp_path / "ddpm_celeba.pth",
    )
    guided, mini = describe(tmp_path / "ema.pt"), describe(tmp_path / "ddpm_celeba.pth")
    assert (
        guided["family"] == "guided-diffusion" and guided["image_size"] == 8 and "ddpm" in guided["used_as"]
    )
    assert (
        "minDiffusion" in mini["family"]
        and mini["parameters"] == size(naive)
        and mini["options"] == {"n_feat": 8}
    )


@pytest.mark.parametrize(
    "kind, network, meta, use",
    [
        (
            "dae",
            lambda: create("defensive-model-2"),
            {"name": "defensive-model-2"},
            "--defense_weights of defensive-model-2",
        ),
        (
            "classifier",
            lambda: AttributeClassifier(5, 8, 16),
            {"options": {"c_dim": 5, "width": 8, "image_size": 16}, "attributes": list("abcde")},
            "--classifier_weights",
        ),
        (
            "depois-mimic",
            lambda: Critic((1, 8, 8), 2),
            {"options": {"shape": [1, 8, 8], "num_classes": 2, "width": 16}, "classes": ["a", "b"]},
            "--depois_weights of python -m purify.depois",
        ),
    ],
)
def test_other_networks_of_ours(tmp_path, kind, network, meta, use):
    made = network()
    checkpoint.save_weights(tmp_path / "w.safetensors", made.state_dict(), {"kind": kind, **meta})
    found = describe(tmp_path / "w.safetensors")
    assert found["kind"] == kind and found["parameters"] == size(made) and found["used_as"] == use


def test_training_state(tmp_path):
    options = {
        "num_steps": 6000,
        "dataset": "real-faces",
        "selected_attrs": ["Male", "Young"],
        "image_size": 64,
        "cache_dir": None,
    }
    checkpoint.save_state(
        tmp_path / "last.pt",
        1500,
        options,
        generator=Generator(4, 2, 1),
        discriminator=Discriminator(32, 4, 2, 3),
    )
    found = describe(tmp_path / "last.pt")
    assert (
        found["kind"] == "stargan-generator"
        and found["step"] == "1500 of 6000"
        and found["trained_on"] == "real-faces"
    )
    assert (
        found["attributes"] == ["Male", "Young"]
        and "cache_dir" not in found["flags"]
        and "--resume" in found["training"]
    )
    checkpoint.save_state(
        tmp_path / "critic.pt", 3, {"num_steps": 9, "dataset": "mnist"}, G={}, critic=Critic((1, 8, 8), 2)
    )
    critic = describe(tmp_path / "critic.pt")
    assert (
        critic["kind"] == "depois-mimic"
        and critic["parameters"] == size(Critic((1, 8, 8), 2))
        and "--resume" in critic["used_as"]
    )
    checkpoint.save_state(
        tmp_path / "other.pt",
        3,
        {"defense_model_type": "defensive-model-1", "num_steps": 9},
        network=create("defensive-model-1"),
    )
    assert describe(tmp_path / "other.pt")["kind"] == "dae"


def test_inception_is_known_by_its_sha(tmp_path):
    torch.save({"Mixed_7c.branch_pool.conv.weight": torch.zeros(2, 2)}, tmp_path / "inception.pth")
    found = describe(tmp_path / "inception.pth")
    assert (
        found["kind"] == "inception"
        and "not the standard" in found["family"]
        and "6726825d" in found["not_usable"]
    )


def test_perturbations(tmp_path):
    p = torch.full((3, 4, 6), 0.02)
    save_perturbation(tmp_path / "p.pt", p)
    np.save(tmp_path / "p.npy", p.numpy())
    for name in ("p.pt", "p.npy"):
        found = describe(tmp_path / name)
        assert (
            found["kind"] == "perturbation"
            and found["shape"] == [3, 4, 6]
            and "0.0200" in found["largest"]
            and "2.55 grey" in found["largest"]
        )


def test_weights_of_no_one(tmp_path):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "w.pth")
    found = describe(tmp_path / "w.pth")
    assert (
        found["kind"] == "unknown"
        and "features.0.weight" in found["family"]
        and found["parameters"] == 3
        and "no command" in found["not_usable"]
    )


class Bomb:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_bad_files_are_one_line_and_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(100)}, buffer)
    safe = weights_file(tmp_path / "safe.safetensors").read_bytes()
    torch.save({"a": Bomb()}, "bomb.pth")
    for name, data in {
        "cut.pth": buffer.getvalue()[:300],
        "page.pth": b"<html>no such file</html>",
        "empty.pth": b"",
        "cut.safetensors": safe[:-9],
    }.items():
        Path(name).write_bytes(data)
    for name, message in {
        "bomb.pth": "more than tensors",
        "cut.pth": "truncated",
        "page.pth": "HTML",
        "empty.pth": "not a weight file",
        "cut.safetensors": "truncated",
        "missing.pth": "no such file",
        ".": "is a folder",
    }.items():
        with pytest.raises(UserError, match=message) as e:
            main([name])
        assert "\n" not in str(e.value)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "make, use",
    [("stgan", "--gan_weights with --gan_type stgan"), ("dadfi", "--attack_weights of --attack_type dadfi")],
)
def test_other_translators_and_perturbation_generators(tmp_path, make, use):
    found = describe(getattr(weights, make)(tmp_path / "w.safetensors"))
    assert found["used_as"] == use and found["image_size"] == 32 and found["family"] == "ours"


def test_the_last_state_of_an_stgan_training_and_the_official_layout_of_stargan_v2(tmp_path):
    network = EditingGenerator(8, 2, 2)
    checkpoint.save_state(
        tmp_path / "last.pt",
        3,
        {"num_steps": 9, "selected_attrs": ["Male", "Young"]},
        generator=network,
        discriminator=network,
    )
    assert describe(tmp_path / "last.pt")["kind"] == "stgan-generator"
    nets = {
        "generator": v2.Generator(4, 8, 1, 6),
        "mapping_network": v2.MappingNetwork(5, 6, 3, 8),
        "style_encoder": v2.StyleEncoder(4, 8, 2, 6, 3),
    }
    torch.save(
        {name: {f"module.{k}": v for k, v in net.state_dict().items()} for name, net in nets.items()},
        tmp_path / "100000_nets_ema.ckpt",
    )
    found = describe(tmp_path / "100000_nets_ema.ckpt")
    assert (found["kind"], found["used_as"]) == (
        "starganv2-generator",
        "--gan_weights with --gan_type starganv2",
    ) and "not_usable" not in found


@pytest.mark.parametrize("wrap", ["state", "wrapped", "safetensors", "last"])
def test_weights_that_are_not_finite_are_refused(tmp_path, wrap):
    state, path = Generator(4, 5, 1).state_dict(), tmp_path / ("last.pt" if wrap == "last" else "w")
    state["main.0.weight"].view(-1)[3] = float("nan")
    if wrap == "safetensors":
        checkpoint.save_weights(path, state, {"kind": "stargan-generator"})
    elif wrap == "last":
        checkpoint.save_state(path, 3, {}, generator=state)
    else:
        torch.save({"model": state} if wrap == "wrapped" else state, path)
    with pytest.raises(UserError, match="not finite") as e:
        describe(path)
    assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_averaged_weights_are_said(tmp_path):
    network = Generator(4, 5, 1)
    raw = {k: torch.zeros_like(v) for k, v in network.state_dict().items()}
    torch.save({"model": raw, "ema": network.state_dict()}, tmp_path / "w.pt")
    found = describe(tmp_path / "w.pt")
    assert found["kind"] == "stargan-generator" and found["weights"].startswith("the averaged ones (ema)")
    average = {"module." + k: v for k, v in network.state_dict().items()}
    checkpoint.save_state(tmp_path / "last.pt", 3, {}, generator=raw, average=average)
    assert describe(tmp_path / "last.pt")["weights"].startswith("the averaged ones (average)")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="a pipe"):
        describe(tmp_path / "pipe")
