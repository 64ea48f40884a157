"""From records of detectors to tables: one per dataset, translator, detector and attack, a row per kind of
training photos and poison rate.

Reads records only. Seeds become one row, as in compare.py. A row is held against the clean one and against
the disrupted one of its poison rate, and joined with the record that test_defense.py wrote of the same
defence under the same attack.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import mean, variance

from scipy import special

from report import rows as compare
from report.rows import Cell, Row, Table

CONDITIONS = ("clean", "disrupted", "purified", "filtered")  # the order of rows
# ends the name of a record of purified photos from which a filter had dropped samples before
FILTERED = "+filtered"
BOTH = " + filtered"  # the same in the label of its row
ACCURACY = "metrics.accuracy"
Z = special.ndtri(0.975)  # half of a 95% interval in standard errors
NUM_TRAIN = (("config.num_train",), lambda v, w: f"{v[0]} training images (the others: {w[0]})")
COMPARED = (
    (("config.num_photos",), lambda v, w: f"{v[0]} photos (the others: {w[0]})"),
    NUM_TRAIN,
    (("config.num_test",), lambda v, w: f"tested on {v[0]} images (the others: {w[0]})"),
    compare.IMAGE_SIZE,
    (("config.epochs",), lambda v, w: f"{v[0]} epochs (the others: {w[0]})"),
    (
        ("config.lr", "config.lr_schedule", "config.batch_size", "config.data_augmentation"),
        lambda v, w: (
            f"trained with lr {v[0]} {v[1]}, batches of {v[2]}, augmentation {v[3]} (the others: {w[0]}"
            f" {w[1]}, {w[2]}, {w[3]})"
        ),
    ),
    (("config.precision",), lambda v, w: f"in {v[0]} (the others: {w[0]})"),
    (
        ("config.data_seed",),
        lambda v, w: f"photos disrupted and domains drawn with seed {v[0]} (the others: {w[0]})",
    ),
    (
        ("config.pretrained",),
        lambda v, w: f"begun from {v[0] or 'no weights'} (the others: {w[0] or 'no weights'})",
    ),
    compare.TRANSLATOR,
    compare.SPLIT,
)

LEGEND = (
    "A detector learns real (0) from fake (1) on photos of split B and fakes made from them, and is tested on"
    " photos of split C and fakes of them. *training photos*: B as nobody disrupted it (*clean*), with the"
    " share *poison rate* of it *disrupted*, the same photos all purified by the defence named, *filtered*"
    " (by what) without the samples that a filter has dropped, or both, *+ filtered*: those dropped, the"
    " photos of the others purified; *... of undisturbed photos*: the control, purified though nobody"
    " disrupted them. *l2*, *frechet* or *fid*, *nfe*, *s/photo*: fakes of such photos (a disrupted photo,"
    " purified or not; in a control an undisturbed one) against fakes of the photos themselves, and what"
    " purifying costs, from test_defense.py's record of the same translator, attack and defence. *accuracy*"
    " (fake from probability 0.5 on), *AUC*, *EER* (equal error rate), *ECE* (expected calibration error): on"
    " clean photos of C and clean fakes; *on disrupted*, *on purified*: accuracy where the photos of C were"
    " disrupted, or disrupted and purified; *validation*: accuracy on the held-out part of B, which went"
    " through what the training photos went through. *lost*: accuracy of the clean row minus this one, in"
    " points. *recovered*: (accuracy - that of the disrupted row of this poison rate) / (that of the clean"
    " row - the same), a dash unless that loss exceeds its own 95% interval. ± standard deviation over seeds,"
    " or for one seed [low, high]: bootstrap 95% interval over photos. Intervals of *lost* and *recovered*"
    " (95% too; Fieller's for the ratio) are of training noise alone, by Welch's t over seeds; where a row"
    " has one seed, or no seed changes anything, of the drawing of test photos alone, from the bootstrap"
    " intervals combined in quadrature as if each row had test photos of its own. **Bold**: better than the"
    " disrupted row, the 95% interval of the difference above 0. † must not be compared with the other rows;"
    " rows with the same mark may be compared with one another. –: not measured, or nothing to hold it"
    " against."
)
RATES_LEGEND = (
    "Accuracy on clean photos of C and clean fakes against the share of the training photos that was"
    " disrupted; ± standard deviation over seeds. Rate 0: undisturbed photos, purified by the defence named."
)


@dataclass
class DetectorRow(Row):
    """The trainings on one kind of photos at one poison rate.  `derived` holds what their own records do not
    tell, each a Cell:

    l2, distance, nfe, s_per_photo   of such photos, from the defence's record `source` (a Row of it, or None)
    lost, gain   accuracy of the clean row minus this one, of this one minus the disrupted row of its rate; in
                 points
    share        gain as a share of what the disrupted row lost
    """

    source: Row | None = None
    derived: dict = field(default_factory=dict)

    @property
    def condition(self):
        return self.get("config.condition")

    @property
    def rate(self):
        return self.get("config.poison_rate") or 0

    @property
    def kept(self):
        """The file of the samples that a filter has kept, None where none was dropped."""
        return self.get("config.kept")

    @property
    def purifier(self):
        """The defence without what a filter did before it."""
        return self.defence.partition(BOTH)[0]

    @property
    def label(self):
        return self.defence + (
            " of undisturbed photos" if self.condition == "purified" and not self.rate else ""
        )

    @property
    def protocol(self):
        """{key: value} of what rows that may be compared agree in; how many images a filter keeps is its own
        affair."""
        return {k: self.get(k) for part in self.compared for k in part[0]}

    @property
    def compared(self):
        return [part for part in COMPARED if part is not NUM_TRAIN or not self.kept]

    def comparable(self, other):
        mine, its = self.protocol, other.protocol
        return all(mine[k] == its[k] for k in mine.keys() & its.keys())

    @property
    def side(self):
        """Where a defence's record keeps figures of such photos."""
        return "disrupted" if self.condition == "disrupted" else "purified" if self.rate else "clean_purified"

    @property
    def distance(self):
        return (self.source.distance_of(self.side)[0] if self.source else "frechet"), "distance"

    @property
    def better(self):
        """Whether it beats the disrupted row by more than the 95% interval of their difference."""
        return (self.derived["gain"].low or 0) > 0

    def cell(self, key):
        return self.derived[key] if key in self.derived else super().cell(key)


