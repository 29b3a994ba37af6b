"""How malloc treats the memory of large tensors in a server: it keeps it for the next request.

glibc gives a freed block of the size of an image back to the kernel at once, and the next request of that size faults every
page of it in again: 150 faults for 602 kB, which were more than half of a gRPC request's processor time
(docs/performance.md). numpy, Python and gRPC all allocate through malloc, so that one setting serves them all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of malloc.h."""
KEPT_BLOCK_BYTES = 32 * 1024 * 1024
"""Blocks up to this size come from the heap; the most that glibc allows on 64-bit machines."""
KEPT_FREE_BYTES = 128 * 1024 * 1024
"""What may lie free at the end of the heap before it is given back: a few dozen images at once. A guess; it is the most
that a server's memory grows by this."""
_SETTINGS = (
    (_M_MMAP_THRESHOLD, "MALLOC_MMAP_THRESHOLD_", KEPT_BLOCK_BYTES),
    (_M_TRIM_THRESHOLD, "MALLOC_TRIM_THRESHOLD_", KEPT_FREE_BYTES),
)


def keep_large_blocks(env: Mapping[str, str]) -> bool:
    """Whether malloc was told; False on systems without glibc.

    MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ (bytes) win, also in a forked server, for which glibc itself would
    have read them too early; what is no number is ignored, as glibc does.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    told = [mallopt(parameter, _bytes(env, variable, default)) for parameter, variable, default in _SETTINGS]
    return all(told)


def _bytes(env: Mapping[str, str], variable: str, default: int) -> int:
    text = env.get(variable, "")
    return int(text) if text.isdigit() else default
