"""Scores of a detector that was trained elsewhere: read from its files, matched with the test images."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import files
from common.cli import UserError
from models.detector.network import CLASSES
from models.detector.samples import Samples

PROBABILITY = ("probability", "probability_fake")
FRAMES = "frames"  # the folder of exported images, see models.detector.export
FRAME = "000.png"  # a photo is a video of one frame


@dataclass(frozen=True)
class Row:
    """One line of a scores file.  name  as the file has it;  key  (test set, sample id), of an exported
    frame (folder_of, video_of);  p  probability of fake"""

    name: str
    key: tuple[str, str]
    p: float


def video_of(name: str, label: int) -> str:
    """Folder of an exported image, fake_000001: the class is part of it, since other tools average the scores
    of all frames in folders of one name."""
    return f"{CLASSES[label]}_{files.stem(name)}"


def folder_of(test_set: str) -> str:
    """What a set is called where command lines and paths name it."""
    return test_set.replace(" ", "_")


def frame_of(test_set: str, name: str, label: int) -> str:
    """Where an image is exported to, below the folder of the export."""
    return f"{FRAMES}/{folder_of(test_set)}/{video_of(name, label)}/{FRAME}"


def _key(row):
    """(test set, sample id), of an exported frame (folder_of, video_of)."""
    name = row["name"].replace("\\", "/")
    *_, folder, test_set, video, frame = ["", "", "", *name.split("/")]
    if folder == FRAMES and frame == FRAME:
        return test_set, video
    if "/" not in name and row.get("label") in CLASSES:  # as train_detector.py writes its own
        name = f"{row['label']}/{name}"
    return row.get("test_set") or "clean", name


def _read(path):
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as f:
            table = csv.DictReader(f)
            rows, columns = list(table), table.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"--scores {path}: cannot be read ({getattr(e, 'strerror', None) or e})") from e
    column = next((c for c in PROBABILITY if c in columns), None)
    if columns and ("name" not in columns or column is None):
        raise UserError(
            f"--scores {path}: expected the columns name and probability, found"
            f" {', '.join(map(str, columns)):.80}"
        )
    if not rows:
        raise UserError(
            f"--scores {path}: is empty; expected a line `name,probability` and one for each image"
        )
    for number, row in enumerate(rows, 2):
        try:
            p = float(row[column])
        except (TypeError, ValueError):
            p = float("nan")
        if not row["name"] or not 0 <= p <= 1:
            raise UserError(
                f"--scores {path}: line {number} gives {row['name']!r:.60} the probability"
                f" {row[column]!r:.20}; expected a name and a number from 0 to 1"
            )
        yield Row(row["name"], _key(row), p)


def read_scores(paths: Sequence[Path | str]) -> list[Row]:
    """The rows of CSV files with the columns name, probability or probability_fake, and at will test_set
    (clean where it is missing or blank).

    A name is a sample id (real/000001.jpg), a frame that models.detector.export has written, below whatever
    folder, or a bare one beside a column `label`.

    Raises: UserError for a file that cannot be read, holds no scores or lacks a column, and for a probability
            that is none
    """
    return [row for path in paths for row in _read(path)]


def matched(rows: Sequence[Row], tests: dict[str, Samples]) -> dict[str, np.ndarray]:
    """The scores in the order of the test images.

    Args:    tests  {test set: Samples}; `clean` must be scored, and each of the others wholly or not at all
    Returns: {test set: (N,) float64 probability of fake}
    Raises:  UserError for names that are unknown, missing or double
    """
    places = {}
    for test_set, samples in tests.items():
        for i, (one, name, label) in enumerate(
            zip(samples.ids, samples.names, samples.labels.tolist(), strict=True)
        ):
            places[test_set, one] = (test_set, i)
            places[folder_of(test_set), video_of(name, label)] = (test_set, i)
    unknown = [f"{row.name} of the test set {row.key[0]}" for row in rows if row.key not in places]
    if unknown:
        raise UserError(
            f"--scores: {len(unknown)} of {len(rows)} names are none of the test images (the first:"
            f" {unknown[0]:.120}); expected names like {tests['clean'].ids[0]}, test sets {', '.join(tests)}"
        )
    found, double = {}, []
    for row in rows:
        double += [row.name] if places[row.key] in found else []
        found[places[row.key]] = row.p
    if double:
        raise UserError(f"--scores: {len(double)} names come again (the first: {double[0]:.120}); each once")
    p = {}
    for test_set in ["clean", *(name for name in tests if name != "clean")]:
        samples = tests[test_set]
        missing = [one for i, one in enumerate(samples.ids) if (test_set, i) not in found]
        if missing and (test_set == "clean" or len(missing) < len(samples)):
            raise UserError(
                f"--scores: {len(missing)} of the {len(samples)} images of the test set {test_set} have no"
                f" score (the first: {missing[0]:.80})"
            )
        if not missing:
            p[test_set] = np.array([found[test_set, i] for i in range(len(samples))])
    return p
