"""The purifier's flags, one spelling for every script that purifies photos: made from what purifiers
declare."""

import argparse
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from common import cli
from common.declared import Parameter, add_flags
from common.errors import UserError
from purify import PURIFIERS, build, declared, takers
from purify.base import Purifier
from purify.defences import DEFENCES, Spec, note, parse, purifier_class

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PurifierOptions:
    """The values of add_purifier_flags, resolved: a bare name, and the parameters that the name or its flags
    gave."""

    defense_model_type: str
    defense_weights: str | None
    ddpm_start_num: int | str | None
    respacing: str
    jpeg_quality: int
    blur_sigma: float


def flag_parameters() -> list[Parameter]:
    """The parameters of all purifiers, one a flag."""
    by_flag: dict[str, Parameter] = {}
    for cls in declared().values():
        for p in cls.parameters:
            by_flag.setdefault(p.flag, p)
    return list(by_flag.values())


def add_purifier_flags(
    parser: argparse.ArgumentParser,
    choices: Iterable[str] | None = None,
    default: str | None = None,
    several: bool = False,
) -> argparse._ArgumentGroup:
    """Add the group "purifier".  A flag of a parameter that is not given is not in the parsed flags:
    resolve_defence has all values.

    Args: choices  the names that this script offers, PURIFIERS (None) or DEFENCES;  default  None = required
          several  --defense_model_type takes several names, and --defense_weights a FILE or NAME=FILE for
                   each
    """
    names = list(PURIFIERS if choices is None else choices)

    def defence(text):
        try:
            parse(text, names)
        except UserError as e:
            raise argparse.ArgumentTypeError(str(e)) from None
        return text

    g = parser.add_argument_group("purifier")
    g.add_argument(
        "--defense_model_type",
        type=defence,
        nargs="+" if several else None,
        default=default,
        required=default is None,
        metavar="NAME",
        help=f"the defence: {', '.join(names)}; with its parameters as in jpeg-75, ddpm-20, diffpure-300-30"
        + ("; several share one process" if several else ""),
    )
    g.add_argument(
        "--defense_weights",
        nargs="+" if several else None,
        metavar="[NAME=]FILE" if several else "FILE",
        default=None,
        help=(
            "its weights: ours (safetensors or last.pt), guided-diffusion's or minDiffusion's; none, jpeg and"
            " blur have none"
        ),
    )
    add_flags(
        g, [dataclasses.replace(p, default=argparse.SUPPRESS, help=_help(p)) for p in flag_parameters()]
    )
    return g


def _help(p):
    names = takers(p.name)
    defaults = ", ".join(f"{n} {c.defaults[p.name]}" for n, c in declared().items() if p.name in c.defaults)
    text = p.help.replace("TAKERS", " and ".join(names)).replace("DEFAULTS", defaults)
    return text if "default" in text else f"{text} (default: {p.default})"


def resolve_defence(parsed: argparse.Namespace) -> dict[str, Any]:
    """The values of PurifierOptions that the flags of one defence stand for: a bare name, its parameters from
    the name (jpeg-75) or from its flags.

    Returns: the fields of PurifierOptions, and those of flags that are not among them, where the purifier
             takes them
    Raises:  UserError for a parameter that the name and its flag both give
    """
    return _resolve(parsed.defense_model_type, parsed.defense_weights, given_flags(parsed))


def resolve_defences(parsed: argparse.Namespace) -> list[dict[str, Any]]:
    """resolve_defence for each name of a command that takes several (add_purifier_flags(several=True)).

    A flag is for the defences that take it, or for the purifier of --attack_through. Weights: of one defence
    the FILE; of several NAME=FILE, NAME as it was given or bare, or a FILE if one defence alone needs some.
    Raises: UserError
    """
    names, given = parsed.defense_model_type, given_flags(parsed)
    weights = _weights_of(names, parsed.defense_weights or [])
    through = through_of(parsed)
    taken = {name: {p.dest for p in purifier_class(parse(name).name).parameters} for name in names}
    beside = {p.dest for p in declared()[through.name].parameters} if through else set()
    nobodys = set(given) - set().union(*taken.values())  # refused when the purifier is made
    defences = []
    for name in names:
        mine = {k: v for k, v in given.items() if k in taken[name] | beside | nobodys}
        defence = _resolve(name, weights.get(name), mine)
        if defence in defences:
            raise UserError(f"--defense_model_type {' '.join(names)}: {name} is named twice")
        defences.append(defence)
    return defences


def _weights_of(names, words):
    """{name: FILE} from FILE or NAME=FILE words, NAME in full before a bare one."""
    bare = {name: parse(name).name for name in names}
    pairs = [(head, path) for head, sep, path in (w.partition("=") for w in words) if sep]
    pairs = [(head, path) for head, path in pairs if head in {*bare, *bare.values()}]
    plain = [w for w in words if w.partition("=")[::2] not in pairs]
    needy = names if len(names) == 1 else [n for n in names if purifier_class(bare[n]).trained_as]
    if plain and (len(words) > 1 or len(needy) != 1):
        raise UserError(
            f"--defense_weights {' '.join(words)}: of these defences {', '.join(needy) or 'none'} need"
            " weights; give NAME=FILE for each of them"
        )
    named = {name: dict(pairs).get(name, dict(pairs).get(bare[name])) for name in names}
    return {**named, needy[0]: plain[0]} if plain else named


