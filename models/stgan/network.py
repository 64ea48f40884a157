"""STGAN's generator with selective transfer units, and its discriminator (Liu et al., CVPR 2019)."""

import torch
from torch import nn

from models.stargan.network import instance_norm

LARGEST = 16  # times conv_dim: no layer is wider


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of 8 channels, of the image's own statistics.

    The paper's generator has batch normalisation, whose result depends on the images beside and differs
    between training and use. Instance normalisation would cancel the constant planes of attribute
    differences; a group of channels keeps them.
    """
    return nn.GroupNorm(max(1, channels // 8), channels)


def difference(c_org: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """What G is asked with for the labels `target` of photos of labels c_org, both in {0, 1}: in {-1, 0,
    1}."""
    return target - c_org


def planes(c: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Conditions (N, C) as constant planes (N, C, H, W)."""
    return c[:, :, None, None].expand(-1, -1, *like.shape[2:]).to(like.dtype)


class SelectiveTransferUnit(nn.Module):
    """Which of the encoder's features pass to the decoder: a gated recurrent unit over the layers (Eqs. 2-7).

    Call: f (N, D, H, W) the encoder's feature, state (N, S, H/2, W/2) of the layer below -> (selected
          feature, new state), both (N, D, H, W)
    """

    def __init__(self, state_dim: int, dim: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(state_dim, dim, 4, 2, 1)
        self.reset, self.update, self.info = (nn.Conv2d(2 * dim, dim, 3, 1, 1) for _ in range(3))

    def forward(self, f: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        s = self.up(state)
        both = torch.cat([f, s], 1)
        r, z = torch.sigmoid(self.reset(both)), torch.sigmoid(self.update(both))
        s_new = r * s
        f_hat = torch.tanh(self.info(torch.cat([f, s_new], 1)))
        return (1 - z) * s + z * f_hat, s_new


class Generator(nn.Module):
    """G(x, c): edit a face by the difference of attributes c = target - source.

    Args:   conv_dim channels of the first layer; c_dim attributes; num_layers halvings of the encoder,
            doublings of the decoder
    Shape:  x (N, 3, H, W) in [-1, 1] with H, W multiples of 2^num_layers; c (N, c_dim) in {-1, 0, 1} -> (N,
            3, H, W) in [-1, 1]
    Source: Liu et al. 2019, Sec. 3; a transfer unit between encoder and decoder at every layer but the
            innermost
    """

    def __init__(self, conv_dim: int = 64, c_dim: int = 5, num_layers: int = 5):
        super().__init__()
        self.conv_dim, self.c_dim, self.num_layers = conv_dim, c_dim, num_layers
        dims = [conv_dim * min(1 << i, LARGEST) for i in range(num_layers)]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inner, outer, 4, 2, 1, bias=False),
                group_norm(outer),
                nn.LeakyReLU(0.2, inplace=True),
            )
            for inner, outer in zip([3, *dims], dims, strict=False)
        )
        self.transfer = nn.ModuleList(
            SelectiveTransferUnit(dims[i + 1] + c_dim, dims[i]) for i in reversed(range(num_layers - 1))
        )
        self.decoder = nn.ModuleList()
        width = dims[-1] + c_dim
        for i in reversed(range(1, num_layers)):
            self.decoder.append(
                nn.Sequential(
                    nn.ConvTranspose2d(width, dims[i], 4, 2, 1, bias=False),
                    group_norm(dims[i]),
                    nn.ReLU(inplace=True),
                )
            )
            width = dims[i] + dims[i - 1]
        self.decoder.append(nn.Sequential(nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh()))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        features = []
        for layer in self.encoder:
            x = layer(x)
            features.append(x)
        z = state = torch.cat([x, planes(c, x)], 1)
        for k, (unit, layer) in enumerate(zip(self.transfer, self.decoder, strict=False)):
            selected, state = unit(features[-2 - k], state)
            z = torch.cat([layer(z), selected], 1)
            state = torch.cat([state, planes(c, state)], 1)
        return self.decoder[-1](z)


class Discriminator(nn.Module):
    """Real or fake, and which attributes: (N, 3, H, W) -> (source (N, 1), attribute logits (N, c_dim)).

    Source: Liu et al. 2019, Sec. 3.3: the two share their convolutions, each has two fully connected layers.
    """

    def __init__(
        self,
        image_size: int = 128,
        conv_dim: int = 64,
        c_dim: int = 5,
        num_layers: int = 5,
        fc_dim: int = 1024,
    ):
        super().__init__()
        if image_size % (1 << num_layers):
            raise ValueError(
                f"image_size {image_size} is not divisible by 2^{num_layers} (num_layers halvings)"
            )
        dims = [conv_dim * min(1 << i, LARGEST) for i in range(num_layers)]
        side = image_size >> num_layers
        self.main = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(inner, outer, 4, 2, 1),
                    *([instance_norm(outer)] if image_size >> (i + 1) > 1 else []),
                    nn.LeakyReLU(0.2),
                )
                for i, (inner, outer) in enumerate(zip([3, *dims], dims, strict=False))
            ),
            nn.Flatten(),
        )
        self.source, self.attributes = (
            nn.Sequential(
                nn.Linear(dims[-1] * side * side, fc_dim), nn.LeakyReLU(0.2), nn.Linear(fc_dim, out)
            )
            for out in (1, c_dim)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.main(x)
        return self.source(h), self.attributes(h)
