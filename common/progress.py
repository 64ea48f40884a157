"""tqdm with images/s and time left on a terminal; one line a minute elsewhere."""

import sys

from tqdm import tqdm


def bar(total: int, what: str, unit: str = "img", initial: int = 0, show: bool = True) -> tqdm:
    """A progress bar; call .update(n). show=False is silent (other ranks)."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        initial=initial,
        disable=not show,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 60,
        maxinterval=10 if terminal else 60,
        smoothing=0.1,
        delay=0 if terminal else 30,
    )
