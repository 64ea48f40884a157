"""Cures against attackers: a row per kind of training photos, a column per attack that made the disrupted
ones.

The attacker who knows a cure disrupts photos through it. Reads DetectorTables: those of one setting that
differ in the attack alone make one cross table for each poison rate and test set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from report.kinds.detector_rows import DetectorRow, DetectorTable
from report.kinds.detector_statistics import ACCURACY
from report.kinds.detector_words import test_words
from report.looks import natural
from report.rows import Cell, attack_text
from report.text import DASH, Grid, deviation

LEGEND = (
    "Accuracy on photos of C and fakes of them after learning from photos of B at one poison rate: a row is"
    " what was done to all photos before training, a column the attack that the poisoned ones carry."
    " *through NAME*: by an attacker who knows that purifier. *its own*: under the attacker who guessed the"
    " row's cure, the figure that a cure is judged by. ± standard deviation over seeds. **Bold**: the best"
    " cure of its column."
)
UNCURED = ("clean", "disrupted")


@dataclass(frozen=True)
class Cross:
    """rows[label][i]: the DetectorRow of some training photos under attack i, None where there is none.

    rate  the poison rate;  table  one of the setting, whose looks are everybody's
    """

    table: DetectorTable
    rate: float
    attacks: list[tuple]
    rows: dict[str, list[DetectorRow | None]]

    @property
    def tests(self) -> list[str | None]:
        """The test sets, None the usual one."""
        rows = [row for line in self.rows.values() for row in line if row]
        return [None, *dict.fromkeys(t for row in rows for t in row.other_tests)]

    def cell(self, label: str, i: int | None, test: str | None = None) -> Cell | None:
        """Accuracy under attack i; None where it was not run."""
        row = None if i is None else self.rows[label][i]
        return row and row.cell(f"metrics.other.{test}.accuracy" if test else ACCURACY)

    def own(self, label: str) -> int | None:
        """The attack that was made through a row's own cure, None without one."""
        cure = next((row.first.name for row in self.rows[label] if row), None)
        named = [dict(attack).get("attack_through") for attack in self.attacks]
        return named.index(cure) if cure in named else None


def crosses_of(tables: Sequence[DetectorTable]) -> list[Cross]:
    """The cross tables of tables of one setting: one for each poison rate at which two attacks or more were
    used."""
    crosses = []
    for rate in sorted({rate for t in tables for rate in t.rates}):
        mine = [t for t in tables if rate in t.rates]
        mine.sort(key=lambda t: (dict(t.main).get("attack_through") or "", attack_text(t.main)))
        found = [{r.label: r for r in t.unmarked if r.condition == "clean" or r.rate == rate} for t in mine]
        labels = sorted(
            {label for rows in found for label in rows},
            key=lambda label: (
                UNCURED.index(label) if label in UNCURED else len(UNCURED),
                natural(label, mine[0].looks.defences),
            ),
        )
        if len(mine) > 1:
            rows = {label: [of.get(label) for of in found] for label in labels}
            crosses.append(Cross(mine[0], rate, [t.main for t in mine], rows))
    return crosses


def attack_headings(attacks: Sequence[tuple]) -> list[str]:
    """What tells the attacks of a cross table apart, in few words where these do."""
    kinds, words = {dict(a)["attack"] for a in attacks}, []
    for attack in map(dict, attacks):
        parts = [attack["attack"]] if len(kinds) > 1 else []
        parts += [f"surviving JPEG {attack['attack_jpeg']}"] if "attack_jpeg" in attack else []
        parts += [f"through {attack['attack_through']}"] if "attack_through" in attack else []
        words.append(" ".join(parts) or "ignoring the cure")
    return words if len(set(words)) == len(words) else [attack_text(tuple(a)) for a in attacks]


def cross_grid(cross: Cross, test: str | None = None) -> Grid:
    """A cross table on one test set."""
    columns = range(len(cross.attacks))
    labels = [
        label for label in cross.rows if any(_value(cross.cell(label, i, test)) is not None for i in columns)
    ]
    cells = [
        [
            label,
            *(_text(cross.cell(label, i, test)) for i in columns),
            _text(cross.cell(label, cross.own(label), test)),
        ]
        for label in labels
    ]
    best = set()
    for i in columns:
        cured = {
            line: value
            for line, label in enumerate(labels)
            if label not in UNCURED and (value := _value(cross.cell(label, i, test))) is not None
        }
        best |= {(line, 1 + i) for line, value in cured.items() if value == max(cured.values())}
    on = f", tested on {test_words(test)}" if test else ""
    return Grid(
        ["training photos", *attack_headings(cross.attacks), "its own"],
        cells,
        1,
        [False] * len(cells),
        best=best,
        title=f"Cures against attackers, poison rate {cross.rate:g}{on}",
        note=LEGEND if test is None else "",
    )


def grids(tables: Sequence[DetectorTable]) -> list[Grid]:
    """All cross tables of tables of one setting, on every test set."""
    return [cross_grid(cross, test) for cross in crosses_of(tables) for test in cross.tests]


def _value(cell):
    return cell.value if cell else None


def _text(cell):
    return deviation(cell, "ssim") if cell else DASH
