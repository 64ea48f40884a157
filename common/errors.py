"""What goes wrong in words: a mistake of the user, a run that failed, the name that was meant."""

import difflib
import errno
import re
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user: one line that says what, where, found, expected, what to do. Exit code 2, unless
    a subclass has another."""

    exit_code = 2


class RunError(Exception):
    """A run that failed although its input was right (NaN, out of memory, disk full): one line, exit code
    1."""


class PeerLost(RunError):
    """Another process of the same job ended or does not answer; what went wrong is told there."""


NO_MEMORY = ("out of memory", "allocate memory", "unable to allocate", "not enough memory")  # torch, NumPy


def in_words(error: Exception) -> RunError:
    """An error that nobody foresaw, as one line with the way to the details."""
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in said.lower() for words in NO_MEMORY):
        return RunError(f"out of memory ({said[:120]}): try half the --batch_size")
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        more = "; free some, then repeat the command" if full else ""
        return RunError(f"{error.filename or 'file system'}: {error.strerror or error}{more}")
    return RunError(f"{type(error).__name__}: {said} (--debug shows where)")


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the known word closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


# what a terminal takes as a command, and bytes of a name that are no text
UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")


def shown(text: object) -> str:
    """Text from a file, a name for example, in one line and without what a terminal would obey: such
    characters are written as escapes."""
    return UNSHOWN.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), str(text))
