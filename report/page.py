"""One self-contained HTML page: tables, plots and the grids of the runs; no scripts, every picture inside the
file."""

import base64
import io
from html import escape

from PIL import Image

from report import figures as plots
from report import text as tables
from report.kinds import (
    dadfi,
    dadfi_figures,
    depois,
    depois_figures,
    detector,
    detector_figures,
    terd,
    terd_figures,
)
from report.rows import attack_text

GRID_WIDTH = 900  # pixels; wider grids are scaled down
TRAINING_PICTURES = ("curves.png", "roc.png", "predictions.png")  # of a detector, beside its record

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1c1e21; --quiet: #5b6068; --line: #d9dce1; --band: #f4f6f8; --best: #0b6b34; }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181b; --text: #e4e6ea; --quiet: #a0a6ae; --line: #363a40; --band: #1f2226; --best: #63d592; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1560px; padding: 1.5rem 1.6rem 4rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.3rem; margin: 2.6rem 0 .8rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .6rem; }
p, li { max-width: 60rem; } .quiet, figcaption, .notes { color: var(--quiet); font-size: .88rem; }
.narrow { width: fit-content; max-width: 100%; } .trainings td.left { white-space: normal; min-width: 11rem; } .scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .81rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { background: var(--band); font-weight: 600; white-space: normal; vertical-align: bottom; }
th.left, td.left { text-align: left; } td.attack { white-space: normal; min-width: 9rem; max-width: 14rem; border-right: 1px solid var(--line); }
tbody.block > tr:last-child > td, td.attack { border-bottom: 2px solid var(--line); }
tr:hover td:not(.attack) { background: var(--band); } tr.marked td:not(.attack) { color: var(--quiet); }
td b { color: var(--best); } td.missed { color: var(--quiet); font-style: italic; } .spread { color: var(--quiet); font-size: .92em; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 620px), 1fr)); gap: 1.2rem; align-items: start; }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px;
  padding: 4px; display: block; }
