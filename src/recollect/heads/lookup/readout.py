"""From the nearest rows of the last step to an answer."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.types import Codes, Doubles

Vote = Literal["last", "all", "distance"]
VOTES = ("last", "all", "distance")
Readout = Literal["row", "state"]

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


def votes_of_rows(near: Codes, apart: Codes, answers: NDArray[Any], vote: Vote) -> Codes:
    """Return what each row that was found adds to its class: int64 ``(n, steps, k)``.

    Args:
        near: int64 ``(n, steps, k)``: nearest first, -1 where there is none.
        apart: int64 ``(n, steps, k)``: how far they are.
        answers: int64 ``(rows of the table,)``: class of each row.
        vote: ``"last"``: by rank, at the last step alone. ``"all"``: by rank, at every step.
            ``"distance"``: at every step, the nearest row of each class by how much nearer it is
            than the farthest row of the step, plus one (McCann and Lowe, "Local naive Bayes
            nearest neighbor for image classification", CVPR 2012, section 3).

    Example:
        >>> near, apart = np.array([[[4, 0, 2]]]), np.array([[[1, 3, 7]]])
        >>> votes_of_rows(near, apart, np.array([1, 0, 0, 0, 0]), "distance").tolist()
        [[[7, 5, 0]]]
    """
    there = near >= 0
    if vote == "distance":
        named = np.where(there, answers[np.maximum(near, 0)], -1)
        earlier = np.tri(near.shape[2], k=-1, dtype=np.bool_)
        seen = ((named[..., :, None] == named[..., None, :]) & earlier).any(axis=-1)
        gained = apart.max(axis=2, keepdims=True) + 1 - apart
        return np.asarray(np.where(there & ~seen, gained, 0))
    weights = np.where(there, rank_weights(near.shape[2]), 0)
    if vote == "last":
        weights[:, :-1] = 0
    return weights


def add_votes(near: Codes, votes: Codes, answers: NDArray[Any], classes: int) -> Codes:
    """Add the votes of rows by class.

    Args:
        near: int64 ``(n, steps, k)``: rows, -1 where there is none.
        votes: int64 ``(n, steps, k)``: what :func:`votes_of_rows` returned.
        answers: int64 ``(rows of the table,)``: class of each row.
        classes: How many classes there are.

    Returns:
        int64 ``(n, classes)``; ties are for the smaller class.
    """
    total = np.zeros((len(near), classes), np.int64)
    query = np.arange(len(near))[:, None, None]
    np.add.at(total, (query, answers[np.maximum(near, 0)]), votes)
    return total


def shares_of(votes: Codes) -> Doubles:
    """Return votes as shares that sum to 1: float64 ``(n, classes)``."""
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def check_reading(k: Any, beam: Any, vote: Any, slack: Any = None) -> None:
    """Refuse options of an answer that mean nothing.

    Raises:
        InvalidParameter: Not a whole number from 1, or an unknown vote.
    """
    for name, value in (("k", k), ("beam", beam), ("slack", slack)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (value is None and name != "k") and not (whole and value >= 1):
            raise InvalidParameter(
                f"{name} is out of range", expected="a whole number from 1", got=f"{value!r:.80}"
            )
    if not isinstance(vote, str) or vote not in VOTES:
        raise InvalidParameter(
            "vote is not known", expected="'last', 'all' or 'distance'", got=f"{vote!r:.80}"
        )
