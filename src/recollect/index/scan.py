"""Exact search over one snapshot: fast scores, a proof of what they may drop, a fixed last word.

Queries are worked on in blocks and rows in tiles, so that memory stays bounded whatever is asked.
For each tile ``Coarse.score`` writes a table of scores. Only the best score of each group of rows
is compared with the threshold of its query; groups that reach it are opened, and rows that reach it
become candidates (``Shortlist``). What is left at the end is scored by ``scoring.similarity`` and
sorted by similarity, then id. Rows and queries that the error bound does not cover, and queries
with more candidates than there is room for, are scored pair by pair from the start.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.index import scoring
from recollect.index.coarse import Coarse
from recollect.index.compiled import CompiledPass, Engine
from recollect.index.quantized import Quantizer, Unquantized
from recollect.index.scope import CORES, MOST_CORES, Batch, Limits, Places, Scope
from recollect.index.shortlist import Shortlist
from recollect.index.tensors import TensorEngine
from recollect.types import Doubles, Floats, Ids

Shares: TypeAlias = deque[Callable[[], None]]
Pass: TypeAlias = Callable[["Batch", NDArray[np.intp], Ids, Floats], NDArray[np.intp]]

GROUP = 32  # rows in a group, at most


class Search:
    """Answers blocks of queries over the rows of one scope.

    Args:
        coarse: The metric.
        scope: The rows.
        k: Rows wanted by each query.
        limits: How much to work on at a time.
        engine: The compiled kernel, or torch; None for NumPy alone.
    """

    def __init__(
        self,
        coarse: Coarse,
        scope: Scope,
        k: int,
        limits: Limits,
        engine: Engine | TensorEngine | None = None,
    ) -> None:
        self._coarse, self._scope, self._limits, self._engine = coarse, scope, limits, engine
        self._snapshot = scope.snapshot
        self._k = min(k, scope.count)

    def run(self, batch: Batch, ids: Ids, similarity: Floats) -> None:
        """Write the answers into ``ids`` and ``similarity``, filled with -1 / -inf before.

        Args:
            batch: At most ``limits.batch`` queries.
            ids: int64 ``(queries, k)``.
            similarity: float32 ``(queries, k)``.
        """
        if not self._k:
            return
        ids, similarity, scope = ids[:, : self._k], similarity[:, : self._k], self._scope
        regular = self._coarse.regular_queries(batch.sizes)
        if scope.places <= max(2 * self._k, GROUP) or 4 * self._k > self._limits.room:
            regular[:] = False  # nearly every row would be a candidate
        odd, left = np.flatnonzero(~regular), np.flatnonzero(regular)
        for answer, most in self._passes(len(left)):
            left = self._tried(answer, most, batch, left, ids, similarity)
            if not len(left):
                break
        if len(odd) or len(left):
            self._every_pair(batch, np.sort(np.concatenate([odd, left])), ids, similarity)
        if len(scope.irregular):
            self._exhaustive(
                batch, np.arange(len(batch)), scope.only(scope.irregular), ids, similarity
            )

    def _passes(self, queries: int) -> Iterator[tuple[Pass, int]]:
        """Go through the ways to answer, the fastest first, with the queries each takes."""
        few = max(1, self._limits.room // (8 * self._k))
        if isinstance(self._engine, TensorEngine) and self._scope.chosen is None:
            if self._engine.suits:
                yield self._by_tensors, few
            yield self._certified, few
            return
        if not isinstance(self._engine, Engine) or self._scope.chosen is not None:
            yield self._certified, few
            return
        if self._engine.quantizes and self._engine.codes_pay(self._snapshot, queries):
            coded = self._compiled(self._engine.quantizer(self._snapshot))
            yield coded.answer, coded.queries
        plain = self._compiled(self._engine.plain)
        yield plain.answer, plain.queries

    def _compiled(self, maker: Quantizer | Unquantized) -> CompiledPass:
        assert isinstance(self._engine, Engine)
        return CompiledPass(self._engine, self._scope, self._k, self._limits, maker)

    def _tried(
        self,
        answer: Pass,
        most: int,
        batch: Batch,
        left: NDArray[np.intp],
        ids: Ids,
        similarity: Floats,
    ) -> NDArray[np.intp]:
        """Answer queries, fewer at a time where they need much room; return those not answered."""
        waiting, stuck = _split(left, most), [left[:0]]
        while waiting:
            which = waiting.pop()
            given_up = answer(batch.take(which), which, ids, similarity)
            if len(which) == 1:
                stuck.append(given_up)
            else:
                waiting += _split(given_up, max(1, len(which) // 16))
        return np.sort(np.concatenate(stuck))

    def _every_pair(
        self, batch: Batch, which: NDArray[np.intp], ids: Ids, similarity: Floats
    ) -> None:
        """Answer queries that no first pass could."""
        scope = self._scope
        if not isinstance(self._engine, Engine) or scope.chosen is not None or not scope.places:
            self._exhaustive(batch, which, scope, ids, similarity)
            return
        every = self._compiled(self._engine.plain)
        for part in _split(which, every.queries):
            every.exhaust(batch.take(part), part, ids, similarity)

    def _by_tensors(
        self, batch: Batch, which: NDArray[np.intp], ids: Ids, similarity: Floats
    ) -> NDArray[np.intp]:
        """Answer regular queries with torch; return those that have too many candidates."""
        assert isinstance(self._engine, TensorEngine)
        shortlist = Shortlist(len(batch), self._k, self._limits.room)
        some = self._engine.candidates(self._scope, batch, shortlist)
        found = self._rescored(batch, *self._narrowed(batch, *some))
        ids[which[found[0]], found[1]] = found[2]
        similarity[which[found[0]], found[1]] = found[3]
        return which[shortlist.given_up]

    def _certified(
        self, batch: Batch, which: NDArray[np.intp], ids: Ids, similarity: Floats
    ) -> NDArray[np.intp]:
        """Answer regular queries; return those that have too many candidates."""
        shortlist = Shortlist(len(batch), self._k, self._limits.room)
        prepared = self._coarse.prepare(batch.queries, batch.sizes)
        places, query = self._barred_places(batch.barred)
        rows = self._tile_rows(len(batch))
        table = self._table(rows, len(batch))
        for start in range(0, self._scope.places, rows):
            stop = min(start + rows, self._scope.places)
            scores = table[: _padded(stop - start)]
            sizes = self._fill(scores, start, stop, prepared)
            if len(places):
                first, last = np.searchsorted(places, (start, stop))
                scores[places[first:last] - start, query[first:last]] = -np.inf
            # A bound may be infinite, if all weights are tiny; rows that are out stay out.
            with np.errstate(over="ignore", invalid="ignore"):
                self._select(shortlist, scores, sizes, batch.sizes, start)
        query, places = shortlist.finish()
        found = self._rescored(batch, query, self._scope.slots(places))
        ids[which[found[0]], found[1]] = found[2]
        similarity[which[found[0]], found[1]] = found[3]
        return which[shortlist.given_up]

    def _tile_rows(self, queries: int) -> int:
        rows = max(self._limits.table // queries, GROUP)
        if self._scope.chosen is not None:
            rows = min(rows, max(self._limits.keys // self._coarse.dim, GROUP))
        return min(_padded(rows), _padded(self._scope.places))

    def _table(self, rows: int, queries: int) -> Floats:
        if self._coarse.metric == "manhattan":  # written query by query
            return np.empty((queries, rows), np.float32).T
        return np.empty((rows, queries), np.float32)

    def _fill(self, scores: Floats, start: int, stop: int, prepared: Floats) -> Doubles | None:
        """Score the places from ``start`` to ``stop``.

        Returns:
            float64 ``(len(scores),)``, the sizes of their rows, unless the bound needs none.
        """
        coarse, scope = self._coarse, self._scope
        sizes = None if coarse.uniform else np.zeros(len(scores))
        shares: Shares = deque()
        if scope.chosen is not None:
            keys, gathered = self._snapshot.gather(scope.chosen[start:stop])
            shares += self._shares(keys, coarse.terms(gathered), prepared, scores[: stop - start])
            if sizes is not None:
                sizes[: stop - start] = gathered
        else:
            for block, rows, at in self._snapshot.pieces(start, stop):
                terms = None if block.terms is None else block.terms[rows]
                shares += self._shares(block.keys[rows], terms, prepared, scores[at])
                if sizes is not None:
                    sizes[at] = block.sizes[rows]
        _work_off(shares, self._limits.cores if coarse.by_rows(prepared.shape[1]) else 1)
        scores[stop - start :] = -np.inf
        if scope.banned is not None:
            out = np.flatnonzero(scope.banned[start:stop])
            scores[out] = -np.inf
            if sizes is not None:
                sizes[out] = 0.0
        return sizes

    def _shares(
        self, keys: NDArray[Any], terms: Floats | None, prepared: Floats, out: Floats
    ) -> Iterator[Callable[[], None]]:
        """Cut the scoring of some rows into pieces of work."""
        size = self._limits.share
        if keys.dtype != np.float32:
            size //= 8  # all threads hold converted keys at the same time
        elif not self._coarse.by_rows(prepared.shape[1]):
            size = keys.size
        step = max(1, size // self._coarse.dim)
        for start in range(0, len(keys), step):
            rows = slice(start, start + step)
            some = None if terms is None else terms[rows]
            yield partial(self._coarse.score, keys[rows], some, prepared, out[rows])

    def _select(
        self,
        shortlist: Shortlist,
        scores: Floats,
        row_sizes: Doubles | None,
        query_sizes: Doubles,
        start: int,
    ) -> None:
        """Offer every row of a tile that can be among the k nearest."""
        # Row g of each of these parts is in group g, so that the maximum runs along memory.
        parts = scores.reshape(_group(len(scores), self._k), -1, len(query_sizes))
        groups = parts.shape[1]
        best = parts.max(axis=0)
        largest = None
        if row_sizes is not None:
            largest = row_sizes.reshape(-1, groups).max(axis=0)[:, None]
        error = self._error(largest, query_sizes)
        if not start and groups >= self._k:
            # The best rows of k groups are k rows.
            lower = np.partition(best - error, groups - self._k, axis=0)[groups - self._k]
            shortlist.raise_threshold(lower)
        best += error
        hits = np.flatnonzero(best >= shortlist.threshold)
        error = np.broadcast_to(error, best.shape)
        for at in range(0, len(hits), self._limits.opened):
            group, query = np.divmod(hits[at : at + self._limits.opened], len(query_sizes))
            found = parts[:, group, query]
            reach = found + error[group, query] >= shortlist.threshold[query]
            part, hit = np.divmod(np.flatnonzero(reach), len(group))
            place, query = part * groups + group[hit], query[hit]
            found = found[part, hit]
            sizes = None if row_sizes is None else row_sizes[place]
            shortlist.offer(query, start + place, found, self._error(sizes, query_sizes[query]))

    def _error(self, row_sizes: Doubles | None, query_sizes: Doubles) -> Floats:
        return np.asarray(self._coarse.bound(row_sizes, query_sizes)).astype(np.float32)

    def _barred_places(self, barred: NDArray[np.int64] | None) -> tuple[Places, NDArray[np.int64]]:
        """Return the places barred, ascending, and for which query."""
        if barred is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        query, slots = barred
        places = slots
        if self._scope.chosen is not None:
            places = np.searchsorted(self._scope.chosen, slots)
            here = places < self._scope.places
            here[here] = self._scope.chosen[places[here]] == slots[here]
            query, places = query[here], places[here]
        order = np.argsort(places)
        return places[order], query[order]

    def _narrowed(self, batch: Batch, query: Ids, slots: Places) -> tuple[Ids, Places]:
        """Leave out candidates by float32 products, whose bound is far tighter than of codes."""
        scores = np.empty(len(slots), np.float32)
        error = np.empty(len(slots), np.float32)
        scaled = self._coarse.scaled(batch.queries, batch.sizes)

        def score(part: slice) -> None:
            """Write one part of both only: parts run side by side."""
            keys, sizes = self._snapshot.gather(slots[part])
            asked = query[part]
            scores[part] = self._coarse.pairs(keys, self._coarse.terms(sizes), scaled[asked])
            error[part] = self._error(sizes, batch.sizes[asked])

        self._in_parts(score, len(slots))
        left = Shortlist(len(batch), self._k, len(slots))
        left.offer(query, slots, scores, error)
        return left.finish()

    def _in_parts(self, work: Callable[[slice], None], pairs: int) -> None:
        """Go through pairs of rows and queries, some at a time, on all cores."""
        step = max(1, scoring.CHUNK // self._coarse.dim)
        starts = range(0, pairs, step)
        shares: Shares = deque(partial(work, slice(at, at + step)) for at in starts)
        _work_off(shares, self._limits.cores)

    def _rescored(
        self, batch: Batch, query: Ids, slots: Places
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Ids, Floats]:
        """Give candidates their similarity; return query, rank, id and similarity of the best."""
        similarity = np.empty(len(slots), np.float32)

        def score(part: slice) -> None:
            """Write one part of the similarities only: parts run side by side."""
            keys, sizes = self._snapshot.gather(slots[part])
            similarity[part] = self._pairs(
                batch.queries[query[part]], batch.sizes[query[part]], keys, sizes
            )

        self._in_parts(score, len(slots))
        ids = self._snapshot.ids(slots)
        order = np.lexsort((ids, -similarity, query))
        query = query[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        best = np.flatnonzero(rank < self._k)
        return query[best], rank[best], ids[order[best]], similarity[order[best]]

    def _pairs(self, queries: Floats, query_sizes: Doubles, keys: Floats, sizes: Doubles) -> Floats:
        return scoring.similarity(
            self._coarse.metric,
            queries,
            keys,
            query_sizes=query_sizes,
            row_sizes=sizes,
            weights=self._coarse.weights,
        )

    def _exhaustive(
        self,
        batch: Batch,
        which: NDArray[np.intp],
        scope: Scope,
        ids: Ids,
        similarity: Floats,
    ) -> None:
        """Score every regular row of the scope pair by pair; keep the best so far."""
        window = max(self._k // 4, self._limits.window)
        for part in _split(which, max(1, self._limits.room // window)):
            some = batch.take(part)
            for slots in scope.windows(window):
                scores = self._scored(some, slots)
                every = np.concatenate([similarity[part], scores], axis=1)
                known = np.broadcast_to(self._snapshot.ids(slots), scores.shape)
                known = np.concatenate([ids[part], known], axis=1)
                best = np.lexsort((known, -every), axis=-1)[:, : self._k]
                similarity[part] = np.take_along_axis(every, best, axis=1)
                ids[part] = np.take_along_axis(known, best, axis=1)
            ids[part] = np.where(similarity[part] == -np.inf, -1, ids[part])

    def _scored(self, batch: Batch, slots: Places) -> Floats:
        scores = np.empty((len(batch), len(slots)), np.float32)
        rows = max(1, scoring.CHUNK // self._coarse.dim)
        queries = max(1, rows // max(1, len(slots)))
        for start in range(0, len(slots), rows):
            keys, sizes = self._snapshot.gather(slots[start : start + rows])
            for first in range(0, len(batch), queries):
                part = slice(first, first + queries)
                scores[part, start : start + rows] = self._pairs(
                    batch.queries[part, None], batch.sizes[part, None], keys, sizes
                )
        if batch.barred is not None:
            query, barred = batch.barred
            at = np.searchsorted(slots, barred)
            here = at < len(slots)
            here[here] = slots[at[here]] == barred[here]
            scores[query[here], at[here]] = -np.inf
        return scores


def _split(which: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [which[start : start + size] for start in range(0, len(which), size)]


def _padded(rows: int) -> int:
    """Round up to whole groups."""
    return -(-rows // GROUP) * GROUP


def _group(rows: int, k: int) -> int:
    """Choose how many rows make a group, so that there are several groups for each wanted row."""
    size = GROUP
    while size > 1 and rows < 4 * k * size:
        size //= 2
    return size


def _work_off(shares: Shares, cores: int) -> None:
    """Run everything in ``shares``, each core taking the next one when it is done."""

    def work() -> None:
        """Take shares until none is left; helpers and the caller run the same."""
        while shares:
            try:
                share = shares.popleft()
            except IndexError:  # another thread took the last one
                return
            share()

    helpers = min(len(shares), cores) - 1
    others = [_pool().submit(work) for _ in range(helpers)]
    work()
    for other in others:
        if not other.cancel():  # what has not begun by now is not needed
            other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads for all searches of this process; starting some for each would take longer."""
    return ThreadPoolExecutor(
        max(1, min(CORES, MOST_CORES) - 1), thread_name_prefix="recollect-search"
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
