"""Tiny weight files for the tests that run whole scripts."""

import torch

from common import checkpoint
from models.classifier.network import AttributeClassifier
from models.dadfi.network import Perturber
from models.diffusion import build
from models.stargan.network import Generator
from models.stgan.network import Generator as EditingGenerator

ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


def translator(path, conv_dim=4, c_dim=5):
    """A StarGAN generator that does something to its input, trained on nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Generator(conv_dim, c_dim, 1)
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim > 1:
                p.mul_(3)
    checkpoint.save_weights(
        path,
        network.state_dict(),
        {
            "kind": "stargan-generator",
            "attributes": ATTRIBUTES[:c_dim],
            "image_size": 32,
            "options": {"conv_dim": conv_dim, "c_dim": c_dim, "repeat_num": 1},
        },
    )
    return path


def diffusion(path, kind="diffusion", image_size=32, channel_mult=None):
    """A diffusion network whose output layer is not zero. The attention in its middle is over all pixels of
    the last level: 16 x 16 at most where `channel_mult` does not say otherwise."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        mult = channel_mult or ("1" if image_size <= 16 else "1,1")
        options = build.options_for(image_size, channel_mult=mult, num_res_blocks=1)
        network = build.create_network(options)
        with torch.no_grad():
            for p in network.out.parameters():
                p.normal_(0, 0.1)
    checkpoint.save_weights(
        path,
        network.state_dict(),
        {"kind": kind, "options": options, "image_size": image_size, "max_timestep": 300},
    )
    return path


def classifier(path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = AttributeClassifier(5, 8, 32)
    checkpoint.save_weights(
        path,
        network.state_dict(),
        {"kind": "classifier", "options": network.options, "attributes": ATTRIBUTES},
    )
    return path


def stgan(path, image_size=32, attributes=("Male", "Young")):
    """An STGAN generator of two halvings, trained on nothing, that knows other attributes than the
    translator."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = EditingGenerator(8, len(attributes), 2)
    checkpoint.save_weights(
        path,
        network.state_dict(),
        {"kind": "stgan-generator", "attributes": list(attributes), "image_size": image_size},
    )
    return path


def dadfi(path, victims=("stargan",), finetuning=True, image_size=32):
    """A perturbation generator, trained on nothing, that says that it was trained against translators of
    these names."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = Perturber(conv_dim=4)
    checkpoint.save_weights(
        path,
        network.state_dict(),
        {
            "kind": "dadfi",
            "lim": 0.05,
            "bound": "tanh",
            "image_size": image_size,
            "options": {"conv_dim": 4},
            "finetuning": finetuning,
            "victims": [{"gan": name, "sha256": "c" * 64, "attributes": ATTRIBUTES} for name in victims],
        },
    )
    return path
