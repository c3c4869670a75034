"""Which rows can still be among the k nearest, for a block of queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recollect.types import Floats, Ids, Mask

# Below every score the first pass gives, above the -inf of rows that do not take part.
LOWEST = np.finfo(np.float32).min
CLOSED = np.float32(np.inf)


class Shortlist:
    """Candidates of each query, and the score that a row must reach to become one.

    A candidate is known by two numbers: its score is at least ``lower`` and at most ``upper``. Once
    k rows are known to score at least t, rows whose ``upper`` is below t are out.

    Args:
        queries: How many.
        k: Rows wanted by each.
        room: Candidates that may be kept for all queries together. Queries that need more are
            given up: ``given_up`` is True for them and nothing is kept.
    """

    def __init__(self, queries: int, k: int, room: int) -> None:
        self.k, self.room = k, room
        self.threshold: Floats = np.full(queries, LOWEST, np.float32)
        self.given_up: Mask = np.zeros(queries, bool)
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]] = []
        self._kept = self._new = 0

    def raise_threshold(self, lower: Floats) -> None:
        """Note that k rows of each query score at least ``lower``, float32 ``(queries,)``."""
        np.maximum(self.threshold, lower, out=self.threshold)

    def offer(self, query: Ids, place: Ids, score: Floats, error: Floats) -> None:
        """Take candidates in, all ``(n,)``, each pair of query and place once."""
        self._parts.append((query, place, score - error, score + error))
        self._new += len(query)
        # Every sort goes over all that is kept: so as much as half of that must be new.
        if self._new > max(self.k * len(self.threshold), 4096, self._kept // 2):
            self._prune()

    def finish(self) -> tuple[Ids, Ids]:
        """Return what is left as queries, ascending, and places, both int64 ``(n,)``."""
        self._prune()
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        query, place, _, _ = self._parts[0]
        order = np.argsort(query, kind="stable")
        return query[order], place[order]

    def _prune(self) -> None:
        if not self._parts:
            return
        query, place, lower, upper = (
            np.concatenate(part) for part in zip(*self._parts, strict=True)
        )
        counts = np.bincount(query, minlength=len(self.threshold))
        enough = np.flatnonzero(counts >= self.k)
        # Of each query's candidates, sorted by ``lower``, the k-th sets its threshold. Numbers are
        # sorted far faster than places of numbers.
        ordered = np.sort(_sort_key(query, lower))
        first = np.cumsum(counts) - counts
        reached = _lower_of(ordered[first[enough] + self.k - 1], enough)
        self.threshold[enough] = np.maximum(self.threshold[enough], reached)
        stay = upper >= self.threshold[query]
        left = np.bincount(query[stay], minlength=len(self.threshold))
        if int(left.sum()) > self.room:
            self._give_up(left)
            stay &= ~self.given_up[query]
        self._parts = [(query[stay], place[stay], lower[stay], upper[stay])]
        self._kept, self._new = int(np.count_nonzero(stay)), 0

    def _give_up(self, left: NDArray[np.int64]) -> None:
        # The longest lists go first, until the rest fits in half the room.
        order = np.argsort(-left, kind="stable")
        total = np.cumsum(left[order][::-1])[::-1]
        given = order[: int(np.count_nonzero(total > self.room // 2))]
        self.given_up[given] = True
        self.threshold[given] = CLOSED


def _sort_key(query: NDArray[np.int64], lower: Floats) -> NDArray[np.int64]:
    """Make one integer that sorts by query, then by larger ``lower``."""
    key: NDArray[np.int64] = (query << 32) - _turned(lower.view(np.int32))
    return key


def _lower_of(key: NDArray[np.int64], query: NDArray[np.int64]) -> Floats:
    """Take ``lower`` out of the integer again."""
    return _turned(((query << 32) - key).astype(np.int32)).view(np.float32)


def _turned(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Bits of floats as integers that are ordered as the floats are, and back."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
