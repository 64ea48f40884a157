"""The attack's flags, one spelling for every script that disrupts photos: made from what attacks declare."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import attacks
from attacks.base import Attack
from attacks.through import DRAWS, GRADIENTS, ThroughDefence
from common import cli
from common.cli import UserError
from common.declared import add_flags
from models.conditions import RULES
from pipeline.attacked import folder_name


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
    attack_jpeg: str | None
    apgd_steps: int
    apgd_restarts: int
    square_queries: int
    attack_grid: int
    attack_features: str | None
    attack_weights: str | None
    perturbation: str | None
    perturbation_fit: str

    @staticmethod
    def declared_flags() -> set[str]:
        """The fields that attacks declare, those of attacks registered later among them; see cli.resolve."""
        return {p.dest for p in attacks.parameters()}


@dataclass(frozen=True, kw_only=True)
class ThroughOptions:
    """The values of the flags of add_attack_flags(through=True)."""

    gradient: str
    eot: int | None
    known_noise: bool
    through_weights: str | None


def add_attack_flags(
    parser: cli.ArgumentParser,
    eps_flag: str = "--test_noise_var",
    default: str = "pgd",
    rules: Sequence[str] = RULES,
    through: bool = True,
) -> None:
    """Add the group "attack".

    Args: eps_flag  name of the radius flag (--train_noise_var in a trainer);  default  attack unless one is
                    named
          rules     label rules that make sense here;  through  with the values of ThroughOptions, for scripts
                    that have --attack_through
    """
    g = parser.add_argument_group("attack")
    g.add_argument(
        "--attack_type", choices=list(attacks.ATTACKS), default=default, help="how photos are disrupted"
    )
    g.add_argument(
        eps_flag,
        type=cli.positive_float,
        default=0.05,
        metavar="EPS",
        help=(
            "L-inf radius, [-1,1] image units (0.05 = 6.4/255), for fgsm bim pgd mim apgd square"
            " low-frequency worst random-sign feature universal, and the bound that dadfi's weights were"
            " trained for; the standard deviation for gaussian; not used by none"
        ),
    )
    label = {"choices": tuple(rules), "help": _rules_help(rules)}
    add_flags(g, [dataclasses.replace(p, **label) if p.name == "label" else p for p in attacks.parameters()])
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
            default=None,
            metavar="N",
            help=(
                "through a defence that draws noise: its draws per step, gradients averaged (default: 1; of"
                f" worst {DRAWS})"
            ),
        )
        g.add_argument(
            "--known_noise",
            action="store_true",
            help="through a defence that draws noise: the attacker knows what it will draw at test",
        )
        g.add_argument(
            "--through_weights",
            default=None,
            metavar="FILE",
            help="of the purifier that --attack_through names, where they are not the defence's own",
        )


def usual_draws(attack_type: str, random: bool) -> int:
    """Draws of a defence per step where --eot leaves them open.  random: it has something to draw."""
    return DRAWS if random and attack_type == "worst" else 1


def _rules_help(rules: Sequence[str]) -> str:
    said = {
        "original": "the photo's own labels",
        "iterative": "another target domain at each step",
        "joint": "mean loss over all domains",
        "target": "one attacked image per photo and domain, the attacker's upper bound",
    }
    return "; ".join(f"{rule}: {said[rule]}" for rule in rules)


def refuse_target(p: cli.ArgumentParser, options: AttackOptions | argparse.Namespace) -> None:
    """For commands whose photos were scraped.  Raises UserError for --attack_label target."""
    if options.attack_label == "target":
        p.error(
            "--attack_label target makes a disruption for each edit, and a scraped photo carries one; one of:"
            " original, iterative, joint"
        )


def attack_values(options: AttackOptions | argparse.Namespace) -> dict[str, object]:
    """Keyword argument -> value of the parameters of the attack that the options name."""
    cls = attacks.declared()[options.attack_type]
    return {p.name: getattr(options, p.dest) for p in cls.parameters}


def check_attack_flags(options: AttackOptions | argparse.Namespace, eps: float) -> None:
    """Raises UserError for flags that do not go together; before any work is done."""
    name, cls = options.attack_type, attacks.declared()[options.attack_type]
    if cls.ball:
        try:
            cli.radius(str(eps))
        except argparse.ArgumentTypeError as e:
            raise UserError(f"{name}: {e}") from e
    for other in attacks.declared().values():
        for p in other.parameters:
            if p.default is None and getattr(options, p.dest) and p not in cls.parameters:
                raise UserError(
                    f"{p.flag} is for --attack_type {' '.join(attacks.takers(p.flag))}, found --attack_type"
                    f" {name}"
                )
    cls.check_flags(attack_values(options))


def attack_from_flags(
    options: AttackOptions | argparse.Namespace,
    translator: object,
    eps: float | None = None,
    perturbation: torch.Tensor | None = None,
    other_sizes: str = "refuse",
) -> Attack:
    """The attack that the flags describe.

    Args:    options       the values of add_attack_flags, precision where the command has it
             translator    G(x, c), or attacks.through.ThroughDefence
             eps           the radius, by default options.test_noise_var
             perturbation  a tensor (3, h, w) in place of options.perturbation
             other_sizes   of dadfi: what becomes of photos of another size than its weights' own
    Raises:  UserError for flags that do not go together
    """
    eps = options.test_noise_var if eps is None else eps
    check_attack_flags(options, eps)
    if isinstance(translator, ThroughDefence) and options.attack_type not in attacks.THROUGH:
        raise UserError(
            f"--attack_type {options.attack_type} cannot go through a defence; one of:"
            f" {', '.join(attacks.THROUGH)}"
        )
    values = attack_values(options)
    if perturbation is not None:
        values["perturbation"] = perturbation
    attack = attacks.build(
        options.attack_type,
        translator,
        eps,
        **{"precision": getattr(options, "precision", "fp32"), "other_sizes": other_sizes, **values},
    )
    if other_sizes == "refuse" and hasattr(options, "image_size"):
        attack.check_size(options.image_size)
    return attack


def through_config(options: AttackOptions | argparse.Namespace, attack: Attack, through: str | None) -> dict:
    """What a record says of an attack through a defence.  through: what it calls that, None without one."""
    worst = options.attack_type == "worst"  # each defence by the means that it takes, and yet the same attack
    random = attack.defence is not None and attack.defence.random
    usual = worst and options.eot == usual_draws("worst", random)
    return {
        "attack_through": through,
        "attack_gradient": options.gradient if through and not worst else None,
        "attack_eot": options.eot if through and not usual else None,
        "attack_known_noise": options.known_noise or None,
    }


def short_name(attack: Attack, options: AttackOptions | argparse.Namespace) -> str:
    """<attack>-eps<eps> for the folders of runs, with what differs from the published protocol (gray,
    original labels)."""
    name = folder_name(attack, options.attack_label).removesuffix("-gray-original").removesuffix("-original")
    name += f"-{options.attack_blur}" if options.attack_blur != "none" else ""
    return name + (f"-jpeg{options.attack_jpeg}" if options.attack_jpeg else "")


def attack_config(options: AttackOptions | argparse.Namespace, attack: Attack) -> dict:
    """What a record says of the attack; eps 0 where there is none."""
    definition = attack.definition()
    return {
        "attack": options.attack_type,
        "eps": definition["eps"],
        "attack_steps": definition.get("steps"),
        "attack_step_size": definition.get("step_size"),
        "attack_target": definition.get("target"),
        "attack_label": options.attack_label,
        "attack_blur": options.attack_blur,
        "attack_jpeg": options.attack_jpeg,
        "perturbation": options.perturbation and Path(options.perturbation).name,
        "attack_weights": definition.get("weights"),
        **{f"attack_{k}": definition[k] for k in ("restarts", "queries", "grid") if k in definition},
        "attack_features": options.attack_features and definition.get("features"),
    }
