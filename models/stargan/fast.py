"""The generator with frozen weights on a CPU: network.Generator's function up to rounding, in less time.

What is measured to pay: channels-last memory, instance normalisation by plain sums, the two convolutions from
and to 3 channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from models.stargan.network import Generator, ResidualBlock, ResizeConv2d

LAST = torch.channels_last


class _Normalise(torch.autograd.Function):
    """Instance normalisation with weight and bias (C,), then ReLU if asked; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps, relu):
        mean = x.mean((2, 3), keepdim=True)
        y = x - mean
        inverse = (y.square().mean((2, 3), keepdim=True) + eps).rsqrt()
        scale = inverse * weight.view(1, -1, 1, 1)
        y = y.mul_(scale).add_(bias.view(1, -1, 1, 1))
        if relu:
            y.clamp_min_(0)
        ctx.relu = relu
        ctx.save_for_backward(x, mean, inverse, scale, *[y] * relu)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, mean, inverse, scale, *y = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, y[0], 0)
        constant = grad.mean((2, 3), keepdim=True)
        along = ((grad * x).mean((2, 3), keepdim=True) - mean * constant) * inverse.square() * scale
        # scale (grad - its mean) - along (x - its mean): steps along a constant and along x change nothing
        out = torch.addcmul(along * mean - scale * constant, grad, scale).addcmul_(x, -along)
        return out, None, None, None, None


class _Outer(torch.autograd.Function):
    """A convolution of stride 1 from or to an image's 3 channels, and its transpose as gradient."""

    @staticmethod
    def forward(ctx, x, weights, narrow):
        ctx.weights, ctx.narrow = weights, narrow
        return _convolve(x, weights[0], narrow)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return _convolve(grad, ctx.weights[1], not ctx.narrow), None, None


def _convolve(x, weight, narrow):
    """Narrow: from many channels to 3, all four pixels of a square as one of 12 channels; 3 channels alone
    leave most of a vector register empty."""
    if narrow:
        return F.pixel_shuffle(F.conv2d(x, weight, None, 2, (weight.shape[-1] - 2) // 2), 2)
    return F.conv2d(x, weight, None, 1, weight.shape[-1] // 2)


def _squared(weight):
    """(3, C, k, k) of stride 1 -> (12, C, k + 1, k + 1) of stride 2, see _convolve."""
    outputs, inputs, k, _ = weight.shape
    squares = weight.new_zeros(outputs, 2, 2, inputs, k + 1, k + 1)
    for i in (0, 1):
        for j in (0, 1):
            squares[:, i, j, :, i : i + k, j : j + k] = weight
    return squares.flatten(0, 2).contiguous(memory_format=LAST)


class Fast:
    """G(x, c) of a Generator on a CPU, whose weights it copies in the layout that it needs.

    Call: x (N, 3, H, W) in [-1, 1] with H, W multiples of 4; c (N, c_dim) -> (N, 3, H, W) in [-1, 1],
          differentiable once and in x alone; outside of autocast
    """

    def __init__(self, network: Generator):
        first, last = network.main[0].weight, network.main[-2].weight
        photo, self.labels = first[:, :3], first[:, 3:]
        self.first = photo.contiguous(memory_format=LAST), _squared(photo.flip(2, 3).transpose(0, 1))
        self.last = _squared(last), last.flip(2, 3).transpose(0, 1).contiguous(memory_format=LAST)
        self.network = network
        self.weights = {
            m: m.weight.contiguous(memory_format=LAST)
            for m in network.main[1:-2].modules()
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
        }
        self.planes: dict[Any, torch.Tensor] = {}

    def __call__(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        h = _Outer.apply(x.contiguous(memory_format=LAST), self.first, False)
        h = self._run(self.network.main[1:-2], h + self._of_labels(c, *x.shape[2:]))
        return torch.tanh(_Outer.apply(h, self.last, True))

    def _of_labels(self, c, height, width):
        """What the constant planes of the labels c add to the first convolution, which is linear in them."""
        size = height, width
        if size not in self.planes:
            d, labels, k, _ = self.labels.shape
            one = F.conv2d(
                self.labels.new_ones(1, labels, *size),
                self.labels.transpose(0, 1).reshape(labels * d, 1, k, k),
                padding=k // 2,
                groups=labels,
            )
            self.planes = {size: one.view(labels, d, *size).permute(0, 2, 3, 1).flatten(1).contiguous()}
        return (c.to(self.labels.dtype) @ self.planes[size]).view(len(c), *size, -1).permute(0, 3, 1, 2)

    def _run(self, layers, h):
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(layer, ResidualBlock):
                h = h + self._run(layer.main, h)
            elif isinstance(layer, nn.InstanceNorm2d):
                relu = isinstance(after, nn.ReLU)
                h = _Normalise.apply(h, layer.weight, layer.bias, layer.eps, relu)
            elif layer in self.weights:
                if isinstance(layer, ResizeConv2d):
                    h = F.interpolate(h, scale_factor=2.0, mode="nearest")
                convolve = F.conv_transpose2d if isinstance(layer, nn.ConvTranspose2d) else F.conv2d
                h = convolve(h, self.weights[layer], None, layer.stride, layer.padding)
        return h
