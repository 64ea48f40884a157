"""Without --defense_weights the newest finished training is taken; where there is none, the command that trains it is named."""
import os
from argparse import Namespace

import pytest

from common.cli import UserError
from purify.trained import adversarial_translator_of, newest_training, newest_translator, weights_of


def finish(tmp_path, *parts, age=0):
    path = tmp_path.joinpath(*parts) / "weights.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def args(tmp_path, **more):
    return Namespace(result_dir=tmp_path, dataset="toy", data_dir="dataset/toy", image_size=64, gan_weights="G.ckpt", defense_noise=None,
                     adv_gan_weights=None, defense_model_type="adv-train", **more)


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
    with pytest.raises(UserError, match="train_defense.py --defense_model_type one-step --gan_weights G.ckpt --data_dir dataset/toy --image_size 64"):
        weights_of("one-step", args(tmp_path))
