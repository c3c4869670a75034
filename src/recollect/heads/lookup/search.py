"""Nearest rows of a table by comparing with all of them: exact, ties to the lowest row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recollect.errors import DimensionMismatch, InvalidParameter
from recollect.heads.lookup.costs import Costs
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.words import Words, coder_of
from recollect.index.tables import Packed, Part, find_tables, point
from recollect.types import Codes


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
    """Compares each query with every row of its step, bit by bit (XOR and popcount).

    Compiled where the library is there, else in NumPy: the same rows.

    Args:
        table: Its rows.
        costs: What differences cost.
        compiled: Whether the compiled search may be used.
    """

    def __init__(self, table: Table, costs: Costs, *, compiled: bool = True) -> None:
        self.width = table.keys.shape[1]
        check_costs(costs, self.width)
        self.costs, self.coder = costs, coder_of(costs, table.keys)
        parts = range(len(table.parts) - 1)
        self._keys = [self.coder.write(table.keys[table.part(part)]) for part in parts]
        self._starts = table.parts
        self._library = find_tables() if compiled and isinstance(self.coder, Words) else None
        self.packed: list[Packed] = [_flat_part(self.coder, keys) for keys in self._keys]

    def nearest(self, queries: NDArray[Any], step: int, k: int = 1) -> Found:
        """Return the k nearest rows of each query; see :class:`Search`."""
        check_queries(queries, self.width)
        place = step if len(self._keys) > 1 else 0
        keys, start = self._keys[place], self._starts[place]
        asked, few = self.coder.write(queries), min(k, len(keys))
        if self._library is not None:
            rows, distances, _ = self._library.nearest(self.packed[place], asked, few)
        else:
            found = [_smallest(self.coder.between(keys, one)[None], few) for one in asked]
            rows, distances = (np.concatenate([one[part] for one in found]) for part in range(2))
        short = ((0, 0), (0, k - few))
        return Found(
            np.pad(rows + start, short, constant_values=-1),
            np.pad(distances, short, constant_values=-1),
            np.full(len(queries), len(keys), np.int64),
        )


def _flat_part(coder: Any, keys: NDArray[Any]) -> Packed:
    if not isinstance(coder, Words):
        return Packed(Part(), ())
    return point(Part, words=len(coder), rows=len(keys), prices=coder.prices, keys=keys)


def _smallest(distances: Codes, k: int) -> tuple[Codes, Codes]:
    """Return the k smallest of each row with their columns, ties by column."""
    if k == 1:
        rows = distances.argmin(axis=1)[:, None]
        return rows, np.take_along_axis(distances, rows, axis=1)
    # Distance and column in one number, so that no two are equal.
    width = distances.shape[1]
    whole = distances * width + np.arange(width)
    if k < width:
        whole = np.partition(whole, k - 1, axis=1)[:, :k]
    whole.sort(axis=1)
    return whole % width, whole // width


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
