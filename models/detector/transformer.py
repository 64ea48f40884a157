"""Vision transformers as detectors, meant for tuning the LayerNorms alone (--base layernorm)."""

from importlib import import_module

import torch
from torch import nn

from common.declared import Look
from models.detector.network import CLASSES, LEAST_SIDE, Trunk

PUBLISHED_SIDE = 224  # pixels: of torchvision's ImageNet weights


class VisionTransformer(Trunk):
    """Class token of a transformer over patches, Dosovitskiy et al. 2021 (arXiv:2010.11929), under one linear
    layer.

    It sees photos whose side is a multiple of its patches and 96 pixels or more, not 224: the position
    embeddings of ImageNet's weights are interpolated to that grid (torchvision's interpolate_embeddings,
    bicubic).

    LayerNorms alone (25 of them, 38,400 numbers) and the linear layer (1,538) are trained as GenD does it
    (Yermakov et al. 2025, arXiv:2508.06248, code yermandy/GenD). Its networks were trained on images with
    texts (CLIP), or on images without labels, ours on ImageNet's classes; it adds losses that align and
    spread the normalised features, ours is trained on the cross-entropy alone.
    """

    layernorms = True
    patch: int  # pixels

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, image_size=size)

    @classmethod
    def side_of(cls, image_size: int) -> int:
        return max(LEAST_SIDE, -(-image_size // cls.patch) * cls.patch)

    @staticmethod
    def head(num_features: int) -> nn.Module:
        return nn.Linear(num_features, len(CLASSES))

    def fitted(self, state: dict) -> dict:
        key = "encoder.pos_embedding"
        published = (1, (PUBLISHED_SIDE // self.patch) ** 2 + 1, self.num_features)
        if key not in state or state[key].shape != published:
            return state
        interpolate = import_module("torchvision.models.vision_transformer").interpolate_embeddings
        return interpolate(self.network.image_size, self.patch, dict(state))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(self.normalised(x))


class ViTB16(VisionTransformer):
    """Patches of 16 pixels: 85,675,776 numbers at 96 pixels (36 patches)."""

    look = Look("vit_b_16", "#d62f5f", 5)
    patch = 16

    def __init__(self, size: int) -> None:
        super().__init__("vit_b_16", size)


class ViTB32(VisionTransformer):
    """Patches of 32 pixels: 87,424,512 numbers at 96 pixels (9 patches)."""

    look = Look("vit_b_32", "#8c5a2b", 6)
    patch = 32

    def __init__(self, size: int) -> None:
        super().__init__("vit_b_32", size)
