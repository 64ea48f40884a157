"""Folders of runs are named for the defence, and for the purifier's parameters where there are any."""

import pytest

from purify import PURIFIERS, build
from purify.base import Purifier
from purify.defences import DEFENCES, defence_folder


@pytest.mark.parametrize(
    "name, folder",
    [
        ("none", "none"),
        ("jpeg", "jpeg-q75"),
        ("blur", "blur-s1.5"),
        ("adv-train", "adv-train"),
        ("adv-train-blur", "adv-train-blur-blur-s1.5"),
    ],
)
def test_folders_of_defences_without_weights(name, folder):
    assert defence_folder(name, build(DEFENCES[name].purifier)) == folder


def test_a_purifier_under_another_name_keeps_its_parameters():
    ddpm = Purifier({"start": 10}, "ddpm-t10")
    ddpm.name = "ddpm"
    assert defence_folder("ddpm", ddpm) == "ddpm-t10" and defence_folder("both", ddpm) == "both-ddpm-t10"


def test_every_purifier_is_a_defence_of_its_own_name():
    assert all(
        DEFENCES[name].purifier == name and DEFENCES[name].translator == "standard" for name in PURIFIERS
    )
    assert {name for name, d in DEFENCES.items() if d.translator == "adversarial"} == {
        "adv-train",
        "adv-train-blur",
        "both",
    }
