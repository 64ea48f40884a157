"""The parts of a README that are written from records, so that no figure in it is typed.

Between a marker and `<!-- /table -->` stands what the marker asks for:

  <!-- table:DATASET [OPTION=VALUE ...] -->     the rows of a data set; several translators follow one another
  <!-- matrix:DATASET [OPTION=VALUE ...] -->    l2 of the purified fakes, a row per defence and a column per
  attack
  <!-- benchmark:DATASET -->                    the newest benchmark record
  <!-- detectors:DATASET [OPTION=VALUE ...] --> what detectors learned from clean, disrupted, purified photos;
  one table per detector and attack
  <!-- rates:DATASET [OPTION=VALUE ...] -->     accuracy of detectors, a row per kind of training photos and a
  column per poison rate <!-- disruptions:DATASET [OPTION=VALUE ...] -->  attacks against several translators
  at once, a row per attack; one table per set of translators
  <!-- filters:DATASET [OPTION=VALUE ...] -->   methods that find poisoned samples, AUROC by poison and all
  figures; one table per image size and poison rate
  <!-- scans:DATASET [OPTION=VALUE ...] -->     scans of diffusion weights for a backdoor: models, rates by
  attack, harder models, parts of the scan

Options leave some runs: photos=64 those on so many (of detectors: so many training photos), gan=stargan those
of one translator, under=demo_out those below a folder of that name, radius=0.05 those of one eps; of
detectors also detector=meso4, base=scratch, attack=pgd, target=gray, and rate=1 those of one poison rate with
the clean ones; of disruptions victims=stargan+stgan those of exactly these translators (radius keeps the
undisturbed photos too); of finders of poisoned samples poison=noise (or bypass+critic, that of one mode),
method=de-pois+without+authenticator (+ stands for a space), rate=0.3, and part=overview or part=details for
one of both tables; of scans size=16 models of one image size, attack=villan (or benign+villan) what was put
in, schedule=reduced, and part=models, part=detection or part=variants; legend=no writes the tables of
detectors, disruptions, finders or scans alone.
"""

import re
from collections import Counter
from pathlib import Path

from common.cli import UserError
from report import rows as compare
from report.kinds import dadfi, depois, depois_names, detector, terd, terd_rows
from report.text import (
    DASH,
    LEGEND,
    alike,
    detectors_markdown,
    markdown_table,
    number,
    rates_markdown,
    table_markdown,
)

MARKER = re.compile(
    r"<!--\s*(table|matrix|benchmark|detectors|rates|disruptions|filters|scans):(\S+)((?:\s+\w+=\S+)*)\s*-->"
)
END = "<!-- /table -->"
BENCHMARKS = {
    "attack": "attack (reference: parameter gradients on, one attack per target domain)",
    "attack-bf16": "the same in bf16",
    "dadfi": (
        "`dadfi`, one pass of a generator (reference: `pgd` with target clean, 10 steps; both without files)"
    ),
    "one-step": "`one-step` (reference: diffpure, {start} steps of a network of the same size)",
    "ddpm": "`ddpm`, 10 steps (same reference)",
    "loading": "an epoch of loading {decoded} photos from the crop cache (reference: decoding each time)",
    "detector": (
        "an epoch of a frozen `mobilenet_v2`'s head over {decoded} photos (reference: its base evaluated each"
        " time)"
    ),
}


class NoRecords(UserError):
    """A marker asks for what has no records."""


