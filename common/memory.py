"""Memory that the C library keeps of what was freed: batches that one thread makes and another frees leave
holes in its pools, which grow with the work done although nothing lives in them."""

import ctypes
import functools

M_ARENA_MAX = -8  # glibc's malloc.h


@functools.cache
def _libc():
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def keep_few_pools() -> None:
    """Two pools for all threads from now on, in place of eight a core. Does nothing without glibc."""
    if _libc():
        _libc().mallopt(M_ARENA_MAX, 2)


def give_back() -> None:
    """Return the holes to the system: milliseconds. Does nothing without glibc."""
    if _libc():
        _libc().malloc_trim(0)
