"""What an attack, a purifier or a detector declares of itself: its parameters and its look.

Flags, the grammar of names, labels, colours and the order in tables are made from this, so that a new thing
is a file and a line of its registry.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Look:
    """How tables and plots show a thing: its place among its kind, and its colour (#rrggbb).

    A variant that is not declared itself (jpeg-q75, ddpm-t10) has the look of the longest declared name that
    it begins with.
    """

    label: str
    colour: str
    order: int


@dataclass(frozen=True)
class Parameter:
    """A value that a thing is made with: a keyword argument of its constructor, and a flag, which several
    things may share.

    name     of the keyword argument;  flag  --spelling;  type  text -> value, raises
             argparse.ArgumentTypeError
    default  what the flag stands for when it is left alone;  help  with its unit
    lacking  what an error says of a thing that does not have it;  word  type of the value where a name gives
             it (jpeg-75), if that is stricter
    """

    name: str
    flag: str
    type: Callable[[str], Any]
    default: Any
    help: str
    metavar: str | None = None
    choices: tuple | None = None
    lacking: str = "does not have it"
    word: Callable[[str], Any] | None = None

    @property
    def dest(self) -> str:
        return self.flag.removeprefix("--")


def add_flags(group: argparse._ArgumentGroup, parameters: Iterable[Parameter]) -> None:
    """Add the flag of each parameter, once where several things share it."""
    seen: dict[str, Parameter] = {}
    for p in parameters:
        if seen.setdefault(p.flag, p) is not p:
            if seen[p.flag] != p:
                raise ValueError(f"{p.flag}: declared twice, differently")
            continue
        group.add_argument(
            p.flag, type=p.type, default=p.default, help=p.help, metavar=p.metavar, choices=p.choices
        )
