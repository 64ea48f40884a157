"""Tables as text: Markdown for people, CSV for programs."""
import csv
import io
from dataclasses import dataclass

from evaluation.compare import attack_text

DASH = "–"


@dataclass(frozen=True)
class Column:
    """key: dotted path in the record; style: how a figure is written; spread: with its interval or deviation."""
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
    Column("train photos", "config.num_train", "count"),
    Column("test photos", "config.num_test", "count"),
    Column("accuracy", "metrics.accuracy", "ssim", spread=True),
    Column("AUC", "metrics.auc", "ssim", spread=True),
)
LEGEND = ("All l2 are mean squared errors in [-1, 1]. *l2 disrupted*, *purified*, *undisturbed*: fakes of the disrupted, the purified and the "
          "purified undisturbed photo against fakes of the photo itself; *prop_dist*: share of purified pairs with l2 > 0.05. *photo*: the "
          "purified photo against the original (PSNR in dB, equal images count as 100). [low, high]: bootstrap 95% interval over photos; "
          "± standard deviation over seeds. *nfe*: network evaluations of the purifier per photo. **Bold**: the smallest l2 purified under its "
          "attack among rows that may be compared. † must not be compared with the other rows; rows with the same mark may be compared with one another.")
CSV_KEYS = ([f"metrics.{side}.{key}" for side in ("disrupted", "purified", "clean_purified")
             for key in ("l1", "l2", "prop_dist", "linf", "l2_mask", "sr_mask", "psnr", "ssim", "fid", "kid", "frechet")]
            + [f"metrics.input.{side}.{key}" for side in ("disrupted", "purified", "clean_purified") for key in ("l2", "linf", "psnr", "ssim")]
            + ["cost.nfe", "cost.attack_s_per_image", "cost.purify_s_per_image"])


def number(value, style="small"):
    """A figure as text; a dash where it was not measured."""
    if value is None:
        return DASH
    if style == "count":
        return f"{value:.0f}"
    if style in ("share", "decibel", "ssim"):
        return f"{value:.{ {'share': 2, 'decibel': 1, 'ssim': 3}[style]}f}"
    if value == 0:
        return "0"
    if style in ("short", "seconds"):
        return f"{value:.3g}"
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
    return f"{value:.1e}" if "e" in text else f"{value:.{decimals or 4}f}"


def figure(row, column, table=None):
    """The text of one cell."""
    if column.style == "distance":
        name, key = row.distance
        text = number(row.cell(key).value)
        return text if table is None or len(_distances(table)) < 2 or text == DASH else f"{text} {name.split(' ')[0]}"
    if column.style == "counts":
        return f"{number(row.get('config.num_images'), 'count')} / {number(row.get('config.num_pairs'), 'count')}"
    cell = row.cell(column.key)
    text = number(cell.value, column.style)
    if column.style == "seconds" and table is not None and len({r.get("cost.device") for r in table.rows}) > 1:
        text += f" ({row.get('cost.device') or 'unknown device'})"      # of different machines
    if column.spread and cell.std is not None:
        text += f" ± {alike(cell.std, text)}"
    elif column.spread and cell.low is not None:
        text += f" [{alike(cell.low, text)}, {alike(cell.high, text)}]"
    return text


def _distances(table):
    return list(dict.fromkeys(row.distance[0] for row in table.rows if row.cell(row.distance[1]).value is not None))


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
        best |= {id(min(group, key=lambda r: r.cell("metrics.purified.l2").value)) for group in groups if len(group) > 1}
    return best


def mark(row):
    return "".join(f" †{i}" for i in row.marks)


def grid(table):
    """(headings, rows of cell texts, [(Row, is best), ...]) of a table of defences."""
    best = best_rows(table)
    headings = ["attack", "defence"] + [heading(c, table) for c in COLUMNS] + ["seeds"]
    cells = [[attack_text(r.attack), r.defence + mark(r), *(figure(r, c, table) for c in COLUMNS), ", ".join(map(str, r.seeds))]
             for r in table.rows]
    return headings, cells, [(r, id(r) in best) for r in table.rows]


