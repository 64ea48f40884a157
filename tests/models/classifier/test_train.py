import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common import checkpoint
from common.cli import UserError
from faces.celeba import Attributes, write_attributes
from models.classifier import train
from models.classifier.network import load_classifier
from models.stargan.network import Generator

NAMES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
TINY = [
    "--image_size",
    "16",
    "--celeba_crop_size",
    "32",
    "--batch_size",
    "4",
    "--num_steps",
    "3",
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
    return tmp_path / "results" / "classifier" / "data" / "train" / "standard" / number


def translator(tmp_path, c_dim=5):
    torch.manual_seed(0)
    net = Generator(4, c_dim, 1)
    checkpoint.save_weights(
        tmp_path / "g.safetensors", net.state_dict(), {"kind": "stargan-generator", "attributes": NAMES}
    )
    return str(tmp_path / "g.safetensors")


def test_a_training_its_files_and_its_resume(command, tmp_path, monkeypatch, capsys):
    train.main(command())
    run = folder(tmp_path)
    assert {p.name for p in run.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "previous.pt",
        "weights.safetensors",
    }
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
    assert set(lines[-1]) == {"step"} | {f"accuracy_{n}" for n in NAMES} and all(
        0 <= lines[-1][f"accuracy_{n}"] <= 1 for n in NAMES
    )
    net = load_classifier(run / "weights.safetensors")
    assert net.attributes == NAMES and net.options == {"c_dim": 5, "width": 16, "image_size": 16}

    get = train.Batches.get

    def dies(self, step):
        if step == 2:
            raise MemoryError
        return get(self, step)

    monkeypatch.setattr(train.Batches, "get", dies)
    with pytest.raises(MemoryError):
        train.main(command())
    monkeypatch.undo()
    train.main(command("--resume"))
    assert (folder(tmp_path, "001") / "weights.safetensors").read_bytes() == (
        run / "weights.safetensors"
    ).read_bytes()
    capsys.readouterr()
    train.main(command("--resume"))
    assert "nothing to do" in capsys.readouterr().out and not folder(tmp_path, "002").exists()


def test_it_learns_which_photos_are_bright(command, tmp_path):
    photos = tmp_path / "data" / "images_a"
    bright = np.arange(12)[:, None] % 2
    for k in range(12):
        Image.new("RGB", (40, 48), (200, 180, 190) if bright[k, 0] else (60, 50, 40)).save(
            photos / f"{k + 1:06d}.png"
        )
    write_attributes(
        photos / "list_attr_celeba.txt",
        Attributes([f"{k + 1:06d}.png" for k in range(12)], ["Male"], bright.astype(np.int8)),
    )
    train.main(
        command(
            "--num_steps",
            "40",
            "--lr",
            "0.005",
            "--log_step",
            "1",
            "--save_step",
            "40",
            "--selected_attrs",
            "Male",
            "--ema",
            "0.5",
        )
    )
    lines = [json.loads(line) for line in (folder(tmp_path) / "log.jsonl").read_text().splitlines()]
    assert lines[39]["loss"] < 0.5 * lines[0]["loss"] and lines[-1]["accuracy_Male"] == 1


class Faces:
    """As faces.celeba.FaceFolder, with images that are their labels."""

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def floats(self, rows):
        return self.labels[list(rows)][:, :, None, None]


class Reader(nn.Module):
    """Logits are the picture, shifted: 0 becomes -1, 1 becomes +1."""

    attributes = NAMES

    def forward(self, x):
        return 2 * x[:, :, 0, 0] - 1


def test_accuracy_counts_signs():
    labels = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 0, 1, 1]])
    faces = Faces(labels)
    assert train.accuracy(Reader(), faces, "cpu").tolist() == [1] * 5
    faces.labels, faces.floats = labels, lambda rows: (1 - labels)[list(rows)][:, :, None, None]
    assert train.accuracy(Reader(), faces, "cpu").tolist() == [0] * 5


def test_agreement_of_an_obedient_a_deaf_and_a_lazy_translator():
    # 2 black, 1 blond, 1 brown; all men, none young
    faces = Faces(torch.eye(5)[[0, 1, 2, 0]] + torch.tensor([0.0, 0, 0, 1, 0]))

    def share(translate):
        return train.agreement(Reader(), translate, NAMES, faces, "cpu").tolist()

    assert share(lambda x, c: c[:, :, None, None]) == [1] * 5
    # right where the photo had that colour anyway
    assert share(lambda x, c: x) == [0.5, 0.25, 0.25, 0, 0]
    # hair: the strongest logit counts, not its sign
    half = torch.tensor([1.0, 0.4, 0.4, 1, 1])
    assert share(lambda x, c: (c * half)[:, :, None, None]) == [1] * 5


def test_judge_prints_the_agreement_and_writes_nothing(command, tmp_path, capsys):
    train.main(command())
    weights, before = str(folder(tmp_path) / "weights.safetensors"), sorted(tmp_path.rglob("*.*"))
    path = translator(tmp_path)
    capsys.readouterr()
    train.main(command("--judge", path, "--classifier_weights", weights))
    found = json.loads(capsys.readouterr().out)
    assert (
        found["photos"] == 2
        and list(found["agreement"]) == NAMES
        and all(0 <= v <= 1 for v in found["agreement"].values())
    )
    assert found["hair_colour"] == pytest.approx(sum(list(found["agreement"].values())[:3]) / 3, abs=1e-3)
    assert set(tmp_path.rglob("*.*")) - set(before) == {tmp_path / "g.safetensors"}
    for flags, words in (
        (["--judge", weights], "expected a StarGAN generator"),
        (["--judge", translator(tmp_path, 3)], "knows 3 attributes"),
        (["--judge", str(tmp_path / "none")], "no such weight file"),
    ):
        with pytest.raises(UserError, match=words):
            train.main(command(*flags, "--classifier_weights", weights))
    with pytest.raises(
        UserError, match="expected an attribute classifier of this project, found stargan-generator"
    ):
        train.main(command("--judge", path, "--classifier_weights", path))


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--limit", "1"], "1 photo to learn from is too few"),
        (["--selected_attrs", "Hat"], "Hat"),
        (["--lr", "0"], "--lr"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(command, tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        train.main(command(*flags))
    assert not (tmp_path / "results").exists()


def test_a_dry_run_writes_nothing(command, tmp_path):
    train.main(command("--dry_run"))
    assert not (tmp_path / "results").exists()
