"""The pictures of the worst case hold what the records say, and are drawn where there is something to say."""

import pytest

from reading import table_of
from report.kinds import defense, defense_robustness_figures
from synthetic import ignoring, met


def stepped(name, l2_of, attack="apgd", **config):
    return [met(name, attack, l2, attack_steps=steps, **config) for steps, l2 in l2_of.items()]


def test_curves_run_over_the_attackers_steps_of_those_with_two_numbers(tmp_path):
    table = table_of(
        "defense",
        tmp_path,
        *stepped("one-step", {10: 0.01, 50: 0.05, 100: 0.06}),
        *stepped("one-step", {50: 0.04}, attack_gradient="bpda"),  # the weaker way
        *stepped("jpeg-q75", {10: 0.1, 50: 0.2}),
        *stepped("blur", {50: 0.3}),
        *stepped("none", {50: 0.5}),
        *stepped("one-step", {10: 0.7, 50: 0.8}, through_sha256="c" * 64),
        *stepped("one-step", {10: 0.02, 20: 0.03}, eps=0.1),
        ignoring("one-step", attack_steps=40),
    )
    attack, found = defense_robustness_figures.curves(table)
    assert {d: [(n, cell.value) for n, cell in points] for d, points in found.items()} == {
        "one-step": [(10, 0.01), (50, 0.05), (100, 0.06)],
        "jpeg-q75": [(10, 0.1), (50, 0.2)],
        "none": [(50, 0.5)],
    }
    assert dict(attack)["attack"] == "apgd" and dict(attack)["eps"] == 0.05
    (axes,) = defense_robustness_figures.l2_by_steps(table).axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["10", "50", "100"]
    assert "l2_by_steps" in defense.KIND.draw(table)


@pytest.mark.parametrize("name", ["none", "one-step"])
def test_one_number_of_steps_and_the_undefended_alone_are_no_curve(tmp_path, name):
    steps = {10: 0.1, 50: 0.2} if name == "none" else {10: 0.1}
    table = table_of("defense", tmp_path, *stepped(name, steps))
    assert defense_robustness_figures.l2_by_steps(table) is None


def test_a_dumbbell_has_both_figures_of_a_defence_the_best_worst_on_top(tmp_path):
    records = []
    for name, low, high in (("none", 0.4, 0.5), ("jpeg-q75", 0.002, 0.2), ("one-step", 0.001, 0.3)):
        records += [ignoring(name, low), met(name, l2=high)]
    table = table_of("defense", tmp_path, *records, met("blur", l2=0.25))
    figure = defense_robustness_figures.worst_against_ignored(table)
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["jpeg-q75", "one-step", "none"]
    ends = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert [e for e in ends if e in ((0.002, 0.2), (0.001, 0.3), (0.4, 0.5))] == [
        (0.002, 0.2),
        (0.001, 0.3),
        (0.4, 0.5),
    ]
    assert axes.get_xscale() == "log" and len(figure.legends[0].get_texts()) == 2


def test_without_a_worst_case_there_is_no_dumbbell(tmp_path):
    table = table_of("defense", tmp_path, ignoring("none"), ignoring("jpeg-q75"))
    assert defense_robustness_figures.worst_against_ignored(table) is None
    assert not {"l2_by_steps", "worst_against_ignored"} & set(defense.KIND.draw(table))
