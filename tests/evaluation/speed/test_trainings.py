"""Steps taken out of trainings: they are the trainings' own."""

import pytest
import torch

from common import distributed, training
from common.cli import UserError
from evaluation.speed import trainings
from faces.celeba import FaceFolder
from faces.flags import ATTRIBUTES
from models.stargan.step import Step

CPU = distributed.Context(0, 1, torch.device("cpu"))
FLAGS = "--image_size 64 --celeba_crop_size 40 --batch_size 2 --device cpu"


@pytest.fixture
def faces(face_folder, tmp_path):
    return FaceFolder(face_folder(4), ATTRIBUTES, 40, 64, cache_dir=tmp_path / "crops")


def test_a_step_is_what_a_training_hands_to_its_loop():
    def train(ctx):
        training.loop(None, None, ctx, {}, lambda i: {"loss": i + ctx})
        raise AssertionError("a training goes no further than its loop")

    loop = training.loop
    assert trainings.take_step(train, 5)(2) == {"loss": 7} and training.loop is loop
    with pytest.raises(RuntimeError, match="has no loop"):
        trainings.take_step(lambda: None)


def test_stargans_step_is_its_trainers(faces, tmp_path):
    words = [*FLAGS.split(), "--g_conv_dim", "4", "--d_conv_dim", "4", "--g_repeat_num", "1"]
    step = trainings.stargan_training_step(words, faces, CPU, tmp_path)
    assert isinstance(step, Step) and step.options.n_critic == 5 and step.disrupt is None
    before = [p.clone() for p in step.G.parameters()]
    assert set(step(0)) == {"d_real", "d_fake", "d_cls", "d_gp"}
    assert "g_rec" in step(4)  # the fifth trains the generator
    assert any(not torch.equal(a, b) for a, b in zip(before, step.G.parameters(), strict=True))
    assert not list(tmp_path.glob("last.pt"))


def test_an_autoencoders_step_learns(faces, tmp_path):
    words = [*FLAGS.split(), "--defense_model_type", "defensive-model-1-fixed"]
    step = trainings.defense_step(words, faces, None, CPU, tmp_path)
    assert step(0)["loss"] > 0


def test_a_detectors_step_learns_from_photos_half_of_which_are_called_fakes(faces, tmp_path):
    step = trainings.detector_step([*FLAGS.split(), "--detector", "meso4"], faces, CPU, tmp_path)
    assert step(0)["epoch"] == step(7)["epoch"] == 0


def test_a_wrong_flag_is_the_commands_own_error():
    with pytest.raises(UserError, match="train_defense.py: unknown argument --batch_sizes"):
        trainings.parse_script("train_defense.py", ["--defense_model_type", "ddpm", "--batch_sizes", "3"])
