"""What bars and curves of several kinds share."""

from report.rows import Cell

L2 = "mean squared error of the fakes"


def spread_of(cell: Cell) -> tuple[float, float]:
    """Lengths below and above the value: the 95% interval, or one standard deviation over seeds."""
    if cell.std is not None:
        return min(cell.std, cell.value * 0.999), cell.std  # a log axis has no room below zero
    if cell.low is None:
        return 0.0, 0.0
    return max(cell.value - max(cell.low, cell.value * 1e-3), 0.0), max(cell.high - cell.value, 0.0)
