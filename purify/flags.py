"""The purifier's flags, one spelling for every script that purifies photos."""

import argparse
from dataclasses import dataclass

from common import cli
from purify import PURIFIERS, RESPACED, STARTS, build
from purify.defences import DEFENCES


@dataclass(frozen=True, kw_only=True)
class PurifierOptions:
    """The values of add_purifier_flags."""

    defense_model_type: str
    defense_weights: str | None
    ddpm_start_num: int | str | None
    respacing: str
    jpeg_quality: int
    blur_sigma: float


def start_number(text):
    """t*: a whole number above 0, or `auto`."""
    if text == "auto":
        return text
    try:
        return cli.positive_int(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected a whole number above 0, or auto, found {text!r}"
        ) from None


def add_purifier_flags(parser, choices=tuple(PURIFIERS), default=None):
    """Add the group "purifier".  choices: the names that this script offers (PURIFIERS or DEFENCES); default
    None = required."""
    g = parser.add_argument_group("purifier")
    g.add_argument(
        "--defense_model_type",
        choices=list(choices),
        default=default,
        required=default is None,
        metavar="NAME",
        help=f"the defence: {', '.join(choices)}",
    )
    g.add_argument(
        "--defense_weights",
        metavar="FILE",
        default=None,
        help=(
            "its weights: ours (safetensors or last.pt), guided-diffusion's or minDiffusion's; none, jpeg and"
            " blur have none"
        ),
    )
    g.add_argument(
        "--ddpm_start_num",
        type=start_number,
        default=None,
        metavar="T|auto",
        help=(
            "noising steps t* that are taken back; auto = from each photo's own noise level (ddpm,"
            f" one-step-plain) (default: {', '.join(f'{k} {v}' for k, v in STARTS.items())})"
        ),
    )
    g.add_argument(
        "--respacing",
        default="",
        metavar="N|ddimN|N,N,..",
        help=(
            f"{' and '.join(RESPACED)}: keep fewer of the 1000 steps, guided-diffusion's notation (default:"
            " all)"
        ),
    )
    g.add_argument("--jpeg_quality", type=cli.jpeg_quality, default=75, help="of jpeg, 1 to 100")
    g.add_argument("--blur_sigma", type=cli.positive_float, default=1.5, help="of blur, pixels (kernel 11)")
    return g


def purifier_from_flags(args, weights=None, name=None, device="cpu"):
    """A purifier that the flags describe.

    Args:   weights  its weight file;  name  of PURIFIERS. Without a name: the purifier of
                     args.defense_model_type, and args.defense_weights where weights is None
    Raises: UserError as purify.build does. --ddpm_start_num and --respacing belong to the script's own
            purifier if it takes them, else to the one of --attack_through.
    """
    own, through = DEFENCES[args.defense_model_type].purifier, getattr(args, "attack_through", None)
    if name is None:
        name, weights = own, weights or args.defense_weights

    def meant(takers):
        return name == (through if through in takers and own not in takers else own)

    return build(
        name,
        weights,
        device,
        getattr(args, "precision", "fp32"),
        args.jpeg_quality,
        args.blur_sigma,
        args.ddpm_start_num if meant(STARTS) else None,
        args.respacing if meant(RESPACED) else "",
    )
