"""DADFI's networks (Yang et al., PeerJ Computer Science 10:e2356, 2024): the perturbation generator Gen and
the recognisers Ide_x and Ide_y."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common import checkpoint, files, state_dicts
from common.cli import EIGHT_BIT_STEP, UserError
from models.stargan.network import ResidualBlock, instance_norm

BOUNDS = ("tanh", "hinge")
STRIDE = 8  # three halvings


class Perturber(nn.Module):
    """Gen: a photo in, its perturbation out, in one pass.

    Args:   conv_dim  channels of the first layer (the paper gives no widths)
            lim       largest change of a pixel, [-1, 1] image units
            bound     tanh   p = lim tanh(raw), always inside
                      hinge  p = lim raw, the paper's soft bound: training sees it as it is and adds E4, use
                             clips it to +-lim
    Shape:  x (N, 3, H, W) in [-1, 1], H or W above 8 -> raw (N, 3, H, W), in units of lim. Sizes that are no
            multiples of 8 (the paper's 300, for example) are padded by reflection and cropped again.
    Source: Yang et al. 2024: 3 convolutions down, 4 residual blocks (activation after the first convolution
            alone), 3 layers up, instance normalisation after each; kernels, strides, activations and the last
            layer's form are ours.
    """

    def __init__(self, conv_dim: int = 32, lim: float = 0.05, bound: str = "tanh"):
        super().__init__()
        if bound not in BOUNDS:
            raise ValueError(f"bound {bound!r}: one of {', '.join(BOUNDS)}")
        self.conv_dim, self.lim, self.bound = conv_dim, float(lim), bound
        d, layers = conv_dim, []
        for d_in, d_out in ((3, d), (d, 2 * d), (2 * d, 4 * d)):
            layers += [
                nn.Conv2d(d_in, d_out, 4, 2, 1, bias=False),
                instance_norm(d_out),
                nn.ReLU(inplace=True),
            ]
        layers += [ResidualBlock(4 * d) for _ in range(4)]
        for d_in, d_out in ((4 * d, 2 * d), (2 * d, d)):
            layers += [
                nn.ConvTranspose2d(d_in, d_out, 4, 2, 1, bias=False),
                instance_norm(d_out),
                nn.ReLU(inplace=True),
            ]
        last = nn.ConvTranspose2d(d, 3, 4, 2, 1)
        # Its input has mean square 1/2 and each pixel sums 4 d products: a new network's raw has a standard
        # deviation of 1/2,
        # so that training starts from a perturbation that can be seen.
        nn.init.normal_(last.weight, 0, 0.5 / math.sqrt(2 * d))
        nn.init.zeros_(last.bias)
        self.main = nn.Sequential(*layers, last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w = x.shape[-2:]
        return self.main(F.pad(x, (0, -w % STRIDE, 0, -h % STRIDE), mode="reflect"))[..., :h, :w]

    def perturbation(self, x: torch.Tensor) -> torch.Tensor:
        """p (N, 3, H, W) float32 in [-1, 1] units, |p| <= lim; of the hinge bound in training mode as large
        as it likes (E1)."""
        raw = self(x).float()
        if self.bound == "tanh":
            return self.lim * raw.tanh()
        p = self.lim * raw
        return p if self.training else p.clamp(-self.lim, self.lim)


class Recogniser(nn.Module):
    """Ide_x or Ide_y: which of two kinds of images this is, one logit per patch; the losses average over
    patches.

    Shape:  (N, 3, H, W), H and W from 16 on -> (N, 1, H // 16, W // 16)
    Source: ours, a PatchGAN (Isola et al. 2017): the paper says that both have one structure, but not which.
    """

    def __init__(self, conv_dim: int = 32):
        super().__init__()
        layers, d_in = [], 3
        for d_out in (conv_dim, 2 * conv_dim, 4 * conv_dim, 8 * conv_dim):
            layers += [nn.Conv2d(d_in, d_out, 4, 2, 1), nn.LeakyReLU(0.2)]
            d_in = d_out
        self.main = nn.Sequential(*layers, nn.Conv2d(d_in, 1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x)


def load_perturber(path: Path | str, device: torch.device | str = "cpu") -> Perturber:
    """Read what `python -m models.dadfi.train` wrote and freeze it; the network gets .sha256, .meta and
    .image_size.

    Raises UserError for a file that is missing, damaged, hostile or of another network.
    """
    path = Path(path)
    state, meta = checkpoint.read_weights(path)
    if meta.get("kind") != "dadfi":
        kind = f"a {meta['kind']}" if meta.get("kind") else f"keys like {', '.join(list(state)[:3])}"
        raise UserError(f"{path}: expected weights of `python -m models.dadfi.train`, found {kind}")
    what = "a DADFI generator"
    with state_dicts.reading(path, what):
        lim, size = float(meta["lim"]), int(meta["image_size"])
        if not EIGHT_BIT_STEP - 1e-8 <= lim <= 2 or size <= STRIDE:
            raise ValueError(f"lim {lim:g}, image_size {size}")
        options = {"conv_dim": int(meta["options"]["conv_dim"]), "lim": lim, "bound": meta["bound"]}
    network = state_dicts.rebuilt(Perturber, options, state, path, what)
    network.sha256, network.meta, network.image_size = files.sha256(path), meta, size
    return network.eval().requires_grad_(False).to(device)
