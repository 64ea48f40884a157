"""Detectors of deepfakes: torchvision's networks under the tutorial's head, and Meso4 for small machines.
Class 1 is fake."""

from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common import checkpoint, files
from common.cli import UserError

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
}
NAMES = ("meso4", *TORCHVISION)
BASES = ("frozen", "finetuned", "scratch")


class Meso4(nn.Module):
    """Four convolutions with batch normalisation and pooling, 16 hidden units; 28 thousand parameters at 256
    pixels.

    Shape:  x (N, 3, S, S) in [-1, 1], S a multiple of 32 -> (N, 16 (S / 32)^2)
    Source: Afchar et al. 2018 (arXiv:1809.00888), fig. 4. Theirs ends in one sigmoid, ours in two logits,
            which is the same function.
    """

    def __init__(self, size):
        super().__init__()
        layers = []
        for d_in, d_out, kernel, pool in ((3, 8, 3, 2), (8, 8, 5, 2), (8, 16, 5, 2), (16, 16, 5, 4)):
            layers += [
                nn.Conv2d(d_in, d_out, kernel, padding=kernel // 2),
                nn.ReLU(inplace=True),
                nn.BatchNorm2d(d_out),
                nn.MaxPool2d(pool),
            ]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.num_features = 16 * (size // 32) ** 2

    def forward(self, x):
        return self.body(x)


class Trunk(nn.Module):
    """A torchvision network without its classes, then global average pooling: (N, 3, S, S) normalised for
    ImageNet -> (N, num_features)."""

    def __init__(self, name):
        super().__init__()
        network = getattr(import_module("torchvision.models"), name)(weights=None)
        self.num_features = TORCHVISION[name][0]
        if name == "resnet18":
            network.fc = network.avgpool = nn.Identity()
        else:
            network.classifier = nn.Identity()
        self.network, self.name = network, name
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def maps(self, x):
        """(N, num_features, h, w) of normalised images."""
        n = self.network
        if self.name != "resnet18":
            return n.features(x)
        return n.layer4(n.layer3(n.layer2(n.layer1(n.maxpool(n.relu(n.bn1(n.conv1(x))))))))

    def forward(self, x):
        return self.maps(((x + 1) / 2 - self.mean) / self.std).mean(dim=(2, 3))


def tutorial_head(num_features):
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


def meso_head(num_features):
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

    Args:   name   of NAMES;  image_size  side of the photos that it is trained on
            base   frozen = ImageNet weights that stay, in eval mode for good; finetuned = they are trained
                   on; scratch = no weights
    Photos of another size are resized to image_size; what its network sees is at least LEAST_SIDE wide
    (Meso4: a multiple of 32).
    """

    def __init__(self, name, image_size, base="scratch"):
        super().__init__()
        if name not in NAMES:
            raise UserError(f"{name}: not a detector; one of {', '.join(NAMES)}")
        if base not in BASES:
            raise UserError(f"{base}: not a way to train a base; one of {', '.join(BASES)}")
        self.name, self.image_size, self.base = name, image_size, base
        self.side = max(32, -(-image_size // 32) * 32) if name == "meso4" else max(image_size, LEAST_SIDE)
        self.trunk = Meso4(self.side) if name == "meso4" else Trunk(name)
        self.head = (meso_head if name == "meso4" else tutorial_head)(self.trunk.num_features)
        if base == "frozen":
            self.trunk.requires_grad_(False)
        self.train(self.training)

    @property
    def options(self):
        """What rebuilds it, JSON types."""
        return {"name": self.name, "image_size": self.image_size, "base": self.base}

    def train(self, mode=True):
        super().train(mode)
        if self.base == "frozen":
            self.trunk.eval()  # else its batch normalisation would learn the training photos
        return self

    def features(self, x):
        """(N, num_features): of a frozen base the same whenever they are asked for."""
        for side in dict.fromkeys((self.image_size, self.side)):
            if x.shape[-2:] != (side, side):
                x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        return self.trunk(x)

    def forward(self, x):
        return self.head(self.features(x))


def hub_file(name):
    """Where torchvision keeps its own ImageNet weights of a network once it has loaded them, and their
    address."""
    weights = import_module("torchvision.models").get_model_weights(name).DEFAULT
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name, weights.url


def find_imagenet_weights(name, asked=None, download=True):
    """The file of a base's weights: `asked`, or what torchvision has on this machine; None = from scratch.

    Args:    asked  a path, "imagenet" (torchvision's own, loaded from its address if need be and `download`),
                    "none", or None = torchvision's own if it is here
    Raises:  UserError for Meso4, which has none, and when the address does not answer
    """
    if name == "meso4" or asked == "none":
        if asked not in (None, "none"):
            raise UserError(
                f"--weights {asked}: there are no ImageNet weights of {name}; leave the flag out, or choose"
                f" one of {', '.join(TORCHVISION)}"
            )
        return None
    if asked not in (None, "imagenet"):
        return Path(asked)
    path, url = hub_file(name)
    if path.is_file():
        return path
    if asked is None or not download:
        return path if asked else None
    files.make_folder(path.parent)
    try:
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False
        )
    except (OSError, RuntimeError) as e:
        raise UserError(
            f"--weights imagenet: {url} cannot be loaded ({' '.join(str(e).split())[:80]}); load it elsewhere"
            " and give --weights FILE"
        ) from e
    return path


def _with_counters(state, wanted):
    """A state_dict with the counters of batch normalisation, of no use here, that older files of torchvision
    lack."""
    return {**{k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}, **state}


def recognise(state, path):
    """The name in TORCHVISION whose ImageNet weights a state_dict holds, with or without their 1,000 classes.
    Raises UserError."""
    for name, (_, classes) in TORCHVISION.items():
        wanted = Trunk(name).network.state_dict()
        found = {k: v.shape for k, v in _with_counters(state, wanted).items() if not k.startswith(classes)}
        if found == {k: v.shape for k, v in wanted.items()}:
            return name
    raise UserError(f"{path}: not torchvision's weights of {', '.join(TORCHVISION)}")


def load_imagenet(detector, path):
    """Put torchvision's ImageNet weights (.pth or safetensors, with or without their 1,000 classes) into a
    detector's base.

    Raises UserError for a file that is missing, damaged, or of another network.
    """
    state, _ = checkpoint.read_weights(path)
    state = {k: v for k, v in state.items() if not k.startswith(TORCHVISION[detector.name][1])}
    wanted = detector.trunk.network.state_dict()
    state = _with_counters(state, wanted)
    wrong = sorted(set(wanted) ^ set(state)) or [k for k in wanted if wanted[k].shape != state[k].shape]
    if wrong:
        raise UserError(
            f"{path}: not torchvision's weights of {detector.name}: {len(wrong)} tensors differ, first"
            f" {wrong[0]}; give its own file, or --weights none"
        )
    detector.trunk.network.load_state_dict(state)
    return detector


def load_detector(path, device="cpu"):
    """The trained detector of a weight file, frozen and in eval mode, with .sha256 and .meta.  Raises
    UserError."""
    path = Path(path)
    state, meta = checkpoint.read_weights(path)
    if meta.get("kind") != "detector":
        raise UserError(
            f"{path}: expected a detector trained by train_detector.py, found"
            f" {meta.get('kind') or 'other weights'}"
        )
    try:
        detector = Detector(**meta["options"])
        detector.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, UserError) as e:
        raise UserError(
            f"{path}: its weights do not fit the network its header describes"
            f" ({' '.join(str(e).split())[:80]}); train it again"
        ) from e
    detector.sha256, detector.meta = files.sha256(path), meta
    return detector.eval().requires_grad_(False).to(device)


@torch.no_grad()
def probabilities(detector, batches, device="cpu"):
    """Probability of fake, (N,) float64 on the CPU, of an iterable of images (n, 3, H, W) in [-1, 1], or of
    what a detector's head takes.

    Leaves the mode as it was.
    """
    training = detector.training
    detector.eval()
    found = [detector(x.to(device)).double().softmax(1)[:, 1].cpu() for x in batches]
    detector.train(training)
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)
