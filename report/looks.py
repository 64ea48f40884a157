"""How things that records name are shown: what attacks, purifiers and detectors declare, handed down by the
script that makes a comparison."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.declared import Look

OTHER = "#777777"  # colour of what nobody declared


@dataclass(frozen=True)
class Looks:
    """{name: Look} of all that is declared.

    defences   label, colour and order of rows;  attacks  the same in tables of disruptions
    detectors  label in the name of a table
    without_translator  attacks to which target and label mean nothing
    """

    defences: Mapping[str, Look] = field(default_factory=dict)
    attacks: Mapping[str, Look] = field(default_factory=dict)
    detectors: Mapping[str, Look] = field(default_factory=dict)
    without_translator: tuple[str, ...] = ()


def look_of(label: str, declared: Mapping[str, Look]) -> Look | None:
    """The Look of the longest declared name, or label of a Look, that a label begins with; None where there
    is none."""
    names = {**{look.label: look for look in declared.values()}, **declared}
    return names.get(max((name for name in names if label.startswith(name)), key=len, default=None))


def shown_name(name: str, declared: Mapping[str, Look]) -> str:
    """A name that a record gives, its declared beginning (of jpeg-q75 jpeg) replaced by the label
    declared."""
    begins = max((d for d in declared if name.startswith(d)), key=len, default="")
    return declared[begins].label + name[len(begins) :] if begins else name


def natural(label: str, declared: Mapping[str, Look] | None = None) -> tuple:
    """Sort key: by the order of the declared names, others last; then numbers by value (t3 before t10)."""
    look = look_of(label, declared or {})
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return ((0, look.order) if look else (1, 0), [float(p) if i % 2 else p for i, p in enumerate(parts)])