def text_of(path, comparison, kept=None):
    """The Markdown file's text with everything between its markers rewritten.

    Args:    kept  a list: markers that ask for what has no records are appended to it and keep their text;
                   None: they are an error
    Raises:  UserError if the file cannot be read, holds no marker, or a marker has no end or asks for what
             has no records.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or 'not UTF-8 text'})") from e
    pieces, at = [], 0
    while found := MARKER.search(text, at):
        end, following = text.find(END, found.end()), MARKER.search(text, found.end())
        if end < 0 or (following and following.start() < end):
            raise UserError(f"{path}: the marker {found[0]} has no {END} after it")
        part, known = PARTS[found[1]]
        try:
            body = f"\n{part(comparison, found[2], options_of(found[3], known))}\n"
        except UserError as e:
            if kept is None or not isinstance(e, NoRecords):
                raise UserError(f"{path}: the marker {found[0]} {e}") from e
            kept.append(found[0])
            body = text[found.end() : end]
        pieces += [text[at : found.end()], body]
        at = end
    if not pieces:
        raise UserError(f"{path}: holds no <!-- table:NAME --> marker")
    return "".join(pieces) + text[at:]


OPTIONS = {  # (path, Record, value asked for) -> whether the run stays
    "photos": lambda path, found, n: found.config["num_images"] == n,
    "gan": lambda path, found, name: found.config["gan"] == name,
    "radius": lambda path, found, eps: found.config["eps"] == eps,
    "under": lambda path, found, folder: folder in path.parts,
}
DETECTOR_OPTIONS = {
    **OPTIONS,
    "photos": lambda path, found, n: found.config["num_photos"] == n,
    "detector": lambda path, found, name: found.config["detector"] == name,
    "base": lambda path, found, name: found.config["base"] == name,
    "attack": lambda path, found, name: found.config["attack"] == name,
    "target": lambda path, found, name: found.config["attack_target"] == name,
    "rate": lambda path, found, rate: (
        found.config["poison_rate"] == rate or found.config["condition"] == "clean"
    ),
    "legend": lambda path, found, word: True,  # leaves no run out
}
DISRUPTION_OPTIONS = {
    "photos": OPTIONS["photos"],
    "victims": lambda path, found, names: sorted(found.config["translators"]) == sorted(names.split("+")),
    "radius": lambda path, found, eps: found.config["eps"] == eps or found.config["attack"] == "none",
    "under": OPTIONS["under"],
    "legend": DETECTOR_OPTIONS["legend"],
}
FILTER_OPTIONS = {
    "rate": lambda path, found, rate: found.config["poison_rate"] == rate,
    "poison": lambda path, found, name: (
        name.replace("+", " ") in depois_names.names_of(found.config["poison"], found.config["poison_params"])
    ),
    "method": lambda path, found, name: found.config["method"] == name.replace("+", " "),
    "under": OPTIONS["under"],
    "part": lambda path, found, word: True,
    "legend": DETECTOR_OPTIONS["legend"],
}
SCAN_OPTIONS = {
    "size": lambda path, found, pixels: found.config["image_size"] == pixels,
    "attack": lambda path, found, names: terd_rows.attack_of(found.config) in names.split("+"),
    "schedule": lambda path, found, name: found.config["schedule"] == name,
    "under": OPTIONS["under"],
    "part": FILTER_OPTIONS["part"],
    "legend": DETECTOR_OPTIONS["legend"],
}
NUMBERS = {"photos", "radius", "rate", "size"}


def options_of(words, known):
    """ " photos=500 gan=stargan" -> {"photos": 500.0, "gan": "stargan"}.  Raises UserError for a key not in
    `known`, or a number that is none."""
    options = dict(word.split("=", 1) for word in words.split())
    if unknown := [key for key in options if key not in known]:
        raise UserError(f"has the unknown option {unknown[0]}; one of: {', '.join(known)}")
    for key in options.keys() & NUMBERS:
        try:
            options[key] = float(options[key])
        except ValueError:
            raise UserError(f"has {key}={options[key]}: expected a number") from None
    return options


def left_of(tables, dataset, options, known):
    """[(table, its runs that the options leave)] of the data set, where some are left.  Raises NoRecords if
    nothing is."""
    runs = [
        (
            t,
            [
                run
                for row in t.rows
                for run in row.runs
                if all(known[key](*run, value) for key, value in options.items())
            ],
        )
        for t in tables
        if t.dataset == dataset
    ]
    if not any(mine for _, mine in runs):
        names = ", ".join(dict.fromkeys(t.dataset for t in tables)) or "none"
        raise NoRecords(f"asks for rows that no record has (data sets found: {names})")
    return [(table, mine) for table, mine in runs if mine]


def tables_of(comparison, dataset, options):
    """The data set's tables of defences, of the runs that the options leave."""
    return [
        compare.table_of(dataset, table.gan, runs, [])
        for table, runs in left_of(comparison.tables, dataset, options, OPTIONS)
    ]


