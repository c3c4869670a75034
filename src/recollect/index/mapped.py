"""Files mapped into memory that are larger than it: what was read once is let go of."""

from __future__ import annotations

import mmap
import os
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE = 4  # a process that holds more than one in so many bytes of the machine lets go


def let_go(array: NDArray[Any]) -> bool:
    """Give the pages of a mapped file back, if this process holds much of the machine's memory.

    They stay in the cache of the operating system for as long as it likes, and are mapped again
    when they are read. Called after each pass over many rows, it keeps what a process holds below
    a bound that the size of the file does not enter.

    Args:
        array: Any array; nothing happens unless it lies in a file that is mapped read-only.

    Returns:
        Whether pages were given back.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    whole = getattr(owner, "obj", None)
    if not isinstance(whole, mmap.mmap) or not owner.readonly or not hasattr(mmap, "MADV_DONTNEED"):
        return False
    if held() <= budget():
        return False
    whole.madvise(mmap.MADV_DONTNEED)
    return True


def held() -> int:
    """Count the bytes that this process holds, mapped files included; 0 where nobody tells."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - as fast as can be
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


@cache
def budget() -> int:
    """Bytes beyond which pages are given back."""
    return os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // SHARE
