"""Every defence that test_defense.py can measure: a purifier, and which translator makes the fakes."""

from dataclasses import dataclass

from common.declared import Look
from purify import PURIFIERS


@dataclass(frozen=True)
class Defence:
    """purifier: a name of PURIFIERS; translator: "standard", or "adversarial" = trained on disrupted
    photos."""

    purifier: str
    translator: str = "standard"


DEFENCES = {
    **{name: Defence(name) for name in PURIFIERS},
    "adv-train": Defence("none", "adversarial"),
    "adv-train-blur": Defence("blur", "adversarial"),
    "both": Defence("ddpm", "adversarial"),
}


def defence_folder(name, purifier):
    """<defense+params>: the purifier's own folder name; behind the defence's name where they differ
    (both-ddpm-t10)."""
    if purifier.name in (name, "none"):
        return name if purifier.name == "none" else purifier.folder_name
    return f"{name}-{purifier.folder_name}"


def looks() -> dict[str, Look]:
    """Defence -> its look in tables and plots."""
    colours = {
        "none": "#333333",
        "jpeg": "#e8850c",
        "blur": "#8c5a2b",
        "defensive-model": "#d62f5f",
        "ddpm": "#1f6fc4",
        "diffpure": "#8451c9",
        "one-step-plain": "#9aa51c",
        "one-step": "#14843c",
        "adv-train": "#0e9aa0",
        "both": "#5f7f8f",
    }
    return {
        name: Look(name, colours[max(filter(name.startswith, colours), key=len)], place)
        for place, name in enumerate(DEFENCES)
    }
