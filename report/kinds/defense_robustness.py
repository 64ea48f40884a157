"""The worst case: a row per defence, a column for what each attacker knows of it.

From records of defences that met the attack `worst`, only. Where several attacks could stand in a column, the
one that most defences met does.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from report.kinds.defense_rows import COMPARED, DefenseTable, defence_label, standard_gap, tables_of
from report.looks import natural
from report.rows import Row, Table, attack_text, differences
from report.text import DASH, Column, Grid, deviation, figure, footnotes, number, seeds

L2 = "metrics.purified.l2"
EPS = 0.05  # the main radius is the one nearest to it
IGNORING = ("pgd", "apgd", "worst")  # attacks of the column `ignored`
ITSELF = " (attacked itself)"
TITLE = "The worst case"
LEGEND = (
    "The protector moves first: the attacker disrupts the photo for the translator named and releases it"
    " as an 8-bit image inside the L-inf radius eps; the defender then purifies what came, knows the"
    " translator, and does not know eps, the attack, or whether a photo is disrupted at all. All figures"
    " are l2 of the purified fakes (mean squared error in [-1, 1]) at the eps nearest 0.05 unless they say"
    " otherwise; small is good for the defender. *undisturbed*: of photos that nobody attacked, the price"
    " of the defence. *ignored*: the attacker knows the translator alone. *JPEG-surviving*: as that, and"
    " expects a compression. *worst*: the attacker knows the whole defence, its weights too, but not the"
    " draws of its randomness; per photo the worst of several attacks, gradients through the defence and a"
    " search without gradients among them. *noise known*: as that, and knows the draws. *broken*: share of"
    " pairs with l2 > 0.05 under worst. *won by*: the attack that was the worst for most photos; ‡ masked:"
    " the search without gradients beats the exact gradient. *low-frequency*: knows the defence, and adds"
    " coarse patterns alone; the row of none is what a defence that removes fine patterns leaves."
    " *retrained*: worst, made for the same purifier with other weights: the defender moved after the"
    " attacker. *ignored on NAME*: another translator, attacked and translating. *photo*: the purified"
    " undisturbed photo against the photo. *nfe*: network evaluations that the defender spends per photo."
    " *attack s/photo*: what the attacker of worst spends: its steps times its restarts times its draws"
    " (--apgd_steps, --apgd_restarts, --eot) gradients through the defence and the translator, and"
    " --square_queries evaluations of both. ±: standard deviation over seeds; [low, high]: bootstrap 95%"
    " interval over photos. **Bold**: the smallest of its column among rows that may be compared; the best"
    " under worst comes first. † must not be compared with the other rows in what the footnote names. –:"
    " not measured."
)


@dataclass(frozen=True)
class Asked:
    """A column of attacks.  rows  that stand in it;  strict  no other attack than that of most defences, and
    no footnote;  spread  of one seed its interval;  style  of the figure `key`, "word" for none"""

    heading: str
    rows: Sequence[Row]
    strict: bool = False
    spread: bool = False
    key: str = L2
    style: str = "small"


ASIDE = (  # of the run that stands in the main column
    Column("photo l2", "metrics.input.clean_purified.l2", "small", detail=True),
    Column("photo SSIM", "metrics.input.clean_purified.ssim", "ssim"),
    Column("nfe", "cost.nfe", "short"),
    Column("s/photo", "cost.purify_s_per_image", "seconds", detail=True),
    Column("attack s/photo", "cost.attack_s_per_image", "seconds", detail=True),
)
UNDISTURBED = Column("undisturbed", "metrics.clean_purified.l2", "small")


@dataclass
class Line:
    """One defence.  cells  {heading: the row that stands there};  main  the row that says what it costs;
    marks  numbers of footnotes"""

    label: str
    cells: dict[str, Row]
    main: Row
    marks: list[int] = field(default_factory=list)


@dataclass
class Robustness(Table):
    """`lines` from the best under the worst case on, `rows` the main row of each;  eps  of the main column"""

    lines: list[Line] = field(default_factory=list)
    columns: list[Asked] = field(default_factory=list)
    eps: float = EPS

    @property
    def worst(self) -> str:
        """The heading of the main column."""
        return _worst(self.eps)


def _worst(eps):
    return f"worst eps {eps:g}"


def _asked(row):
    return row.first.config["attack"]


def _eps(row):
    return row.first.config["eps"]


def ignores(row: Row) -> bool:
    """Whether the attacker knew nothing but the standard translator."""
    c = row.first.config
    return c.get("attack_through") in (None, "none") and c.get("attack_on") != "self"


def knows(row: Row) -> bool:
    """Whether the attack was made through the whole defence: its purifier, where it has one, and its own
    translator, where that is not the standard one."""
    c = row.first.config
    through, own = c.get("attack_through"), c["defense"]
    changed = row.get("metrics.clean_fake_to_standard") is not None
    if changed and c.get("attack_on") != "self":
        return False
    alone = own == "none" or changed and not c["defense_params"]  # there is no purifier
    return through in ("self", own) or (alone and through in (None, "none"))


def retrained(row: Row) -> bool:
    """Whether the purifier that was attacked had other weights."""
    return row.first.config.get("through_sha256") is not None


def variant(row: Row) -> tuple:
    """The attack without the way that it takes through a defence, which is each defence's own."""
    own = ("attack_through", "attack_gradient", "attack_eot", "gradient", "eot", "through_sha256")
    return tuple(part for part in row.attack if part[0] not in own)


