"""The nearest other rows of every row: one table from which reliability, tuning and novelty read.

The table is a cache. It holds ids and similarities, no labels and no weights, so a correction of a
label needs no change in it. An id keeps its key as long as the encoder stays and is never used
again, so what happened to a memory since is told by its ids alone: rows that came are compared with
those that were there, rows that went are struck out. After any such history the table equals one
that is computed afresh, bit for bit, because every similarity is computed in one fixed way.

A row has itself left out by its id; duplicates of it stay in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import UnknownIds
from recollect.memory.changes import keys_are_as_they_were
from recollect.memory.kept_table import keep, kept
from recollect.memory.memory import Memory
from recollect.memory.newcomers import Newcomers, inserted
from recollect.types import Floats, Ids, Neighbors

Progress = Callable[[int, int], object]

DEEPEST = 100
"""Neighbors of a row that are always known; the paper's hard pruning counts with as many."""

SLACK = 28
"""Neighbors kept beyond, so that a removal seldom makes a row search again."""

PAIRS = 1 << 32
"""Pairs of rows compared at most when a table is made: all pairs of 65,536 rows. A larger memory
asks about a sample of its rows, the same for the same rows whatever happened before."""

LEAST_ASKED = 4096
"""Rows asked about however large the memory is."""

BLOCK = 2048
"""Rows asked about at once."""

READ_ATTEMPTS = 5


