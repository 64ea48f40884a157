"""Disruptions of a photo that break the deepfake made of it. Names -> classes, imported on use.

A new attack is a file and a line of ATTACKS: all else follows from what its class declares, see
attacks.base.Attack.
"""

from typing import Any

from common import registry
from common.declared import Look, Parameter

ATTACKS = {
    "none": "attacks.noise:NoAttack",
    "gaussian": "attacks.noise:Gaussian",
    "random-sign": "attacks.noise:RandomSign",
    "fgsm": "attacks.gradient:FGSM",
    "bim": "attacks.gradient:BIM",
    "pgd": "attacks.gradient:PGD",
    "mim": "attacks.gradient:MIM",
    "apgd": "attacks.apgd:APGD",
    "square": "attacks.square:Square",
    "low-frequency": "attacks.low_frequency:LowFrequency",
    "worst": "attacks.worst:Worst",
    "feature": "attacks.feature:FeatureDistance",
    "universal": "attacks.universal:Universal",
    "dadfi": "attacks.dadfi:DADFI",
}


def declared() -> dict[str, type]:
    """{name: attacks.base.Attack, its class} of all attacks."""
    return {name: registry.load(place) for name, place in ATTACKS.items()}


def parameters() -> list[Parameter]:
    """The parameters of all attacks, each once; those called --attack_... first."""
    # from the end, so that a class that lacks the first ones does not put its own before them
    own = dict.fromkeys(p for cls in reversed(declared().values()) for p in reversed(cls.parameters))
    return sorted(reversed(own), key=lambda p: not p.flag.startswith("--attack_"))


def takers(flag: str) -> list[str]:
    """The attacks that have the parameter of this flag."""
    return [name for name, cls in declared().items() if any(p.flag == flag for p in cls.parameters)]


def looks() -> dict[str, Look]:
    """{name: how tables and plots show it} of all attacks."""
    return {name: cls.look for name, cls in declared().items()}


def keywords(cls: type) -> tuple[str, ...]:
    """The keyword arguments of an attack's constructor."""
    return (*(p.name for p in cls.parameters), *cls.handed)


def __getattr__(name: str) -> object:
    """What follows from the declarations, made when it is asked for.

    GRADIENT            attacks that differentiate a translator
    THROUGH             attacks that can be optimised against a translator behind a defence
    WITHOUT_TRANSLATOR  to these, target and label mean nothing
    BALL                attacks whose eps is an L-inf radius
    FOR_TESTS           {attack: why nothing may be trained on photos that it disrupted}
    OPTIONS             keyword arguments of any attack's constructor, see build
    """
    if name == "GRADIENT":
        return tuple(n for n, cls in declared().items() if cls.differentiates)
    if name == "THROUGH":
        return tuple(n for n, cls in declared().items() if cls.goes_through)
    if name == "WITHOUT_TRANSLATOR":
        return tuple(n for n, cls in declared().items() if not cls.uses_translator)
    if name == "BALL":
        return tuple(n for n, cls in declared().items() if cls.ball)
    if name == "FOR_TESTS":
        return {n: cls.only_for_tests for n, cls in declared().items() if cls.only_for_tests}
    if name == "OPTIONS":
        return tuple(dict.fromkeys(k for cls in declared().values() for k in keywords(cls)))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build(name: str, translator: object, eps: float, **options: object) -> Any:
    """Make an attack by name.

    Args:    translator  G(x, c), a models.translators.Translator or attacks.through.ThroughDefence; unused by
                         none, random-sign, gaussian, feature, universal and dadfi (None will do)
             eps         L-inf radius in [-1, 1] units (0.05 = 6.4/255); the standard deviation for gaussian;
                         unused by none
             options     of OPTIONS; those that do not concern this attack are left out, so that callers may
                         pass one set to all
    Returns: attacks.base.Attack
    Raises:  UserError for an unknown name, TypeError for an option that no attack has, ValueError for a value
             out of range
    """
    cls = registry.named("attack", ATTACKS, name)
    known = __getattr__("OPTIONS")
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(f"no attack has the option {unknown[0]}; known: {', '.join(known)}")
    return cls(translator, eps, **{k: v for k, v in options.items() if k in keywords(cls)})
