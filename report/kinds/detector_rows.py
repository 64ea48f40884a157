"""From records of detectors to tables: one per dataset, translator, detector and attack, a row per kind of
training photos and poison rate.

Reads records only. Seeds become one row, as in report.rows. A row is held against the clean one and against
the disrupted one of its poison rate, and joined with the record that test_defense.py wrote of the same
defence under the same attack.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from report.comparison import Comparison, Runs
from report.kinds.detector_statistics import difference, points, share_recovered
from report.kinds.detector_words import BLENDED, BOTH, FILTERED, blended, label_of, training_words
from report.looks import Looks, natural, shown_name
from report.record import Record
from report.rows import (
    IMAGE_SIZE,
    SPLIT,
    TRANSLATOR,
    Cell,
    Row,
    Table,
    attack_of,
    attack_text,
    differences,
    one_per_seed,
)

CONDITIONS = ("clean", "disrupted", "purified", "filtered")  # the order of rows
NUM_TRAIN = (("config.num_train",), lambda v, w: f"{v[0]} training images (the others: {w[0]})")
COMPARED = (
    (("config.num_photos",), lambda v, w: f"{v[0]} photos (the others: {w[0]})"),
    NUM_TRAIN,
    (("config.num_test",), lambda v, w: f"tested on {v[0]} images (the others: {w[0]})"),
    IMAGE_SIZE,
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
    TRANSLATOR,
    SPLIT,
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
    def condition(self) -> str | None:
        return self.get("config.condition")

    @property
    def rate(self) -> float:
        return self.get("config.poison_rate") or 0

    @property
    def kept(self) -> str | None:
        """The file of the samples that a filter has kept, None where none was dropped."""
        return self.get("config.kept")

    @property
    def purifier(self) -> str:
        """The defence without what a filter did before it, whoever made the fakes."""
        return self.defence.partition(BOTH)[0].replace(BLENDED, "")

    @property
    def blended(self) -> str:
        """How the label tells who made the training fakes: "" = a translator."""
        return blended(self.first)

    @property
    def label(self) -> str:
        return self.defence + (
            " of undisturbed photos" if self.condition == "purified" and not self.rate else ""
        )

    @property
    def protocol(self) -> dict[str, Any]:
        """{key: value} of what rows that may be compared agree in; how many images a filter keeps is its own
        affair."""
        return {k: self.get(k) for part in self.compared for k in part[0]}

    @property
    def compared(self) -> list[tuple]:
        return [part for part in COMPARED if part is not NUM_TRAIN or not self.kept]

    def comparable(self, other: "DetectorRow") -> bool:
        mine, its = self.protocol, other.protocol
        return all(mine[k] == its[k] for k in mine.keys() & its.keys())

    @property
    def side(self) -> str:
        """Where a defence's record keeps figures of such photos."""
        return "disrupted" if self.condition == "disrupted" else "purified" if self.rate else "clean_purified"

    @property
    def distance(self) -> tuple[str, str]:
        return (self.source.distance_of(self.side)[0] if self.source else "frechet"), "distance"

    @property
    def better(self) -> bool:
        """Whether it beats the disrupted row by more than the 95% interval of their difference."""
        return (self.derived["gain"].low or 0) > 0

    @property
    def other_tests(self) -> list[str]:
        """The names of further test sets: fakes by other translators, images saved as JPEG."""
        return list(dict.fromkeys(t for _, record in self.runs for t in record.metrics.get("other") or {}))

    def cell(self, key: str) -> Cell:
        return self.derived[key] if key in self.derived else super().cell(key)


@dataclass
class DetectorTable(Table):
    """The rows of one dataset, translator and detector; `main` is the one attack that made its disrupted
    photos.

    setting_tables  all tables of its setting, those of the other attacks too; of the first of them alone
    """

    detector: str = ""
    base: str = ""
    protocol: tuple[str, ...] = ()  # of training_words
    setting_tables: list["DetectorTable"] = field(default_factory=list)

    @property
    def setting(self) -> str:
        """Its name without the attack."""
        detector = shown_name(self.detector, self.looks.detectors)
        return ", ".join([self.dataset, self.gan, f"{detector} ({self.base})", *self.protocol])

    @property
    def name(self) -> str:
        return f"{self.setting}: {attack_text(self.main)}"

    @property
    def other_tests(self) -> list[str]:
        """DetectorRow.other_tests of all rows."""
        return list(dict.fromkeys(t for row in self.rows for t in row.other_tests))

    @property
    def unmarked(self) -> list[DetectorRow]:
        return [row for row in self.rows if not row.marks]

    @property
    def rates(self) -> list[float]:
        """The poison rates above 0 of the unmarked rows, rising."""
        return sorted({row.rate for row in self.unmarked if row.rate})

    @property
    def common_rate(self) -> float | None:
        """The highest of the poison rates that most rows have; None where nothing was poisoned."""
        count = Counter(row.rate for row in self.unmarked if row.rate)
        return max(count, key=lambda rate: (count[rate], rate), default=None)

    def by_rate(self) -> dict[str, dict[float, DetectorRow]]:
        """{training photos: {poison rate: Row}} of the unmarked rows; `disrupted` begins at rate 0 with the
        clean row."""
        rows_of = defaultdict(dict)
        for row in self.unmarked:
            name = "disrupted" + row.blended if row.condition == "clean" else row.defence
            rows_of[name][row.rate] = row
        return dict(rows_of)


def _named(defence):
    """The config of a defence's record with the purifier that was attacked by its folder's name, as records
    of detectors have it."""
    config = defence.config
    known = config.get("attack_through") and (config.get("through") or config["attack_through"])
    return {**config, "attack_through": known}