figcaption { margin: .4rem 0 0; overflow-wrap: anywhere; }
.grids { display: grid; gap: 1.4rem; } details > summary { cursor: pointer; margin: 1rem 0; }
"""


def _image(data, kind, alt):
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _figure(picture, caption, wide=False):
    return (
        f"<figure{' class=wide' if wide else ''}>{picture}<figcaption>{escape(caption)}</figcaption></figure>"
    )


def grid_picture(path):
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


def _cell(text, left=False, best=False, missed=False):
    value, _, spread = text.partition(" ")
    if left or not spread.startswith(("[", "±")):
        value, spread = text, ""
    value = f"<b>{escape(value)}</b>" if best else escape(value)
    kind = " class=left" if left else " class=missed" if missed else ""
    return f"<td{kind}>{value}{f' <span class=spread>{escape(spread)}</span>' if spread else ''}</td>"


def _header(headings, left):
    return (
        "<thead><tr>"
        + "".join(f"<th{' class=left' if i < left else ''}>{escape(h)}</th>" for i, h in enumerate(headings))
        + "</tr></thead>"
    )


def _table(table):
    headings, cells, rows = tables.grid(table)
    purified = 2 + [c.key for c in tables.COLUMNS].index("metrics.purified.l2")
    body = []
    for attack in table.attacks():
        mine = [
            (texts, row, best) for texts, (row, best) in zip(cells, rows, strict=True) if row.attack == attack
        ]
        lines = []
        for i, (texts, row, best) in enumerate(mine):
            first = f'<td class="left attack" rowspan={len(mine)}>{escape(texts[0])}</td>' if i == 0 else ""
            rest = "".join(
                _cell(t, left=c == 1, best=best and c == purified) for c, t in enumerate(texts) if c
            )
            lines.append(f"<tr{' class=marked' if row.marks else ''}>{first}{rest}</tr>")
        body.append(f"<tbody class=block>{''.join(lines)}</tbody>")
    return f"<div class=scroll><table>{_header(headings, 2)}{''.join(body)}</table></div>{_notes(table)}"


def _notes(table):
    return (
        "<div class=notes>"
        + "".join(f"<div>†{i} {escape(note)}.</div>" for i, note in enumerate(table.notes, 1))
        + "</div>"
    )


def _folded(figures, what):
    """Figures under a summary that counts them; "" where there are none."""
    return (
        f"<details><summary>{len(figures)} {what}</summary><div"
        f" class=grids>{''.join(figures)}</div></details>"
        if figures
        else ""
    )


def _grids(table):
    """Grids of the main attack in sight, those of the others folded away."""
    shown, folded = [], []
    for row in table.rows:
        data = grid_picture(row.dirs[0] / "grid.png")
        if data:
            caption = f"{row.defence} | {attack_text(row.attack)} | {row.dirs[0]}"
            (shown if row.attack == table.main else folded).append(
                _figure(_image(data, "jpeg", f"grid of {row.defence}"), caption)
            )
    if not shown and not folded:
        return ""
    return (
        "<h3>Photo, disrupted, purified, and the fake of each</h3><div"
        f" class=grids>{''.join(shown)}</div>{_folded(folded, 'grids of the other attacks')}"
    )


def _detectors(table):
    """A table of detectors, with that of poison rates where there are several."""
    headings, cells = tables.detector_grid(table)
    share = headings.index("recovered")
    lines = [
        "".join(
            _cell(t, left=c == 0, best=c == share and row.better and t != tables.DASH)
            for c, t in enumerate(texts)
        )
        for row, texts in zip(table.rows, cells, strict=True)
    ]
    body = "".join(
        f"<tr{' class=marked' if row.marks else ''}>{line}</tr>"
        for row, line in zip(table.rows, lines, strict=True)
    )
    parts = [
        f'<div class="scroll trainings"><table>{_header(headings, 1)}<tbody>{body}</tbody></table></div>',
        _notes(table),
    ]
    if rates := tables.rates_grid(table):
        body = "".join(
            "<tr>" + "".join(_cell(t, left=c == 0) for c, t in enumerate(texts)) + "</tr>"
            for texts in rates[1]
        )
        parts += [
            _legend(detector.RATES_LEGEND),
            f'<div class="scroll narrow"><table>{_header(rates[0], 1)}<tbody>{body}</tbody></table></div>',
        ]
    return "".join(parts)


def _trainings(table):
    """The pictures beside the first record of each row, folded away."""
    found = [(row, row.dirs[0] / name) for row in table.rows for name in TRAINING_PICTURES]
    shown = [
        _figure(
            _image(data, "jpeg", f"{path.stem} of {row.label}"),
            f"{row.label} | poison rate {row.rate:g} | {path}",
        )
        for row, path in found
        if (data := grid_picture(path))
    ]
    return (
        f"<details><summary>{len(shown)} pictures of the trainings</summary><div"
        f" class=plots>{''.join(shown)}</div></details>"
        if shown
        else ""
    )


def _disruptions(table):
    """Both tables of one set of translators."""
    parts = []
    for (headings, cells), left, rows in (
        (dadfi.attacks_grid(table), 1, table.rows),
        (dadfi.translators_grid(table), 2, [row for row in table.rows for _ in table.translators]),
    ):
        worst = headings.index("worst l2") if "worst l2" in headings else None
        lines = [
            "".join(
                _cell(t, left=c < left, best=c == worst and id(row) == table.best)
                for c, t in enumerate(texts)
            )
            for row, texts in zip(rows, cells, strict=True)
        ]
        body = "".join(
            f"<tr{' class=marked' if row.marks else ''}>{line}</tr>"
            for row, line in zip(rows, lines, strict=True)
        )
        parts.append(f"<div class=scroll><table>{_header(headings, left)}<tbody>{body}</tbody></table></div>")
    return "<p></p>".join(parts) + _notes(table)


def _disrupted(table):
    """The grid beside the first record of each row, folded away."""
    found = [(row, data) for row in table.rows if (data := grid_picture(row.dirs[0] / "grid.png"))]
    shown = [
        _figure(_image(data, "jpeg", f"grid of {row.label}"), f"{row.label} | {row.dirs[0]}")
        for row, data in found
    ]
    return _folded(
        shown, "grids: photo, protected photo, its change ten times enlarged, each translator's fake of both"
    )


def _filters(table):
    """AUROC by method and poison, where it was measured, and every figure of every row."""
    parts, headings = [f"<p class=quiet>{escape(table.setting)}</p>"], depois.details_grid(table)[0]
    if grid := depois.overview_grid(table):
        lines = [
            "".join(
                _cell(t, left=c == 0, best=id(row) in table.best, missed=row is not None and row.missed)
                for c, (t, row) in enumerate(zip(*line, strict=True))
            )
            for line in zip(grid[1], grid[2], strict=True)
        ]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(
            '<div class="scroll'
            f' narrow"><table>{_header(grid[0], 1)}<tbody>{body}</tbody></table></div><p></p>'
        )
    auc, verdict, body = headings.index("AUROC"), headings.index("verdict"), []
    found = list(zip(table.rows, depois.details_grid(table)[1], strict=True))
    for poison in table.poisons:
        mine, lines = [pair for pair in found if pair[0].poison == poison], []
        for i, (row, texts) in enumerate(mine):
            first = f'<td class="left attack" rowspan={len(mine)}>{escape(poison)}</td>' if i == 0 else ""
            rest = "".join(
                _cell(
                    t,
                    left=c == 1,
                    best=c == auc and id(row) in table.best,
                    missed=row.missed and c in (auc, verdict),
                )
                for c, t in enumerate(texts)
                if c
            )
            lines.append(f"<tr{' class=marked' if row.marks else ''}>{first}{rest}</tr>")
        body.append(f"<tbody class=block>{''.join(lines)}</tbody>")
    parts.append(f"<div class=scroll><table>{_header(headings, 2)}{''.join(body)}</table></div>")
    return "".join(parts) + _notes(table)


def _found(table):
    """The picture of the first run of each poison, which lies beside the folders of its methods, folded
    away."""
    found = {
        row.poison: path
        for row in reversed(table.rows)
        if (path := row.dirs[0].parent / "found.png").is_file()
    }
    shown = [
        _figure(_image(data, "jpeg", f"samples of {poison}"), f"{poison} | {found[poison]}")
        for poison in table.poisons
        if poison in found and (data := grid_picture(found[poison]))
    ]
    return _folded(shown, "pictures: samples dropped and kept, rightly and wrongly")


def _scans(table):
    """Every table of one dataset and image size, under its title; what is wrong in italics."""
    parts = [f"<p class=quiet>{escape(table.setting)}</p>"]
    for title, (headings, cells, rows) in terd.grids(table).items():
        left, body = 1 + (terd.UNLIKE in headings), []
        for attack in dict.fromkeys(texts[0] for texts in cells):
            mine, lines = [pair for pair in zip(rows, cells, strict=True) if pair[1][0] == attack], []
            for i, (row, texts) in enumerate(mine):
                first = f'<td class="left attack" rowspan={len(mine)}>{escape(attack)}</td>' if i == 0 else ""
                rest = "".join(
                    _cell(t, left=c <= left, missed=t.endswith(terd.WRONG)) for c, t in enumerate(texts) if c
                )
                lines.append(f"<tr{' class=marked' if row.marks else ''}>{first}{rest}</tr>")
            body.append(f"<tbody class=block>{''.join(lines)}</tbody>")
        parts.append(
            f'<p>{escape(title)}</p><div class="scroll'
            f' narrow"><table>{_header(headings, 1 + left)}{"".join(body)}</table></div>'
        )
    return "".join(parts) + _notes(table)


def _triggers(table):
    """The picture beside the first scan of each model by each plan, folded away."""
    found = [(row, data) for row in table.rows if (data := grid_picture(row.dirs[0] / "trigger.png"))]
    shown = [
        _figure(
            _image(data, "jpeg", f"trigger of {row.first.name}"),
            f"{row.first.name} | {row.defence} | {row.dirs[0]}",
        )
        for row, data in found
    ]
    return _folded(shown, "pictures: triggers, true and found, and what the models make of them")


def _plots(drawn, captions, wide=()):
    """The section of plots {name: PNG bytes}; "" where there are none."""
    figures = [
        _figure(_image(data, "png", captions[name]), captions[name], wide=name in wide)
        for name, data in drawn.items()
    ]
    return f"<h3>Plots</h3><div class=plots>{''.join(figures)}</div>" if figures else ""


def _legend(text):
    """A Markdown legend as HTML: its *emphasis* and **bold** words."""
    text = escape(text)
    for sign, tag in (("**", "strong"), ("*", "em")):
        parts = text.split(sign)
        text = "".join(p if i % 2 == 0 else f"<{tag}>{p}</{tag}>" for i, p in enumerate(parts))
    return f"<p class=quiet>{text}</p>"


def html(comparison, pictures, detector_pictures, disruption_pictures, filter_pictures, scan_pictures):
    """The page as text.

    Args:  comparison  of report.rows.compare
           pictures, detector_pictures, disruption_pictures, filter_pictures, scan_pictures  {index of the
           table: {plot name: PNG bytes}}
    """
    parts = [
        "<h1>Disrupt, purify, fake: comparison of the runs</h1>",
        (
            f"<p class=quiet>{sum(len(t.rows) for t in comparison.tables)} rows in {len(comparison.tables)}"
            f" tables of defences, {len(comparison.detectors)} of detectors, {len(comparison.disruptions)} of"
            f" disruptions, {len(comparison.filters)} of finders of poisoned samples, {len(comparison.scans)}"
            " of scanned models.</p>"
        ),
    ]
    parts += [_legend(tables.LEGEND)] if comparison.tables else []
    for i, table in enumerate(comparison.tables):
        parts += [
            f"<h2>{escape(table.name)}</h2>",
            _table(table),
            _plots(pictures.get(i, {}), plots.CAPTIONS, plots.WIDE),
            _grids(table),
        ]
    parts += ["<h2>Detectors</h2>", _legend(detector.LEGEND)] if comparison.detectors else []
    for i, table in enumerate(comparison.detectors):
        parts += [
            f"<h3>{escape(table.name)}</h3>",
            _detectors(table),
            _plots(detector_pictures.get(i, {}), detector_figures.CAPTIONS),
            _trainings(table),
        ]
    parts += (
        ["<h2>Disruptions against several translators</h2>", _legend(dadfi.LEGEND)]
        if comparison.disruptions
        else []
    )
    for i, table in enumerate(comparison.disruptions):
        parts += [
            f"<h3>{escape(table.name)}</h3>",
            _disruptions(table),
            _plots(disruption_pictures.get(i, {}), dadfi_figures.CAPTIONS),
            _disrupted(table),
        ]
    parts += (
        ["<h2>Finding poisoned samples</h2>", *map(_legend, depois.LEGENDS.values())]
        if comparison.filters
        else []
    )
    for i, table in enumerate(comparison.filters):
        parts += [
            f"<h3>{escape(table.name)}</h3>",
            _filters(table),
            _plots(filter_pictures.get(i, {}), depois_figures.CAPTIONS),
            _found(table),
        ]
    parts += (
        ["<h2>Scans of diffusion weights</h2>", *map(_legend, terd.legends())] if comparison.scans else []
    )
    for i, table in enumerate(comparison.scans):
        parts += [
            f"<h3>{escape(table.name)}</h3>",
            _scans(table),
            _plots(scan_pictures.get(i, {}), terd_figures.CAPTIONS),
            _triggers(table),
        ]
    for title, text in zip(*[iter(tables.remarks(comparison))] * 2, strict=False):
        items = "".join(f"<li>{escape(line.removeprefix('- '))}</li>" for line in text.splitlines())
        parts += [f"<h2>{escape(title.removeprefix('## '))}</h2><ul>{items}</ul>"]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width, initial-scale=1">'
        f"<title>Comparison</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
