"""Split a folder of faces into A (trains the defences), B (trains the detectors) and C (tests them).

reads   --folder_path            photos, and their attribute file (CelebA's list_attr_celeba, .txt or .csv)
writes  <output_dir>/images_a/   the first photos in the order of names, with a list_attr_celeba.txt of
                                 exactly their rows (.csv where a name holds white space)
        <output_dir>/images_b/   the next    <output_dir>/images_c/   the last
        <output_dir>/split.json  ratios, counts, fingerprints of the name lists, where the photos came from

  python split_dataset.py --folder_path /path/to/CelebA/img_align_celeba \\
      --attr_path /path/to/CelebA/list_attr_celeba.txt

Photos are linked, not copied (a hard link, or a symbolic one from another disk), and never written to. The
split appears whole or not at all; the same command again does nothing, another split into the same folder is
refused.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from common import cli, files, progress
from common.cli import UserError
from common.errors import shown
from common.listing import is_litter, left_out, tell
from faces.attributes import FILE_NAMES, format_csv, format_table, needs_csv, read_table
from faces.identities import read_identities
from faces.listing import find_attribute_file, list_photos, match

PARTS = ("images_a", "images_b", "images_c")
RECORD = "split.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    folder_path: Path
    attr_path: Path | None
    output_dir: Path
    ratios: list[float]
    mode: str
    identity_path: Path | None
    limit: int | None
    subset: bool
    dry_run: bool
    config: str | None
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="split_dataset.py", description=__doc__)
    p.add_argument("--folder_path", type=Path, required=True, metavar="DIR", help="folder of the photos")
    p.add_argument(
        "--attr_path",
        type=Path,
        default=None,
        metavar="FILE",
        help="attribute file; default list_attr_celeba.txt|csv in or beside the folder",
    )
    p.add_argument(
        "--output_dir", type=Path, default=Path("dataset/CelebA"), metavar="DIR", help="where the split goes"
    )
    p.add_argument(
        "--ratios",
        type=cli.fraction,
        nargs=3,
        default=[0.7, 0.2, 0.1],
        metavar=("A", "B", "C"),
        help="shares of the photos, sum 1",
    )
    p.add_argument(
        "--mode",
        choices=["link", "copy"],
        default="link",
        help="link = hard link, else symbolic link; copy = a second copy on the disk",
    )
    p.add_argument(
        "--identity_path",
        type=Path,
        default=None,
        metavar="FILE",
        help="rows `name identity` (CelebA's identity_CelebA.txt): all photos of a person go to one part",
    )
    p.add_argument(
        "--limit", type=cli.positive_int, default=None, metavar="N", help="split the first N photos only"
    )
    p.add_argument(
        "--subset",
        action="store_true",
        help="a part of the data set: take the photos that have a row, and the rows that have a photo",
    )
    p.add_argument(
        "--dry_run", action="store_true", help="check the input, print the counts and stop; writes nothing"
    )
    p.add_argument(
        "--config", metavar="FILE.yaml", default=None, help="defaults of the flags; a flag given here wins"
    )
    options = cli.resolve(Options, p.parse_args(argv))
    if abs(sum(options.ratios) - 1) > 1e-6 or min(options.ratios) <= 0:
        p.error(
            f"--ratios {' '.join(map(str, options.ratios))}: found the sum {sum(options.ratios):g}, expected"
            " three shares above 0 of sum 1, for example 0.7 0.2 0.1"
        )
    return options


def boundaries(n: int, ratios: Sequence[float]) -> list[int]:
    """Photos before the end of A, B and C: a photo belongs to the part in whose share its start lies, but a
    few photos fill all three."""
    b = min(math.ceil(round(n * (ratios[0] + ratios[1]), 6)), n - 1)
    return [min(math.ceil(round(n * ratios[0], 6)), b - 1), b, n]


def divide(
    names: list[str], ratios: Sequence[float], identities: dict[str, str] | None = None
) -> list[list[str]]:
    """Sorted names -> three sorted lists. With identities, whole people in the order of their first photo, as
    near to the shares as they come."""
    ends = boundaries(len(names), ratios)
    if identities is None:
        parts = [names[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    else:
        people = {}
        for name in names:
            people.setdefault(identities[name], []).append(name)
        parts, done = [[], [], []], 0
        for photos in people.values():
            middle = done + len(photos) / 2
            parts[next(i for i, end in enumerate(ends) if middle <= end)] += photos
            done += len(photos)
        parts = [sorted(part) for part in parts]
    if not all(parts):
        counts = ", ".join(f"{part} {len(p)}" for part, p in zip(PARTS, parts, strict=True))
        raise UserError(
            f"{len(names)} photos cannot be split by {ratios} into three parts that all hold some (found"
            f" {counts}); give more photos or other --ratios"
        )
    return parts


def list_name(parts: Sequence[Sequence[str]]) -> str:
    """Name of the attribute file of each part: the official text, or CSV where a name holds white space."""
    return FILE_NAMES[any(map(needs_csv, parts))]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def plan(options: Options) -> tuple[list[list[str]], list[bytes], dict]:
    """Read and check everything.  Returns (parts, texts, record): names and attribute file of each part, and
    what split.json will hold."""
    found = list_photos(options.folder_path)
    names = [name for name, _ in found.photos]
    attr_path = find_attribute_file(options.folder_path, options.attr_path)
    table = read_table(attr_path, whole=not options.subset)
    rows = match(options.folder_path, names, attr_path, table.names, options.subset)
    row_of = {name: table.rows[row] for name, row in zip(names, rows, strict=True) if row >= 0}
    found.tell()
    tell(left_out([("without a row", [n for n in names if n not in row_of])]))
    if len(row_of) < len(table.names):
        tell(f"{len(table.names) - len(row_of)} rows without a photo left out")
    names = list(row_of)[: options.limit]
    identities = read_identities(options.identity_path, names) if options.identity_path else None
    parts = divide(names, options.ratios, identities)
    form = format_table if list_name(parts) == FILE_NAMES[0] else format_csv
    texts = [form(part, table.columns, [row_of[n] for n in part]) for part in parts]
    record = {
        "format": 1,
        "source": str(options.folder_path.resolve()),
        "attr_path": str(attr_path.resolve()),
        "identity_path": str(options.identity_path.resolve()) if options.identity_path else None,
        "ratios": options.ratios,
        "limit": options.limit,
        "mode": options.mode,
        "num_images": len(names),
        "parts": {
            name: {
                "num_images": len(part),
                "first": part[0],
                "last": part[-1],
                "names_sha256": digest("\n".join(part).encode("utf-8", "surrogateescape")),
                "attributes_sha256": digest(text),
            }
            for name, part, text in zip(PARTS, parts, texts, strict=True)
        },
    }
    return parts, texts, record


def already_there(output: Path, parts: list[list[str]], texts: list[bytes], record: dict) -> bool:
    """True if `output` holds exactly this split.  Raises UserError if it holds another one, part of one, or
    one that was changed."""
    there = [name for name in (*PARTS, RECORD) if (output / name).exists()]
    if not there:
        if output.exists() and not output.is_dir():
            raise UserError(
                f"--output_dir {output}: is a file, expected a folder; choose another --output_dir"
            )
        return False
    remedy = f"remove {', '.join(there)} there, or choose another --output_dir"
    if len(there) < 4:
        raise UserError(f"--output_dir {output}: holds {', '.join(there)} but no complete split; {remedy}")
    try:
        saved = json.loads((output / RECORD).read_text())
        changed = [
            f"{k}: {saved.get(k)} -> {v}" for k, v in record.items() if k != "parts" and saved.get(k) != v
        ]
        changed += [
            f"{part}: other {k}"
            for part, v in record["parts"].items()
            for k in v
            if saved["parts"][part][k] != v[k]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        changed = [f"{RECORD} is damaged"]
    if changed:
        raise UserError(f"--output_dir {output}: holds another split ({'; '.join(changed[:3])}); {remedy}")
    for name, part, text in zip(PARTS, parts, texts, strict=True):
        found, expected = set(os.listdir(output / name)), {*part, list_name(parts)}
        found = {n for n in found if n in expected or not is_litter(n)}
        if found != expected or (output / name / list_name(parts)).read_bytes() != text:
            odd = sorted(found ^ expected)[:3] or [list_name(parts)]
            raise UserError(
                f"--output_dir {output}: {name} was changed since it was split ({', '.join(odd)}); {remedy}"
            )
    return True


def place(source: Path, target: Path, names: list[str], mode: str, bar: tqdm) -> int:
    """Link or copy `names` from a folder into another.  Returns the number of symbolic links among them."""
    source, symbolic = source.resolve(), 0
    # no path is walked per photo
    here, there = (os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in (source, target))
    try:
        for start in range(0, len(names), 500):
            for name in names[start : start + 500]:
                if mode == "copy":
                    shutil.copy2(source / name, target / name)
                    continue
                try:
                    os.link(name, name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=True)
                except OSError as e:  # another disk, no hard links there, or too many to one file
                    if e.errno in (errno.ENOENT, errno.ENOSPC):
                        raise
                    os.symlink(f"{source}/{name}", name, dir_fd=there)
                    symbolic += 1
            bar.update(len(names[start : start + 500]))
    finally:
        os.close(here)
        os.close(there)
    return symbolic


def build(output: Path, source: Path, parts: list[list[str]], texts: list[bytes], record: dict) -> int:
    """Make the split in a temporary folder beside `output` and rename it into place.  Returns the number of
    symbolic links."""
    output = output.absolute()
    files.make_folder(output.parent)
    files.sweep(output.parent)
    try:
        temporary = Path(tempfile.mkdtemp(files.ending(), f".{output.name}.", output.parent))
    except OSError as e:
        raise UserError(
            f"--output_dir {output}: cannot be made ({e.strerror}); choose another --output_dir"
        ) from e
    moved, new = [], False
    try:
        symbolic = 0
        with progress.bar(record["num_images"], "splitting") as bar:
            for name, part, text in zip(PARTS, parts, texts, strict=True):
                (temporary / name).mkdir()
                symbolic += place(source, temporary / name, part, record["mode"], bar)
                (temporary / name / list_name(parts)).write_bytes(text)
        files.write_json(temporary / RECORD, record)
        new = not output.exists()
        output.mkdir(exist_ok=True)
        for name in (*PARTS, RECORD):  # the record last: it says that all is there
            os.rename(temporary / name, output / name)
            moved.append(output / name)
    except BaseException:
        for path in moved:
            path.unlink() if path.is_file() else shutil.rmtree(path)
        if new and output.exists():
            output.rmdir()
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return symbolic


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    parts, texts, record = plan(options)
    print(f"{record['num_images']} photos of {record['source']}, attributes of {record['attr_path']}")
    for name, part in record["parts"].items():
        print(f"  {name}: {part['num_images']} photos, {shown(part['first'])} ... {shown(part['last'])}")
    if already_there(options.output_dir, parts, texts, record):
        print(f"{options.output_dir}: holds this split already, nothing to do")
    elif options.dry_run:
        files.check_writable(options.output_dir)
        print(f"dry run: nothing written to {options.output_dir} (--mode {options.mode})")
    else:
        symbolic = build(options.output_dir, options.folder_path, parts, texts, record)
        how = (
            "copied"
            if options.mode == "copy"
            else f"linked{f', {symbolic} of them by symbolic links' if symbolic else ''}"
        )
        print(f"{options.output_dir}: {record['num_images']} photos {how}")


if __name__ == "__main__":
    cli.run(main)
