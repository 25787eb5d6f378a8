"""Memory that is freed in a step stays with the process, for the next step."""

from __future__ import annotations

import ctypes
import sys

# of <malloc.h>; both at the most that glibc takes
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 2**31 - 1), (-3, 32 << 20)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors, up to 32 MB each, also in processes that are forked later.

    Otherwise it returns most of it to the system, and every step waits for the same pages to be mapped and cleared.
    Does nothing with another C library.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(*_TRIM_THRESHOLD)
        libc.mallopt(*_MMAP_THRESHOLD)
