"""One self-contained HTML page: tables, plots and the pictures of the runs; no scripts, every picture inside
the file. Its form is templates/report.html."""

import base64
import io
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from report import kinds
from report.comparison import Comparison, remarks
from report.kind import Kind, Pictures
from report.rows import Table

GRID_WIDTH = 900  # pixels; wider grids are scaled down
DIGITS = 3  # significant ones at most, of an interval or a deviation
Drawn = Mapping[str, Mapping[int, Mapping[str, bytes]]]


def grid_picture(path: Path) -> bytes | None:
    """JPEG bytes of a grid, at most GRID_WIDTH pixels wide; None where there is none or it is damaged."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as opened:  # by PIL alone: a comparison should start without loading torch
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    if image.width > GRID_WIDTH:
        image = image.resize(
            (GRID_WIDTH, max(1, round(image.height * GRID_WIDTH / image.width))), Image.LANCZOS
        )
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=88)
    return out.getvalue()


def _shorter(match: re.Match) -> str:
    """A number with DIGITS significant digits at most."""
    text = match[0]
    if "e" in text or len(re.sub(r"^[-0.]+|[.]", "", text)) <= DIGITS:
        return text
    whole = len(text.lstrip("-").partition(".")[0].lstrip("0"))
    leading = re.match(r"-?0\.(0*)", text)
    return f"{float(text):.{max(DIGITS - whole, 0) + (len(leading[1]) if leading else 0)}f}"


def split_spread(text: str, words: bool) -> tuple[str, str]:
    """A cell's figure, and its interval or deviation with fewer digits; `words`: the cell holds none."""
    value, _, spread = text.partition(" ")
    if words or not spread.startswith(("[", "±")):
        return text, ""
    return value, re.sub(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", _shorter, spread)


def _words(text: str) -> Markup:
    """Markdown paragraphs as HTML: their *emphasis* and **bold** words."""
    text = escape(text)
    for sign, tag in (("**", "strong"), ("*", "em")):
        parts = text.split(sign)
        text = "".join(p if i % 2 == 0 else f"<{tag}>{p}</{tag}>" for i, p in enumerate(parts))
    return Markup(f"<p class=quiet>{text}</p>")


class _Number:
    """Counts the check boxes of a page."""

    def __init__(self):
        self.last = 0

    def __call__(self) -> int:
        self.last += 1
        return self.last


def _picture_groups(groups: list[Pictures]) -> list[dict]:
    """Groups with the pictures that are there; a title stays above the first group that has one."""
    shown, title = [], ""
    for group in groups:
        title = group.title or title
        figures = [
            (base64.b64encode(data).decode(), alt, caption)
            for path, alt, caption in group.files
            if (data := grid_picture(path))
        ]
        if figures:
            shown.append({"title": title, "summary": group.summary, "figures": figures})
            title = ""
    return shown


def _section(kind: Kind, tables: list[Table], drawn: Mapping[int, Mapping[str, bytes]]) -> dict:
    """What the template shows of one kind."""
    shown = [
        {
            "id": f"{kind.name}-{i}",
            "name": table.name,
            "intro": kind.intro(table),
            "grids": kind.grids(table),
            "notes": table.notes,
            "plots": [
                {
                    "data": base64.b64encode(data).decode(),
                    "caption": kind.plots[name].caption,
                    "wide": kind.plots[name].wide,
                }
                for name, data in drawn.get(i, {}).items()
            ],
            "pictures": _picture_groups(kind.pictures(table)),
        }
        for i, table in enumerate(tables)
    ]
    return {"id": kind.name, "title": kind.title, "legends": kind.legends, "tables": shown}


def html(comparison: Comparison, drawn: Drawn) -> str:
    """The page as text.

    Args:  comparison  of report.comparison.compare
           drawn       {kind: {index of the table: {plot name: PNG bytes}}}
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"spread": split_spread, "words": _words}
    held = [(kind, tables) for kind in kinds.load_all() if (tables := comparison.tables.get(kind.name))]
    return environment.get_template("report.html").render(
        counts=[f"{len(tables)} of {kind.counted}" for kind, tables in held],
        sections=[_section(kind, tables, drawn.get(kind.name, {})) for kind, tables in held],
        remarks=remarks(comparison),
        number=_Number(),
    )
