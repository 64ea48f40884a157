"""Tables as text: Markdown for people, CSV for programs."""

import csv
import io
from dataclasses import dataclass

from report.kinds import detector
from report.rows import attack_text

DASH = "–"
DECIMALS = {"share": 2, "decibel": 1, "points": 1, "ssim": 3}


@dataclass(frozen=True)
class Column:
    """key: dotted path in the record; style: how a figure is written; spread: with its interval or
    deviation."""

    heading: str
    key: str
    style: str
    spread: bool = False


COLUMNS = (
    Column("photos / pairs", "config", "counts"),
    Column("l2 disrupted", "metrics.disrupted.l2", "small"),
    Column("l2 purified", "metrics.purified.l2", "small", spread=True),
    Column("l2 undisturbed", "metrics.clean_purified.l2", "small"),
    Column("prop_dist", "metrics.purified.prop_dist", "share"),
    Column("photo l2", "metrics.input.purified.l2", "small"),
    Column("photo PSNR", "metrics.input.purified.psnr", "decibel"),
    Column("photo SSIM", "metrics.input.purified.ssim", "ssim"),
    Column("distance", "distance", "distance"),
    Column("nfe", "cost.nfe", "short"),
    Column("s/photo", "cost.purify_s_per_image", "seconds"),
)
DETECTOR_COLUMNS = (
    Column("poison rate", "config.poison_rate", "short"),
    Column("l2", "l2", "small"),
    Column("distance", "distance", "distance"),
    Column("nfe", "nfe", "short"),
    Column("s/photo", "s_per_photo", "short"),
    Column("accuracy", detector.ACCURACY, "ssim", spread=True),
    Column("AUC", "metrics.auc", "ssim"),
    Column("EER", "metrics.eer", "ssim"),
    Column("ECE", "metrics.ece", "ssim"),
    Column("on disrupted", "metrics.disrupted.accuracy", "ssim"),
    Column("on purified", "metrics.purified.accuracy", "ssim"),
    Column("validation", "metrics.validation.accuracy", "ssim"),
    Column("lost, points", "lost", "points", spread=True),
    Column("recovered", "share", "share", spread=True),
)
LEGEND = (
    "All l2 are mean squared errors in [-1, 1]. *l2 disrupted*, *purified*, *undisturbed*: fakes of the"
    " disrupted, the purified and the purified undisturbed photo against fakes of the photo itself;"
    " *prop_dist*: share of purified pairs with l2 > 0.05. *photo*: the purified photo against the original"
    " (PSNR in dB, equal images count as 100). [low, high]: bootstrap 95% interval over photos; ± standard"
    " deviation over seeds. *nfe*: network evaluations of the purifier per photo. **Bold**: the smallest l2"
    " purified under its attack among rows that may be compared. † must not be compared with the other rows;"
    " rows with the same mark may be compared with one another."
)
CSV_KEYS = (
    [
        f"metrics.{side}.{key}"
        for side in ("disrupted", "purified", "clean_purified")
        for key in (
            "l1",
            "l2",
            "prop_dist",
            "linf",
            "l2_mask",
            "sr_mask",
            "psnr",
            "ssim",
            "fid",
            "kid",
            "frechet",
        )
    ]
    + [
        f"metrics.input.{side}.{key}"
        for side in ("disrupted", "purified", "clean_purified")
        for key in ("l2", "linf", "psnr", "ssim")
    ]
    + ["cost.nfe", "cost.attack_s_per_image", "cost.purify_s_per_image"]
)
DETECTOR_CONFIG = (
    "condition",
    "poison_rate",
    "pretrained",
    "num_photos",
    "num_train",
    "num_validation",
    "num_test",
    "image_size",
    "epochs",
)
DETECTOR_CSV_KEYS = (
    ["l2", "distance", "nfe", "s_per_photo", "lost", "gain", "share"]
    + [
        f"metrics.{side}{key}"
        for side in ("", "disrupted.", "purified.")
        for key in ("accuracy", "auc", "ap", "eer", "ece")
    ]
    + ["metrics.validation.accuracy", "metrics.validation.loss", "cost.train_s", "cost.epoch_s"]
)


