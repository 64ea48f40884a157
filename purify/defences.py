"""Every defence that can be measured, a purifier and which translator makes the fakes, and the one grammar of
their names: NAME[-PARAM...], as in jpeg-75, blur-1.5, ddpm-auto, ddpm-20-ddim25, diffpure-300-30, both-10."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from common import registry
from common.declared import Look
from common.errors import UserError, nearest
from purify import PURIFIERS
from purify.base import Purifier


@dataclass(frozen=True)
class Defence:
    """purifier: a name of PURIFIERS; translator: "standard", or one of OWN;  look  of one that is no purifier
    alone."""

    purifier: str
    translator: str = "standard"
    look: Look | None = None


# translators of a defence's own, and what trains them: on disrupted photos, or a patch on a frozen one
OWN = {
    "adversarial": "python -m models.stargan.train --adversarial both --init_from FILE",
    "patched": "python -m models.stargan.lora_train --gan_weights FILE",
}
ADVERSARIAL = {
    "adv-train": Defence("none", "adversarial", Look("adv-train", "#0e9aa0", 9)),
    "adv-train-blur": Defence("blur", "adversarial", Look("adv-train-blur", "#0e9aa0", 9)),
    "both": Defence("ddpm", "adversarial", Look("both", "#5f7f8f", 10)),
    "lora-patch": Defence("none", "patched", Look("lora-patch", "#b0457a", 9)),
}


class Defences(Mapping):
    """Name -> Defence: every purifier as it is registered now, and ADVERSARIAL."""

    def __getitem__(self, name: str) -> Defence:
        return Defence(name) if name in PURIFIERS else ADVERSARIAL[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*PURIFIERS, *ADVERSARIAL))

    def __len__(self) -> int:
        return len(PURIFIERS) + len(ADVERSARIAL)


DEFENCES = Defences()


@dataclass(frozen=True)
class Spec:
    """A defence as its name says it.  name: of DEFENCES; params: (parameter, value) in the order of the
    purifier's declaration, those that the name gives.  str(spec) is the name again."""

    name: str
    params: tuple[tuple[str, object], ...] = ()

    def __str__(self):
        values = (f"{v:g}" if isinstance(v, float) else str(v) for _, v in self.params)
        return "-".join([self.name, *values])


def purifier_class(name: str) -> type[Purifier]:
    """The class of a defence's purifier."""
    return registry.load(PURIFIERS[DEFENCES[name].purifier])


def form(name: str) -> str:
    """How a name is written with its parameters: ddpm[-START[-RESPACING]]."""
    cls = purifier_class(name)
    words = [f"-{p.name.upper()}" for p in cls.parameters]
    if not words:
        return name
    first, rest = "".join(words[: cls.fewest]), words[cls.fewest :]
    return f"{name}[{first}{''.join(f'[{w}' for w in rest)}{']' * len(rest)}]"


def parse(text: str, choices: Iterable[str] | None = None) -> Spec:
    """What NAME[-PARAM...] stands for.

    Args:   choices  the names that are offered, None = all of DEFENCES
    Raises: UserError, with the form that the name should have and the nearest one
    """
    choices = list(DEFENCES if choices is None else choices)
    name = max((n for n in choices if text == n or text.startswith(f"{n}-")), key=len, default=None)
    if name is None:
        raise UserError(_unknown(text, choices))
    cls = purifier_class(name)
    words = text[len(name) + 1 :].split("-") if text != name else []
    said = cls.meant_by(words)
    its_form = f"its form is {form(name)}{nearest(text, choices)}"
    if said and not cls.fewest <= len(said) <= len(cls.parameters):
        most = len(cls.parameters)
        takes = f"{cls.fewest} to {most}" if cls.fewest < most else str(most) if most else "no"
        ending = "s" if most > 1 else ""
        raise UserError(f"{text}: {name} takes {takes} parameter{ending}, found {len(said)}; {its_form}")
    params = []
    for p, word in zip(cls.parameters, said, strict=False):
        try:
            params.append((p.name, (p.word or p.type)(word)))
        except argparse.ArgumentTypeError as e:
            raise UserError(f"{text}: {p.name.upper()}: {e}; {its_form}") from None
    cls.check(dict(params))
    return Spec(name, tuple(params))


def _unknown(text, choices):
    near = nearest(text, choices)
    shape = form(near.removeprefix(" (did you mean ").removesuffix("?)")) if near else ""
    return f"unknown value {text!r}{near}; one of: {', '.join(choices)}" + (
        f"; with parameters: {shape}" if "[" in shape else ""
    )


def note(text: str) -> str | None:
    """What to tell of a name that is understood in an older spelling, or None."""
    spec = parse(text)
    words = text[len(spec.name) + 1 :].split("-") if text != spec.name else []
    return f"{text}: read as {spec}" if len(words) != len(spec.params) else None


def defence_folder(name: str, purifier: Purifier) -> str:
    """<defense+params>: the purifier's own folder name; behind the defence's name where they differ
    (both-ddpm-t10)."""
    if purifier.name in (name, "none"):
        return name if purifier.name == "none" else purifier.folder_name
    return f"{name}-{purifier.folder_name}"


def looks() -> dict[str, Look]:
    """Defence -> its look in tables and plots."""
    return {name: defence.look or purifier_class(name).look for name, defence in DEFENCES.items()}


def trained_by(name: str) -> str | None:
    """The command that trains a purifier (or the translator of a defence), None where nothing is trained."""
    return purifier_class(name).training() or OWN.get(DEFENCES[name].translator)
