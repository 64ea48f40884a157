"""A small attribute classifier: judges translations and gives the named features of `frechet` where no
Inception weights are."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common import checkpoint, files, state_dicts
from common.cli import UserError

SHIPPED = Path(__file__).with_name("demo.safetensors")


class AttributeClassifier(nn.Module):
    """Four strided convolutions, global average pooling, 64 features, one logit per attribute.

    Shape:  x (N, 3, H, W) in [-1, 1], resized to image_size -> logits (N, c_dim); features(x) -> (N, 64)
    """

    num_features = 64

    def __init__(self, c_dim: int = 5, width: int = 16, image_size: int = 64):
        super().__init__()
        self.options = {"c_dim": c_dim, "width": width, "image_size": image_size}
        self.image_size = image_size
        layers, d = [], 3
        for k in (1, 2, 4, 4):
            layers += [
                nn.Conv2d(d, k * width, 3, 2, 1),
                nn.GroupNorm(8, k * width),
                nn.ReLU(inplace=True),
                nn.Conv2d(k * width, k * width, 3, 1, 1),
                nn.GroupNorm(8, k * width),
                nn.ReLU(inplace=True),
            ]
            d = k * width
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Linear(d, self.num_features)
        self.head = nn.Linear(self.num_features, c_dim)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate layer, (N, 64)."""
        if x.shape[-2:] != (self.image_size, self.image_size):
            x = F.interpolate(
                x,
                size=(self.image_size, self.image_size),
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )
        return F.relu(self.hidden(self.body(x).mean(dim=(2, 3))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def load_classifier(
    path: Path | str | None = None, device: torch.device | str = "cpu"
) -> AttributeClassifier:
    """The classifier of a weight file, frozen; None = the shipped one, trained on drawn faces.  Raises
    UserError."""
    path = Path(path or SHIPPED)
    state, meta = checkpoint.read_weights(path)
    if meta.get("kind") != "classifier":
        raise UserError(
            f"{path}: expected an attribute classifier of this project, found"
            f" {meta.get('kind') or 'other weights'}"
        )
    network = state_dicts.rebuilt(AttributeClassifier, meta.get("options", {}), state, path, "a classifier")
    network.attributes, known = meta.get("attributes") or [], network.options["c_dim"]
    if len(network.attributes) != known:
        raise UserError(
            f"{path}: its weights do not fit the network its header describes"
            f" ({len(network.attributes)} names for {known} logits); train it again"
        )
    network.sha256 = files.sha256(path)
    return network.eval().requires_grad_(False).to(device)
