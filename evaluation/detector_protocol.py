"""Harder protocols of train_detector.py: fakes by translators that were not trained on, images saved as JPEG,
training photos without their own fakes, and more of one class than of the other."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from common import cli, seeds
from common.cli import UserError
from models.detector.network import CLASSES
from models.detector.samples import FAKE, REAL, Samples, recompressed, sample_id
from models.flags import gan_name
from models.translators import TRANSLATORS, Translator, check_size, load_translator


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """The values of add_protocol_flags."""

    test_gan: list[str]
    train_gan: list[str]
    recompress: list[int]
    recompress_training: int | None
    unpaired: bool
    balance: str | None


def add_protocol_flags(p: cli.ArgumentParser) -> None:
    """Add the group "harder protocols"."""
    g = p.add_argument_group("harder protocols")
    g.add_argument(
        "--test_gan",
        type=named_gan,
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help=(
            "more test sets: photos of C and fakes by another translator, NAME one of"
            f" {', '.join(TRANSLATORS)}, with an ending of your own where two are of one kind (stargan-seed1)"
        ),
    )
    g.add_argument(
        "--train_gan",
        type=named_gan,
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="training fakes by these translators too, each photo's by one of all, drawn from its name",
    )
    g.add_argument(
        "--recompress",
        type=cli.jpeg_quality,
        nargs="+",
        default=[],
        metavar="Q",
        help="more test sets: photos and fakes of the others, all saved as JPEG of that quality, 1 to 100",
    )
    g.add_argument(
        "--recompress_training",
        type=cli.jpeg_quality,
        default=None,
        metavar="Q",
        help="photos and fakes of the training set, all saved as JPEG of that quality",
    )
    g.add_argument(
        "--unpaired",
        action="store_true",
        help="half of the training photos stand as they are, of the other half only the fakes",
    )
    g.add_argument(
        "--balance",
        type=balance,
        default=None,
        metavar="REAL:FAKE",
        help="of the training samples as many of the class with fewer as that asks for, 1:5 for example",
    )


def named_gan(text: str) -> str:
    """Type of --test_gan and --train_gan; the text itself is kept.  Raises ArgumentTypeError"""
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(
            f"expected NAME=FILE, stgan=G.safetensors for example, found {text!r}"
        )
    if kind_of(name) is None or set(name) & set("/. "):
        raise argparse.ArgumentTypeError(
            f"{name!r}: a name begins with what the translator is, one of {', '.join(TRANSLATORS)}"
        )
    return text


def kind_of(name: str) -> str | None:
    """stargan-seed1 -> stargan; None for no translator's name."""
    return next((kind for kind in TRANSLATORS if name == kind or name.startswith(kind + "-")), None)


def balance(text: str) -> str:
    """Type of --balance, two whole numbers above 0.  Raises ArgumentTypeError"""
    try:
        real, fake = (cli.positive_int(word) for word in text.split(":"))
    except (argparse.ArgumentTypeError, ValueError):
        raise argparse.ArgumentTypeError(
            f"expected REAL:FAKE, whole numbers above 0 such as 1:5, found {text!r}"
        ) from None
    return f"{real}:{fake}"


@dataclass(frozen=True)
class Other:
    """A translator beside the one that the training knows.  attributes  whose domains its fakes are in"""

    name: str
    translator: Translator
    attributes: list[str]

    def options(self, options: object) -> object:
        """The options of a TrainingSet of its fakes."""
        return dataclasses.replace(
            options, gan_type=kind_of(self.name), gan_name=self.name, selected_attrs=self.attributes
        )


def load_others(
    flag: str, words: Sequence[str], options: object, device: torch.device, whole: bool = False
) -> list[Other]:
    """The translators of a flag's NAME=FILE words.

    Args:   options  with image_size, selected_attrs, gan_type and gan_name;  whole  they must know all of
                     selected_attrs: the training photos are disrupted once, for all of them
    Raises: UserError for a name that is there twice or that results have for the main translator, and for
            one that does not fit the photos or their labels
    """
    others, names = [], [word.partition("=")[0] for word in words]
    for name in names:
        if names.count(name) > 1 or name == gan_name(options):
            raise UserError(
                f"{flag}: {name} names two translators (--gan_name {gan_name(options)} is the first); give"
                f" each a name of its own, {name}-2 for example"
            )
    for word in words:
        name, _, path = word.partition("=")
        translator = load_translator(path, device, gan_type=kind_of(name))
        known = list(translator.attributes or options.selected_attrs)
        if len(known) != translator.c_dim or not set(known) <= set(options.selected_attrs):
            raise UserError(
                f"{flag} {word}: knows {translator.c_dim} attributes ({', '.join(known)}), --selected_attrs"
                f" has {', '.join(options.selected_attrs)}"
            )
        if whole and known != list(options.selected_attrs):
            raise UserError(
                f"{flag} {word}: was trained on the attributes {', '.join(known)}, the training set has"
                f" {', '.join(options.selected_attrs)}; in a test (--test_gan) it may know fewer"
            )
        if translator.image_size not in (None, options.image_size):
            raise UserError(
                f"{flag} {word}: was trained at {translator.image_size} pixels, --image_size is"
                f" {options.image_size}"
            )
        check_size(options.image_size, translator)
        others.append(Other(name, translator, known))
    return others


def chosen(options: ProtocolOptions, names: Sequence[str], seed: int) -> set[str]:
    """Ids of the samples of some photos that --unpaired and --balance leave in a training set.

    Raises: UserError where --unpaired leaves none of a class
    """
    fakes = set(seeds.draw_share(names, 0.5, seed, "unpaired")) if options.unpaired else None
    classes = {
        label: [n for i, n in enumerate(names) if fakes is None or (i in fakes) == (label == FAKE)]
        for label in (REAL, FAKE)
    }
    if empty := next((CLASSES[label] for label, of in classes.items() if not of), None):
        raise UserError(f"--unpaired: of {len(names)} photos no {empty} sample is left; give more photos")
    if options.balance:
        share = dict(zip(classes, map(int, options.balance.split(":")), strict=True))
        most = max(share.values())
        classes = {  # of few photos at least one
            label: [
                of[i]
                for i in seeds.draw_share(of, max(share[label] / most, 1 / len(of)), seed, "balance", label)
            ]
            for label, of in classes.items()
        }
    return {sample_id(name, label) for label, of in classes.items() for name in of}


def saved_as_jpeg(tests: dict[str, Samples], qualities: Sequence[int]) -> dict[str, Samples]:
    """{"jpeg75", "stgan jpeg75", ...}: every test set ("clean" or named by its translator) at every
    quality."""
    return {
        f"{'' if name == 'clean' else name + ' '}jpeg{quality}": recompressed(samples, quality)
        for quality in qualities
        for name, samples in tests.items()
    }
