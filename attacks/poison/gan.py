"""pGAN: a generator whose images look genuine and harm the classifier that learns from them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from attacks.base import frozen
from attacks.poison.base import Poison
from common import cli, images, seeds, training
from common.declared import Parameter
from common.distributed import to_device
from faces.labelled import Labelled
from models.depois.classifier import new_classifier
from models.depois.network import seeded

Z = 64  # length of the noise vector
BATCH = 32


def _sides(shape):
    """Height and width, halved until both are at most 8 and once at least: [(28, 28), (14, 14), (7, 7)]."""
    sides = [tuple(shape[1:])]
    while max(sides[-1]) > 8 or len(sides) == 1:
        sides.append(tuple((side + 1) // 2 for side in sides[-1]))
    return sides


class Generator(nn.Module):
    """G(z (n, Z), y (n,)) -> images (n, C, H, W) in [-1, 1] of the classes y; a class is a vector learnt
    beside z."""

    def __init__(self, shape: Sequence[int], num_classes: int, width: int = 16):
        super().__init__()
        *self.sides, (h, w) = _sides(shape)
        channels = [min(width * 2**k, 128) for k in range(len(self.sides))][::-1]
        self.classes = nn.Embedding(num_classes, Z)
        # a class as loud as z drowns it: one image a class is all that such a generator learns
        nn.init.normal_(self.classes.weight, std=0.3)
        self.start = nn.Sequential(
            nn.Linear(2 * Z, channels[0] * h * w),
            nn.Unflatten(1, (channels[0], h, w)),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        )
        self.steps = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(channels)
        )
        self.end = nn.Sequential(nn.ConvTranspose2d(channels[-1], shape[0], 4, 2, 1), nn.Tanh())

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = self.start(torch.cat([z, self.classes(y)], 1))
        for step, (h, w) in zip([*self.steps, self.end], self.sides[::-1], strict=False):
            x = step(x)[..., :h, :w]  # an odd side was rounded up when it was halved
        return x


class Discriminator(nn.Module):
    """D(x, y) -> logits (n,): genuine image of class y, or generated.  The class enters by projection (Miyato
    and Koyama 2018)."""

    def __init__(self, shape: Sequence[int], num_classes: int, width: int = 16):
        super().__init__()
        *above, (h, w) = _sides(shape)
        channels = [shape[0]] + [min(width * 2**k, 128) for k in range(len(above))]
        layers = [
            layer
            for a, b in pairwise(channels)
            for layer in (spectral_norm(nn.Conv2d(a, b, 3, 2, 1)), nn.LeakyReLU(0.2))
        ]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), spectral_norm(nn.Linear(channels[-1] * h * w, 128)), nn.LeakyReLU(0.2)
        )
        self.head = nn.Linear(128, 1)
        self.classes = nn.Embedding(num_classes, 128)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        features = self.body(x)
        return self.head(features)[:, 0] + (features * self.classes(y)).sum(1)


def train(
    labelled: Labelled,
    seed: int,
    realism: float = 0.5,
    share: float = 0.3,
    steps: int = 800,
    device: torch.device | str = "cpu",
    lr: float = 1e-3,
) -> Generator:
    """The generator of pGAN for a labelled set, in evaluation mode; equal arguments give equal weights on the
    CPU.

    min_G max_{D, C}  realism V(D, G) + (1 - realism) W(C, G),   W = -(share CE(C(G(z, y)), y) + (1 - share)
                      CE(C(x), y))

    V is the conditional GAN's objective; C minimises its loss on a mixture of genuine and generated images
    and G maximises it on its own. D and C and then G take one Adam step each in turn.

    Args:   realism  alpha of the paper, in [0, 1]: 1 = an ordinary conditional GAN;  share  lambda of the
                     paper, of the poison in C's training set
    """
    shape, num_classes = labelled.shape, len(labelled.classes)
    G, D = (
        network.to(device)
        for network in seeded(
            lambda: (Generator(shape, num_classes), Discriminator(shape, num_classes)), seed, "gan"
        )
    )
    C = new_classifier(shape, num_classes, seed).to(device)
    slow, fast = [
        torch.optim.Adam(parameters, lr, betas=(0.5, 0.999), fused=torch.device(device).type == "cuda")
        for parameters in (G.parameters(), [*D.parameters(), *C.parameters()])
    ]
    draw = seeds.generator(seed, "gan batches")
    for _ in range(steps):
        rows = torch.randint(len(labelled), (BATCH,), generator=draw)
        z = torch.randn(BATCH, Z, generator=draw)
        x, y, z = (to_device(t, device) for t in (labelled.floats(rows), labelled.labels[rows], z))
        fake = G(z, y)
        cut = fake.detach()
        loss = F.softplus(-D(x, y)).mean() + F.softplus(D(cut, y)).mean()  # -V(D, G)
        loss = loss + share * F.cross_entropy(C(cut), y) + (1 - share) * F.cross_entropy(C(x), y)
        training.step_of(fast, loss)
        with frozen(D), frozen(C):
            # The generator maximises log D(G(z, y)) instead of minimising log(1 - D(G(z, y))), which has no
            # slope where D is sure.
            loss = realism * F.softplus(-D(fake, y)).mean() - (1 - realism) * F.cross_entropy(C(fake), y)
            training.step_of(slow, loss)
    return G.eval().requires_grad_(False)


class GanPoison(Poison):
    """Rows are replaced by generated images of their label's class; labels stay.

    Args:   generator  as `train` returns it, on `device`; None = trained on the set that is poisoned, anew at
                       every call
            realism, share, gan_steps  of `train`
    Raises: ValueError for realism outside [0, 1], share outside (0, 1), gan_steps below 1
    Source: Munoz-Gonzalez et al. 2019, "Poisoning Attacks with Generative Adversarial Nets"
            (arXiv:1906.07773): the three players, the objective and its two weights, poison made from nothing
            for the label it carries. Ours: all classes at once (one conditional generator), networks and
            their sizes, projection and spectral normalisation in D, the non-saturating generator loss, W's
            factor `share` left out of it, number and size of steps, both defaults.
    """

    name = "gan"
    options = ("generator", "realism", "share", "gan_steps", "device")
    parameters = (
        Parameter(
            "gan_steps",
            "--poison_steps",
            cli.positive_int,
            None,
            "training steps of the networks that gradient and gan are made with (default: gradient 1000, gan"
            " 800)",
            metavar="N",
        ),
    )

    def __init__(
        self,
        generator: nn.Module | None = None,
        realism: float = 0.5,
        share: float = 0.3,
        gan_steps: int = 800,
        device: torch.device | str = "cpu",
    ):
        if not 0 <= realism <= 1 or not 0 < share < 1 or gan_steps < 1:
            raise ValueError(
                f"expected realism in [0, 1], share in (0, 1) and gan_steps >= 1, found {realism}, {share}"
                f" and {gan_steps}"
            )
        self.generator, self.realism, self.share, self.gan_steps, self.device = (
            generator,
            float(realism),
            float(share),
            gan_steps,
            device,
        )

    @property
    def params(self) -> dict:
        if self.generator is not None:
            return {"realism": None, "share": None, "gan_steps": None}
        return {"realism": self.realism, "share": self.share, "gan_steps": self.gan_steps}

    def change(self, labelled: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        generator = (
            train(labelled, seed, self.realism, self.share, self.gan_steps, self.device)
            if self.generator is None
            else self.generator
        )
        labels = labelled.labels[torch.from_numpy(rows)]
        z = self.streams(labelled, rows, seed).normal(torch.empty(len(rows), Z))
        with torch.no_grad():
            drawn = [
                generator(a.to(self.device), b.to(self.device)).cpu()
                for a, b in zip(z.split(512), labels.split(512), strict=True)
            ]
        return images.to_uint8(torch.cat(drawn)), labels
