"""What a test of a defence says on the console."""

import pytest

from evaluation.defense_output import line, summary
from synthetic import defense

WORST = {
    "won": {"apgd": 70, "apgd-bpda": 0, "square": 2, "low-frequency": 8},
    "l2": {"apgd": 0.3, "apgd-bpda": 0.1, "square": 0.2, "low-frequency": 0.25},
    "masked": False,
    "eot": 1,
}


@pytest.mark.parametrize("masked", [False, True])
def test_it_tells_who_won_and_that_a_gradient_is_masked(masked):
    found = defense(attack="worst", worst={**WORST, "masked": masked})
    assert "\nworst: apgd 70, square 2, low-frequency 8" in summary(found)
    assert ("note: gradient-free beats the exact gradient: it is masked" in summary(found)) == masked
    assert line(found).endswith("; worst: apgd 70, square 2, low-frequency 8")


def test_it_says_nothing_of_it_under_another_attack():
    assert "worst" not in summary(defense()) + line(defense(worst=None))
