"""A run folder is one process's at a time."""

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

from common.cli import UserError
from common.files import HOST


def hold(owner: object, folder: Path | str) -> None:
    """Have this process alone work on a folder, until `owner` is gone or the process has ended.

    The system knows who holds the lock, so that of a killed process counts for nothing; on a disk without
    locks nobody is kept out.  A process may hold a folder again.

    Raises: UserError that names the process that holds it
    """
    folder = Path(folder).resolve()
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  open for as long as it is held
        try:
            # of the process, which processes that decode photos do not inherit
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            pid, _, host = file.read().strip().partition(" ")
            file.close()
            raise UserError(
                f"{folder}: process {pid or '?'} on {host or 'another machine'} works on this run; wait for"
                " its end, or drop --resume for another run"
            ) from None
        except OSError:  # a disk without locks
            pass
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                break
        file.close()  # of one who has just ended: its file is gone
    file.truncate(0)
    file.write(f"{os.getpid()} {HOST}\n")
    file.flush()
    weakref.finalize(owner, _release, file, path, os.getpid())


def _release(file, path, pid):
    if os.getpid() == pid:  # and not a copy of it
        with suppress(OSError):
            path.unlink()
        file.close()