class LeaveOneOut:
    """The nearest other rows of each row that is asked about, kept up to date.

    Args:
        memory: The rows.
        deepest: Neighbors of a row that are needed; where the memory holds fewer, all others.
        pairs: Most pairs to compare when the table is made.

    Attributes:
        ids: int64 ``(asked,)``, sorted: the rows that are asked about; all of a memory of up to
            65,536 rows.
        known: int64 ``(rows,)``, sorted: the rows among which neighbors were sought.

    Example:
        >>> memory = Memory.create(":memory:", dim=2)
        >>> _ = memory.add([[1, 0], [1, 0.1], [0, 1]], ["a", "a", "b"])
        >>> table = LeaveOneOut(memory)
        >>> table.update().neighbors(1).ids.ravel().tolist()
        [1, 0, 1]
        >>> _ = memory.remove([1])
        >>> table.update().neighbors(1).ids.ravel().tolist()
        [2, 0]
    """

    def __init__(self, memory: Memory, *, deepest: int = DEEPEST, pairs: int = PAIRS) -> None:
        self.memory, self.deepest, self._pairs = memory, deepest, pairs
        self.version = -1
        self.ids: Ids = np.empty(0, np.int64)
        self.known: Ids = np.empty(0, np.int64)
        width = deepest + SLACK
        self._near: Ids = np.empty((0, width), np.int64)
        self._similarity: Floats = np.empty((0, width), np.float32)
        # How many of a row's places are certain to be its nearest; the rest are empty.
        self._certain: Ids = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def share(self) -> float:
        """Share of the memory's rows that are asked about, in (0, 1]; 1 when it is empty."""
        return len(self.ids) / len(self.known) if len(self.known) else 1.0

    def update(self, progress: Progress | None = None) -> LeaveOneOut:
        """Follow the memory; returns the table.

        Args:
            progress: Called as ``progress(done, total)`` with rows that had to be searched.
        """
        for _ in range(READ_ATTEMPTS - 1):
            try:
                return self._follow(progress)
            except UnknownIds:  # rows went while their keys were read
                continue
        return self._follow(progress)

    def keep(self) -> bool:
        """Write the table into the cache of a durable memory that is open for writing.

        Returns:
            Whether it was written. The next table on this memory begins with it.
        """
        arrays: dict[str, NDArray[Any]] = {
            "ids": self.ids,
            "known": self.known,
            "near": self._near,
            "similarity": self._similarity,
            "certain": self._certain,
        }
        return self.version >= 0 and keep(self.memory, self.version, self.deepest, arrays)

    def _take_up(self) -> None:
        """Begin with the table that was kept, if there is one that fits."""
        found = kept(self.memory, self.deepest)
        if found is None or found[1]["near"].shape[1] != self._near.shape[1]:
            return
        self.version, arrays = found
        self.ids, self.known, self._certain = arrays["ids"], arrays["known"], arrays["certain"]
        self._near, self._similarity = arrays["near"], arrays["similarity"]

    def neighbors(self, k: int) -> Neighbors:
        """The k nearest others of every row in ``ids``, with their labels and weights of now.

        Args:
            k: At most ``deepest``.
        """
        assert 1 <= k <= self.deepest
        return self.memory.look_up(self._near[:, :k].copy(), self._similarity[:, :k].copy())

    def blocks(self, k: int) -> Iterator[tuple[Ids, Neighbors]]:
        """The same, some thousand rows at a time, each block with the rows asked about."""
        for start in range(0, len(self.ids), BLOCK):
            part = slice(start, start + BLOCK)
            near = self._near[part, :k].copy()
            yield self.ids[part], self.memory.look_up(near, self._similarity[part, :k].copy())

    # -- following the memory ------------------------------------------------------------------

    def _follow(self, progress: Progress | None) -> LeaveOneOut:
        version = self.memory.version
        if self.version < 0:
            self._take_up()
        if version == self.version:
            return self
        alive = self.memory.ids
        gone = np.setdiff1d(self.known, alive, assume_unique=True)
        come = np.setdiff1d(alive, self.known, assume_unique=True)
        asked = asked_about(alive, self._pairs)
        # Where most pairs are new a search is quicker; where keys changed all are.
        if len(come) > len(self.known) or not keys_are_as_they_were(self.memory, self.version):
            self._keep(np.zeros(len(self.ids), bool))
        else:
            self._keep(np.isin(self.ids, asked, assume_unique=True))
            self._strike(gone)
            self._insert(come)
        self.known = alive
        self._refill(asked, progress)
        self.version = version
        return self

    def _keep(self, which: NDArray[np.bool_]) -> None:
        self.ids, self._certain = self.ids[which], self._certain[which]
        self._near, self._similarity = self._near[which], self._similarity[which]

    def _strike(self, gone: Ids) -> None:
        """Take rows out of all lists; what stands behind them moves up."""
        if not len(gone) or not len(self.ids):
            return
        out = np.isin(self._near, gone)
        rows = np.flatnonzero(out.any(axis=1))
        order = np.argsort(out[rows], axis=1, kind="stable")
        struck = out[rows].sum(axis=1)
        empty = np.arange(self._near.shape[1]) >= (self._near.shape[1] - struck)[:, None]
        near = np.take_along_axis(self._near[rows], order, axis=1)
        similarity = np.take_along_axis(self._similarity[rows], order, axis=1)
        self._near[rows] = np.where(empty, -1, near)
        self._similarity[rows] = np.where(empty, -np.inf, similarity)
        self._certain[rows] -= struck

    def _insert(self, come: Ids) -> None:
        """Put new rows into every list that they belong in."""
        if not len(come) or not len(self.ids):
            return
        # A list that names all others takes any row; another only what beats its last.
        others = len(self.known) - 1 - np.isin(self.known, self.memory.ids, invert=True).sum()
        last = np.maximum(self._certain - 1, 0)
        floor = np.take_along_axis(self._similarity, last[:, None], axis=1)[:, 0]
        final = np.take_along_axis(self._near, last[:, None], axis=1)[:, 0]
        floor[(self._certain >= others) & (self._certain < self._near.shape[1])] = -np.inf
        starts = range(0, len(self.ids), BLOCK)
        blocks = (
            (self.memory.keys(self.ids[start : start + BLOCK]), floor[start : start + BLOCK])
            for start in starts
        )
        reaching = Newcomers(self.memory, come).reaching(blocks)
        for start, (row, new, similarity) in zip(starts, reaching, strict=True):
            row, ids = row + start, come[new]
            # One that ties with the last and has a larger id may stand behind a row unknown here.
            sure = (similarity > floor[row]) | (ids < final[row])
            self._merge(row[sure], ids[sure], similarity[sure])

    def _merge(self, row: Ids, new: Ids, similarity: Floats) -> None:
        rows, line, count = np.unique(row, return_inverse=True, return_counts=True)
        self._near[rows], self._similarity[rows] = inserted(
            self._near[rows], self._similarity[rows], (line, new, similarity)
        )
        self._certain[rows] = np.minimum(self._certain[rows] + count, self._near.shape[1])

    def _refill(self, asked: Ids, progress: Progress | None) -> None:
        """Search for the rows that are new and for those whose lists have become too short."""
        enough = min(self.deepest, len(self.known) - 1)
        kept = np.searchsorted(asked, self.ids)
        certain = np.full(len(asked), -1)
        certain[kept] = self._certain
        near = np.full((len(asked), self._near.shape[1]), -1)
        similarity = np.full(near.shape, -np.inf, np.float32)
        near[kept], similarity[kept] = self._near, self._similarity
        lacking = np.flatnonzero(certain < enough)
        width = max(1, min(near.shape[1], len(self.known) - 1))
        for start in range(0, len(lacking), BLOCK):
            rows = lacking[start : start + BLOCK]
            ids = asked[rows]
            found = self.memory.search(self.memory.keys(ids), width, exclude=ids)
            near[rows], similarity[rows] = -1, -np.inf
            near[rows, :width], similarity[rows, :width] = found.ids, found.similarity
            certain[rows] = found.found.sum(axis=1)
            if progress is not None:
                progress(min(start + BLOCK, len(lacking)), len(lacking))
        self.ids, self._near, self._similarity, self._certain = asked, near, similarity, certain


def asked_about(ids: Ids, pairs: int = PAIRS) -> Ids:
    """Choose the rows to ask about: all, or a sample that depends on nothing but the rows.

    Of a memory too large for all pairs, the rows whose scrambled ids are smallest: adding or
    removing a row changes the sample by a row or two, whatever the order of events.

    Args:
        ids: int64 ``(rows,)``, sorted.
        pairs: Most pairs of rows to compare.

    Returns:
        int64, sorted.

    Example:
        >>> asked_about(np.arange(5)).tolist()
        [0, 1, 2, 3, 4]
    """
    count = max(LEAST_ASKED, pairs // max(1, len(ids)))
    if count >= len(ids):
        return ids
    return np.sort(ids[np.argpartition(_scrambled(ids), count)[:count]])


def _scrambled(ids: Ids) -> NDArray[np.uint64]:
    """Mix the bits of each id (splitmix64): distinct ids stay distinct, in no order."""
    mixed = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
