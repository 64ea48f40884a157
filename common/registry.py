"""Registries map a name to "module:Name"; what a name stands for is imported when it is used."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from common.errors import UserError, nearest


def load(place: str) -> Any:
    """What "module:Name" stands for."""
    module, name = place.split(":")
    return getattr(import_module(module), name)


def named(kind: str, registry: Mapping[str, str], name: str) -> Any:
    """What `name` stands for in `registry`; `kind` is what an error calls it.

    Raises: UserError, with the nearest name, for an unknown one
    """
    if name not in registry:
        raise UserError(f"unknown {kind} {name!r}{nearest(name, registry)}; one of: {', '.join(registry)}")
    return load(registry[name])


def make(
    kind: str, registry: Mapping[str, str], known: Iterable[str], name: str, *arguments: Any, **options: Any
) -> Any:
    """An object of the class that `registry` names, made with those of `options` that the class lists.

    Raises: UserError for an unknown name, TypeError for an option that is not among `known`
    """
    wanted = named(kind, registry, name)
    unknown = set(options) - set(known)
    if unknown:
        raise TypeError(f"no {kind} has the option {sorted(unknown)[0]}; known: {', '.join(known)}")
    return wanted(*arguments, **{k: v for k, v in options.items() if k in wanted.options})
