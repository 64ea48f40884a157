"""Tiny weight files for the tests that run whole scripts; loaded with runpy, so that no test package is needed."""
import torch

from common import checkpoint
from models.classifier.network import AttributeClassifier
from models.diffusion import build
from models.stargan.network import Generator

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
    checkpoint.save_weights(path, network.state_dict(), {"kind": "stargan-generator", "attributes": ATTRIBUTES, "image_size": 32,
                                                         "options": {"conv_dim": conv_dim, "c_dim": c_dim, "repeat_num": 1}})
    return path


def diffusion(path, kind="diffusion", image_size=32):
    """A diffusion network of one level whose output layer is not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        options = build.options_for(image_size, channel_mult="1", num_res_blocks=1)
        network = build.create_network(options)
        with torch.no_grad():
            for p in network.out.parameters():
                p.normal_(0, 0.1)
    checkpoint.save_weights(path, network.state_dict(), {"kind": kind, "options": options, "image_size": image_size, "max_timestep": 300})
    return path


def classifier(path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = AttributeClassifier(5, 8, 32)
    checkpoint.save_weights(path, network.state_dict(), {"kind": "classifier", "options": network.options, "attributes": ATTRIBUTES})
    return path
