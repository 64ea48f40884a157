"""The flags that choose a translator, one spelling for every script."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.translators import TRANSLATORS, Translator, check_names, load_translator


@dataclass(frozen=True, kw_only=True)
class UnnamedTranslatorOptions:
    """The values of add_translator_flags(named=False)."""

    gan_type: str
    gan_weights: str | None
    gan_style: str | None


@dataclass(frozen=True, kw_only=True)
class TranslatorOptions(UnnamedTranslatorOptions):
    """The values of add_translator_flags, of scripts that keep results."""

    gan_name: str | None


def add_translator_flags(group: argparse._ArgumentGroup, said: str, named: bool = True) -> None:
    """Add --gan_type, --gan_weights and --gan_style to a group.  said: help of --gan_weights;  named: with
    --gan_name, for scripts that keep results."""
    group.add_argument(
        "--gan_type", choices=list(TRANSLATORS), default="stargan", help="which translator it is"
    )
    group.add_argument("--gan_weights", default=None, metavar="FILE", help=said)
    group.add_argument(
        "--gan_style",
        default=None,
        metavar="SEED|PHOTO",
        help=(
            "starganv2: seed of the latent code that styles all fakes, or a photo whose style they take"
            " (default: seed 0)"
        ),
    )
    if named:
        group.add_argument(
            "--gan_name",
            default=None,
            metavar="NAME",
            help="its name in the result folder and in tables; default: --gan_type",
        )


def gan_name(options: TranslatorOptions) -> str:
    """What results call the translator."""
    return options.gan_name or options.gan_type


def translator_from_flags(
    options: UnnamedTranslatorOptions, device: torch.device | str, attributes: Sequence[str] | None = None
) -> Translator:
    """The translator that the flags name.

    Args:    attributes  the names that it must know, in this order; None = whatever its file says
    Returns: models.translators.Translator
    Raises:  UserError for weights that do not fit the flags
    """
    style = {} if options.gan_style is None else {"style": options.gan_style}
    translator = load_translator(
        options.gan_weights, device, attributes and len(attributes), options.gan_type, **style
    )
    if attributes is not None:
        check_names(options.gan_weights, translator, attributes)
    return translator
