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
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.memory.changes import keys_are_as_they_were
from recollect.memory.followed import Followed
from recollect.memory.kept_table import Table, keep, kept
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
        self._table = Followed(memory, Table.empty(deepest + SLACK))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def version(self) -> int:
        """The version of the memory that the table is of; -1 before the first update."""
        return self._table.last.version

    @property
    def ids(self) -> Ids:
        """The rows that are asked about."""
        return self._table.last.ids

    @property
    def known(self) -> Ids:
        """The rows among which neighbors were sought."""
        return self._table.last.known

    @property
    def share(self) -> float:
        """Share of the memory's rows that are asked about, in (0, 1]; 1 when it is empty."""
        table = self._table.last
        return len(table.ids) / len(table.known) if len(table.known) else 1.0

    def update(self, progress: Progress | None = None) -> LeaveOneOut:
        """Follow the memory; returns itself.

        An update that fails leaves the table as it was.

        Args:
            progress: Called as ``progress(done, total)`` with rows that had to be searched.
        """
        self._table.now(lambda last: self._next(last, progress))
        return self

    def keep(self) -> bool:
        """Write the table into the cache of a durable memory that is open for writing.

        Returns:
            Whether it was written. The next table on this memory begins with it.
        """
        table = self._table.last
        return table.version >= 0 and keep(self.memory, table, self.deepest)

    def neighbors(self, k: int) -> Neighbors:
        """The k nearest others of every row in ``ids``, with their labels and weights of now.

        Args:
            k: At most ``deepest``.
        """
        assert 1 <= k <= self.deepest
        table = self._table.last
        return self.memory.look_up(table.near[:, :k].copy(), table.similarity[:, :k].copy())

    def blocks(self, k: int) -> Iterator[tuple[Ids, Neighbors]]:
        """The same, some thousand rows at a time, each block with the rows asked about."""
        table = self._table.last
        for start in range(0, len(table.ids), BLOCK):
            part = slice(start, start + BLOCK)
            near, similarity = table.near[part, :k].copy(), table.similarity[part, :k].copy()
            yield table.ids[part], self.memory.look_up(near, similarity)

    def _next(self, last: Table, progress: Progress | None) -> Table:
        """The table of the memory's version, from the last or from one that was kept."""
        version = self.memory.version
        if last.version < 0:
            found = kept(self.memory, self.deepest, last.near.shape[1])
            last = last if found is None else found
        if last.version == version:
            return last
        alive = self.memory.ids
        come = np.setdiff1d(alive, last.known, assume_unique=True)
        # Where most pairs are new a search is quicker; where keys changed all are.
        new = len(come) > len(last.known) or not keys_are_as_they_were(self.memory, last.version)
        start = Table.empty(last.near.shape[1]) if new else last
        draft = _Draft(self.memory, start, asked_about(alive, self._pairs))
        if not new:
            draft.strike(np.setdiff1d(last.known, alive, assume_unique=True))
            draft.insert(come, len(np.intersect1d(last.known, alive, assume_unique=True)))
        draft.fill(min(self.deepest, len(alive) - 1), len(alive), progress)
        return draft.table(version, alive)


class _Draft:
    """A table in the making; what it began with is not touched.

    Args:
        memory: The rows.
        last: The table it begins with.
        asked: int64, sorted. The rows it will be about; those not in ``last`` begin with nothing.
    """

    def __init__(self, memory: Memory, last: Table, asked: Ids) -> None:
        self.memory, self._ids = memory, asked
        which = np.flatnonzero(np.isin(last.ids, asked, assume_unique=True))
        place = np.searchsorted(asked, last.ids[which])
        laid_out = partial(_laid_out, which=which, place=place, rows=len(asked))
        self._near = laid_out(last.near, empty=-1)
        self._similarity = laid_out(last.similarity, empty=-np.inf)
        self._certain = laid_out(last.certain, empty=-1)

    def table(self, version: int, known: Ids) -> Table:
        """The table as it is now."""
        return Table(version, self._ids, known, self._near, self._similarity, self._certain)

    def strike(self, gone: Ids) -> None:
        """Take rows out of all lists; what stands behind them moves up."""
        if not len(gone):
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

    def insert(self, come: Ids, there: int) -> None:
        """Put new rows into every list that they belong in.

        Args:
            come: The new rows.
            there: How many rows stayed.
        """
        # A list all of whose rows are gone, while others stay, knows nothing to compare with.
        begun = np.flatnonzero(self._certain >= (0 if there <= 1 else 1))
        if not len(come) or not len(begun):
            return
        # A list that names all others takes any row; another only what beats its last.
        certain = self._certain[begun]
        last = np.maximum(certain - 1, 0)
        floor, final = self._similarity[begun, last], self._near[begun, last]
        floor[(certain >= there - 1) & (certain < self._near.shape[1])] = -np.inf
        parts = [slice(start, start + BLOCK) for start in range(0, len(begun), BLOCK)]
        blocks = ((self.memory.keys(self._ids[begun[part]]), floor[part]) for part in parts)
        reaching = Newcomers(self.memory, come).reaching(blocks)
        for part, (row, new, similarity) in zip(parts, reaching, strict=True):
            ids = come[new]
            # One that ties with the last and has a larger id may stand behind a row unknown here.
            sure = (similarity > floor[part][row]) | (ids < final[part][row])
            self._merge(begun[part][row[sure]], ids[sure], similarity[sure])

    def _merge(self, row: Ids, new: Ids, similarity: Floats) -> None:
        first = np.diff(row, prepend=-1) > 0  # rows come in ascending order
        rows, line = row[first], np.cumsum(first) - 1
        count = np.bincount(line, minlength=len(rows))
        self._near[rows], self._similarity[rows] = inserted(
            self._near[rows], self._similarity[rows], (line, new, similarity)
        )
        self._certain[rows] = np.minimum(self._certain[rows] + count, self._near.shape[1])

    def fill(self, enough: int, rows: int, progress: Progress | None) -> None:
        """Search for the rows that are new and for those whose lists have become too short.

        Args:
            enough: How many neighbors each row needs.
            rows: How many rows there are.
            progress: Called with rows that were searched.
        """
        lacking = np.flatnonzero(self._certain < enough)
        width = max(1, min(self._near.shape[1], rows - 1))
        for start in range(0, len(lacking), BLOCK):
            places = lacking[start : start + BLOCK]
            ids = self._ids[places]
            found = self.memory.search(self.memory.keys(ids), width, exclude=ids, values=False)
            self._near[places], self._similarity[places] = -1, -np.inf
            self._near[places, :width], self._similarity[places, :width] = (
                found.ids,
                found.similarity,
            )
            self._certain[places] = found.found.sum(axis=1)
            if progress is not None:
                progress(min(start + BLOCK, len(lacking)), len(lacking))


def _laid_out(
    column: NDArray[Any], *, which: Ids, place: Ids, rows: int, empty: float
) -> NDArray[Any]:
    """Copy some rows of a column to their places in one of more rows, the others empty."""
    fresh = np.empty((rows, *column.shape[1:]), column.dtype)
    count = len(which)
    if count == len(column) and (not count or place[-1] == count - 1):  # all, and at the front
        fresh[:count], fresh[count:] = column, empty
        return fresh
    fresh[:] = empty
    fresh[place] = column[which]
    return fresh


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
