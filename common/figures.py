"""Canvas of a plot: a white figure, its titles, grids and scales, shades of a hue, and its PNG.

matplotlib is imported by the functions that need it: commands that draw at their end should start without it.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI = 130


def new_figure(width: float, height: float) -> "Figure":
    """An empty white Figure, inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    figure.set_facecolor("white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, hspace=0.04)
    return figure


def panel_title(axes: "Axes", text: str, width: int = 54) -> None:
    """A title on the left, broken after `width` characters."""
    axes.set_title("\n".join(textwrap.wrap(text, width)), fontsize=10, loc="left")


def shades(hues: Mapping[str, str], kinds: Mapping[str, Sequence[str]]) -> dict[str, tuple]:
    """{label: colour} of {kind: labels}: the kind's hue of `hues`, lighter for each label of its kind that
    follows."""
    from matplotlib import colors

    colour_of = {}
    for kind, labels in kinds.items():
        for place, label in enumerate(labels):
            light = 0.8 * place / max(4, len(labels))
            colour_of[label] = tuple(c + (1 - c) * light for c in colors.to_rgb(hues[kind]))
    return colour_of


def light_grid(axes: "Axes") -> None:
    """Pale lines behind the data, no frame on top and on the right."""
    axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def log_scale(axis: "Axis", values: Sequence[float]) -> None:
    """Log scale with plain labels (0.001, not powers) and labelled steps in between where the range is
    short."""
    from matplotlib import ticker

    axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
    low, high = min(values), max(values)
    short = high / low < 30
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if short else (1,)))
    axis.set_minor_locator(ticker.NullLocator() if short else ticker.LogLocator(subs=range(2, 10)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())
    if axis.axis_name == "x":
        axis.axes.set_xlim(low / 1.3, high * 1.3)
    else:
        axis.axes.set_ylim(low / 1.5, high * 1.5)


def png(figure: "Figure") -> bytes:
    """PNG bytes of a Figure of new_figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)  # savefig draws twice, once to find the layout
    return out.getvalue()