def detectors_of(comparison, dataset, options):
    """The data set's tables of detectors, of the runs that the options leave."""
    left = [
        run for _, runs in left_of(comparison.detectors, dataset, options, DETECTOR_OPTIONS) for run in runs
    ]
    if "rate" in options and not any(found.config["poison_rate"] == options["rate"] for _, found in left):
        # the clean ones alone are not meant
        raise NoRecords("asks for a poison rate that no record has")
    return detector.tables_of(left, comparison.tables, [])


def joined(tables, text_of_table):
    """The tables' texts one after the other, under their names where there are several."""
    return "\n\n".join((f"**{t.name}**\n\n" if len(tables) > 1 else "") + text_of_table(t) for t in tables)


def table_part(comparison, dataset, options):
    return joined(tables_of(comparison, dataset, options), table_markdown) + f"\n\n{LEGEND}"


def heading_of(attack, main):
    """What sets an attack apart from the main one, in words; its radius where that is all."""
    mine, usual = dict(attack), dict(main)
    words = [str(mine["attack"])] if mine["attack"] != usual["attack"] else []
    words += [
        f"{key.removeprefix('attack_')} {mine[key]}"
        for key in ("attack_target", "attack_label", "attack_blur")
        if key in mine and mine[key] != usual.get(key) and mine["attack"] not in compare.WITHOUT_TRANSLATOR
    ]
    if mine.get("eps") != usual.get("eps") or not words:
        words.append(f"eps {mine.get('eps', 0):g}")
    return ", ".join(words)


def matrix_of(table):
    """l2 of the purified fakes: defences that keep the standard translator, attacks that do not know the
    defence and that several met."""
    rows = [
        r
        for r in table.rows
        if r.get("config.attack_on") != "self"
        and not dict(r.attack).get("attack_through")
        and r.get("metrics.clean_fake_to_standard.l2") is None
    ]
    met = Counter(r.attack for r in rows)
    rows = [r for r in rows if met[r.attack] > 1]
    if not rows:
        raise NoRecords("asks for attacks that several defences met, and there is none")
    attacks = list(dict.fromkeys(r.attack for r in rows))
    radii, usual = Counter(map(compare.protocol_of, attacks)), dict(table.main).get("eps")
    # the longest curve comes first
    main = max(
        attacks, key=lambda a: (radii[compare.protocol_of(a)], a == table.main, dict(a).get("eps") == usual)
    )
    attacks.sort(
        key=lambda a: (
            compare.protocol_of(a) != compare.protocol_of(main),
            compare.attack_text(a, eps=False),
            dict(a).get("eps") or 0,
        )
    )
    figures = {(r.defence, r.attack): r.cell("metrics.purified.l2") for r in rows}
    # of the first row
    clean = {r.defence: r.cell("metrics.clean_purified.l2").value for r in reversed(rows)}
    best = {a: min(cell.value for (_, b), cell in figures.items() if b == a) for a in attacks}
    cells = [
        [d, number(clean[d]), *(_cell(figures.get((d, a)), best[a]) for a in attacks)]
        for d in sorted(clean, key=compare.natural)
    ]
    return "\n".join(
        markdown_table(["defence", "undisturbed", *(heading_of(a, main) for a in attacks)], cells, left=1)
    )


def matrix_part(comparison, dataset, options):
    return joined(tables_of(comparison, dataset, options), matrix_of)


def _cell(cell, best):
    """Bold where it is the smallest of its column; ± the deviation over seeds."""
    if cell is None:
        return DASH
    text = number(cell.value)
    return (f"**{text}**" if cell.value == best else text) + (
        f" ± {alike(cell.std, text)}" if cell.std is not None else ""
    )