def number(value, style="small"):
    """A figure as text; a dash where it was not measured."""
    if value is None:
        return DASH
    if style == "count":
        return f"{value:.0f}"
    if style in DECIMALS:
        return f"{value:z.{DECIMALS[style]}f}"
    if value == 0:
        return "0"
    if style in ("short", "seconds"):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 1:
        return f"{value:.2f}"
    decimals = 4 if size >= 1e-3 else 5 if size >= 1e-4 else 6
    return f"{value:.{decimals}f}" if size >= 1e-5 else f"{value:.1e}"


def alike(value, text):
    """A spread with as many decimals as the figure `text` that it belongs to."""
    decimals = len(text.partition(".")[2])
    return f"{value:.1e}" if "e" in text else f"{value:z.{decimals or 4}f}"


def figure(row, column, table=None):
    """The text of one cell."""
    if column.style == "distance":
        name, key = row.distance
        text = number(row.cell(key).value)
        return (
            text
            if table is None or len(_distances(table)) < 2 or text == DASH
            else f"{text} {name.split(' ')[0]}"
        )
    if column.style == "counts":
        return (
            f"{number(row.get('config.num_images'), 'count')} /"
            f" {number(row.get('config.num_pairs'), 'count')}"
        )
    cell = row.cell(column.key)
    text = number(cell.value, column.style)
    if (
        column.style == "seconds"
        and text != DASH
        and table is not None
        and len({r.get("cost.device") for r in table.rows}) > 1
    ):
        text += f" ({row.get('cost.device') or 'unknown device'})"  # of different machines
    if column.spread and cell.std is not None:
        text += f" ± {alike(cell.std, text)}"
    elif column.spread and cell.low is not None:
        text += f" [{alike(cell.low, text)}, {alike(cell.high, text)}]"
    return text


def _distances(table):
    return list(
        dict.fromkeys(row.distance[0] for row in table.rows if row.cell(row.distance[1]).value is not None)
    )


def heading(column, table):
    """A column's heading; that of the distance names its features."""
    return column.heading if column.style != "distance" else " or ".join(_distances(table)) or "frechet"


def best_rows(table):
    """ids of the rows with the smallest purified l2 among those that may be compared with one another.

    Those are the unmarked rows of an attack; where all are marked, the rows with the same mark.
    """
    best = set()
    for attack in table.attacks():
        rows = [r for r in table.block(attack) if r.cell("metrics.purified.l2").value is not None]
        marks = [[]] if any(not r.marks for r in rows) else [[i] for i in range(1, len(table.notes) + 1)]
        groups = [[r for r in rows if r.marks == m] for m in marks]
        best |= {
            id(min(group, key=lambda r: r.cell("metrics.purified.l2").value))
            for group in groups
            if len(group) > 1
        }
    return best


def mark(row):
    return "".join(f" †{i}" for i in row.marks)


def grid(table):
    """(headings, rows of cell texts, [(Row, is best), ...]) of a table of defences."""
    best = best_rows(table)
    headings = ["attack", "defence"] + [heading(c, table) for c in COLUMNS] + ["seeds"]
    cells = [
        [
            attack_text(r.attack),
            r.defence + mark(r),
            *(figure(r, c, table) for c in COLUMNS),
            ", ".join(map(str, r.seeds)),
        ]
        for r in table.rows
    ]
    return headings, cells, [(r, id(r) in best) for r in table.rows]


