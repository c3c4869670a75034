"""New rows, and the lists of nearest others that they belong in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.index import scoring
from recollect.index.coarse import SMALL_PRODUCT, SMALL_ROWS, Coarse
from recollect.index.scope import default_cores
from recollect.memory.memory import Memory
from recollect.types import Doubles, Floats, Ids

Pairs: TypeAlias = tuple[Ids, Ids, Floats]


class Newcomers:
    """New rows that rows which were there before are compared with.

    Args:
        memory: What holds both.
        ids: int64 ``(new,)``. The new rows.
    """

    def __init__(self, memory: Memory, ids: Ids) -> None:
        self._metric, self._weights = memory.metric, memory.metric_weights
        self._coarse = Coarse(memory.metric, memory.dim, self._weights)
        self._keys = np.ascontiguousarray(memory.keys(ids), np.float32)
        self._sizes = self._coarse.measure(self._keys)
        # So few at a time that each product stays on the core of its thread.
        few = max(1, SMALL_PRODUCT // (memory.dim * SMALL_ROWS))
        with np.errstate(all="ignore"):  # what the bound does not cover is let through later
            self._parts = [
                (start, self._coarse.prepare(self._keys[start : start + few], some))
                for start in range(0, len(ids), few)
                for some in [self._sizes[start : start + few]]
            ]

    def reaching(self, blocks: Iterable[tuple[NDArray[Any], Floats]]) -> Iterator[Pairs]:
        """Pairs of a row and a newcomer whose similarity is at least the row's floor.

        Blocks are drawn in this thread and compared in others.

        Args:
            blocks: Keys of rows, ``(rows, dim)``, and their floors, float32 ``(rows,)``.

        Yields:
            For each block the places of the row and of the newcomer, int64, and their similarity,
            float32, all ``(pairs,)``.
        """
        cores = default_cores()
        waiting: deque[Future[Pairs]] = deque()
        with ThreadPoolExecutor(cores, thread_name_prefix="recollect-newcomers") as pool:
            for keys, floor in blocks:
                waiting.append(pool.submit(self._of_block, keys, floor))
                if len(waiting) > 2 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _of_block(self, keys: NDArray[Any], floor: Floats) -> Pairs:
        """Let a first pass name the pairs that may reach, and compute those as all are computed."""
        keys = np.ascontiguousarray(keys, np.float32)
        sizes = self._coarse.measure(keys)
        row, new = self._possible(keys, sizes, floor)
        similarity = np.empty(len(row), np.float32)
        step = max(1, scoring.CHUNK // keys.shape[1])
        for start in range(0, len(row), step):
            some, fresh = row[start : start + step], new[start : start + step]
            similarity[start : start + step] = scoring.similarity(
                self._metric,
                keys[some],
                self._keys[fresh],
                query_sizes=sizes[some],
                row_sizes=self._sizes[fresh],
                weights=self._weights,
            )
        reach = similarity >= floor[row]
        return row[reach], new[reach], similarity[reach]

    def _possible(self, keys: Floats, sizes: Doubles, floor: Floats) -> tuple[Ids, Ids]:
        """Pairs that the first pass cannot rule out, the newcomers in the place of queries."""
        coarse, new = self._coarse, self._sizes
        may = np.empty((len(keys), len(new)), bool)
        with np.errstate(all="ignore"):
            terms = coarse.terms(sizes)
            for start, prepared in self._parts:
                part = slice(start, start + prepared.shape[1])
                scores = np.empty((len(keys), prepared.shape[1]), np.float32)
                coarse.score(keys, terms, prepared, scores)
                goal = coarse.goal(floor.astype(np.float64)[:, None], new[part])
                np.greater_equal(
                    scores, goal - coarse.bound(sizes[:, None], new[part]), out=may[:, part]
                )
        may[~coarse.regular_rows(sizes)] = True
        may[:, ~coarse.regular_queries(new)] = True
        row, column = np.nonzero(may)
        return row, column


def inserted(near: Ids, similarity: Floats, pairs: Pairs) -> tuple[Ids, Floats]:
    """Put new ids into lists, at their place by similarity and then by id; the last drop out.

    Args:
        near: int64 ``(lists, width)``, nearest first, -1 where empty.
        similarity: float32 ``(lists, width)``, -inf where empty.
        pairs: Which list takes which id, and its similarity, ``(pairs,)``.

    Example:
        >>> near, similarity = np.array([[4, 7, -1]]), np.float32([[0.9, 0.5, -np.inf]])
        >>> pairs = np.array([0, 0, 0]), np.array([8, 9, 5]), np.float32([0.5, 0.1, 0.5])
        >>> near, similarity = inserted(near, similarity, pairs)
        >>> near
        array([[4, 5, 7]])
        >>> similarity
        array([[0.9, 0.5, 0.5]], dtype=float32)
    """
    line, new, close = pairs
    order = np.lexsort((new, -close, line))
    line, new, close = line[order], new[order], close[order]
    width = near.shape[1]
    # How many of the same list are before it: of those that were there, and of the new ones.
    before = _before(near, similarity, line, new, close)
    place = before + np.arange(len(line)) - np.searchsorted(line, line)
    line, new, close, place = (part[place < width] for part in (line, new, close, place))
    taken = np.zeros(near.shape, bool)
    taken[line, place] = True
    source = np.maximum(np.arange(width) - np.cumsum(taken, axis=1), 0)
    near = np.take_along_axis(near, source, axis=1)
    similarity = np.take_along_axis(similarity, source, axis=1)
    near[line, place], similarity[line, place] = new, close
    return near, similarity


def _before(near: Ids, similarity: Floats, line: Ids, new: Ids, close: Floats) -> Ids:
    """Count what stands before each new id in its list, by halving."""
    low, high = np.zeros(len(line), np.int64), np.full(len(line), near.shape[1])
    while (low < high).any():
        middle = (low + high) // 2
        at = np.minimum(middle, near.shape[1] - 1)
        there, id_there = similarity[line, at], near[line, at]
        first = (there > close) | ((there == close) & (id_there < new))
        open_ = low < high
        low = np.where(open_ & first, middle + 1, low)
        high = np.where(open_ & ~first, middle, high)
    return low
