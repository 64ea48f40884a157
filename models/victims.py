"""Several translators at once, each with the labels that it knows: what a perturbation is made against, or
tested on."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from common import distributed
from common.cli import UserError, nearest
from common.seeds import Streams
from faces.celeba import FaceFolder
from models.conditions import targets
from models.translators import TRANSLATORS, Translator, check_size, load_translator


def named_file(text: str) -> str:
    """Type of a flag NAME=FILE, NAME one of models.translators.TRANSLATORS; the text itself is kept."""
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(
            f"expected NAME=FILE, stargan=200000-G.ckpt for example, found {text!r}"
        )
    if name not in TRANSLATORS:
        raise argparse.ArgumentTypeError(
            f"unknown translator {name!r}{nearest(name, TRANSLATORS)}; one of: {', '.join(TRANSLATORS)}"
        )
    return text


class Victim:
    """One frozen translator mod_i.

    Args:  columns  names of the label columns that batches carry, of which `attributes`, those of this
                    victim, are some
    """

    def __init__(
        self,
        name: str,
        path: Path | str,
        translator: Translator,
        attributes: Sequence[str],
        columns: Sequence[str],
        precision: str = "fp32",
    ):
        self.name, self.path, self.translator, self.attributes, self.precision = (
            name,
            path,
            translator,
            list(attributes),
            precision,
        )
        self.rows = [columns.index(a) for a in attributes]

    def conditions(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels (N, all columns) in {0, 1} -> conditions (K, N, C), one target domain after the other."""
        rows = distributed.to_device(torch.tensor(self.rows), labels.device)
        return targets(self.translator, labels[:, rows], self.attributes)

    def random_conditions(self, labels: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Labels (N, all columns) -> conditions (N, C) of one target domain per photo, drawn from its
        stream."""
        conditions = self.conditions(labels)
        return conditions[
            streams.integers(len(conditions), labels.device), torch.arange(len(labels), device=labels.device)
        ]

    def __call__(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Fakes (N, 3, H, W) float32, differentiable in x."""
        with distributed.autocast(x.device, self.precision):
            return self.translator(x, c).float()

    def faces(self, faces: FaceFolder) -> FaceFolder:
        """The same photos with this victim's label columns alone."""
        view = faces.subset(faces.names)
        view.labels = faces.labels[:, self.rows]
        return view

    def describe(self) -> dict:
        """What the weights say about the victims they were trained against; JSON types."""
        return {"gan": self.name, "sha256": self.translator.sha256, "attributes": self.attributes}


def load_victims(
    victims: Sequence[str],
    selected_attrs: Sequence[str],
    image_size: int,
    precision: str,
    device: torch.device | str,
) -> tuple[list[Victim], list[str]]:
    """The victims of --victims NAME=FILE ..., and the union of their label columns.

    A translator that does not say its attributes is taken to know selected_attrs.

    Raises: UserError for a translator given twice, a wrong file, and victims that do not fit image_size or
            selected_attrs
    """
    loaded, names = [], [text.partition("=")[0] for text in victims]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"--victims: {twice} is there {names.count(twice)} times; expected each translator once"
        )
    for text in victims:
        name, _, path = text.partition("=")
        translator = load_translator(path, device, gan_type=name)
        attributes = translator.attributes or selected_attrs
        if len(attributes) != translator.c_dim:
            raise UserError(
                f"--selected_attrs: {len(attributes)} names ({', '.join(attributes)}), {path} knows"
                f" {translator.c_dim} attributes"
            )
        loaded.append((name, path, translator, attributes))
    _check_sizes(loaded, image_size)
    columns = sorted({a for *_, attributes in loaded for a in attributes})
    return [Victim(*each, columns, precision) for each in loaded], columns


def _check_sizes(loaded, image_size):
    sizes = {name: translator.image_size for name, _, translator, _ in loaded if translator.image_size}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            "--victims: one perturbation serves photos of one size, these translators were trained at"
            f" different ones ({told}); train them at one --image_size"
        )
    for name, path, translator, _ in loaded:
        if sizes.get(name, image_size) != image_size:
            raise UserError(
                f"{path}: {name} was trained at {sizes[name]} pixels, --image_size is {image_size}: give"
                f" --image_size {sizes[name]}"
            )
        check_size(image_size, translator)