def measured(table: Table) -> list[Row]:
    """The rows with an l2."""
    return [row for row in table.rows if row.cell(L2).value is not None]


def columns_of(table: Table, beside: Sequence[Table]) -> tuple[float, list[Asked]] | None:
    """The main eps, and the columns that some record fills; None without a record of `worst`.  beside: tables
    of the same data set and other translators."""
    rows = measured(table)
    knowing = [r for r in rows if knows(r) and not retrained(r)]
    every = [r for r in knowing if _asked(r) == "worst"]
    worst = [r for r in every if not r.get("config.attack_known_noise")]
    if not worst:
        return None
    radii = sorted({_eps(r) for r in worst})
    eps = min(radii, key=lambda e: (abs(e - EPS), e))

    def at(found: Sequence[Row], keep: Callable[[Row], object]) -> list[Row]:
        return [r for r in found if _eps(r) == eps and keep(r)]

    def oblivious(found):
        mine = at(found, lambda r: ignores(r) and _asked(r) in IGNORING and not r.get("config.attack_jpeg"))
        return mine if any(r.get("config.defense") != "none" for r in mine) else []

    main = at(worst, bool)
    columns = [
        Asked("ignored", oblivious(rows), strict=True),
        Asked("JPEG-surviving", at(rows, lambda r: ignores(r) and r.get("config.attack_jpeg")), strict=True),
        *(Asked(_worst(e), [r for r in worst if _eps(r) == e], spread=e == eps) for e in radii),
        Asked("noise known", at(every, lambda r: r.get("config.attack_known_noise"))),
        Asked("broken", main, key="metrics.purified.prop_dist", style="share"),
        Asked("won by", main, key="config.worst.won", style="word"),
        Asked("low-frequency", at(knowing, lambda r: _asked(r) == "low-frequency")),
        Asked("retrained", at(rows, lambda r: knows(r) and retrained(r) and _asked(r) == "worst")),
        *(Asked(f"ignored on {t.gan}", oblivious(measured(t)), strict=True) for t in beside),
    ]
    return eps, [column for column in columns if column.rows]


def _key(row, looks):
    return defence_label(row.first, looks).removesuffix(ITSELF), row.first.provenance.get("defense_sha256")


def _size(row):
    return row.get("config.num_images") or 0


def _picked(column, keys, looks, photos):
    """{key: row} of a column. Of several rows of a defence the one of the attack and the number of photos
    that most defences met, on a tie the most photos and the main column's `photos`; then the largest l2."""
    mine = [r for r in column.rows if _key(r, looks) in keys]
    if not mine:
        return {}
    met = Counter(attack for _, attack in {(_key(r, looks), variant(r)) for r in mine})
    usual = max(met, key=lambda v: (met[v], max(_size(r) for r in mine if variant(r) == v)))
    sizes = Counter(n for _, n in {(_key(r, looks), _size(r)) for r in mine if variant(r) == usual})
    size = max(sizes, key=lambda n: (sizes[n], n == photos, n))
    picked = {}
    for row in sorted(
        mine, key=lambda r: (variant(r) != usual, _size(r) != size, -_size(r), -r.cell(L2).value)
    ):
        if variant(row) == usual or not column.strict:
            picked.setdefault(_key(row, looks), row)
    return picked


def _marks(table):
    """Why a line's figures must not be compared with the others of their columns, as footnotes."""
    usual = {}
    for column in table.columns:
        rows = [line.cells[column.heading] for line in table.lines if column.heading in line.cells]
        most = Counter(map(variant, rows)).most_common(1)[0][0]
        usual[column.heading] = most, sorted(rows, key=lambda r: -_size(r))
    for line in table.lines:
        reasons = defaultdict(list)
        for column in table.columns:
            row = line.cells.get(column.heading)
            if row is None or column.key != L2:
                continue
            attack, rows = usual[column.heading]
            if variant(row) != attack:
                reasons[f"{attack_text(variant(row))} (the others: {attack_text(attack)})"] += [
                    column.heading
                ]
            for reason in differences(row, rows, COMPARED):
                reasons[reason] += [column.heading]
        texts = [f"{', '.join(headings)}: {reason}" for reason, headings in reasons.items()]
        if note := "; ".join(texts + standard_gap(line.main)):
            table.notes += [note] if note not in table.notes else []
            line.marks = [table.notes.index(note) + 1]


