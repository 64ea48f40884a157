"""record.json: what one run found. One shape for all kinds, and of each kind the schema that its
report/kinds/<kind>.py declares; tables and plots read nothing else.

A value that was not measured is null; NaN and infinity are never written. A schema lists what a record must
hold, more is allowed.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common import files, registry
from common.errors import UserError, shown
from report.kinds import KINDS
from report.schema import COUNT, FEATURES, TEXT, problems_of

FORMAT = 1
FILE = "record.json"


class UnknownKind(UserError):
    """A record of this format whose kind is not in report.kinds.KINDS.  kind  as the file has it"""

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Record:
    """What one run found: `config` says what was run, `metrics` what came out.  JSON types only; eps in [-1,
    1] units."""

    kind: str
    name: str
    dataset: str
    split: str
    seed: int
    config: dict
    metrics: dict
    per_group: dict
    features: dict | None
    cost: dict
    provenance: dict


def plain(value: object) -> object:
    """JSON types: numpy and torch numbers become Python's, tuples become lists, NaN and infinity become
    None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def validate(content: object) -> list[str]:
    """Problems of a record given as a dict (the content of record.json), one line each; an empty list =
    valid."""
    if not isinstance(content, dict):
        return [f"expected an object, found {type(content).__name__}"]
    if content.get("format") != FORMAT:
        return [f"format: expected {FORMAT}, found {content.get('format')!r:.40}"]
    if not isinstance(content.get("kind"), str) or content["kind"] not in KINDS:
        return [f"kind: unknown kind {content.get('kind')!r:.40} (known: {', '.join(KINDS)})"]
    names = [f.name for f in fields(Record)]
    problems = [f"{name}: missing" for name in names if name not in content]
    for name, kind in (
        ("name", TEXT),
        ("dataset", TEXT),
        ("split", TEXT),
        ("seed", COUNT),
        ("features", FEATURES),
    ):
        if name in content:
            problems += problems_of(content[name], kind, name)
    for name, schema in registry.load(KINDS[content["kind"]]).schema.items():
        if name in content:
            problems += (
                [f"{name}: expected an object, found null"]
                if content[name] is None
                else problems_of(content[name], schema, name)
            )
    if "name" in content and not content["name"]:
        problems.append("name: expected text, found nothing")
    return problems


def write(path: str | Path, record: Record) -> None:
    """Write a record whole or not at all.  Raises ValueError, which names every problem, if it does not fit
    its kind."""
    content = plain({"format": FORMAT, **asdict(record)})
    problems = validate(content)
    if problems:
        raise ValueError(f"{path}: not a valid record of kind {record.kind!r}: {'; '.join(problems)}")
    files.write_json(path, content, durable=True)


def _shown(value):
    """The value with every text in one line, without what a terminal would obey."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_shown(v) for v in value]
    return {shown(k): _shown(v) for k, v in value.items()} if isinstance(value, dict) else value


def _refuse(word):
    raise ValueError(f"holds {word}, which is not JSON")


def read(path: str | Path) -> Record:
    """Read what write wrote.  Raises UserError, one line, if the file is missing, damaged, or of an unknown
    kind or format."""
    try:
        content = json.loads(Path(path).read_bytes().decode(), parse_constant=_refuse)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    except (ValueError, RecursionError) as e:
        raise UserError(
            f"{path}: damaged, not JSON ({' '.join(str(e).split())[:80]}); run that test again"
        ) from e
    content = _shown(content)
    problems = validate(content)
    if problems:
        kind = content.get("kind") if isinstance(content, dict) and content.get("format") == FORMAT else None
        if isinstance(kind, str) and kind not in KINDS:
            raise UnknownKind(f"{path}: not a record of this project: {problems[0]}", kind)
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"{path}: not a record of this project: {'; '.join(problems[:3])}{more}")
    return Record(**{f.name: content[f.name] for f in fields(Record)})


def read_all(folder: str | Path) -> tuple[list[tuple[Path, Record]], list[str], list[tuple[Path, str]]]:
    """Every record below a folder.

    Returns: ([(path, Record), ...] sorted by path, [one line per record.json that could not be read, which
             names it], [(path, kind), ...] of records of an unknown kind)
    Raises:  UserError if the folder does not exist or holds no record.json at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such results folder; test_defense.py writes one")
    paths = sorted(folder.rglob(FILE))
    if not paths:
        raise UserError(
            f"{folder}: holds no {FILE}, so there is nothing to compare; run test_defense.py first"
        )
    records, problems, unknown = [], [], []
    for path in paths:
        try:
            records.append((path, read(path)))
        except UnknownKind as e:
            unknown.append((path, e.kind))
        except UserError as e:
            problems.append(str(e))
    return records, problems, unknown