def detector_grid(table):
    """(headings, rows of cell texts) of a table of detectors."""
    devices = {r.source.get("cost.device") for r in table.rows if r.source}
    headings = ["training photos"] + [heading(c, table) for c in DETECTOR_COLUMNS] + ["seeds"]
    cells = [
        [r.label + mark(r), *(figure(r, c, table) for c in DETECTOR_COLUMNS), ", ".join(map(str, r.seeds))]
        for r in table.rows
    ]
    seconds = headings.index("s/photo")
    for row, texts in zip(table.rows, cells, strict=True):
        if row.source and len(devices) > 1 and row.condition == "purified" and texts[seconds] != DASH:
            texts[seconds] += f" ({row.source.get('cost.device') or 'unknown device'})"
    return headings, cells


def rates_grid(table):
    """(headings, rows of cell texts): accuracy of every kind of training photos at every poison rate; None
    where there are not two above 0."""
    if len(table.rates) < 2:
        return None
    by_rate = table.by_rate()
    rates = [0, *table.rates] if any(0 in rows for rows in by_rate.values()) else table.rates

    def label(name):
        return "disrupted (at 0: clean)" if name == "disrupted" and 0 in by_rate[name] else name

    return ["training photos"] + [f"{rate:g}" for rate in rates], [
        [label(name), *(_deviation(rows.get(rate)) for rate in rates)] for name, rows in by_rate.items()
    ]


def _deviation(row):
    cell = row.cell(detector.ACCURACY) if row else None
    text = number(cell and cell.value, "ssim")
    return text + (f" ± {alike(cell.std, text)}" if cell and cell.std is not None else "")


def markdown_table(headings, cells, left):
    """Lines of a Markdown table, padded so that it also reads as plain text; the first `left` columns are
    left-aligned."""
    texts = [[str(t).replace("|", "\\|") for t in line] for line in [headings, *cells]]
    widths = [max(3, *(len(line[i]) for line in texts)) for i in range(len(headings))]

    def line(words):
        return (
            "| "
            + " | ".join(
                w.ljust(n) if i < left else w.rjust(n)
                for i, (w, n) in enumerate(zip(words, widths, strict=True))
            )
            + " |"
        )

    rule = (
        "|"
        + "|".join(":" + "-" * (n + 1) if i < left else "-" * (n + 1) + ":" for i, n in enumerate(widths))
        + "|"
    )
    return [line(texts[0]), rule, *map(line, texts[1:])]


def bold(text):
    """The figure of a cell in bold, its spread as it is."""
    value, _, spread = text.partition(" ")
    return f"**{value}**" + (f" {spread}" if spread else "")


def footnotes(table):
    return [""] + [f"†{i} {note}.  " for i, note in enumerate(table.notes, 1)] if table.notes else []


def table_markdown(table):
    """One table of defences with its footnotes."""
    headings, cells, rows = grid(table)
    purified = 2 + [c.key for c in COLUMNS].index("metrics.purified.l2")
    for texts, (_, best) in zip(cells, rows, strict=True):
        if best:
            texts[purified] = bold(texts[purified])
    for (before, _), (row, _), texts in zip(rows, rows[1:], cells[1:], strict=False):
        if row.attack == before.attack:
            texts[0] = ""  # an attack is named once, in its first row
    return "\n".join(markdown_table(headings, cells, left=2) + footnotes(table))


def detectors_markdown(table):
    """One table of detectors with its footnotes."""
    headings, cells = detector_grid(table)
    share = headings.index("recovered")
    for row, texts in zip(table.rows, cells, strict=True):
        if row.better and texts[share] != DASH:
            texts[share] = bold(texts[share])
    return "\n".join(markdown_table(headings, cells, left=1) + footnotes(table))


def rates_markdown(table):
    """Accuracy against poison rate; "" where there are no two."""
    grid = rates_grid(table)
    return "\n".join(markdown_table(*grid, left=1)) if grid else ""


