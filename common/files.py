"""Files that appear whole or not at all, and their fingerprints."""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.cli import UserError

LITTER = re.compile(r"\.(.+)\.(\d+)\.tmp")  # of temporary_name
DAY = 86400  # seconds
HOST = os.uname().nodename[:32]
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def temporary_name(path: Path) -> Path:
    """What is to become `path` is called so by this process until it is whole."""
    # a name has 255 bytes at most
    name = path.name if len(os.fsencode(path.name)) < 190 else hashlib.sha256(os.fsencode(path)).hexdigest()
    return path.with_name(f".{name}{ending()}")


def ending() -> str:
    """Of this process's temporary names, by which `sweep` knows whose they were.  Machines that share a disk
    may have processes of equal numbers."""
    return f".{HOST}.{os.getpid()}.tmp"


def write_atomic(path: Path | str, data: str | bytes | memoryview, durable: bool = False) -> None:
    """Write bytes or text under a temporary name of this process, then rename: the old file or the new one,
    never half.

    Args:   durable  a power cut leaves the one or the other, too: for what takes long to make
    Raises: OSError that names the file, of a full disk for example
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        with naming(path), open(temporary, "wb") as f:
            # a name that is no UTF-8 is written as the bytes that it is
            f.write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)
            if durable:
                f.flush()
                os.fsync(f.fileno())
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sweep(folder: Path | str) -> None:
    """Remove what killed processes left under temporary names in a folder: this machine's that have ended,
    and what is older than a day, whoever made it."""
    try:
        with os.scandir(folder) as entries:
            found = [(e, m) for e in entries if (m := LITTER.fullmatch(e.name))]
    except OSError:
        return
    for entry, (before, pid) in ((e, m.groups()) for e, m in found):
        with suppress(OSError):
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > DAY
            if old or before.endswith(f".{HOST}") and not _lives(int(pid)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        pass
    return True


def append(path: Path | str, text: str) -> None:
    """Add text at the end of a file.  Raises OSError that names it."""
    with naming(path), open(path, "a", encoding="utf-8", errors="surrogateescape") as f:
        f.write(text)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """A full disk says of no file that it was too large for it."""
    try:
        yield
    except OSError as e:
        e.filename = str(path)
        raise


def sync_folder(folder: Path | str) -> None:
    """Have the disk know the names in a folder."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:  # a network disk that does not take it for folders
        pass
    finally:
        os.close(number)


def keep_as(path: Path, kept: Path) -> None:
    """Give a file the name `kept` besides, in place of the file that has it; `path` may be replaced then."""
    temporary = temporary_name(kept)
    try:
        os.link(path, temporary)
        os.replace(temporary, kept)
    except OSError:  # a disk without hard links
        temporary.unlink(missing_ok=True)
        os.replace(path, kept)


def is_whole(path: Path | str) -> bool:
    """Whether a file that write_atomic wrote is there, and as it wrote it: after a power cut files may be
    empty, zeros, or cut.  What is read of it depends on the name's ending, and is little."""
    path = Path(path)
    try:
        with open(path, "rb") as f:
            head, size = f.read(8), os.fstat(f.fileno()).st_size
            if path.suffix == ".json":
                json.loads(head + f.read())
            elif path.suffix == ".safetensors":
                length = int.from_bytes(head, "little")
                tensors = json.loads(f.read(length)) if length < size else {}
                ends = [v["data_offsets"][1] for k, v in tensors.items() if k != "__metadata__"]
                return size == 8 + length + max(ends)
            elif path.suffix == ".png":
                f.seek(-len(PNG_END), os.SEEK_END)
                return f.read() == PNG_END
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
    return head.strip(b"\0") != b""


def stem(name: str) -> str:
    """Name of a file without folder and extension, as pathlib's, which is slow for many."""
    base = name.rpartition("/")[2]
    return base.rpartition(".")[0] or base


def write_json(path: Path | str, value: object, durable: bool = False) -> None:
    write_atomic(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n", durable)


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
