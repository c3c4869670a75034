"""Nearest rows of a table by comparing with all of them: exact, ties to the lowest row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recollect.errors import DimensionMismatch, InvalidParameter
from recollect.heads.lookup.costs import Costs
from recollect.heads.lookup.table import Table
from recollect.types import Codes

# Distances held at once: 64 MiB of float32.
_BLOCK = 1 << 24
# Up to this many queries, comparing bit by bit beats a matrix product.
_FEW = 8


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest rows of some queries, nearest first, ties by row.

    Attributes:
        rows: int64 ``(queries, k)``; -1 where there are fewer.
        distances: int64 ``(queries, k)``, in whole units of the costs; -1 where there are fewer.
        comparisons: int64 ``(queries,)``: keys and centers that each query was compared with.
    """

    rows: Codes
    distances: Codes
    comparisons: Codes


class Search(Protocol):
    """Finds rows of a table; knows no images and no network."""

    def nearest(self, queries: NDArray[Any], step: int, k: int = 1) -> Found:
        """Return the k rows nearest to each key ``(queries, key width)`` at this step."""


class FlatSearch:
    """Compares each query with every row of its step.

    Few queries are compared bit by bit (XOR and popcount), many by one matrix product; both are
    exact in whole numbers and give the same rows.

    Args:
        table: Its rows.
        costs: What differences cost.
    """

    def __init__(self, table: Table, costs: Costs) -> None:
        self.costs, self.width = costs, table.keys.shape[1]
        check_costs(costs, self.width)
        parts = range(len(table.parts) - 1)
        self._parts = [_Part(table.keys[table.part(part)], costs) for part in parts]
        self._starts = table.parts

    def nearest(self, queries: NDArray[Any], step: int, k: int = 1) -> Found:
        """Return the k nearest rows of each query; see :class:`Search`."""
        check_queries(queries, self.width)
        place = step if len(self._parts) > 1 else 0
        part, start = self._parts[place], self._starts[place]
        rows, distances = part.nearest(queries, k)
        compared = np.full(len(queries), part.rows, np.int64)
        return Found(np.where(rows >= 0, rows + start, -1), distances, compared)


class _Part:
    """Rows of one step, their codes written in unary: code 2 of 3 is 1, 1, 0.

    The distance between two codes is then the number of places that differ.
    """

    def __init__(self, keys: NDArray[Any], costs: Costs) -> None:
        self.rows = len(keys)
        self._costs = costs
        self._column = np.repeat(np.arange(len(costs.most)), costs.most)
        self._level = np.concatenate([np.arange(1, most + 1) for most in costs.most])
        bits = self.unary(keys)
        varied = (bits != bits[:1]).any(axis=0) & (costs.columns[self._column] > 0)
        self._varied, self._same = np.flatnonzero(varied), np.flatnonzero(~varied)
        self._common = bits[0, self._same]
        self._cost = costs.columns[self._column]
        self._bits = bits[:, self._varied]
        self._matrix: NDArray[np.float32] | None = None
        self._words: list[tuple[int, NDArray[np.uint64], NDArray[np.int64]]] | None = None

    def unary(self, codes: NDArray[Any]) -> NDArray[np.bool_]:
        return codes[:, self._column] >= self._level

    def nearest(self, queries: NDArray[Any], k: int) -> tuple[Codes, Codes]:
        bits = self.unary(queries)
        size = max(1, _BLOCK // max(1, self.rows))
        blocks = [self._some(bits[at : at + size], k) for at in range(0, len(bits), size)]
        return (
            np.concatenate([rows for rows, _ in blocks]),
            np.concatenate([apart for _, apart in blocks]),
        )

    def _some(self, bits: NDArray[np.bool_], k: int) -> tuple[Codes, Codes]:
        # What all rows have in common counts for all alike.
        apart = (bits[:, self._same] != self._common) @ self._cost[self._same]
        queries = bits[:, self._varied]
        few = len(queries) <= _FEW
        distances = self._by_bits(queries) if few else self._by_product(queries)
        rows, near = _smallest(distances, k)
        return rows, np.where(rows >= 0, near.astype(np.int64) + apart[:, None], -1)

    def _by_product(self, queries: NDArray[np.bool_]) -> NDArray[np.float32]:
        if self._matrix is None:
            self._matrix = np.ascontiguousarray(self._bits.T.astype(np.float32))
        cost = self._cost[self._varied].astype(np.float32)
        # |q - r| = q + r - 2 q r for bits; every partial sum is a whole number below 2**24.
        distances = (queries * (-2.0 * cost)) @ self._matrix
        distances += queries @ cost[:, None]
        distances += cost @ self._matrix
        return distances

    def _by_bits(self, queries: NDArray[np.bool_]) -> NDArray[np.int64]:
        if self._words is None:
            cost = self._cost[self._varied]
            self._words = [
                (
                    int(price),
                    pack_words(self._bits[:, cost == price]),
                    np.flatnonzero(cost == price),
                )
                for price in np.unique(cost)
            ]
        distances = np.zeros((len(queries), self.rows), np.int64)
        for price, words, columns in self._words:
            asked = pack_words(queries[:, columns])
            for query in range(len(queries)):
                apart = np.bitwise_count(words[0] ^ asked[0, query]).astype(np.int64)
                for word in range(1, len(words)):
                    apart += np.bitwise_count(words[word] ^ asked[word, query])
                distances[query] += price * apart
        return distances


def pack_words(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack bits into words, word by word: ``(words, rows)``, so that one word lies in a row."""
    rows, width = bits.shape
    padded = np.zeros((rows, -(-width // 64) * 64), np.bool_)
    padded[:, :width] = bits
    words = np.packbits(padded, axis=1).view(np.uint64)
    return np.ascontiguousarray(words.T)


def _smallest(distances: NDArray[Any], k: int) -> tuple[Codes, NDArray[Any]]:
    """Return the k smallest of each row with their columns, ties by column."""
    n, width = distances.shape
    if k == 1:
        rows = distances.argmin(axis=1)[:, None]
        return rows, np.take_along_axis(distances, rows, axis=1)
    # Distance and column in one number, so that no two are equal.
    whole = distances.astype(np.int64) * width + np.arange(width)
    few = min(k, width)
    if few < width:
        whole = np.partition(whole, few - 1, axis=1)[:, :few]
    whole.sort(axis=1)
    rows = np.full((n, k), -1, np.int64)
    rows[:, :few] = whole % width
    near = np.full((n, k), -1, np.int64)
    near[:, :few] = whole // width
    return rows, near


def check_queries(queries: NDArray[Any], width: int) -> None:
    """Refuse queries that are not keys of this table."""
    if queries.ndim != 2 or queries.shape[1] != width:
        raise DimensionMismatch(
            "these are no keys of the table", expected=f"(queries, {width})", got=queries.shape
        )


def check_costs(costs: Costs, width: int) -> None:
    """Refuse costs of another width."""
    if len(costs.columns) != width:
        raise InvalidParameter(
            "the costs belong to another table", expected=f"{width} columns", got=len(costs.columns)
        )
