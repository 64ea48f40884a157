"""The flags of poisons, made from what each declares."""

import argparse
from dataclasses import make_dataclass
from typing import Any

from attacks import poison
from attacks.poison.base import Poison
from common import declared


def _by_flag() -> dict[str, declared.Parameter]:
    """One Parameter for each flag: two poisons may share it under names of their own."""
    return {p.dest: p for mine in poison.parameters().values() for p in mine}


# The values of add_poison_flags.
PoisonOptions = make_dataclass(
    "PoisonOptions", [(dest, Any) for dest in _by_flag()], frozen=True, kw_only=True
)


def add_poison_flags(group: argparse._ArgumentGroup) -> None:
    """Add every flag that a poison declares."""
    declared.add_flags(group, _by_flag().values())


def flags_taken_by(name: str) -> set[str]:
    """The flags, without their --, that the poison `name` takes; of what the registry lacks, none."""
    return {p.dest for p in poison.parameters().get(name, ())}


def poison_from_flags(name: str, options: PoisonOptions, **networks: Any) -> Poison:
    """The poison `name` as its flags say.

    Args:   networks  device, and critic and classifier where it needs them, see attacks.poison.build
    Raises: UserError for an unknown name, ValueError for a value out of range
    """
    values = {p.name: getattr(options, p.dest) for p in poison.parameters().get(name, ())}
    return poison.build(name, **networks, **{k: v for k, v in values.items() if v is not None})
