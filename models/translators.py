"""Every translator behind one interface, frozen(x, c) -> fake: which there are, and how their weights
load."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import checkpoint, registry, state_dicts
from common.cli import UserError, nearest

TRANSLATORS = {
    "stargan": "models.stargan.frozen:StarGAN",
    "starganv2": "models.starganv2.frozen:StarGANv2",
    "stgan": "models.stgan.frozen:STGAN",
}
TRAINED_BY = {name: f"python -m models.{name}.train" for name in TRANSLATORS}


class Translator(nn.Module):
    """A frozen translator with where it came from.

    Call:   x (N, 3, H, W) in [-1, 1], H and W multiples of size_multiple; c (N, C), the conditions that
            `condition` makes of labels -> fake (N, 3, H, W) in [-1, 1], differentiable in x
    Args:   network  G(x, c) that says its c_dim, the number of attributes;  sha256  of what decides the
                     fakes;  meta  of the file, or {}
    """

    gan_type = None
    size_multiple = 4
    said = ()  # attributes of the network that tell how it is built

    def __init__(self, network: nn.Module, sha256: str | None = None, meta: dict | None = None):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.c_dim, self.sha256, self.meta = network.c_dim, sha256, meta or {}
        self.attributes, self.image_size = self.meta.get("attributes"), self.meta.get("image_size")

    @classmethod
    def read(cls, path: Path | str, c_dim: int | None = None, **options: Any) -> "Translator":
        """The translator of a weight file.  Raises UserError for another network or another number of
        attributes."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.network(x, c)

    @property
    def options(self) -> dict:
        """How the network is built: JSON dict."""
        return {name: getattr(self.network, name) for name in self.said}

    def condition(self, c_org: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What asks for the labels `target` of photos of labels c_org, both (..., N, C) in {0, 1}."""
        return target


def load_translator(
    path: Path | str,
    device: torch.device | str = "cpu",
    c_dim: int | None = None,
    gan_type: str = "stargan",
    **options: Any,
) -> Translator:
    """Read a translator's weights (official ones, ours, or a training's last.pt) and freeze it.

    Args:    gan_type  a name of TRANSLATORS;  c_dim  attributes that it must know, None = whatever the file
                       says
             options   of that translator's `read`
    Raises:  UserError for a file that is missing, damaged, hostile, of another network or of another number
             of attributes
    """
    if gan_type not in TRANSLATORS:
        raise UserError(
            f"unknown translator {gan_type!r}{nearest(gan_type, TRANSLATORS)}; one of:"
            f" {', '.join(TRANSLATORS)}"
        )
    if options.get("style") is not None and gan_type != "starganv2":
        raise UserError(f"--gan_style is for --gan_type starganv2, found {gan_type}")
    with state_dicts.reading(path, f"weights of {gan_type}"):
        translator = registry.load(TRANSLATORS[gan_type]).read(Path(path), c_dim, **options)
    translator = translator.to(device)
    if torch.device(device).type == "cuda":
        translator = translator.to(memory_format=torch.channels_last)
    return translator


def weights_of(path: Path | str, gan_type: str) -> tuple[dict[str, torch.Tensor], dict]:
    """(state_dict, meta) of a weight file, or of the generator in a training's last.pt, its average where it
    has one.  Raises UserError for another type."""
    if path.name == "last.pt":
        saved = checkpoint.load_state(path)
        return checkpoint.part_of(saved, path, "average", "generator"), meta_of(saved["options"])
    state, meta = checkpoint.read_weights(path)
    check_type(path, meta, gan_type)
    return state, meta


def meta_of(options: dict) -> dict:
    """What the weights of a training with these options would say of themselves."""
    said = {
        "attributes": options.get("selected_attrs"),
        "domains": options.get("domains"),
        "image_size": options.get("image_size"),
        "trained_on": options.get("dataset"),
    }
    return {k: v for k, v in said.items() if v is not None}


def check_type(path: Path | str, meta: dict, gan_type: str) -> None:
    """Raises UserError if the file says that it holds another type of translator."""
    kind = str(meta.get("kind")).removesuffix("-generator")
    if kind in TRANSLATORS and kind != gan_type:
        raise UserError(
            f"{path}: holds a {kind} generator, asked for is {gan_type}: give --gan_type {kind} (or"
            f" {kind}={path} to --victims), or other weights"
        )


def check_names(path: Path | str, translator: Translator, attributes: Sequence[str]) -> None:
    """Raises UserError if the translator was trained on other attributes, or in another order, than those
    asked for."""
    if translator.attributes and list(translator.attributes) != list(attributes):
        raise UserError(
            f"{path}: was trained on the attributes {', '.join(translator.attributes)}, --selected_attrs"
            f" names {', '.join(attributes)}: give --selected_attrs {' '.join(translator.attributes)}"
        )


def check_size(image_size: int, *networks: nn.Module) -> None:
    """Raises UserError unless the side of the images is a multiple of what every network halves it by."""
    multiple = max(network.size_multiple for network in networks)
    if image_size % multiple:
        raise UserError(
            f"--image_size {image_size}: these networks take multiples of {multiple},"
            f" {max(1, image_size // multiple) * multiple} for example"
        )


def check_attributes(path: Path | str, known: int, c_dim: int | None) -> None:
    """Raises UserError unless the translator's number of attributes is the one asked for (None: any)."""
    if c_dim is not None and known != c_dim:
        raise UserError(f"{path}: this translator knows {known} attributes, --selected_attrs names {c_dim}")


def filled(
    make: Callable[..., nn.Module], options: dict, state: dict[str, torch.Tensor], path: Path | str, what: str
) -> nn.Module:
    """make(**options) with the weights of `state`.  Raises UserError, before it takes any memory, unless both
    have the same tensors."""
    with torch.device("meta"):
        wrong = state_dicts.differing(make(**options).state_dict(), state)
    if wrong:
        raise UserError(f"{path}: not {what}: {len(wrong)} tensors differ, first {wrong[0]}")
    network = make(**options)
    network.load_state_dict(state)
    return network
