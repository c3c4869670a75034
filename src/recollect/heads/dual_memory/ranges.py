"""Checks of single options: one error of ours for whatever is passed instead of a number."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from recollect.errors import InvalidParameter

INT64 = np.iinfo(np.int64)


def require_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Refuse what is none of these words."""
    if not isinstance(value, str) or value not in known:
        raise InvalidParameter(
            f"{name} is not known",
            expected=f"one of {', '.join(known)}",
            got=f"{value!r:.80}",
            remedy=f"Leave {name} at its default if unsure.",
        )


def require_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidParameter(
            f"{name} is neither true nor false", expected="True or False",
            got=f"{value!r:.80}", remedy=f"Leave {name} at its default if unsure.",
        )  # fmt: skip


def require_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse what is no integer in this range."""
    try:
        good = not isinstance(value, bool) and least <= index(value)
        good = good and (most is None or index(value) <= most)
    except TypeError:
        good = False
    if not good:
        wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InvalidParameter(
            f"{name} is out of range", expected=f"an integer {wanted}",
            got=f"{value!r:.80}", remedy=f"Leave {name} at its default if unsure.",
        )  # fmt: skip


def require_number(name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number in this range."""
    try:
        good = not isinstance(value, bool | str) and low <= float(value) <= high
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise InvalidParameter(
            f"{name} is out of range", expected=f"a number from {low:g} to {high:g}",
            got=f"{value!r:.80}", remedy=f"Leave {name} at its default if unsure.",
        )  # fmt: skip
