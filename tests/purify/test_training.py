"""What a purifier's training starts from: a new, seeded network or weights that fit the options."""

import dataclasses

import pytest
import torch

import train_defense
import weights
from common.cli import UserError
from purify import training

CPU = torch.device("cpu")


@pytest.fixture
def options():
    """parse(defense, words) -> Options of a small training."""

    def parse(defense, words=""):
        return train_defense.parse_args(
            f"--defense_model_type {defense} --image_size 32 --channel_mult 1 --device cpu {words}".split()
        )

    return parse


def test_options_are_resolved_and_cannot_be_changed(options):
    found = options("ddpm", "--data_dir somewhere/toy")
    assert (found.dataset, found.attack_type, found.attack_steps, found.attack_target) == (
        "toy",
        "none",
        10,
        "gray",
    )
    assert isinstance(found, training.Options)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.lr = 1.0


def test_a_new_network_depends_on_the_seed_alone(options):
    def first(words):
        make, meta = training.prepare_diffusion(options("ddpm", words), CPU)
        assert meta["kind"] == "diffusion" and (meta["attack"], meta["eps"]) == ("none", 0)
        return next(make().network.parameters())

    assert torch.equal(first(""), first("--lr 1")) and not torch.equal(first(""), first("--seed 1"))


def test_weights_that_are_given_are_where_it_starts(options, tmp_path):
    path = weights.diffusion(tmp_path / "w.safetensors")
    make, _ = training.prepare_diffusion(options("ddpm", f"--defense_weights {path}"), CPU)
    start = training.starting_point(options("ddpm", f"--defense_weights {path}"), CPU)
    a, b = make().network.state_dict(), start.network.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "words, message",
    [
        ("--image_size 64", "made for 32 pixels, --image_size is 64"),
        ("--max_timestep 400", "trained up to t = 300, --max_timestep is 400"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(options, tmp_path, words, message):
    path = weights.diffusion(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=message):
        training.prepare(options("ddpm", f"--defense_weights {path} {words}"), None, CPU)


@pytest.mark.parametrize("name", training.AUTOENCODERS)
def test_a_reformer_says_what_it_is(options, name):
    network, meta = training.prepare_autoencoder(options(name))
    again, _ = training.prepare_autoencoder(options(name))
    assert (meta["kind"], meta["name"], meta["attack"], meta["eps"]) == ("dae", name, "gaussian", 0.05)
    a, b = network.state_dict(), again.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