def add_through_flag(group: argparse._ArgumentGroup, whose: str) -> None:
    """Add --attack_through to a group.  whose: what self stands for."""
    group.add_argument(
        "--attack_through",
        type=_purifier,
        default=None,
        metavar="NAME",
        help=(
            f"the attacker knows this purifier and attacks through it: self = {whose}, none, or NAME[-PARAM]"
            f" of {', '.join(PURIFIERS)} (default: none; of worst self)"
        ),
    )


def _purifier(text):
    try:
        return text if text in ("self", "none") else str(parse(text, PURIFIERS))
    except UserError as e:
        raise argparse.ArgumentTypeError(f"self, none, or a purifier: {e}") from None


def resolve_through(p: cli.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Give parsed.attack_through its default, None for none.  Raises UserError for flags that do not go with
    it."""
    if parsed.attack_through is None and parsed.attack_type == "worst":
        parsed.attack_through = "self"
    elif parsed.attack_through == "none":
        parsed.attack_through = None
    through = through_of(parsed)
    if parsed.through_weights and (through is None or not purifier_class(through.name).trained_as):
        p.error("--through_weights FILE: --attack_through must name the purifier of these weights")
    if parsed.attack_type == "worst" and parsed.gradient != "full":
        p.error(f"--gradient {parsed.gradient}: worst takes both gradients; drop the flag")


def through_of(options: object) -> Spec | None:
    """The purifier that --attack_through names; None where it says self or none, and without the flag."""
    text = getattr(options, "attack_through", None)
    return None if text in (None, "self", "none") else parse(text, PURIFIERS)


def given_flags(parsed: argparse.Namespace) -> dict[str, Any]:
    """Destination -> value of the purifiers' flags that were given."""
    return {p.dest: getattr(parsed, p.dest) for p in flag_parameters() if hasattr(parsed, p.dest)}


def _resolve(text, weights, given):
    spec = parse(text)
    if said := note(text):
        print(said)
    cls = purifier_class(spec.name)
    own = {p.dest for p in cls.parameters}
    fields = {f.name for f in dataclasses.fields(PurifierOptions)}
    values = {p.dest: p.default for p in flag_parameters() if p.dest in fields | own}
    values.update({k: v for k, v in given.items() if k in values})
    named = dict(spec.params)
    for p in cls.parameters:
        if p.name in named:
            if p.dest in given:
                raise UserError(
                    f"{text}: the name and {p.flag} {given[p.dest]} both give the {p.name}; drop one of them"
                )
            values[p.dest] = named[p.name]
    return {"defense_model_type": spec.name, "defense_weights": weights, **values}


def options_of(kind: type[T], parsed: argparse.Namespace, defence: dict[str, Any], **changed: object) -> T:
    """cli.resolve for a command with a purifier: `defence` of resolve_defence in place of the purifier's
    flags.

    A parameter that PurifierOptions does not know (of a purifier registered later) is a field more.
    """
    mine = {p.dest for p in flag_parameters()}
    rest = argparse.Namespace(**{k: v for k, v in vars(parsed).items() if k not in mine})
    new = [k for k in defence if k not in {f.name for f in dataclasses.fields(kind)}]
    if new:
        kind = dataclasses.make_dataclass(
            kind.__name__, [(k, object) for k in new], bases=(kind,), frozen=True, kw_only=True
        )
    return cli.resolve(kind, rest, **defence, **changed)


def purifier_from_flags(
    options: PurifierOptions, weights: str | None = None, name: str | None = None, device: object = "cpu"
) -> Purifier:
    """A purifier that the options describe.

    Args:   weights  its weight file;  name  NAME[-PARAM...] of PURIFIERS. Without a name: the purifier of
                     options.defense_model_type, and options.defense_weights where weights is None
    Raises: UserError as purify.build does. A flag that stands for nothing until it is given (--ddpm_start_num
            and --respacing) belongs to the script's own purifier if it takes it, else to the one of
            --attack_through.
    """
    spec = parse(options.defense_model_type)
    own, through = DEFENCES[spec.name].purifier, through_of(options)
    if name is None:
        name, weights = own, weights or options.defense_weights
    asked = parse(name, PURIFIERS)
    name, named = asked.name, dict(spec.params) if asked.name == own else {}
    values = {}
    for p in flag_parameters():
        value = named.get(p.name, getattr(options, p.dest, p.default))
        takes = takers(p.name)
        if p.default in (None, ""):
            owner = through.name if through and through.name in takes and own not in takes else own
            if name == owner:
                values[p.name] = value
        elif name in takes:
            values[p.name] = value
    values.update(asked.params)
    return build(name, weights, device, getattr(options, "precision", "fp32"), **values)
