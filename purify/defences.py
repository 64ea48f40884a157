"""Every defence that test_defense.py can measure: a purifier, and which translator makes the fakes."""

from dataclasses import dataclass

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
