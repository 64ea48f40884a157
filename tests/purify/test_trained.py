"""Without --defense_weights the newest finished training is taken; where there is none, the command that
trains it is named."""

import os
from argparse import Namespace

import pytest
import torch

from common import checkpoint, cli
from common.cli import UserError
from common.distributed import Context
from faces.flags import add_data_flags
from purify.defences import DEFENCES
from purify.flags import add_purifier_flags
from purify.trained import (
    adversarial_translator_of,
    default_translator,
    load_defence,
    newest_training,
    newest_translator,
    trained_noise,
    weights_of,
)
from tiny import weights_file
from weights import translator

CPU = Context(0, 1, torch.device("cpu"))


def finish(tmp_path, *parts, age=0):
    path = tmp_path.joinpath(*parts) / "weights.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def args(tmp_path, **more):
    return Namespace(
        result_dir=tmp_path,
        dataset="toy",
        data_dir="dataset/toy",
        image_size=64,
        gan_weights="G.ckpt",
        gan_type="stargan",
        gan_style=None,
        defense_noise=None,
        adv_gan_weights=None,
        defense_model_type="adv-train",
        **more,
    )


def test_the_newest_finished_run_wins_and_unfinished_ones_do_not_count(tmp_path):
    finish(tmp_path, "ddpm", "toy", "train", "none-eps0", "000", age=50)
    newer = finish(tmp_path, "ddpm", "toy", "train", "pgd-eps0.05", "000", age=10)
    (tmp_path / "ddpm/toy/train/none-eps0/001").mkdir()
    assert newest_training(tmp_path, "ddpm", "toy") == newer
    assert newest_training(tmp_path, "ddpm", "toy", "none").parent.parent.name == "none-eps0"
    assert newest_training(tmp_path, "ddpm", "other") is None


def test_a_variant_is_found_by_its_full_name_alone(tmp_path):
    whole = finish(tmp_path, "one-step", "toy", "train", "pgd-eps0.11", "000", age=50)
    variant = finish(tmp_path, "one-step", "toy", "train", "pgd-eps0.11-fake0", "000", age=10)
    for noise in (None, "pgd", "pgd-eps0.11"):
        assert newest_training(tmp_path, "one-step", "toy", noise) == whole
    assert newest_training(tmp_path, "one-step", "toy", "pgd-eps0.11-fake0") == variant


def test_diffpure_and_one_step_plain_use_the_ddpm_network(tmp_path):
    path = finish(tmp_path, "ddpm", "toy", "train", "none-eps0", "000")
    assert {weights_of(d, args(tmp_path)) for d in ("ddpm", "diffpure", "one-step-plain")} == {str(path)}
    assert weights_of("jpeg", args(tmp_path)) is None


def test_ordinary_and_adversarial_translators_are_told_apart(tmp_path):
    finish(tmp_path, "stargan", "toy", "train", "standard", "000")
    assert newest_translator(tmp_path, "toy").parent.parent.name == "standard"
    with pytest.raises(UserError, match="--adversarial both"):
        adversarial_translator_of(args(tmp_path))
    adversarial = finish(tmp_path, "stargan", "toy", "train", "adv-both", "000")
    assert adversarial_translator_of(args(tmp_path)) == str(adversarial)


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(
        UserError,
        match=(
            "train_defense.py --defense_model_type one-step --gan_weights G.ckpt --data_dir dataset/toy"
            " --image_size 64"
        ),
    ):
        weights_of("one-step", args(tmp_path))


def test_the_default_translator_is_the_newest_ordinary_one(tmp_path):
    with pytest.raises(
        UserError,
        match=(
            "--gan_weights FILE is needed: .*python -m models.stargan.train --data_dir dataset/toy"
            " --image_size 64"
        ),
    ):
        default_translator(args(tmp_path))
    finish(tmp_path, "stargan", "toy", "train", "standard", "000", age=50)
    newer = finish(tmp_path, "stargan", "toy", "train", "standard", "001", age=20)
    finish(tmp_path, "stargan", "toy", "train", "adv-both", "000")
    finish(tmp_path, "stargan", "other", "train", "standard", "000")
    assert default_translator(args(tmp_path)) == str(newer)


