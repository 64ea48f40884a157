"""Purifiers: photo in, photo out. PURIFIERS names them, build makes one; a class is imported when it is used.

A new one is a file with a subclass of purify.base.Purifier and a line here: its flags, the grammar of its
name and its look follow from what the class declares.
"""

from typing import TYPE_CHECKING

from common import registry
from common.errors import UserError

if TYPE_CHECKING:
    from purify.base import Purifier

PURIFIERS = {
    "none": "purify.plain:Nothing",
    "jpeg": "purify.plain:Jpeg",
    "blur": "purify.plain:Blur",
    "defensive-model-1": "purify.dae:DefensiveModel1",
    "defensive-model-2": "purify.dae:DefensiveModel2",
    "defensive-model-1-fixed": "purify.dae:DefensiveModel1Fixed",
    "defensive-model-2-fixed": "purify.dae:DefensiveModel2Fixed",
    "ddpm": "purify.reverse_only:ReverseOnly",
    "diffpure": "purify.reverse_only:DiffPure",
    "gridpure": "purify.gridpure:GridPure",
    "one-step": "purify.one_step:OneStep",
    "one-step-robust": "purify.one_step:OneStepRobust",
    "one-step-plain": "purify.one_step:OneStepPlain",
}


def declared() -> "dict[str, type[Purifier]]":
    """Name -> class of every purifier, with what it declares of itself."""
    return {name: registry.load(place) for name, place in PURIFIERS.items()}


def takers(parameter: str) -> list[str]:
    """The names of the purifiers that have a parameter."""
    return [name for name, cls in declared().items() if parameter in {p.name for p in cls.parameters}]


def build(
    name: str,
    weights: str | None = None,
    device: object = "cpu",
    precision: str = "fp32",
    **parameters: object,
) -> "Purifier":
    """Make a purifier.

    Args:   weights     its weight file;  precision  fp32 or bf16 (autocast of the network)
            parameters  those that its class declares (quality, sigma, start, respacing, ...); None and ""
                        stand for its default
    Raises: UserError for an unknown name, for weights that are missing, damaged or of another kind, and for
            parameters that the purifier does not have; TypeError for one that no purifier has
    """
    cls = registry.named("purifier", PURIFIERS, name)
    given = {k: v for k, v in parameters.items() if v is not None and v != ""}
    for key, value in given.items():
        if key not in {p.name for p in cls.parameters}:
            raise _refusal(name, key, value)
    cls.check(given)
    if cls.trained_as is None:
        if weights is not None:
            raise UserError(f"--defense_weights {weights}: {name} has no weights; drop the flag")
    elif weights is None:
        raise UserError(f"{name} needs weights: give --defense_weights FILE, or train them: {cls.training()}")
    return cls.make(weights, device, precision, **{**cls.defaults, **given})


def _refusal(name, key, value):
    having = [p for cls in declared().values() for p in cls.parameters if p.name == key]
    if not having:
        return TypeError(f"no purifier has the parameter {key}")
    return UserError(
        f"{having[0].flag} {value}: {name} {having[0].lacking}; it is for {', '.join(takers(key))}"
    )
