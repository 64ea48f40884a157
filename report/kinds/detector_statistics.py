"""Accuracies of detectors held against one another: differences and recovered shares, with 95% intervals."""

import math
from statistics import NormalDist, mean, variance

from report.rows import Cell, Row

ACCURACY = "metrics.accuracy"
Z = NormalDist().inv_cdf(0.975)  # half of a 95% interval in standard errors


def _noise(rows):
    """[(variance of its accuracy, degrees of freedom), ...] of rows; None where a row has no interval.

    Over seeds the variance of their mean. Where a row has one seed, or no seed of any row changes anything,
    that of every row's bootstrap interval.
    """
    seeds = [
        [
            cell
            for run in row.runs
            if (cell := Row(row.attack, row.defence, [run]).cell(ACCURACY)).value is not None
        ]
        for row in rows
    ]
    if all(len(cells) > 1 for cells in seeds) and any(len({c.value for c in cells}) > 1 for cells in seeds):
        return [(variance(c.value for c in cells) / len(cells), len(cells) - 1) for cells in seeds]
    if any(c.low is None for cells in seeds for c in cells):
        return None
    return [((mean(c.high - c.low for c in cells) / 2 / Z) ** 2, math.inf) for cells in seeds]


def _error(noise, weights):
    """(variance of a weighted sum of accuracies, 97.5% quantile of Student's t at Welch's degrees of
    freedom)."""
    from scipy import special  # on use: every training of a detector loads this file

    parts = [(w * w * v, freedom) for w, (v, freedom) in zip(weights, noise, strict=True)]
    total, scale = sum(part for part, _ in parts), sum(part * part / freedom for part, freedom in parts)
    return total, float(special.stdtrit(total * total / scale, 0.975)) if scale else Z


def difference(row: Row, other: Row) -> Cell:
    """Cell of the row's accuracy minus the other's with its 95% interval (Welch's t over seeds); empty where
    one was not measured."""
    a, b = row.cell(ACCURACY).value, other.cell(ACCURACY).value
    if a is None or b is None:
        return Cell(None)
    if (noise := _noise([row, other])) is None:
        return Cell(a - b)
    total, t = _error(noise, (1, -1))
    return Cell(a - b, a - b - t * math.sqrt(total), a - b + t * math.sqrt(total))


def share_recovered(row: Row, disrupted: Row, clean: Row) -> Cell:
    """(row - disrupted) / (clean - disrupted) of the accuracies, a Cell; empty unless the loss exceeds its
    own 95% interval.

    Its 95% range holds every share s for which row - disrupted - s (clean - disrupted) may be 0 (Fieller
    1954); none where that is not one piece.
    """
    gain, loss = difference(row, disrupted), difference(clean, disrupted)
    if gain.value is None or loss.low is None or loss.low <= 0:
        return Cell(None)
    share = gain.value / loss.value
    if (noise := _noise([row, disrupted, clean])) is None:
        return Cell(share)
    (mine, _), (poisoned, _), (whole, _) = noise
    t = _error(noise, (1, share - 1, -share))[1]
    a = loss.value**2 - t * t * (poisoned + whole)  # a s^2 - 2 b s + c = 0 at both ends
    b, c = gain.value * loss.value - t * t * poisoned, gain.value**2 - t * t * (mine + poisoned)
    if a <= 0:
        return Cell(share)
    root = math.sqrt(max(b * b - a * c, 0))
    return Cell(share, (b - root) / a, (b + root) / a)


def points(cell: Cell) -> Cell:
    """A difference of accuracies in points, its interval too."""
    return Cell(*(None if v is None else 100 * v for v in (cell.value, cell.low, cell.high)))
