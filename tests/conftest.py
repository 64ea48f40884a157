"""Tiny networks and eight smooth faces-like images that all tests share; everything is seeded and runs on the
CPU."""

import numpy as np
import pytest
import torch
from PIL import Image

from common import images, seeds
from faces.celeba import Attributes, write_attributes
from models.stargan.network import Generator

RECORDER = """#!/bin/sh
line=$(printf '%s\\037' "$@"); printf '%s\\n' "$line" >> "$RECORD"  # in one write: two may record at once
case " $* " in *" --dry_run "*) exit "${DRY_RUN_CODE:-0}" ;; esac
"""
ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


def smooth_images(n, size=32, seed=0):
    """(n, 3, size, size) smooth random images on the 8-bit grid, in [-1, 1]."""
    x = torch.rand(n, 3, 4, 4, generator=seeds.generator("smooth", seed)) * 1.6 - 0.8
    return images.quantise(torch.nn.functional.interpolate(x, size=(size, size), mode="bicubic").clamp(-1, 1))


def labels(n, seed=0):
    """(n, 5) label sets in {0, 1} with one hair colour each."""
    c = (torch.rand(n, 5, generator=seeds.generator("labels", seed)) > 0.5).float()
    c[:, :3] = torch.eye(3)[torch.arange(n) % 3]
    return c


@pytest.fixture
def faces():
    """faces(n, size) -> images, labels."""
    return lambda n=8, size=32, seed=0: (smooth_images(n, size, seed), labels(n, seed))


@pytest.fixture
def tiny_generator():
    """A seeded StarGAN generator with 4 base channels and 1 residual block, parameters frozen."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Generator(conv_dim=4, c_dim=5, repeat_num=1)
    for p in network.parameters():
        p.requires_grad_(False)
        if p.ndim > 1:
            p.mul_(3)  # untrained layers shrink their input; a translator that does something is wanted
    return network.eval()


@pytest.fixture
def face_folder(tmp_path):
    """make(n) -> a folder in CelebA's layout: 000001.png ... (40 x 48) and list_attr_celeba.txt with the five
    columns."""

    def make(n=8, folder=None):
        folder = folder or tmp_path / "photos"
        folder.mkdir(parents=True, exist_ok=True)
        x, c = images.to_uint8(smooth_images(n, 48)), labels(n)
        names = [f"{i + 1:06d}.png" for i in range(n)]
        for name, image in zip(names, x, strict=True):
            Image.fromarray(image[:, 4:44]).save(folder / name)
        write_attributes(
            folder / "list_attr_celeba.txt", Attributes(names, ATTRIBUTES, c.numpy().astype(np.int8))
        )
        return folder

    return make


@pytest.fixture
def workplace(tmp_path):
    """A folder with what the shell scripts look for, and a recorder in place of Python (recorded.run)."""
    (tmp_path / "photos" / "images").mkdir(parents=True)  # what the scripts look for
    for name in ("photos/list_attr_celeba.txt", "G.ckpt", "perturbation.pt", "inception.pth"):
        (tmp_path / name).write_text("")
    # of terd.sh: backdoors go on from benign networks
    zoo = tmp_path / "results" / "terd" / "diffusion" / "terd-faces" / "train"
    for name, number, seed in (
        ("benign-16", 0, 0),
        ("benign-16", 1, 1),
        ("benign-16", 2, 2),
        ("benign-16-ve", 0, 0),
        *(("benign-16-t300", k, k) for k in range(3)),
        ("benign-32", 0, 0),
        ("benign-64-ch32x1-2-2", 0, 0),
        ("baddiffusion-box-hat-rate0.5-16-tuned", 0, 0),
        ("villan-box-hat-rate0.5-16-tuned", 0, 0),
    ):
        run_folder = zoo / name / f"{number:03d}"
        run_folder.mkdir(parents=True)
        (run_folder / "options.yaml").write_text(f"options:\n  seed: {seed}\n")
        (run_folder / "weights.safetensors").write_text("")
    recorder = tmp_path / "python"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    return tmp_path