def robustness_of(table: Table, every: Sequence[Table], notes: list[str]) -> Robustness | None:
    """The worst case of a table's defences, those that met an attacker who knows them.

    Args: every  all tables, of which those of the same data set and another translator become columns
          notes  footnotes go on from these
    """
    beside = [t for t in every if t.dataset == table.dataset and t.gan != table.gan]
    if (found := columns_of(table, beside)) is None:
        return None
    (eps, columns), looks = found, table.looks
    main = next(c for c in columns if c.heading == _worst(eps))
    knowing = [c for c in columns if not c.strict]
    keys = dict.fromkeys(_key(r, looks) for c in knowing for r in c.rows)
    photos = Counter(_size(r) for r in _picked(main, keys, looks, 0).values()).most_common(1)[0][0]
    picked = {c.heading: _picked(c, keys, looks, photos) for c in columns}
    labels = Counter(label for label, _ in keys)
    lines = []
    for label, sha in keys:
        cells = {h: rows[label, sha] for h, rows in picked.items() if (label, sha) in rows}
        ending = f" @{str(sha)[:6]}" if labels[label] > 1 else ""
        first = cells.get(main.heading) or next(cells[c.heading] for c in knowing if c.heading in cells)
        lines.append(Line(label + ending, cells, first))

    def order(line):
        row = line.cells.get(main.heading)
        return row is None, row.cell(L2).value if row else 0, natural(line.label, looks.defences)

    lines.sort(key=order)
    columns = [c for c in columns if picked[c.heading]]
    result = Robustness(
        table.dataset, table.gan, [line.main for line in lines], table.main, notes, looks, lines, columns, eps
    )
    _marks(result)
    return result


def with_robustness(runs, comparison) -> list[DefenseTable]:
    """The tables of runs [(path, Record)] of kind defense, each with its worst case, whose footnotes follow
    the table's own."""
    tables = tables_of(runs, comparison)
    for table in tables:
        table.robustness = robustness_of(table, tables, table.notes)
    return tables


def won_by(row: Row) -> str:
    """The attack that was the worst for most photos, with its share: apgd 88 %."""
    won = Counter()
    for _, record in row.runs:
        won.update((record.config.get("worst") or {}).get("won") or {})
    if not won.total():
        return DASH
    name, count = won.most_common(1)[0]
    return f"{name} {100 * count / won.total():.0f} %"


def masked(row: Row) -> bool:
    """Whether a search without gradients beat the exact gradient in some run."""
    return any((record.config.get("worst") or {}).get("masked") for _, record in row.runs)


def _text(line, column):
    row = line.cells.get(column.heading)
    if row is None:
        return DASH
    if column.style == "word":
        return won_by(row)
    if column.spread:
        text = figure(row, Column(column.heading, column.key, column.style, spread=True))
    else:
        text = deviation(row.cell(column.key), column.style)
    return text + (" ‡" if column.key == L2 and not column.strict and masked(row) else "")


def _headings(table):
    """Those of the columns, with the number of photos where it is not that of the main one."""
    usual = {
        c.heading: Counter(_size(line.cells[c.heading]) for line in table.lines if c.heading in line.cells)
        for c in table.columns
    }
    most = {heading: sizes.most_common(1)[0][0] for heading, sizes in usual.items()}
    return [h + ("" if n == most[table.worst] else f" ({n:g} photos)") for h, n in most.items()]


def grid_of(table: Robustness) -> Grid:
    """A line per defence."""
    headings = ["defence", UNDISTURBED.heading, *_headings(table), *(c.heading for c in ASIDE), "seeds"]
    cells = [
        [
            line.label + "".join(f" †{i}" for i in line.marks),
            number(line.main.cell(UNDISTURBED.key).value),
            *(_text(line, column) for column in table.columns),
            *(figure(line.main, column, table) for column in ASIDE),
            seeds(line.main),
        ]
        for line in table.lines
    ]
    best = set()
    for j, column in enumerate(table.columns, 2):
        if column.key != L2:
            continue
        values = {
            i: line.cells[column.heading].cell(L2).value
            for i, line in enumerate(table.lines)
            if column.heading in line.cells and not line.marks
        }
        if len(values) > 1:
            best.add((min(values, key=values.get), j))
    aside = 2 + len(table.columns)
    return Grid(
        headings,
        cells,
        1,
        [bool(line.marks) for line in table.lines],
        best=best,
        detail={aside + i for i, c in enumerate(ASIDE) if c.detail},
        title=TITLE,
        note=LEGEND,
    )


def markdown(table: Robustness) -> str:
    """The table with its footnotes."""
    return "\n".join(grid_of(table).markdown() + footnotes(table))
