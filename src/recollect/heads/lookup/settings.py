"""Numbers that settings may be: judged where they are given, refused with one error."""

from __future__ import annotations

from typing import Any

import numpy as np

from recollect.errors import InvalidParameter

# The least that every random generator here takes.
MOST_SEED = 2**32 - 1
MOST_NUMBER = 1.7976931348623157e308


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, Python's or NumPy's, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether this is a finite number, Python's or NumPy's, and no truth value."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool) and bool(abs(value) <= MOST_NUMBER)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse what is no whole number from ``least`` to ``most``.

    Raises:
        InvalidParameter: It is none.
    """
    if not is_whole(value) or value < least or (most is not None and value > most):
        words = f"a whole number from {least}" + ("" if most is None else f" to {most}")
        raise InvalidParameter(f"{name} is out of range", expected=words, got=f"{value!r:.80}")


def check_number(name: str, value: Any, least: float, most: float, *, above: bool = False) -> None:
    """Refuse what is no finite number from ``least`` (or above it) to ``most``.

    Raises:
        InvalidParameter: It is none.
    """
    if not is_number(value) or not least <= value <= most or (above and value == least):
        words = f"a number {'above' if above else 'from'} {least:g} to {most:g}"
        raise InvalidParameter(f"{name} is out of range", expected=words, got=f"{value!r:.80}")