def benchmark_part(comparison, dataset, options):
    found = [(path, f) for path, f in comparison.others if f.kind == "benchmark" and f.dataset == dataset]
    if not found:
        raise NoRecords(
            "asks for a benchmark record, and there is none: python -m evaluation.benchmark --result_dir"
            " results"
        )
    _, newest = max(found, key=lambda pair: str(pair[1].provenance.get("finished")))
    config, cells = newest.config, []
    for name, m in newest.metrics.items():
        label = BENCHMARKS.get(name, name).format(
            start=config["diffpure_start"], decoded=config["num_decoded"]
        )
        cells.append(
            [
                label,
                number(m["seconds"], "short"),
                number(m["reference_seconds"], "short"),
                f"{m['ratio']:.1f} ({m['ratio_low']:.1f} - {m['ratio_high']:.1f})",
            ]
        )
    lines = markdown_table(["seconds per photo, or per epoch", "ours", "reference", "ratio"], cells, left=1)
    return (
        "\n".join(lines)
        + f"\n\n{newest.cost.get('device', DASH)}; {config['num_images']} photos of {config['image_size']} x"
        f" {config['image_size']}, medians of {config['repeats']} turns, ratio with its range."
    )


def detectors_part(comparison, dataset, options):
    return "\n\n".join(
        f"**{t.name}**\n\n{detectors_markdown(t)}" for t in detectors_of(comparison, dataset, options)
    ) + ("" if options.get("legend") == "no" else f"\n\n{detector.LEGEND}")


def rates_part(comparison, dataset, options):
    texts = {t.name: text for t in detectors_of(comparison, dataset, options) if (text := rates_markdown(t))}
    if not texts:
        raise NoRecords("asks for several poison rates, and no table of detectors has them")
    return (
        "\n\n".join(f"**{name}**\n\n{text}" for name, text in texts.items()) + f"\n\n{detector.RATES_LEGEND}"
    )


def disruptions_part(comparison, dataset, options):
    left = left_of(comparison.disruptions, dataset, options, DISRUPTION_OPTIONS)
    tables = [dadfi.table_of(dataset, t.translators, t.image_size, runs, []) for t, runs in left]
    return joined(tables, dadfi.markdown) + ("" if options.get("legend") == "no" else f"\n\n{dadfi.LEGEND}")


def parts_of(options, known):
    """The parts that part= asks for, all where it is absent.  Raises UserError for one that is not known."""
    if (part := options.get("part")) not in (None, *known):
        raise UserError(f"has part={part}: one of {', '.join(known)}")
    return (part,) if part else tuple(known)


def filters_part(comparison, dataset, options):
    parts = parts_of(options, depois.PARTS)
    left = left_of(comparison.filters, dataset, options, FILTER_OPTIONS)
    tables = [depois.table_of(dataset, t.image_size, t.rate, runs, []) for t, runs in left]
    if not (tables := [t for t in tables if depois.markdown(t, parts)]):
        raise NoRecords("asks for AUROC, and no record has one")
    return "\n\n".join(
        [
            joined(tables, lambda table: depois.markdown(table, parts)),
            *(depois.LEGENDS[p] for p in parts if options.get("legend") != "no"),
        ]
    )


def scans_part(comparison, dataset, options):
    parts = parts_of(options, terd.GRIDS)
    left = left_of(comparison.scans, dataset, options, SCAN_OPTIONS)
    tables = [terd.table_of(dataset, t.image_size, runs, []) for t, runs in left]
    if not (tables := [t for t in tables if terd.markdown(t, parts)]):
        raise NoRecords(f"asks for {' and '.join(parts)}, and no record of a scan belongs there")
    return "\n\n".join(
        [
            joined(tables, lambda table: terd.markdown(table, parts)),
            *(terd.legends(parts) if options.get("legend") != "no" else []),
        ]
    )


PARTS = {
    "table": (table_part, OPTIONS),
    "matrix": (matrix_part, OPTIONS),
    "benchmark": (benchmark_part, OPTIONS),
    "detectors": (detectors_part, DETECTOR_OPTIONS),
    "rates": (rates_part, DETECTOR_OPTIONS),
    "disruptions": (disruptions_part, DISRUPTION_OPTIONS),
    "filters": (filters_part, FILTER_OPTIONS),
    "scans": (scans_part, SCAN_OPTIONS),
}
