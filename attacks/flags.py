"""The attack's flags, one spelling for every script that disrupts photos."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from attacks import ATTACKS, GRADIENT, build
from attacks.blur import MODES as BLURS
from attacks.gradient import TARGETS
from attacks.through import GRADIENTS, ThroughDefence
from attacks.universal import FITS
from common import cli
from common.cli import UserError
from models.conditions import RULES
from pipeline.attacked import folder_name

BALL = (*GRADIENT, "random-sign", "universal", "dadfi")  # attacks whose eps is an L-inf radius


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """The values of add_attack_flags but the radius, which scripts call test_noise_var or train_noise_var,
    and those of an attack through a defence."""

    attack_type: str
    attack_steps: int
    attack_step_size: float
    attack_target: str
    attack_label: str
    attack_blur: str
    attack_weights: str | None
    perturbation: str | None
    perturbation_fit: str


@dataclass(frozen=True, kw_only=True)
class ThroughOptions:
    """The values of the flags of add_attack_flags(through=True)."""

    gradient: str
    eot: int


def add_attack_flags(parser, eps_flag="--test_noise_var", default="pgd", rules=RULES, through=True):
    """Add the group "attack".

    Args: eps_flag  name of the radius flag (--train_noise_var in a trainer);  default  attack unless one is
                    named
          rules     label rules that make sense here;  through  with --gradient and --eot, for scripts that
                    have --attack_through
    """
    g = parser.add_argument_group("attack")
    g.add_argument("--attack_type", choices=list(ATTACKS), default=default, help="how photos are disrupted")
    g.add_argument(
        eps_flag,
        type=cli.positive_float,
        default=0.05,
        metavar="EPS",
        help=(
            "L-inf radius, [-1,1] image units (0.05 = 6.4/255), for fgsm bim pgd mim random-sign universal,"
            " and the bound that dadfi's weights were trained for; the standard deviation for gaussian; not"
            " used by none"
        ),
    )
    g.add_argument(
        "--attack_steps",
        type=cli.positive_int,
        default=10,
        metavar="N",
        help="steps of bim pgd mim; fgsm takes one",
    )
    g.add_argument(
        "--attack_step_size",
        type=cli.positive_float,
        default=0.01,
        metavar="A",
        help="step of bim pgd mim, [-1,1] image units; fgsm steps by EPS",
    )
    g.add_argument(
        "--attack_target",
        choices=list(TARGETS),
        default="gray",
        help=(
            "gray: pull the fake towards mid-grey; clean: push it away from the clean fake; input: pull it to"
            " the unedited photo"
        ),
    )
    g.add_argument("--attack_label", choices=list(rules), default="original", help=_rules_help(rules))
    g.add_argument(
        "--attack_blur",
        choices=list(BLURS),
        default="none",
        help=(
            "evade a blur: spread = another blur inside the loss at each step; eot = mean over all blurs, ten"
            " times the cost"
        ),
    )
    g.add_argument(
        "--attack_weights",
        metavar="FILE",
        default=None,
        help="for dadfi: a trained perturbation generator (python -m models.dadfi.train)",
    )
    g.add_argument(
        "--perturbation",
        metavar="FILE",
        default=None,
        help="for universal: .pt or .npy, a tensor (3, h, w) in [-1,1] units",
    )
    g.add_argument(
        "--perturbation_fit",
        choices=list(FITS),
        default="resize",
        help="a perturbation of another size than the photo: bilinear, or repeated",
    )
    if through:
        g.add_argument(
            "--gradient",
            choices=list(GRADIENTS),
            default="full",
            help=(
                "through a defence: full = through every step of it; bpda = forward through it, backward as"
                " the identity"
            ),
        )
        g.add_argument(
            "--eot",
            type=cli.positive_int,
            default=1,
            metavar="N",
            help="through a defence: draws of its randomness per step, gradients averaged",
        )


def _rules_help(rules):
    said = {
        "original": "the photo's own labels",
        "iterative": "another target domain at each step",
        "joint": "mean loss over all domains",
        "target": "one attacked image per photo and domain, the attacker's upper bound",
    }
    return "; ".join(f"{rule}: {said[rule]}" for rule in rules)


def refuse_target(p, args):
    """For commands whose photos were scraped.  Raises UserError for --attack_label target."""
    if args.attack_label == "target":
        p.error(
            "--attack_label target makes a disruption for each edit, and a scraped photo carries one; one of:"
            " original, iterative, joint"
        )


def check_attack_flags(args, eps):
    """Raises UserError for flags that do not go together; before any work is done."""
    if args.attack_type in BALL:
        try:
            cli.radius(str(eps))
        except argparse.ArgumentTypeError as e:
            raise UserError(f"{args.attack_type}: {e}") from e
    if args.perturbation and args.attack_type != "universal":
        raise UserError(
            f"--perturbation is for --attack_type universal, found --attack_type {args.attack_type}"
        )
    if args.attack_weights and args.attack_type != "dadfi":
        raise UserError(
            f"--attack_weights is for --attack_type dadfi, found --attack_type {args.attack_type}"
        )
    if args.attack_type == "dadfi" and args.attack_weights is None:
        raise UserError(
            "--attack_type dadfi needs --attack_weights FILE, a trained perturbation generator: python -m"
            " models.dadfi.train"
        )


def attack_from_flags(args, translator, eps=None, perturbation=None, other_sizes="refuse"):
    """The attack that the flags describe.

    Args:    args          parsed flags of add_attack_flags
             translator    G(x, c), or attacks.through.ThroughDefence
             eps           the radius, by default args.test_noise_var
             perturbation  a tensor (3, h, w) in place of args.perturbation
             other_sizes   of dadfi: what becomes of photos of another size than its weights' own
    Returns: attacks.base.Attack
    Raises:  UserError for flags that do not go together
    """
    eps = args.test_noise_var if eps is None else eps
    check_attack_flags(args, eps)
    if isinstance(translator, ThroughDefence) and args.attack_type not in GRADIENT:
        raise UserError(
            f"--attack_type {args.attack_type} uses no gradient, so it cannot go through a defence; one of:"
            f" {', '.join(GRADIENT)}"
        )
    attack = build(
        args.attack_type,
        translator,
        eps,
        steps=args.attack_steps,
        step_size=args.attack_step_size,
        target=args.attack_target,
        label=args.attack_label,
        blur=args.attack_blur,
        precision=getattr(args, "precision", "fp32"),
        perturbation=args.perturbation if perturbation is None else perturbation,
        fit=args.perturbation_fit,
        weights=args.attack_weights,
        other_sizes=other_sizes,
    )
    if (
        args.attack_type == "dadfi"
        and other_sizes == "refuse"
        and args.image_size != attack.network.image_size
    ):
        raise UserError(
            f"{args.attack_weights} was trained on photos of {attack.network.image_size} pixels, --image_size"
            f" is {args.image_size}: give --image_size {attack.network.image_size}"
        )
    return attack


def short_name(attack, args):
    """<attack>-eps<eps> for the folders of runs, with what differs from the published protocol (gray,
    original labels)."""
    name = folder_name(attack, args.attack_label).removesuffix("-gray-original").removesuffix("-original")
    return name + (f"-{args.attack_blur}" if args.attack_blur != "none" else "")


def attack_config(args, attack):
    """What a record says of the attack; eps 0 where there is none."""
    definition = attack.definition()
    return {
        "attack": args.attack_type,
        "eps": args.test_noise_var if args.attack_type != "none" else 0.0,
        "attack_steps": definition.get("steps"),
        "attack_step_size": definition.get("step_size"),
        "attack_target": definition.get("target"),
        "attack_label": args.attack_label,
        "attack_blur": args.attack_blur,
        "perturbation": args.perturbation and Path(args.perturbation).name,
        "attack_weights": definition.get("weights"),
    }
