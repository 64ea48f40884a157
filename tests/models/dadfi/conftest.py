"""A tiny training, as all tests of it run it."""

import pytest

import attacks
import weights
from models.dadfi import train
from models.dadfi.validation import Validation
from pipeline.attacked import AttackedPhotos

TINY = [
    "--image_size",
    "32",
    "--celeba_crop_size",
    "32",
    "--conv_dim",
    "4",
    "--pgd_steps",
    "2",
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
    """command(*flags) -> the argv of a tiny training on 8 photos below `data`, results below `results`."""
    face_folder(8, tmp_path / "data" / "images_a")
    gan = weights.translator(tmp_path / "gan.safetensors")
    return lambda *flags: [
        "--data_dir",
        str(tmp_path / "data"),
        "--result_dir",
        str(tmp_path / "results"),
        "--victims",
        f"stargan={gan}",
        *TINY,
        *flags,
    ]


@pytest.fixture
def main():
    """The command with what it is handed from above."""
    return lambda argv: train.main(argv, build_attack=attacks.build, cache_attacked=AttackedPhotos)


@pytest.fixture
def folder(tmp_path):
    """folder(kind, number) -> the run folder of that training."""
    root = tmp_path / "results" / "dadfi" / "data" / "train"
    return lambda kind="stargan", number="000": root / f"{kind}-pgd_steps-2" / number


@pytest.fixture
def never_collapsed(monkeypatch):
    """Four steps are no training: what they leave is not judged."""
    monkeypatch.setattr(Validation, "finding", lambda self, network: None)
