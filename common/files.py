"""Files that appear whole or not at all, and their fingerprints."""

import hashlib
import json
import os
from pathlib import Path

from common.cli import UserError


def write_atomic(path: Path | str, data: str | bytes | memoryview) -> None:
    """Write bytes or text under a temporary name of this process, then rename: the old file or the new one,
    never half. Machines that share a disk may have processes of equal numbers."""
    path = Path(path)
    # a name has 255 bytes at most
    name = path.name if len(os.fsencode(path.name)) < 190 else hashlib.sha256(os.fsencode(path)).hexdigest()
    temporary = path.with_name(f".{name}.{os.uname().nodename[:32]}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as f:
            # a name that is no UTF-8 is written as the bytes that it is
            f.write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def stem(name: str) -> str:
    """Name of a file without folder and extension, as pathlib's, which is slow for many."""
    base = name.rpartition("/")[2]
    return base.rpartition(".")[0] or base


def write_json(path: Path | str, value: object) -> None:
    write_atomic(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def sha256(path: Path | str) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def key_of(value: object) -> str:
    """Hex sha256 of the canonical JSON of `value` (JSON types only)."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def make_folder(path: Path | str) -> Path:
    """Create a folder and its parents, or say in one line why it cannot be written.  Raises UserError."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{path}: cannot be made ({e.strerror}); choose another folder") from e
    check_writable(path)
    return path


def check_writable(path: Path | str) -> None:
    """Raises UserError if nothing can be written at `path` or, where it does not exist yet, at its nearest
    parent."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{path}: cannot be written; choose another folder")
