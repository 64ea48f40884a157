"""De-Pois's networks: a generator of labelled images, and the conditional critic that is both the GAN's
discriminator and the mimic model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from common import checkpoint, seeds, state_dicts
from common.cli import UserError

LATENT = 100  # length of z, as published
LABEL = 64  # length of a label's embedding in the generator
KIND = "depois-mimic"
T = TypeVar("T")


class Generator(nn.Module):
    """z and a label to an image: dense up to 32 pixels a side (256, 512, then the image), from there on
    up-sampling convolutions.

    The label stands beside z. The published code multiplies z by the label's embedding, where an entry near 0
    erases the entry of z.

    Shape:  z (N, 100) standard normal, y int64 (N,) -> (N, C, H, W) in [-1, 1]
    """

    def __init__(self, shape: Sequence[int], num_classes: int, width: int = 16):
        super().__init__()
        self.shape = tuple(shape)
        channels, height, width_px = shape
        self.embed = nn.Embedding(num_classes, LABEL)
        self.dense = max(height, width_px) <= 32
        if self.dense:
            # at the usual 1 a class drowns z, and all its images are one
            nn.init.normal_(self.embed.weight, std=0.1)
            self.body = nn.Sequential(
                nn.Linear(LATENT + LABEL, 256),
                nn.LayerNorm(256),
                nn.ReLU(),
                nn.Linear(256, 512),
                nn.LayerNorm(512),
                nn.ReLU(),
                nn.Linear(512, channels * height * width_px),
                nn.Tanh(),
            )
            return
        side, wide = 4, 8 * width
        layers = [nn.Linear(LATENT + LABEL, wide * 16), nn.ReLU(), nn.Unflatten(1, (wide, 4, 4))]
        while 2 * side < max(height, width_px):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(wide, max(width, wide // 2), 3, 1, 1),
                nn.GroupNorm(4, max(width, wide // 2)),
                nn.ReLU(),
            ]
            side, wide = 2 * side, max(width, wide // 2)
        self.body = nn.Sequential(
            *layers,
            nn.Upsample((height, width_px), mode="bilinear"),
            nn.Conv2d(wide, width, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, 1, 1),
            nn.Tanh(),
        )

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        image = self.body(torch.cat([z, self.embed(y)], 1))
        return image.view(-1, *self.shape) if self.dense else image


class Critic(nn.Module):
    """D(x, y): how well an image and its label belong to the clean data; high = clean.

    Strided 4 x 4 convolutions until a side is at most 8 pixels, a hidden layer h of 256, and a projection on
    the label (Miyato & Koyama 2018, arXiv:1802.05637): D = w.h + <e_y, h>. No normalisation and no dropout:
    both would make a score depend on its neighbours or on chance. The published critic is dense and
    multiplies the image by the label's embedding, where an entry near 0 hides a pixel.

    Shape:  x (N, C, H, W) in [-1, 1], y int64 (N,) -> (N,)
    """

    def __init__(self, shape: Sequence[int], num_classes: int, width: int = 16):
        super().__init__()
        self.options = {"shape": list(shape), "num_classes": num_classes, "width": width}
        channels, *sides = shape
        layers = []
        while max(sides) > 8:
            layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            channels, width, sides = width, min(2 * width, 64), [side // 2 for side in sides]
        inputs = channels * sides[0] * sides[1]
        dense = [nn.Linear(inputs, 256), nn.LeakyReLU(0.2)] + (
            [] if layers else [nn.Linear(256, 256), nn.LeakyReLU(0.2)]
        )
        self.body = nn.Sequential(*layers, nn.Flatten(), *dense)
        self.head = nn.Linear(256, 1)
        self.label = nn.Embedding(num_classes, 256)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        h = self.body(x)
        return self.head(h).squeeze(1) + (h * self.label(y)).sum(1)


def seeded(make: Callable[[], T], *keys: object) -> T:
    """make() with weights that depend on `keys` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(*keys))
        return make()


def load_mimic(
    path: Path | str,
    device: torch.device | str = "cpu",
    shape: tuple[int, int, int] | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[Critic, dict]:
    """(Critic, meta) of a finished training, without parameter gradients.

    Raises: UserError for a file of something else, or one of another image size or other classes than `shape`
            and `classes`
    """
    tensors, meta = checkpoint.read_weights(path)
    if meta.get("kind") != KIND:
        raise UserError(
            f"{path}: holds {meta.get('kind') or 'weights without a description'}, expected {KIND} (python -m"
            " models.depois.train makes one)"
        )
    critic = state_dicts.rebuilt(Critic, meta.get("options", {}), tensors, path, "a critic")
    if shape is not None and tuple(critic.options["shape"]) != tuple(shape):
        raise UserError(
            f"{path}: a critic of images (channels, height, width) {tuple(critic.options['shape'])},"
            f" expected {tuple(shape)}"
        )
    known = list(meta.get("classes") or [])
    if classes is not None and known != list(classes):
        raise UserError(f"{path}: a critic of the classes {', '.join(known)}, expected {', '.join(classes)}")
    return critic.to(device).eval().requires_grad_(False), meta