def markdown(comparison):
    """The whole comparison as a Markdown document."""
    from report.kinds import dadfi, depois, terd  # on use: they build on this file

    parts = ["# Comparison"]
    for table in comparison.tables:
        parts += [f"## {table.name}", table_markdown(table)]
    if comparison.tables:
        parts.append(LEGEND)
    parts += ["## Detectors"] if comparison.detectors else []
    for table in comparison.detectors:
        rates = rates_markdown(table)
        parts += [
            f"### {table.name}",
            detectors_markdown(table),
            *([detector.RATES_LEGEND, rates] if rates else []),
        ]
    parts += [detector.LEGEND] if comparison.detectors else []
    for title, found, module in (
        ("Disruptions against several translators", comparison.disruptions, dadfi),
        ("Finding poisoned samples", comparison.filters, depois),
        ("Scans of diffusion weights", comparison.scans, terd),
    ):
        texts = [text for table in found for text in (f"### {table.name}", module.markdown(table))]
        parts += [f"## {title}", *texts, module.LEGEND] if found else []
    parts += remarks(comparison)
    return "\n\n".join(parts) + "\n"


def remarks(comparison):
    """What else was found: records without a table, gaps, replaced runs, unreadable files; Markdown lists."""
    found = (
        ("Other records", [f"{f.kind}: {f.name} ({path})" for path, f in comparison.others]),
        (
            "Missing from the tables of detectors",
            [line for table in comparison.detectors for line in detector.gaps(table)],
        ),
        ("Older runs, replaced by a repetition", [str(p) for p in comparison.replaced]),
        ("Not read", comparison.problems),
    )
    return [
        part
        for title, lines in found
        if lines
        for part in (f"## {title}", "\n".join(f"- {line}" for line in lines))
    ]


def csv_text(comparison):
    """Every row of every table of defences, each figure with its interval (one seed) or deviation
    (several)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "dataset",
            "gan",
            "attack",
            "attack_type",
            "eps",
            "defence",
            "photos",
            "pairs",
            "image_size",
            "seeds",
            "not_comparable",
            "features",
        ]
        + csv_headings(CSV_KEYS)
    )
    for table in comparison.tables:
        for row in table.rows:
            a = dict(row.attack)
            writer.writerow(
                [
                    table.dataset,
                    table.gan,
                    attack_text(row.attack),
                    a["attack"],
                    a.get("eps"),
                    row.defence,
                    row.get("config.num_images"),
                    row.get("config.num_pairs"),
                    row.get("config.image_size"),
                    " ".join(map(str, row.seeds)),
                    "; ".join(table.notes[i - 1] for i in row.marks),
                    row.get("features.name"),
                ]
                + csv_figures(map(row.cell, CSV_KEYS))
            )
    return out.getvalue()


def detectors_csv_text(comparison):
    """Every row of every table of detectors, each figure with its interval or deviation; *lost* and *gain* in
    points."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "dataset",
            "gan",
            "detector",
            "base",
            "attack",
            "attack_type",
            "eps",
            "training_photos",
            *DETECTOR_CONFIG,
            "seeds",
            "not_comparable",
            "distance_name",
            *csv_headings(DETECTOR_CSV_KEYS),
        ]
    )
    for table in comparison.detectors:
        a = dict(table.main)
        for row in table.rows:
            writer.writerow(
                [
                    table.dataset,
                    table.gan,
                    table.detector,
                    table.base,
                    attack_text(table.main),
                    a["attack"],
                    a.get("eps"),
                    row.label,
                    *(row.get(f"config.{key}") for key in DETECTOR_CONFIG),
                    " ".join(map(str, row.seeds)),
                    "; ".join(table.notes[i - 1] for i in row.marks),
                    row.distance[0] if row.source else None,
                    *csv_figures(map(row.cell, DETECTOR_CSV_KEYS)),
                ]
            )
    return out.getvalue()


def csv_headings(keys):
    return [key.removeprefix("metrics.") + end for key in keys for end in ("", "_low", "_high", "_seed_std")]


def csv_figures(cells):
    """The fields of some figures under csv_headings: value, interval, deviation over seeds."""
    return [v for c in cells for v in (c.value, c.low, c.high, c.std)]
