"""A table of defences as a matrix: a row per defence and a column per attack that several met."""

from collections import Counter
from collections.abc import Sequence

from report.looks import natural
from report.markers import NoRecords
from report.rows import Cell, Table, attack_text, protocol_of
from report.text import DASH, deviation, markdown_table, number


def heading_of(attack: tuple, main: tuple, without_translator: Sequence[str]) -> str:
    """What sets an attack apart from the main one, in words; its radius where that is all."""
    mine, usual = dict(attack), dict(main)
    words = [str(mine["attack"])] if mine["attack"] != usual["attack"] else []
    words += [
        f"{key.removeprefix('attack_')} {mine[key]}"
        for key in ("attack_target", "attack_label", "attack_blur", "attack_jpeg")
        if key in mine and mine[key] != usual.get(key) and mine["attack"] not in without_translator
    ]
    if mine.get("eps") != usual.get("eps") or not words:
        words.append(f"eps {mine.get('eps', 0):g}")
    return ", ".join(words)


def matrix_of(table: Table) -> str:
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
    radii, usual = Counter(map(protocol_of, attacks)), dict(table.main).get("eps")
    # the longest curve comes first
    main = max(attacks, key=lambda a: (radii[protocol_of(a)], a == table.main, dict(a).get("eps") == usual))
    attacks.sort(
        key=lambda a: (
            protocol_of(a) != protocol_of(main),
            attack_text(a, eps=False),
            dict(a).get("eps") or 0,
        )
    )
    figures = {(r.defence, r.attack): r.cell("metrics.purified.l2") for r in rows}
    # of the first row
    clean = {r.defence: r.cell("metrics.clean_purified.l2").value for r in reversed(rows)}
    best = {a: min(cell.value for (_, b), cell in figures.items() if b == a) for a in attacks}
    cells = [
        [d, number(clean[d]), *(_cell(figures.get((d, a)), best[a]) for a in attacks)]
        for d in sorted(clean, key=lambda d: natural(d, table.looks.defences))
    ]
    return "\n".join(
        markdown_table(
            [
                "defence",
                "undisturbed",
                *(heading_of(a, main, table.looks.without_translator) for a in attacks),
            ],
            cells,
            left=1,
        )
    )


def _cell(cell: Cell | None, best: float) -> str:
    """Bold where it is the smallest of its column; ± the deviation over seeds."""
    if cell is None:
        return DASH
    text = deviation(cell, "small")
    value, _, spread = text.partition(" ")
    return " ".join([f"**{value}**" if cell.value == best else value, *([spread] if spread else [])])