@dataclass
class DetectorTable(Table):
    """The rows of one dataset, translator and detector; `main` is the one attack that made its disrupted
    photos."""

    detector: str = ""
    base: str = ""

    @property
    def name(self):
        return f"{self.dataset}, {self.gan}, {self.detector} ({self.base}): {compare.attack_text(self.main)}"

    @property
    def unmarked(self):
        return [row for row in self.rows if not row.marks]

    @property
    def rates(self):
        """The poison rates above 0 of the unmarked rows, rising."""
        return sorted({row.rate for row in self.unmarked if row.rate})

    @property
    def common_rate(self):
        """The highest of the poison rates that most rows have; None where nothing was poisoned."""
        count = Counter(row.rate for row in self.unmarked if row.rate)
        return max(count, key=lambda rate: (count[rate], rate), default=None)

    def by_rate(self):
        """{training photos: {poison rate: Row}} of the unmarked rows; `disrupted` begins at rate 0 with the
        clean row."""
        found = defaultdict(dict)
        for row in self.unmarked:
            found["disrupted" if row.condition == "clean" else row.defence][row.rate] = row
        return dict(found)


def _noise(rows):
    """[(variance of its accuracy, degrees of freedom), ...] of rows; None where a row has no interval.

    Over seeds the variance of their mean. Where a row has one seed, or no seed of any row changes anything,
    that of every row's bootstrap interval.
    """
    seeds = [
        [
            cell
            for run in row.runs
            if (cell := Row(row.attack, row.defence, [run]).cell(ACCURACY)).value is not None
        ]
        for row in rows
    ]
    if all(len(cells) > 1 for cells in seeds) and any(len({c.value for c in cells}) > 1 for cells in seeds):
        return [(variance(c.value for c in cells) / len(cells), len(cells) - 1) for cells in seeds]
    if any(c.low is None for cells in seeds for c in cells):
        return None
    return [((mean(c.high - c.low for c in cells) / 2 / Z) ** 2, math.inf) for cells in seeds]


