"""Are two result folders the same? Compares records, pictures, tables, lists and weights by their content.

reads   two folders that the same commands have filled
writes  nothing; prints what differs, and exits with 1 if anything does

Of a record, provenance, seconds, memory and device may differ; of a log, its seconds. Pictures of equal
pixels are equal. options.yaml, last.pt, and what compare_results.py makes of the records (comparison*,
report.html, whose tables show seconds) are not compared.

  python -m tools.same results_before results_after
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import cli, files
from common.cli import UserError
from report import record

SECONDS = (
    "seconds",
    "_s",
    "_s_per_image",
    "peak_memory_mb",
    "photos_at_a_time",
    "device",
)  # endings of what a machine decides
SHOWN = 20  # differences that are printed


@dataclass(frozen=True)
class Options:
    """The two folders."""

    before: Path
    after: Path
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="tools.same", description=__doc__)
    p.add_argument("before", type=Path, help="result folder")
    p.add_argument("after", type=Path, help="result folder")
    return cli.resolve(Options, p.parse_args(argv))


def without_seconds(value: Any) -> Any:
    """JSON without the entries that a machine, and not the method, decides."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not k.endswith(SECONDS)}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def record_content(path: Path) -> object:
    return without_seconds({k: v for k, v in json.loads(path.read_text()).items() if k != "provenance"})


def log_content(path: Path) -> object:
    return [without_seconds(json.loads(line)) for line in path.read_text().splitlines()]


def picture_content(path: Path) -> object:
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return pixels.shape, pixels.tobytes()


CONTENT: dict[str, Callable[[Path], object]] = {  # by name, or by ending
    record.FILE: record_content,
    "log.jsonl": log_content,
    ".png": picture_content,
    ".csv": Path.read_bytes,
    ".md": Path.read_bytes,
    ".txt": Path.read_bytes,
    ".safetensors": files.sha256,
}


def content_of(path: Path) -> Callable[[Path], object] | None:
    """What is compared of a file; None for one that is not compared."""
    if path.name.startswith("comparison"):
        return None
    return CONTENT.get(path.name, CONTENT.get(path.suffix))


def compared(folder: Path) -> set[Path]:
    """The files below a folder that are compared, relative to it.  Raises UserError if there is none."""
    paths = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and content_of(p)}
    if not paths:
        raise UserError(f"{folder}: holds no results to compare")
    return paths


def differences(before: Path, after: Path) -> tuple[list[str], Counter]:
    """One line for each file that differs or is missing on one side, and how many of each kind are equal."""
    old, new = compared(before), compared(after)
    lines = [f"{p}: only in {before}" for p in sorted(old - new)]
    lines += [f"{p}: only in {after}" for p in sorted(new - old)]
    equal = Counter()
    for path in sorted(old & new):
        content = content_of(path)
        if content(before / path) == content(after / path):
            equal[path.name if path.name in CONTENT else path.suffix] += 1
        else:
            lines.append(f"{path}: differs")
    return lines, equal


def main(argv: list[str] | None = None) -> int:
    options = parse_args(argv)
    lines, equal = differences(options.before, options.after)
    print("equal: " + (", ".join(f"{number} {kind}" for kind, number in sorted(equal.items())) or "nothing"))
    for line in lines[:SHOWN]:
        print(line)
    if len(lines) > SHOWN:
        print(f"and {len(lines) - SHOWN} more")
    print("the same" if not lines else f"{len(lines)} differ")
    return 1 if lines else 0


if __name__ == "__main__":
    cli.run(main)
