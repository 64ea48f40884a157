"""A small classifier of labelled images: De-Pois's authenticator, the victim that poisons are made against,
and what judges a data set by what it teaches."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from common import seeds, training
from common.distributed import to_device
from faces.labelled import Labelled
from models.depois.network import seeded

BATCH = 64


class Classifier(nn.Module):
    """Strided 5 x 5 convolutions until a side is at most 8 pixels, one hidden layer.

    Shape:  (N, C, H, W) in [-1, 1] -> logits (N, K); `features` gives (N, 128), the hidden layer
    Source: the published authenticator is a LeNet; its pooling is a stride here
    """

    def __init__(self, shape: Sequence[int], num_classes: int, width: int = 16):
        super().__init__()
        channels, *sides = shape
        layers = []
        while max(sides) > 8 or not layers:
            layers += [nn.Conv2d(channels, width, 5, 2, 2), nn.ReLU()]
            channels, width, sides = width, 2 * width, [(side + 1) // 2 for side in sides]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], 128), nn.ReLU()
        )
        self.head = nn.Linear(128, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def new_classifier(shape: tuple[int, int, int], num_classes: int, seed: int) -> Classifier:
    """An untrained classifier whose weights depend on `seed` alone."""
    return seeded(lambda: Classifier(shape, num_classes), seed, "classifier")


def fit(
    labelled: Labelled,
    seed: int,
    steps: int | None = None,
    device: torch.device | str = "cpu",
    lr: float = 1e-3,
) -> Classifier:
    """A classifier trained on Labelled images by Adam, learning rate falling to 0; equal arguments give equal
    weights.  Gradients of its parameters are off.

    Args: steps  of 64 images; default: 1000, of images above 32 pixels a side 300, ten times as dear
    """
    steps = steps or (1000 if max(labelled.shape[1:]) <= 32 else 300)
    network = new_classifier(labelled.shape, len(labelled.classes), seed).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr, fused=torch.device(device).type == "cuda")
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, steps)
    x, y = labelled.floats().to(device), labelled.labels.to(device)
    draw = seeds.generator(seed, "classifier batches")
    for _ in range(steps):
        rows = to_device(torch.randint(len(y), (BATCH,), generator=draw), device)
        training.step_of(optimiser, F.cross_entropy(network(x[rows]), y[rows]))
        schedule.step()
    return network.eval().requires_grad_(False)


@torch.no_grad()
def in_batches(
    function: Callable, labelled: Labelled, device: torch.device | str = "cpu", size: int = 512
) -> torch.Tensor:
    """function(x (n, C, H, W), y (n,)) -> (n, ...) over all images in their order, on the CPU."""
    rows = [range(k, min(k + size, len(labelled))) for k in range(0, len(labelled), size)]
    return torch.cat(
        [
            function(labelled.floats(part).to(device), labelled.labels[list(part)].to(device)).float().cpu()
            for part in rows
        ]
    )


def accuracy(network: nn.Module, labelled: Labelled, device: torch.device | str = "cpu") -> float:
    """Share of images whose label is the most likely class."""
    return float(in_batches(lambda x, y: (network(x).argmax(1) == y).float(), labelled, device).mean())


def accuracy_taught(
    samples: Labelled, test: Labelled | None, seed: int, steps: int, device: torch.device | str = "cpu"
) -> float | None:
    """Accuracy on clean test images of a small classifier that learned `steps` batches of the samples.

    None without steps or a test set, or where a class is gone: what is left teaches something else.
    """
    if not steps or test is None or len(set(samples.labels.tolist())) < len(samples.classes):
        return None
    return accuracy(fit(samples, seed, steps, device), test, device)