def _error(noise, weights):
    """(variance of a weighted sum of accuracies, 97.5% quantile of Student's t at Welch's degrees of
    freedom)."""
    parts = [(w * w * v, freedom) for w, (v, freedom) in zip(weights, noise, strict=True)]
    total, scale = sum(part for part, _ in parts), sum(part * part / freedom for part, freedom in parts)
    return total, float(special.stdtrit(total * total / scale, 0.975)) if scale else Z


def difference(row, other):
    """Cell of the row's accuracy minus the other's with its 95% interval (Welch's t over seeds); empty where
    one was not measured."""
    a, b = row.cell(ACCURACY).value, other.cell(ACCURACY).value
    if a is None or b is None:
        return Cell(None)
    if (noise := _noise([row, other])) is None:
        return Cell(a - b)
    total, t = _error(noise, (1, -1))
    return Cell(a - b, a - b - t * math.sqrt(total), a - b + t * math.sqrt(total))


def share_recovered(row, disrupted, clean):
    """(row - disrupted) / (clean - disrupted) of the accuracies, a Cell; empty unless the loss exceeds its
    own 95% interval.

    Its 95% range holds every share s for which row - disrupted - s (clean - disrupted) may be 0 (Fieller
    1954); none where that is not one piece.
    """
    gain, loss = difference(row, disrupted), difference(clean, disrupted)
    if gain.value is None or loss.low is None or loss.low <= 0:
        return Cell(None)
    share = gain.value / loss.value
    if (noise := _noise([row, disrupted, clean])) is None:
        return Cell(share)
    (mine, _), (poisoned, _), (whole, _) = noise
    t = _error(noise, (1, share - 1, -share))[1]
    a = loss.value**2 - t * t * (poisoned + whole)  # a s^2 - 2 b s + c = 0 at both ends
    b, c = gain.value * loss.value - t * t * poisoned, gain.value**2 - t * t * (mine + poisoned)
    if a <= 0:
        return Cell(share)
    root = math.sqrt(max(b * b - a * c, 0))
    return Cell(share, (b - root) / a, (b + root) / a)


def _points(cell):
    return Cell(*(None if v is None else 100 * v for v in (cell.value, cell.low, cell.high)))


def _join(row, defences):
    """Fill in what the defence's record says of such photos: that with most photos of those whose translator,
    attack and defence are the same."""
    same = [
        d
        for d in defences
        if d.dataset == row.first.dataset
        and d.split == "b"
        and compare.attack_of(d.config) == row.attack
        and d.config.get("attack_on") != "self"
        and (d.config["gan"], d.config["image_size"]) == (row.get("config.gan"), row.get("config.image_size"))
        and d.provenance.get("gan_sha256")
        == (row.get("provenance.training_gan_sha256") or row.get("provenance.gan_sha256"))
    ]
    if row.condition == "purified":
        name, weights = row.first.name.removesuffix(FILTERED), row.get("provenance.defense_sha256")
        same = [d for d in same if d.name == name and d.provenance.get("defense_sha256") == weights]
    found = max(
        same, key=lambda d: (d.config["num_images"] or 0, str(d.provenance.get("finished"))), default=None
    )
    if found and row.condition in ("disrupted", "purified"):
        row.source = Row(row.attack, row.defence, [(None, found)])
    nothing = Cell(0.0 if row.condition in ("clean", "disrupted") else None)  # no purifier: no cost

    def of(key):
        return row.source.cell(key) if row.source else Cell(None)

    row.derived |= {
        "l2": Cell(0.0) if row.condition == "clean" else of(f"metrics.{row.side}.l2"),
        "distance": of(row.source.distance_of(row.side)[1]) if row.source else Cell(None),
        "nfe": of("cost.nfe") if row.condition == "purified" else nothing,
        "s_per_photo": of("cost.purify_s_per_image") if row.condition == "purified" else nothing,
    }


def reference(row, rows, condition):
    """The clean row, or the disrupted row of the same poison rate, that a row is held against; None where
    there is none."""
    return next(
        (
            r
            for r in rows
            if r.condition == condition and r.comparable(row) and (condition == "clean" or r.rate == row.rate)
        ),
        None,
    )


def _hold_against(row, rows):
    clean, disrupted = reference(row, rows, "clean"), reference(row, rows, "disrupted")
    judged = row.condition in ("purified", "filtered") and disrupted is not None
    row.derived |= {
        "lost": _points(difference(clean, row)) if clean and clean is not row else Cell(None),
        "gain": _points(difference(row, disrupted)) if judged else Cell(None),
        "share": share_recovered(row, disrupted, clean) if judged and clean else Cell(None),
    }


