"""Folders of runs are named for the defence, and for the purifier's parameters where there are any."""

import pytest

from common.errors import UserError
from purify import PURIFIERS, build
from purify.base import Purifier
from purify.defences import DEFENCES, defence_folder, note, parse


@pytest.mark.parametrize(
    "name, folder",
    [
        ("none", "none"),
        ("jpeg", "jpeg-q75"),
        ("blur", "blur-s1.5"),
        ("adv-train", "adv-train"),
        ("lora-patch", "lora-patch"),
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
    assert [name for name, d in DEFENCES.items() if d.translator == "patched"] == ["lora-patch"]


@pytest.mark.parametrize(
    "text, name, params",
    [
        ("none", "none", {}),
        ("jpeg-75", "jpeg", {"quality": 75}),
        ("blur-1.5", "blur", {"sigma": 1.5}),
        ("ddpm-auto", "ddpm", {"start": "auto"}),
        ("ddpm-20-ddim25", "ddpm", {"start": 20, "respacing": "ddim25"}),
        ("diffpure-300-30", "diffpure", {"start": 300, "respacing": "30"}),
        ("one-step-plain-9", "one-step-plain", {"start": 9}),
        ("defensive-model-2-fixed", "defensive-model-2-fixed", {}),
        ("adv-train-blur-2", "adv-train-blur", {"sigma": 2.0}),
        ("both-10", "both", {"start": 10}),
    ],
)
def test_a_name_gives_its_parameters_and_they_the_name(text, name, params):
    spec = parse(text)
    assert (spec.name, dict(spec.params), str(spec), note(text)) == (name, params, text, None)


def test_the_old_name_of_diffpure_is_read_as_what_it_meant():
    assert parse("diffpure-30") == parse("diffpure-300-30")
    assert note("diffpure-30") == "diffpure-30: read as diffpure-300-30"


@pytest.mark.parametrize(
    "text, words",
    [
        ("jpeg-101", ["from 1 to 100", "jpeg[-QUALITY]", "did you mean jpeg?"]),
        ("ddpm-x", ["or auto", "ddpm[-START[-RESPACING]]"]),
        ("diffpure-300", ["diffpure[-START-RESPACING]"]),
        ("jpg-75", ["did you mean jpeg?", "jpeg[-QUALITY]"]),
        ("one-step-4", ["takes no parameter"]),
    ],
)
def test_a_wrong_name_gets_one_line_with_the_form_and_the_nearest_name(text, words):
    with pytest.raises(UserError) as e:
        parse(text)
    assert all(word in str(e.value) for word in words) and "\n" not in str(e.value)
