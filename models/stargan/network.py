"""StarGAN's generator and discriminator (Choi et al., CVPR 2018), with the parameter names of the official
checkpoints."""

import torch
import torch.nn.functional as F
from torch import nn

UPSAMPLING = ("transposed", "resize")


def instance_norm(channels: int) -> nn.InstanceNorm2d:
    """Instance normalisation with the image's own statistics, always.

    The official layer tracks running averages but is never switched to evaluation mode, so they are never
    used; with them the network is a different one. Ours has none: training and evaluation modes are the same
    function.
    """
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=False)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            instance_norm(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            instance_norm(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.main(x)


class ResizeConv2d(nn.Conv2d):
    """(N, C, H, W) enlarged to (N, C, 2 H, 2 W) by its nearest pixels, then a 3x3 convolution: every output
    pixel is covered by as many weights as its neighbour, which a transposed convolution does not see to.

    Source: Odena, Dumoulin and Olah 2016, "Deconvolution and Checkerboard Artifacts"
    """

    def __init__(self, d_in: int, d_out: int):
        super().__init__(d_in, d_out, 3, 1, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Generator(nn.Module):
    """G(x, c): translate a face to the attributes c.

    Args:   conv_dim channels of the first layer; c_dim attributes; repeat_num residual blocks
            upsampling  transposed: convolutions of stride 1/2, as published;  resize: ResizeConv2d, whose
                        fakes carry no pattern of the stride
    Shape:  x (N, 3, H, W) in [-1, 1] with H, W multiples of 4; c (N, c_dim) in {0, 1} -> (N, 3, H, W) in [-1,
            1]
    Source: Choi et al. 2018, Table 4: 8,430,528 parameters at conv_dim 64, c_dim 5, repeat_num 6. Zero
            padding is deliberate:
            reflection padding and instance normalisation together cancel the constant label planes.
    """

    def __init__(
        self, conv_dim: int = 64, c_dim: int = 5, repeat_num: int = 6, upsampling: str = "transposed"
    ):
        super().__init__()
        if upsampling not in UPSAMPLING:
            raise ValueError(f"upsampling {upsampling!r}: one of {', '.join(UPSAMPLING)}")
        self.conv_dim, self.c_dim, self.repeat_num = conv_dim, c_dim, repeat_num
        self.upsampling = upsampling
        d = conv_dim
        layers = [nn.Conv2d(3 + c_dim, d, 7, 1, 3, bias=False), instance_norm(d), nn.ReLU(inplace=True)]
        for _ in range(2):
            layers += [nn.Conv2d(d, 2 * d, 4, 2, 1, bias=False), instance_norm(2 * d), nn.ReLU(inplace=True)]
            d *= 2
        layers += [ResidualBlock(d) for _ in range(repeat_num)]
        for _ in range(2):
            if upsampling == "resize":
                larger = ResizeConv2d(d, d // 2)
            else:
                larger = nn.ConvTranspose2d(d, d // 2, 4, 2, 1, bias=False)
            layers += [larger, instance_norm(d // 2), nn.ReLU(inplace=True)]
            d //= 2
        layers += [nn.Conv2d(d, 3, 7, 1, 3, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        planes = c[:, :, None, None].expand(-1, -1, x.shape[2], x.shape[3]).to(x.dtype)
        return self.main(torch.cat([x, planes], dim=1))


class Discriminator(nn.Module):
    """PatchGAN with an attribute head: (N, 3, H, W) -> (source patch map (N, 1, h, w), attribute logits (N,
    c_dim)).

    Source: Choi et al. 2018, Table 5: 44,762,048 parameters at image_size 128, conv_dim 64, c_dim 5,
            repeat_num 6.
    """

    def __init__(self, image_size: int = 128, conv_dim: int = 64, c_dim: int = 5, repeat_num: int = 6):
        super().__init__()
        if image_size % (1 << repeat_num):
            raise ValueError(
                f"image_size {image_size} is not divisible by 2^{repeat_num} (repeat_num layers of stride 2)"
            )
        d = conv_dim
        layers = [nn.Conv2d(3, d, 4, 2, 1), nn.LeakyReLU(0.01)]
        for _ in range(1, repeat_num):
            layers += [nn.Conv2d(d, 2 * d, 4, 2, 1), nn.LeakyReLU(0.01)]
            d *= 2
        self.main = nn.Sequential(*layers)
        self.conv1 = nn.Conv2d(d, 1, 3, 1, 1, bias=False)
        self.conv2 = nn.Conv2d(d, c_dim, image_size >> repeat_num, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.main(x)
        return self.conv1(h), self.conv2(h).flatten(1)
