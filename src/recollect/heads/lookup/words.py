"""Keys as words of bits: codes in unary, so that a distance is a price times differing bits."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recollect.heads.lookup.costs import Costs
from recollect.types import Codes


class Words:
    """Writes the codes of keys in unary: code 2 of 3 is 1, 1, 0.

    Numbers of one price lie side by side; a word of 64 bits has one price, and a new word begins
    where the costs say so.

    Args:
        costs: What differences cost, and the largest code of each number.

    Attributes:
        prices: int64 ``(words,)``: cost of a bit of each word.
        starts: int64 ``(cuts + 1,)``: word in which each group of numbers begins.
    """

    def __init__(self, costs: Costs) -> None:
        width = len(costs.columns)
        begins = np.flatnonzero(np.diff(costs.columns, prepend=costs.columns[:1] - 1))
        groups = np.unique(np.concatenate([begins, np.asarray(costs.cuts, np.int64)]))
        ends = np.append(groups[1:], width)
        bits = np.array([costs.most[a:b].sum() for a, b in zip(groups, ends, strict=True)])
        words = -(-bits // 64)
        first = np.concatenate([[0], np.cumsum(words)])
        self.prices: Codes = np.repeat(costs.columns[groups], words).astype(np.int64)
        self.starts: Codes = first[np.searchsorted(groups, [0, *costs.cuts])]
        self._column = np.repeat(np.arange(width), costs.most)
        self._level = np.concatenate([np.arange(1, most + 1) for most in costs.most])
        owner = np.repeat(np.arange(len(groups)), bits)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(bits) - bits, bits)
        self._place = 64 * first[owner] + within

    def __len__(self) -> int:
        return len(self.prices)

    def write(self, codes: NDArray[Any]) -> NDArray[np.uint64]:
        """Return the words of keys: ``(n, key width)`` -> uint64 ``(n, words)``."""
        spread = np.zeros((len(codes), 64 * len(self)), np.bool_)
        spread[:, self._place] = codes[:, self._column] >= self._level
        packed = np.packbits(spread, axis=1, bitorder="little")
        return packed.view("<u8").astype(np.uint64, copy=False)

    def read(self, bits: NDArray[np.bool_], width: int) -> NDArray[np.uint8]:
        """Return the codes of bits in their places: ``(n, 64 words)`` -> ``(n, width)``."""
        own = bits[:, self._place]
        starts = np.flatnonzero(np.diff(self._column, prepend=-1))
        codes = np.zeros((len(bits), width), np.uint8)
        if len(starts):
            codes[:, self._column[starts]] = np.add.reduceat(own, starts, axis=1, dtype=np.uint8)
        return codes

    def between(self, a: NDArray[np.uint64], b: NDArray[np.uint64]) -> Codes:
        """Return the distances of keys, broadcast over all but the last axis."""
        total: Codes = np.zeros(np.broadcast_shapes(a.shape, b.shape)[:-1], np.int64)
        for word in np.flatnonzero(self.prices):
            total += self.prices[word] * np.bitwise_count(a[..., word] ^ b[..., word])
        return total


class Floats:
    """Keys as they are, for codes that are no whole numbers; distances to whole units.

    Args:
        costs: What differences cost.
    """

    def __init__(self, costs: Costs) -> None:
        self._columns = costs.columns.astype(np.float64)

    def write(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return keys as float64."""
        return codes.astype(np.float64)

    def between(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> Codes:
        """Return the distances of keys, broadcast over all but the last axis."""
        # One sum per pair along the last axis: the same bits alone or in any batch.
        apart = np.ascontiguousarray(np.abs(a - b) * self._columns).sum(axis=-1)
        return np.asarray(np.rint(apart).astype(np.int64))


class Coder(Protocol):
    """Writes keys in the form in which they are compared, and compares them."""

    def write(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Return keys in that form: ``(n, key width)`` -> ``(n, any)``."""

    def between(self, a: NDArray[Any], b: NDArray[Any]) -> Codes:
        """Return the distances of keys in that form, broadcast over all but the last axis."""


def coder_of(costs: Costs, keys: NDArray[Any]) -> Coder:
    """Return how such keys are compared: as bits, or as floats."""
    return Floats(costs) if keys.dtype.kind == "f" else Words(costs)