def _label(found):
    """A record's training photos in words; a filter by its name, where it has none by its file."""
    c = found.config
    label = found.name.removesuffix(FILTERED) + compare.trained_on(c)
    if not c["kept"]:
        return label
    told = "@".join(filter(None, [c["kept"], (c.get("kept_sha256") or "")[:6]]))
    return (
        label
        + (BOTH if c["condition"] == "purified" else "")
        + (f" ({c['kept_filter']})" if c.get("kept_filter") else f" [{told}]")
    )


def _groups(attack, runs):
    """[(label, [(path, Record), ...])]: the runs that differ in the seed alone. What one filter has kept in
    two ways is told apart."""
    lists = defaultdict(lambda: defaultdict(list))
    for path, found in runs:
        row = DetectorRow(attack, _label(found), [(path, found)])
        key = (
            row.defence,
            row.rate,
            row.condition,
            found.provenance.get("training_gan_sha256"),
            *row.protocol.values(),
        )
        lists[key][found.config.get("kept_sha256")].append((path, found))
    return [
        (key[0] + (f" @{str(sha)[:6]}" if len(same) > 1 else ""), group)
        for key, same in lists.items()
        for sha, group in same.items()
    ]


def table_of(dataset, gan, detector, base, attack, runs, defences, replaced):
    """The DetectorTable of some runs [(path, Record)], with figures of the `defences` [Record]; replaced: see
    compare.table_of."""
    rows = [
        DetectorRow(attack, label + suffix, mine)
        for label, group in _groups(attack, runs)
        for mine, suffix in compare.one_per_seed(group, replaced)
    ]
    for row in rows:
        _join(row, defences)
        _hold_against(row, rows)
    standard = (
        sorted((r for r in rows if not r.kept), key=lambda r: -(r.get("config.num_photos") or 0)) or rows
    )
    reasons = {
        id(row): "; ".join(found)
        for row in rows
        if (found := compare.differences(row, standard, row.compared))
    }
    place = {condition: i for i, condition in enumerate(CONDITIONS)}
    rows.sort(
        key=lambda r: (
            reasons.get(id(r), ""),
            place.get(r.condition, len(place)),
            compare.natural(r.defence),
            r.rate,
        )
    )
    table = DetectorTable(dataset, gan, rows, attack, detector=detector, base=base)
    table.mark(reasons)
    return table


def tables_of(runs, tables, replaced):
    """[DetectorTable] of runs [(path, Record)] of kind detector; `tables` of defences, whose records they are
    joined with."""
    defences, groups = (
        [found for table in tables for row in table.rows for _, found in row.runs],
        defaultdict(list),
    )
    for path, found in runs:
        names = (found.dataset, *(found.config[k] for k in ("gan", "detector", "base")))
        groups[(*(name or "?" for name in names), compare.attack_of(found.config))].append((path, found))
    return [table_of(*key, group, defences, replaced) for key, group in sorted(groups.items(), key=str)]


def file_names(tables):
    """A name for the files of each table, <dataset>-<gan>-<detector>[-<base>], with the attack where several
    would share it."""
    names = [
        "-".join([t.dataset, t.gan, t.detector] + ([t.base] if t.base not in ("scratch", "?") else []))
        for t in tables
    ]
    return [
        f"{name}-{compare.attack_text(t.main)}" if names.count(name) > 1 else name
        for name, t in zip(names, tables, strict=True)
    ]


def gaps(table):
    """Why a table has dashes: what its rows could not be held against or joined with, one line each."""
    whose = {
        "no clean training to hold against": [
            r for r in table.rows if r.condition != "clean" and reference(r, table.rows, "clean") is None
        ],
        "no training on disrupted photos at that rate beside": [
            r
            for r in table.rows
            if r.rate
            and r.condition in ("purified", "filtered")
            and reference(r, table.rows, "disrupted") is None
        ],
        "no record of test_defense.py under this attack for": [
            r for r in table.rows if r.condition in ("disrupted", "purified") and r.source is None
        ],
    }
    return [
        f"{table.name}: {what} {', '.join(dict.fromkeys(r.label for r in rows))}"
        for what, rows in whose.items()
        if rows
    ]