@pytest.fixture
def parsed(tmp_path):
    """parse(words) -> flags as a script has them, over results that hold two translators and a ddpm."""
    gan = translator(tmp_path / "gan.safetensors")
    for parts, make in (
        (("stargan", "toy", "train", "adv-both"), lambda path: translator(path, conv_dim=8)),
        (("ddpm", "toy", "train", "pgd-eps0.05"), lambda path: weights_file(path, image_size=32)),
    ):
        folder = tmp_path.joinpath("results", *parts, "000")
        folder.mkdir(parents=True)
        make(folder / "weights.safetensors")

    def parse(*words):
        p = cli.ArgumentParser(prog="x")
        add_data_flags(p, image_size=32)
        add_purifier_flags(p, DEFENCES, default="none")
        p.set_defaults(
            dataset="toy",
            result_dir=str(tmp_path / "results"),
            gan_weights=str(gan),
            gan_type="stargan",
            gan_style=None,
            adv_gan_weights=None,
            defense_noise=None,
        )
        return p.parse_args(list(words))

    return parse


def test_a_defence_without_weights_uses_the_standard_translator(parsed):
    purifier, weights, standard, used = load_defence(
        parsed("--defense_model_type", "jpeg", "--jpeg_quality", "40"), CPU
    )
    assert (
        (purifier.name, purifier.params, weights) == ("jpeg", {"quality": 40}, None)
        and used is standard
        and standard.network.conv_dim == 4
    )


def test_a_defence_uses_the_newest_training_or_the_weights_that_are_named(parsed, tmp_path):
    purifier, weights, _, _ = load_defence(
        parsed("--defense_model_type", "ddpm", "--ddpm_start_num", "3"), CPU
    )
    assert (
        weights == str(tmp_path / "results/ddpm/toy/train/pgd-eps0.05/000/weights.safetensors")
        and purifier.params["start"] == 3
    )
    mine = weights_file(tmp_path / "mine.safetensors", image_size=32, note="another file")
    named, weights, _, _ = load_defence(
        parsed("--defense_model_type", "ddpm", "--defense_weights", str(mine)), CPU
    )
    assert weights == str(mine) and named.sha256 != purifier.sha256


@pytest.mark.parametrize(
    "name, purifier", [("adv-train", "none"), ("adv-train-blur", "blur"), ("both", "ddpm")]
)
def test_adversarial_defences_have_a_translator_of_their_own(parsed, name, purifier):
    found, weights, standard, used = load_defence(parsed("--defense_model_type", name), CPU)
    assert found.name == purifier and (weights is None) == (purifier != "ddpm")
    assert (standard.network.conv_dim, used.network.conv_dim) == (4, 8) and standard.sha256 != used.sha256


@pytest.mark.parametrize(
    "words, message",
    [
        (["--image_size", "30"], "--image_size 30: these networks take multiples of 4, 28 for example"),
        (["--image_size", "3"], "multiples of 4, 4 for example"),
        (["--selected_attrs", "Male", "Young"], "knows 5 attributes, --selected_attrs names 2"),
        (["--defense_model_type", "one-step"], "one-step has no finished training"),
        (["--defense_model_type", "jpeg", "--defense_weights", "x"], "jpeg has no weights"),
    ],
)
def test_what_does_not_fit_together_is_one_line(parsed, words, message):
    with pytest.raises(UserError, match=message):
        load_defence(parsed(*words), CPU)


def test_the_disruption_that_weights_were_trained_on(tmp_path):
    """The run folder says it, whatever the file; a file that was moved says it itself, or is known by its
    name."""
    assert trained_noise(None) == "none"
    assert trained_noise(tmp_path / "ddpm/toy/train/pgd-eps0.05/000/weights.safetensors") == "pgd-eps0.05"
    assert trained_noise(str(tmp_path / "ddpm/toy/train/none-eps0/002/last.pt")) == "none-eps0"
    checkpoint.save_weights(
        tmp_path / "mine.safetensors", {"a": torch.zeros(1)}, {"attack": "pgd", "eps": 0.0500}
    )
    checkpoint.save_weights(tmp_path / "official.safetensors", {"a": torch.zeros(1)}, {})
    assert (
        trained_noise(tmp_path / "mine.safetensors") == "pgd-eps0.05"
        and trained_noise(tmp_path / "official.safetensors") == "official"
    )
    with pytest.raises(UserError, match="no such weight file"):
        trained_noise(tmp_path / "gone.safetensors")
