"""Poisons of a labelled training set: what De-Pois must find. Names -> classes, imported on use.

A poison changes some samples of a set (attacks.poison.base.poisoned_rows draws which) and leaves names, order
and all other samples as they are, so that what a defence flags can be compared with what was changed.
"""

from typing import Any

from common import registry

POISONS = {
    "label-flip": "attacks.poison.plain:LabelFlip",
    "noise": "attacks.poison.plain:Noise",
    "blend": "attacks.poison.plain:Blend",
    "gradient": "attacks.poison.gradient:GradientPoison",
    "gan": "attacks.poison.gan:GanPoison",
    "bypass": "attacks.poison.bypass:Bypass",
}
OPTIONS = (
    "sigma",
    "alpha",
    "victim",
    "eps",
    "steps",
    "targeted",
    "victim_steps",
    "generator",
    "realism",
    "share",
    "gan_steps",
    "base",
    "critic",
    "classifier",
    "mode",
    "device",
)


def build(name: str, **options: Any):
    """Make a poison by name.

    Args:    options  of OPTIONS; those that do not concern this poison are left out, so that callers may pass
                      one set to all
    Returns: Poison
    Raises:  UserError for an unknown name, TypeError for an option that no poison has, ValueError for a value
             out of range
    """
    return registry.make("poison", POISONS, OPTIONS, name, **options)
