import pytest
import torch
from PIL import Image

import trainings
from common import checkpoint
from common.cli import UserError
from models.stgan import train
from models.translators import load_translator

log, killed_at = trainings.log, trainings.killed_at
TINY = [
    "--image_size",
    "16",
    "--celeba_crop_size",
    "32",
    "--g_conv_dim",
    "4",
    "--d_conv_dim",
    "4",
    "--num_layers",
    "2",
    "--d_fc_dim",
    "8",
    "--batch_size",
    "4",
    "--n_critic",
    "2",
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
    face_folder(8, tmp_path / "data" / "images_a")
    return lambda results, *flags: [
        "--data_dir",
        str(tmp_path / "data"),
        "--result_dir",
        str(tmp_path / results),
        *TINY,
        *flags,
    ]


def folder(tmp_path, results="results"):
    return tmp_path / results / "stgan" / "data" / "train" / "standard" / "000"


def test_a_training_leaves_its_files_and_a_translator_of_its_type(command, tmp_path, capsys):
    train.main(command("results", "--ema", "0.9"))
    run = folder(tmp_path)
    assert {p.name for p in run.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "previous.pt",
        "samples",
        "weights.safetensors",
    }
    assert Image.open(run / "samples" / "0000004.png").size == ((6 * 18 + 2) * 2, (18 + 2) * 2)
    lines = log(run)
    assert "g_rec" in lines[1] and "g_rec" not in lines[0]
    translator = load_translator(run / "weights.safetensors", gan_type="stgan")
    assert (
        translator.attributes[3] == "Male"
        and translator.image_size == 16
        and translator.meta["kind"] == "stgan-generator"
    )
    with pytest.raises(
        UserError, match="holds a stgan generator, asked for is stargan: give --gan_type stgan"
    ):
        load_translator(run / "weights.safetensors")
    capsys.readouterr()
    train.main(command("results", "--ema", "0.9", "--resume"))
    assert "nothing to do" in capsys.readouterr().out


def test_a_resumed_training_is_the_uninterrupted_one(command, tmp_path, monkeypatch):
    train.main(command("whole", "--ema", "0.9"))
    killed_at(3, monkeypatch, train, command("parts", "--ema", "0.9"))
    train.main(command("parts", "--ema", "0.9", "--resume"))
    whole, parts = (
        checkpoint.read_weights(folder(tmp_path, name) / "weights.safetensors")[0]
        for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)


def test_what_is_reconstructed_is_the_photo_asked_for_nothing(command, tmp_path, monkeypatch):
    """Whatever the photos' labels are, the reconstruction asks with a difference of zero, and the edit with
    target - source."""
    asked = []
    forward = train.Generator.forward
    monkeypatch.setattr(
        train.Generator, "forward", lambda self, x, c: asked.append(c.detach().clone()) or forward(self, x, c)
    )
    train.main(command("results", "--num_steps", "2", "--save_step", "5"))
    edits = [c for c in asked if c.any()]
    assert (
        any(not c.any() for c in asked)
        and edits
        and all(set(c.unique().tolist()) <= {-1.0, 0.0, 1.0} for c in edits)
    )


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--image_size", "18"], "multiple of 4"),
        (["--num_layers", "1"], "at least 2 layers"),
        (["--selected_attrs", "Hat"], "Hat"),
        (["--lr", "0"], "--lr"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(command, tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        train.main(command("results", *flags))
    assert not (tmp_path / "results").exists()


def test_a_dry_run_writes_nothing(command, tmp_path):
    train.main(command("results", "--dry_run"))
    assert not (tmp_path / "results").exists()
