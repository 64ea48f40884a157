"""compare_results.py shows defences as they are declared: the present ones as ever, and one from outside."""

import sys
from types import ModuleType

import pytest
from matplotlib import colors

import compare_results
from common.declared import Look
from purify import PURIFIERS
from purify.base import Purifier
from report import rows
from report.comparison import compare
from report.kinds import defense_figures
from report.looks import natural
from synthetic import defense, save

# what every table and plot has shown so far: the longest name that a label begins with decides
ORDER = (
    "none",
    "jpeg",
    "blur",
    "defensive-model-1",
    "defensive-model-2",
    "ddpm",
    "diffpure",
    "one-step-plain",
    "one-step",
    "adv-train",
    "both",
)
HUES = {
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
LABELS = (  # in order
    "none",
    "none (attacked itself)",
    "jpeg-q30",
    "jpeg-q75",
    "jpeg-q90",
    "blur-s0.8",
    "blur-s1.5",
    "defensive-model-1",
    "defensive-model-1-fixed [trained on gaussian-eps0.05]",
    "defensive-model-2",
    "defensive-model-2-fixed [trained on pgd-eps0.05]",
    "ddpm-t3",
    "ddpm-t10",
    "ddpm-t20",
    "ddpm-t50",
    "diffpure-t300",
    "diffpure-t300-r30",
    "one-step-plain",
    "one-step",
    "one-step [trained on pgd-eps0.11]",
    "adv-train",
    "adv-train-blur",
    "both-t10",
    "something-new",
)


@pytest.fixture(scope="module")
def declared():
    return compare_results.declared_looks()


def shown(labels, looks):
    return defense_figures.styles(
        rows.Table("d", "g", [rows.Row((), label, []) for label in labels], (), looks=looks)
    )


def test_the_order_of_defences_is_what_it_was(declared):
    assert sorted(reversed(LABELS), key=lambda label: natural(label, declared.defences)) == list(LABELS)
    family = [max((d for d in ORDER if label.startswith(d)), key=len, default=None) for label in LABELS]
    assert list(dict.fromkeys(family)) == [*ORDER, None]


def test_colours_and_markers_of_defences_are_what_they_were(declared):
    members, styles = {}, shown(LABELS, declared)
    for label in LABELS:
        family = max((f for f in HUES if label.startswith(f)), key=len, default="")
        place = members[family] = members.get(family, -1) + 1
        light = min(0.22 * place, 0.55)
        base = colors.to_rgb(HUES.get(family, "#777777"))
        assert styles[label] == defense_figures.Style(
            tuple(c + (1 - c) * light for c in base),
            "osD^vP*X<>hp"[place % 12],
            "--" if family == "none" else "-",
        ), label


def test_every_attack_and_detector_has_a_look(declared):
    assert (
        declared.attacks["random-sign"].label == "random sign" and declared.attacks["dadfi"].label == "DADFI"
    )
    assert (
        declared.attacks["none"].order < declared.attacks["universal"].order < declared.attacks["pgd"].order
    )
    assert declared.detectors["meso4"].label == "meso4" and "none" in declared.without_translator


def test_a_purifier_from_outside_has_its_label_colour_and_place(tmp_path, monkeypatch):
    class Dim(Purifier):
        name = "dim"
        look = Look("dimmed", "#123456", 1)  # beside jpeg, before blur

    module = ModuleType("outside")
    module.Dim = Dim
    monkeypatch.setitem(sys.modules, "outside", module)
    monkeypatch.setitem(PURIFIERS, "dim", "outside:Dim")
    for name, l2 in (("none", 0.4), ("dim-f0.5", 0.3), ("dim-f0.25", 0.2), ("blur-s1.5", 0.02)):
        save(tmp_path, defense(name, l2=l2))
    (table,) = compare(tmp_path, looks=compare_results.declared_looks).tables["defense"]
    assert [row.defence for row in table.rows] == ["none", "dimmed-f0.25", "dimmed-f0.5", "blur-s1.5"]
    figure = defense_figures.l2_by_defence(table)
    (axes,) = [a for a in figure.axes if a.get_visible()]
    assert [t.get_text() for t in axes.get_yticklabels()] == [row.defence for row in table.rows]
    assert [colors.to_hex(bar.get_facecolor()) for bar in axes.patches][1] == "#123456"
    lighter = tuple(c + (1 - c) * 0.22 for c in colors.to_rgb("#123456"))
    assert shown([row.defence for row in table.rows], table.looks)["dimmed-f0.5"].color == lighter