def _join(row, defences, looks):
    """Fill in what the defence's record says of such photos: that with most photos of those whose translator,
    attack and defence are the same."""
    same = [
        d
        for d in defences
        if d.dataset == row.first.dataset
        and d.split == "b"
        and attack_of(_named(d), looks) == row.attack
        and d.config.get("attack_on") != "self"
        and (d.config["gan"], d.config["image_size"]) == (row.get("config.gan"), row.get("config.image_size"))
        and d.provenance.get("gan_sha256")
        == (row.get("provenance.training_gan_sha256") or row.get("provenance.gan_sha256"))
    ]
    if row.condition == "purified":
        name, weights = row.first.name.removesuffix(FILTERED), row.get("provenance.defense_sha256")
        same = [d for d in same if d.name == name and d.provenance.get("defense_sha256") == weights]
    source = max(
        same, key=lambda d: (d.config["num_images"] or 0, str(d.provenance.get("finished"))), default=None
    )
    if source and row.condition in ("disrupted", "purified"):
        row.source = Row(row.attack, row.defence, [(None, source)])
    nothing = Cell(0.0 if row.condition in ("clean", "disrupted") else None)  # no purifier: no cost

    def of(key):
        return row.source.cell(key) if row.source else Cell(None)

    row.derived |= {
        "l2": Cell(0.0) if row.condition == "clean" else of(f"metrics.{row.side}.l2"),
        "distance": of(row.source.distance_of(row.side)[1]) if row.source else Cell(None),
        "nfe": of("cost.nfe") if row.condition == "purified" else nothing,
        "s_per_photo": of("cost.purify_s_per_image") if row.condition == "purified" else nothing,
    }


def reference(row: DetectorRow, rows: list[DetectorRow], condition: str) -> DetectorRow | None:
    """The clean row, or the disrupted row of the same poison rate, that a row is held against, their fakes
    made in the same way; None where there is none."""
    return next(
        (
            r
            for r in rows
            if r.condition == condition
            and r.comparable(row)
            and r.blended == row.blended
            and (condition == "clean" or r.rate == row.rate)
        ),
        None,
    )


def _hold_against(row, rows):
    clean, disrupted = reference(row, rows, "clean"), reference(row, rows, "disrupted")
    judged = row.condition in ("purified", "filtered") and disrupted is not None
    row.derived |= {
        "lost": points(difference(clean, row)) if clean and clean is not row else Cell(None),
        "gain": points(difference(row, disrupted)) if judged else Cell(None),
        "share": share_recovered(row, disrupted, clean) if judged and clean else Cell(None),
    }


def _groups(attack, runs):
    """[(label, [(path, Record), ...])]: the runs that differ in the seed alone. What one filter has kept in
    two ways is told apart."""
    lists = defaultdict(lambda: defaultdict(list))
    for path, record in runs:
        row = DetectorRow(attack, label_of(record), [(path, record)])
        key = (
            row.defence,
            row.rate,
            row.condition,
            record.provenance.get("training_gan_sha256"),
            *row.protocol.values(),
        )
        lists[key][record.config.get("kept_sha256")].append((path, record))
    return [
        (key[0] + (f" @{str(sha)[:6]}" if len(same) > 1 else ""), group)
        for key, same in lists.items()
        for sha, group in same.items()
    ]


def table_of(
    dataset: str,
    gan: str,
    detector: str,
    base: str,
    protocol: tuple[str, ...],
    attack: tuple,
    runs: Runs,
    defences: list[Record],
    looks: Looks,
    replaced: list,
) -> DetectorTable:
    """The DetectorTable of some runs [(path, Record)], with figures of the `defences` [Record]; replaced:
    paths of runs that a repetition replaced are appended."""
    rows = [
        DetectorRow(attack, label + suffix, mine)
        for label, group in _groups(attack, runs)
        for mine, suffix in one_per_seed(group, replaced)
    ]
    for row in rows:
        _join(row, defences, looks)
        _hold_against(row, rows)
    standard = (
        sorted((r for r in rows if not r.kept), key=lambda r: -(r.get("config.num_photos") or 0)) or rows
    )
    reasons = {
        id(row): "; ".join(reason) for row in rows if (reason := differences(row, standard, row.compared))
    }
    place = {condition: i for i, condition in enumerate(CONDITIONS)}
    rows.sort(
        key=lambda r: (
            reasons.get(id(r), ""),
            place.get(r.condition, len(place)),
            natural(r.defence, looks.defences),
            r.rate,
        )
    )
    table = DetectorTable(
        dataset, gan, rows, attack, looks=looks, detector=detector, base=base, protocol=protocol
    )
    table.mark(reasons)
    return table


def tables_of(runs: Runs, comparison: Comparison) -> list[DetectorTable]:
    """The tables of runs [(path, Record)] of kind detector, joined with the records of defences."""
    defences, looks, groups = (
        [record for table in comparison.tables["defense"] for row in table.rows for _, record in row.runs],
        comparison.looks,
        defaultdict(list),
    )
    for path, record in runs:
        names = (record.dataset, *(record.config[k] for k in ("gan", "detector", "base")))
        words, attack = training_words(record.config), attack_of(record.config, looks)
        groups[(*(name or "?" for name in names), words, attack)].append((path, record))
    tables = [
        table_of(*key, group, defences, looks, comparison.replaced)
        for key, group in sorted(groups.items(), key=str)
    ]
    settings = defaultdict(list)
    for table in tables:
        settings[table.setting].append(table)
    for same in settings.values():
        same[0].setting_tables = same
    return tables
