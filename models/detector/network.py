"""Detectors of deepfakes: torchvision's networks, most of them under the tutorial's head, and Meso4 for small
machines. Class 1 is fake.

A detector is a class and a line of DETECTORS; what the class declares says how it is trained and shown.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common import checkpoint, files, registry, state_dicts
from common.cli import RunError, UserError
from common.declared import Look

CLASSES = ("real", "fake")  # 0, 1: in every file and figure
THRESHOLD = 0.5  # p from here on means fake
# of photos in [0, 1], what torchvision's weights expect
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# pixels: smaller photos are enlarged for torchvision's networks, as in the tutorial
LEAST_SIDE = 96
# features, ImageNet's own head
TORCHVISION = {
    "mobilenet_v2": (1280, "classifier."),
    "resnet18": (512, "fc."),
    "efficientnet_b0": (1280, "classifier."),
    "vit_b_16": (768, "heads."),
    "vit_b_32": (768, "heads."),
}
DETECTORS = {
    "meso4": "models.detector.network:Meso4",
    "mobilenet_v2": "models.detector.network:MobileNetV2",
    "resnet18": "models.detector.network:ResNet18",
    "efficientnet_b0": "models.detector.network:EfficientNetB0",
    "residual": "models.detector.residual:Residual",
    "vit_b_16": "models.detector.transformer:ViTB16",
    "vit_b_32": "models.detector.transformer:ViTB32",
}
BASES = ("frozen", "finetuned", "scratch", "layernorm")


class Base(nn.Module):
    """The network below a detector's head: made with the side of what it sees, pixels; (N, 3, side, side) in
    [-1, 1] -> (N, num_features).

    look        how tables and plots show the detector
    imagenet    whether torchvision has ImageNet weights for its `network`
    layernorms  whether it has LayerNorms, that can be trained alone
    """

    look: Look
    imagenet = layernorms = False
    num_features: int

    @staticmethod
    def side_of(image_size: int) -> int:
        """The side of what it sees of photos of that side, pixels."""
        return image_size

    @staticmethod
    def head(num_features: int) -> nn.Module:
        """(N, num_features) -> logits (N, 2)."""
        return tutorial_head(num_features)


class Meso4(Base):
    """Four convolutions with batch normalisation and pooling, 16 hidden units; 28 thousand parameters at 256
    pixels.

    Shape:  x (N, 3, S, S) in [-1, 1], S a multiple of 32 -> (N, 16 (S / 32)^2)
    Source: Afchar et al. 2018 (arXiv:1809.00888), fig. 4. Theirs ends in one sigmoid, ours in two logits,
            which is the same function.
    """

    look = Look("meso4", "#8451c9", 0)
    channels = 3  # of what the first convolution sees

    def __init__(self, size: int) -> None:
        super().__init__()
        layers = []
        for d_in, d_out, kernel, pool in (
            (self.channels, 8, 3, 2),
            (8, 8, 5, 2),
            (8, 16, 5, 2),
            (16, 16, 5, 4),
        ):
            layers += [
                nn.Conv2d(d_in, d_out, kernel, padding=kernel // 2),
                nn.ReLU(inplace=True),
                nn.BatchNorm2d(d_out),
                nn.MaxPool2d(pool),
            ]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.num_features = 16 * (size // 32) ** 2

    @staticmethod
    def side_of(image_size: int) -> int:
        return max(32, -(-image_size // 32) * 32)

    @staticmethod
    def head(num_features: int) -> nn.Module:
        return meso_head(num_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Trunk(Base):
    """A torchvision network without its classes, then global average pooling: (N, 3, S, S) normalised for
    ImageNet -> (N, num_features)."""

    imagenet = True

    def __init__(self, name: str, **how: object) -> None:
        super().__init__()
        network = getattr(import_module("torchvision.models"), name)(weights=None, **how)
        self.num_features, classes = TORCHVISION[name]
        setattr(network, classes[:-1], nn.Identity())
        self.network, self.name = network, name
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    @staticmethod
    def side_of(image_size: int) -> int:
        return max(image_size, LEAST_SIDE)

    def fitted(self, state: dict) -> dict:
        """torchvision's state_dict of such a network, as this one's size takes it."""
        return state

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Photos in [-1, 1] as ImageNet's weights expect them."""
        return ((x + 1) / 2 - self.mean) / self.std

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """(N, num_features, h, w) of normalised images."""
        n = self.network
        if self.name != "resnet18":
            return n.features(x)
        return n.layer4(n.layer3(n.layer2(n.layer1(n.maxpool(n.relu(n.bn1(n.conv1(x))))))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maps(self.normalised(x)).mean(dim=(2, 3))


class MobileNetV2(Trunk):
    """Sandler et al. 2018 (arXiv:1801.04381)."""

    look = Look("mobilenet_v2", "#1f6fc4", 1)

    def __init__(self, size: int) -> None:
        super().__init__("mobilenet_v2")


class ResNet18(Trunk):
    """He et al. 2015 (arXiv:1512.03385)."""

    look = Look("resnet18", "#14843c", 2)

    def __init__(self, size: int) -> None:
        super().__init__("resnet18")


class EfficientNetB0(Trunk):
    """Tan and Le 2019 (arXiv:1905.11946)."""

    look = Look("efficientnet_b0", "#e8850c", 3)

    def __init__(self, size: int) -> None:
        super().__init__("efficientnet_b0")


def base_class(name: str) -> type[Base]:
    """What a name stands for.  Raises UserError for an unknown one."""
    if name not in DETECTORS:
        raise UserError(f"{name}: not a detector; one of {', '.join(DETECTORS)}")
    return registry.load(DETECTORS[name])


def looks() -> dict[str, Look]:
    """Detector -> its look in tables and plots."""
    return {name: base_class(name).look for name in DETECTORS}


def takes_imagenet(name: str) -> bool:
    """Whether there are ImageNet weights of a detector's base."""
    return base_class(name).imagenet


def tunes_layernorms(name: str) -> bool:
    """Whether a detector's base has LayerNorms, that can be trained alone."""
    return base_class(name).layernorms


def check_base(name: str, base: str) -> None:
    """Raises UserError for an unknown detector, an unknown way to train its base, and one that it cannot be
    trained in."""
    if base not in BASES:
        raise UserError(f"{base}: not a way to train a base; one of {', '.join(BASES)}")
    if base == "layernorm" and not tunes_layernorms(name):
        raise UserError(
            f"--base layernorm: {name} has no LayerNorms; {', '.join(filter(tunes_layernorms, DETECTORS))} do"
        )


def tutorial_head(num_features: int) -> nn.Module:
    """512 relu, batch norm, dropout .3, 128 relu, dropout .1, 2 classes: behind MobileNetV2 723,842 numbers,
    1,024 of them running statistics."""
    return nn.Sequential(
        nn.Linear(num_features, 512),
        nn.ReLU(),
        nn.BatchNorm1d(512),
        nn.Dropout(0.3),
        nn.Linear(512, 128),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(128, len(CLASSES)),
    )


def meso_head(num_features: int) -> nn.Module:
    """Dropout .5, 16 leaky units, dropout .5, 2 classes (Afchar et al. 2018)."""
    return nn.Sequential(
        nn.Dropout(0.5),
        nn.Linear(num_features, 16),
        nn.LeakyReLU(0.1),
        nn.Dropout(0.5),
        nn.Linear(16, len(CLASSES)),
    )


class Detector(nn.Module):
    """x (N, 3, H, W) in [-1, 1] -> logits (N, 2): real, fake.

    Args:   name   of DETECTORS;  image_size  side of the photos that it is trained on
            base   frozen = ImageNet weights that stay, in eval mode for good; finetuned = they are trained
                   on; layernorm = of them the LayerNorms alone are; scratch = no weights
    Photos of another size are resized to image_size; what its network sees is at least LEAST_SIDE wide
    (Meso4: a multiple of 32; a transformer: of its patches), as its base says.
    """

    def __init__(self, name: str, image_size: int, base: str = "scratch") -> None:
        super().__init__()
        network = base_class(name)
        check_base(name, base)
        self.name, self.image_size, self.base = name, image_size, base
        self.side = network.side_of(image_size)
        self.trunk = network(self.side)
        self.head = network.head(self.trunk.num_features)
        if base in ("frozen", "layernorm"):
            self.trunk.requires_grad_(False)
        if base == "layernorm":
            for norm in (m for m in self.trunk.modules() if isinstance(m, nn.LayerNorm)):
                norm.requires_grad_(True)
        self.train(self.training)

    @property
    def options(self) -> dict:
        """What rebuilds it, JSON types."""
        return {"name": self.name, "image_size": self.image_size, "base": self.base}

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        if self.base == "frozen":
            self.trunk.eval()  # else its batch normalisation would learn the training photos
        return self

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, num_features): of a frozen base the same whenever they are asked for."""
        for side in dict.fromkeys((self.image_size, self.side)):
            if x.shape[-2:] != (side, side):
                x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        return self.trunk(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def load_detector(path: Path | str, device: torch.device | str = "cpu") -> Detector:
    """The trained detector of a weight file, frozen and in eval mode, with .sha256 and .meta.  Raises
    UserError."""
    path = Path(path)
    state, meta = checkpoint.read_weights(path)
    if meta.get("kind") != "detector":
        raise UserError(
            f"{path}: expected a detector trained by train_detector.py, found"
            f" {meta.get('kind') or 'other weights'}"
        )
    detector = state_dicts.rebuilt(Detector, meta.get("options", {}), state, path, "a detector")
    detector.sha256, detector.meta = files.sha256(path), meta
    return detector.eval().requires_grad_(False).to(device)


@torch.no_grad()
def probabilities(
    detector: nn.Module, batches: Iterable[torch.Tensor], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Probability of fake, (N,) float64 on the CPU, of an iterable of images (n, 3, H, W) in [-1, 1], or of
    what a detector's head takes.

    Leaves the mode as it was.  Raises RunError for probabilities that are not finite numbers.
    """
    training = detector.training
    detector.eval()
    parts = [detector(x.to(device)).double().softmax(1)[:, 1].cpu() for x in batches]
    detector.train(training)
    found = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
    if not found.isfinite().all():
        raise RunError(
            f"the detector answers {int((~found.isfinite()).sum())} of {len(found)} images with no finite"
            " number: train it again at a lower --lr, or give other weights"
        )
    return found
