"""Arithmetic as IEEE 754 has it, whatever another library has set the processor to.

``torch.set_flush_denormal(True)``, or a library compiled with ``-ffast-math``, makes the calling
thread take numbers below the normal range for zero. A similarity may be such a number, or be
computed from some, and would have other bits. The compiled kernel sets the processor by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

_SMALLEST, _ONE = 5e-324, 1.0  # not constants of an expression: those the compiler would fold
_ROOM = 512  # bytes, more than any C library keeps of the state of its arithmetic
_DEFAULT = ctypes.c_void_p(-1)  # FE_DFL_ENV of glibc and musl


def is_standard() -> bool:
    """Tell whether this thread keeps small numbers and rounds to nearest; some 50 nanoseconds."""
    return _SMALLEST * _ONE != 0.0 and _ONE + _SMALLEST == _ONE == _ONE - _SMALLEST


@contextmanager
def standard_arithmetic() -> Iterator[None]:
    """Compute as IEEE 754 says within, and as the caller had it set afterwards.

    Example:
        >>> with standard_arithmetic():
        ...     is_standard()
        True
    """
    library = None if is_standard() else _library()
    if library is None:
        yield
        return
    before = ctypes.create_string_buffer(_ROOM)
    library.fegetenv(before)
    library.fesetenv(_DEFAULT)
    try:
        yield
    finally:
        library.fesetenv(before)


@cache
def _library() -> Any:
    """Find the functions of the C library; None where it has none."""
    for name in ("libm.so.6", None):  # where glibc has them, or among what is loaded
        with suppress(OSError, AttributeError, TypeError):
            library = ctypes.CDLL(name)
            _ = library.fegetenv, library.fesetenv
            return library
    return None