def detector_grid(rows):
    headings = ["dataset", "detector", "defence", "attack"] + [c.heading for c in DETECTOR_COLUMNS] + ["seeds"]
    return headings, [[r.first.dataset or DASH, r.defence, str(r.get("config.defense") or DASH), str(r.get("config.attack") or DASH),
                       *(figure(r, c) for c in DETECTOR_COLUMNS), ", ".join(map(str, r.seeds))] for r in rows]


def markdown_table(headings, cells, left):
    """Lines of a Markdown table, padded so that it also reads as plain text; the first `left` columns are left-aligned."""
    texts = [[str(t).replace("|", "\\|") for t in line] for line in [headings, *cells]]
    widths = [max(3, *(len(line[i]) for line in texts)) for i in range(len(headings))]

    def line(words):
        return "| " + " | ".join(w.ljust(n) if i < left else w.rjust(n) for i, (w, n) in enumerate(zip(words, widths))) + " |"
    rule = "|" + "|".join(":" + "-" * (n + 1) if i < left else "-" * (n + 1) + ":" for i, n in enumerate(widths)) + "|"
    return [line(texts[0]), rule, *map(line, texts[1:])]


def table_markdown(table):
    """One table of defences with its footnotes."""
    headings, cells, rows = grid(table)
    purified = 2 + [c.key for c in COLUMNS].index("metrics.purified.l2")
    for texts, (_, best) in zip(cells, rows):
        if best:
            value, _, spread = texts[purified].partition(" ")
            texts[purified] = f"**{value}**" + (f" {spread}" if spread else "")
    for (before, _), (row, _), texts in zip(rows, rows[1:], cells[1:]):
        if row.attack == before.attack:
            texts[0] = ""                           # an attack is named once, in its first row
    lines = markdown_table(headings, cells, left=2)
    return "\n".join(lines + ([""] + [f"†{i} {note}.  " for i, note in enumerate(table.notes, 1)] if table.notes else []))


def markdown(comparison):
    """The whole comparison as a Markdown document."""
    parts = ["# Comparison"]
    for table in comparison.tables:
        parts += [f"## {table.name}", table_markdown(table)]
    if comparison.tables:
        parts.append(LEGEND)
    if comparison.detectors:
        parts += ["## Detectors", "\n".join(markdown_table(*detector_grid(comparison.detectors), left=4))]
    parts += remarks(comparison)
    return "\n\n".join(parts) + "\n"


def remarks(comparison):
    """What else was found: records without a table, replaced runs, unreadable files; Markdown lists."""
    found = (("Other records", [f"{f.kind}: {f.name} ({path})" for path, f in comparison.others]),
             ("Older runs, replaced by a repetition", [str(p) for p in comparison.replaced]),
             ("Not read", comparison.problems))
    return [part for title, lines in found if lines for part in (f"## {title}", "\n".join(f"- {line}" for line in lines))]


def csv_text(comparison):
    """Every row of every table of defences, each figure with its interval (one seed) or deviation (several)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "gan", "attack", "attack_type", "eps", "defence", "photos", "pairs", "image_size", "seeds", "not_comparable",
                     "features"] + [k.removeprefix("metrics.") + end for k in CSV_KEYS for end in ("", "_low", "_high", "_seed_std")])
    for table in comparison.tables:
        for row in table.rows:
            a = dict(row.attack)
            figures = [row.cell(k) for k in CSV_KEYS]
            writer.writerow([table.dataset, table.gan, attack_text(row.attack), a["attack"], a.get("eps"), row.defence,
                             row.get("config.num_images"), row.get("config.num_pairs"), row.get("config.image_size"),
                             " ".join(map(str, row.seeds)), "; ".join(table.notes[i - 1] for i in row.marks), row.get("features.name")]
                            + [v for c in figures for v in (c.value, c.low, c.high, c.std)])
    return out.getvalue()
