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

from recollect.index import scoring
from recollect.index.coarse import Coarse
from recollect.memory.changes import keys_are_as_they_were
from recollect.memory.followed import Followed
from recollect.memory.kept_table import Table, keep, kept
from recollect.memory.memory import Memory
from recollect.types import Doubles, Floats, Ids, Neighbors

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
        draft = _Draft(self.memory, last)
        come = np.setdiff1d(alive, last.known, assume_unique=True)
        asked = asked_about(alive, self._pairs)
        # Where most pairs are new a search is quicker; where keys changed all are.
        if len(come) > len(last.known) or not keys_are_as_they_were(self.memory, last.version):
            draft.keep(np.zeros(len(last.ids), bool))
        else:
            draft.keep(np.isin(last.ids, asked, assume_unique=True))
            draft.strike(np.setdiff1d(last.known, alive, assume_unique=True))
            draft.insert(come, len(np.intersect1d(last.known, alive, assume_unique=True)))
        draft.refill(asked, min(self.deepest, len(alive) - 1), len(alive), progress)
        return draft.table(version, alive)


class _Draft:
    """A table in the making; what it began with is not touched."""

    def __init__(self, memory: Memory, last: Table) -> None:
        self.memory, self._ids, self._certain = memory, last.ids, last.certain
        self._near, self._similarity = last.near, last.similarity

    def table(self, version: int, known: Ids) -> Table:
        """The table as it is now."""
        return Table(version, self._ids, known, self._near, self._similarity, self._certain)

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Go on with some of the rows, in arrays of its own."""
        self._ids, self._certain = self._ids[which], self._certain[which]
        self._near, self._similarity = self._near[which], self._similarity[which]

    def strike(self, gone: Ids) -> None:
        """Take rows out of all lists; what stands behind them moves up."""
        if not len(gone) or not len(self._ids):
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
        if not len(come) or not len(self._ids):
            return
        keys = self.memory.keys(come)
        newcomers = _Newcomers(self.memory, keys)
        # A list that names all others takes any row; another only what beats its last.
        others = there - 1
        last = np.maximum(self._certain - 1, 0)
        floor = np.take_along_axis(self._similarity, last[:, None], axis=1)[:, 0]
        final = np.take_along_axis(self._near, last[:, None], axis=1)[:, 0]
        floor[(self._certain >= others) & (self._certain < self._near.shape[1])] = -np.inf
        for start in range(0, len(self._ids), BLOCK):
            part = slice(start, start + BLOCK)
            queries = self.memory.keys(self._ids[part])
            row, new, similarity = newcomers.reaching(queries, floor[part])
            # One that ties with the last and has a larger id may stand behind a row unknown here.
            sure = (similarity > floor[part][row]) | (come[new] < final[part][row])
            self._merge(row[sure] + start, come[new[sure]], similarity[sure])

    def _merge(self, row: Ids, new: Ids, similarity: Floats) -> None:
        if not len(row):
            return
        order = np.argsort(row, kind="stable")
        row, new, similarity = row[order], new[order], similarity[order]
        rows, first, count = np.unique(row, return_index=True, return_counts=True)
        place = np.arange(len(row)) - np.repeat(first, count)
        width = self._near.shape[1]
        near = np.full((len(rows), width + int(count.max())), -1)
        close = np.full(near.shape, -np.inf, np.float32)
        near[:, :width], close[:, :width] = self._near[rows], self._similarity[rows]
        line = np.repeat(np.arange(len(rows)), count)
        near[line, width + place], close[line, width + place] = new, similarity
        order = np.lexsort((near, -close), axis=1)[:, :width]
        self._near[rows] = np.take_along_axis(near, order, axis=1)
        self._similarity[rows] = np.take_along_axis(close, order, axis=1)
        self._certain[rows] = np.minimum(self._certain[rows] + count, width)

    def refill(self, asked: Ids, enough: int, rows: int, progress: Progress | None) -> None:
        """Search for the rows that are new and for those whose lists have become too short.

        Args:
            asked: The rows that are asked about.
            enough: How many neighbors each of them needs.
            rows: How many rows there are.
            progress: Called with rows that were searched.
        """
        kept = np.searchsorted(asked, self._ids)
        certain = np.full(len(asked), -1)
        certain[kept] = self._certain
        near = np.full((len(asked), self._near.shape[1]), -1)
        similarity = np.full(near.shape, -np.inf, np.float32)
        near[kept], similarity[kept] = self._near, self._similarity
        lacking = np.flatnonzero(certain < enough)
        width = max(1, min(near.shape[1], rows - 1))
        for start in range(0, len(lacking), BLOCK):
            places = lacking[start : start + BLOCK]
            ids = asked[places]
            found = self.memory.search(self.memory.keys(ids), width, exclude=ids, values=False)
            near[places], similarity[places] = -1, -np.inf
            near[places, :width], similarity[places, :width] = found.ids, found.similarity
            certain[places] = found.found.sum(axis=1)
            if progress is not None:
                progress(min(start + BLOCK, len(lacking)), len(lacking))
        self._ids, self._near, self._similarity, self._certain = asked, near, similarity, certain


class _Newcomers:
    """New rows, and which of them come near enough to rows that were there."""

    def __init__(self, memory: Memory, keys: NDArray[Any]) -> None:
        self._metric, self._weights = memory.metric, memory.metric_weights
        self._coarse = Coarse(memory.metric, memory.dim, self._weights)
        self._keys = np.ascontiguousarray(keys, np.float32)
        self._sizes = self._coarse.measure(self._keys)
        self._terms = self._coarse.terms(self._sizes)

    def reaching(self, keys: NDArray[Any], floor: Floats) -> tuple[Ids, Ids, Floats]:
        """Pairs of a row and a newcomer whose similarity is at least the row's floor.

        The first pass only names pairs that may reach it; each of them is then computed in the
        one way that decides.

        Args:
            keys: ``(rows, dim)``.
            floor: float32 ``(rows,)``.

        Returns:
            Places of the row and of the newcomer, int64, and similarity, float32, all ``(pairs,)``.
        """
        queries = np.ascontiguousarray(keys, np.float32)
        sizes = self._coarse.measure(queries)
        scores = np.empty((len(queries), len(self._keys)), np.float32).T
        if self._metric != "manhattan":
            scores = np.empty((len(self._keys), len(queries)), np.float32)
        with np.errstate(all="ignore"):  # what the bound does not cover is let through below
            prepared = self._coarse.prepare(queries, sizes)
            self._coarse.score(self._keys, self._terms, prepared, scores)
            error = self._coarse.bound(self._sizes[:, None], sizes)
            may = scores + error >= self._coarse.goal(floor.astype(np.float64), sizes)
        may |= ~self._coarse.regular_rows(self._sizes)[:, None]
        may |= ~self._coarse.regular_queries(sizes)
        new, row = np.nonzero(may)
        similarity = np.empty(len(row), np.float32)
        step = max(1, scoring.CHUNK // queries.shape[1])
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            similarity[part] = self._exact(queries, sizes, row[part], new[part])
        reach = similarity >= floor[row]
        return row[reach], new[reach], similarity[reach]

    def _exact(self, queries: Floats, sizes: Doubles, row: Ids, new: Ids) -> Floats:
        return scoring.similarity(
            self._metric,
            queries[row],
            self._keys[new],
            query_sizes=sizes[row],
            row_sizes=self._sizes[new],
            weights=self._weights,
        )


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
