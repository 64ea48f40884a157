"""Poisons of a labelled training set: what De-Pois must find. Names -> classes, imported on use.

A poison changes some samples of a set (attacks.poison.base.poisoned_rows draws which) and leaves names, order
and all other samples as they are, so that what a defence flags can be compared with what was changed.
"""

from typing import Any

from common import registry
from common.declared import Parameter

POISONS = {
    "label-flip": "attacks.poison.plain:LabelFlip",
    "noise": "attacks.poison.plain:Noise",
    "blend": "attacks.poison.plain:Blend",
    "gradient": "attacks.poison.gradient:GradientPoison",
    "gan": "attacks.poison.gan:GanPoison",
    "bypass": "attacks.poison.bypass:Bypass",
}


def parameters() -> dict[str, tuple[Parameter, ...]]:
    """{poison: what its flags say of it}"""
    return {name: registry.load(place).parameters for name, place in POISONS.items()}


def build(name: str, **options: Any) -> Any:
    """Make a poison by name.

    Args:    options  of any poison; those that do not concern this one are left out, so that callers may
                      pass one set to all
    Returns: Poison
    Raises:  UserError for an unknown name, TypeError for an option that no poison has, ValueError for a value
             out of range
    """
    known = [option for place in POISONS.values() for option in registry.load(place).options]
    return registry.make("poison", POISONS, dict.fromkeys(known), name, **options)
