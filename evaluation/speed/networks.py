"""Networks of the published sizes with random weights, as files: they are loaded as trained ones are."""

from pathlib import Path

import torch
from torch import nn

from common import checkpoint, seeds
from faces.flags import ATTRIBUTES
from models.diffusion import build
from models.stargan.network import Generator

STARGAN = {"conv_dim": 64, "c_dim": 5, "repeat_num": 6}  # of Choi et al. 2018, and of the official weights
MAX_TIMESTEP = 300  # of the diffusion network, as train_defense.py trains it


def write_networks(folder: Path, image_size: int, seed: int, stargan: dict | None = None) -> dict[str, Path]:
    """{"stargan", "diffusion", "one-step"}: weight files in `folder`, made where they are not there yet.

    Args:  image_size  decides the diffusion network, by train_defense.py's own defaults
           stargan     conv_dim, c_dim and repeat_num of another translator than the published one
    """
    stargan = stargan or STARGAN
    options = build.options_for(image_size)
    diffusion = {"options": options, "image_size": image_size, "max_timestep": MAX_TIMESTEP}
    translator = {
        "kind": "stargan-generator",
        "attributes": ATTRIBUTES[: stargan["c_dim"]],
        "image_size": image_size,
        "options": stargan,
    }
    makers = {
        "stargan": (lambda: Generator(**stargan), translator),
        "diffusion": (lambda: build.create_network(options), {"kind": "diffusion", **diffusion}),
        "one-step": (lambda: build.create_network(options), {"kind": "one-step", **diffusion}),
    }
    paths = {name: folder / f"{name}.safetensors" for name in makers}
    for name, (make, meta) in makers.items():
        if not paths[name].exists():
            checkpoint.save_weights(paths[name], _seeded(make, seed, name).state_dict(), meta)
    return paths


def _seeded(make, seed, name) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(seed, "benchmark", name))
        return make()
