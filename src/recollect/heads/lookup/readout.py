"""From the nearest rows of the last step to an answer."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.types import Codes, Doubles

Vote = Literal["last", "all"]
VOTES = ("last", "all")

# Votes are whole numbers, so that every language adds them up alike.
_SCALE = 1 << 20


def rank_weights(k: int) -> Codes:
    """Return what the nearest, second, ... row's vote weighs: ``2**20 // (2 + rank)``.

    The rank vote of Geirhos et al. (2025) with alpha = 2, in whole numbers.

    Example:
        >>> rank_weights(3).tolist()
        [524288, 349525, 262144]
    """
    return _SCALE // (2 + np.arange(k))


def add_votes(rows: Codes, answers: NDArray[Any], classes: int) -> Codes:
    """Add the votes of rows by class.

    Args:
        rows: int64 ``(n, k)`` of the last step, or ``(n, steps, k)`` of every step: nearest first,
            -1 where there is none.
        answers: int64 ``(rows of the table,)``: class of each row.
        classes: How many classes there are.

    Returns:
        int64 ``(n, classes)``; ties are for the smaller class.
    """
    votes = np.zeros((len(rows), classes), np.int64)
    weights = np.where(rows >= 0, rank_weights(rows.shape[-1]), 0)
    query = np.arange(len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
    np.add.at(votes, (query, answers[np.maximum(rows, 0)]), weights)
    return votes


def shares_of(votes: Codes) -> Doubles:
    """Return votes as shares that sum to 1: float64 ``(n, classes)``."""
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def check_reading(k: Any, beam: Any, vote: Any) -> None:
    """Refuse options of an answer that mean nothing.

    Raises:
        InvalidParameter: Not a whole number from 1, or an unknown vote.
    """
    for name, value in (("k", k), ("beam", beam)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (value is None and name != "k") and not (whole and value >= 1):
            raise InvalidParameter(
                f"{name} is out of range", expected="a whole number from 1", got=f"{value!r:.80}"
            )
    if not isinstance(vote, str) or vote not in VOTES:
        raise InvalidParameter("vote is not known", expected="'last' or 'all'", got=f"{vote!r:.80}")
