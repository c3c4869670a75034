"""Where an index keeps its rows: blocks that never change, so that a search needs no lock.

A search takes the current ``Snapshot`` and works on that alone. A write builds new blocks around
the same arrays and then puts the new snapshot in place with one assignment. Arrays of a snapshot
are never written to: rows are appended behind its end, and flags are copied before one is cleared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import DuplicateIds, UnknownIds
from recollect.index.coarse import Coarse
from recollect.index.kernel import DTYPES
from recollect.index.quantized import Shadow
from recollect.locks import ProcessLock
from recollect.types import Doubles, Floats, Ids, Mask

SMALLEST = 64  # rows a new open block has room for; it doubles until it is full


class IdTable:
    """Finds the rows of one block by their ids. Sorts at most once, and only if it must."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids

    @cached_property
    def _order(self) -> NDArray[np.intp] | None:
        ascending = bool((self.ids[1:] > self.ids[:-1]).all())
        return None if ascending else np.argsort(self.ids)

    @cached_property
    def _sorted(self) -> Ids:
        return self.ids if self._order is None else self.ids[self._order]

    @cached_property
    def gapless(self) -> bool:
        """Whether the ids count up by one."""
        span = int(self._sorted[-1]) - int(self._sorted[0]) + 1
        return self._order is None and span == len(self.ids)

    def find(self, wanted: Ids) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return where in ``wanted`` the ids stand that are here, and their rows."""
        at = np.flatnonzero((wanted >= self._sorted[0]) & (wanted <= self._sorted[-1]))
        if not len(at):
            return at, at
        if self.gapless:
            return at, wanted[at] - self._sorted[0]
        rows = np.searchsorted(self._sorted, wanted[at])
        here = self._sorted[rows] == wanted[at]
        at, rows = at[here], rows[here]
        return at, rows if self._order is None else self._order[rows]


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of an index, at least one.

    Attributes:
        table: Finds rows by id; ``table.ids`` is int64 ``(n,)``.
        keys: float32, float16 or uint8 ``(n, dim)``, C-contiguous.
        sizes: float64 ``(n,)``, as ``Coarse.measure`` gives them.
        terms: float32 ``(n,)`` or None, as ``Coarse.terms`` gives them.
        regular: Bool ``(n,)``: rows the first pass can score; None means all.
        live: Bool ``(n,)``: rows not removed; None means all.
        owned: Whether the keys are a copy of our own.
        shadows: What the compiled first pass keeps of these rows, and of those that will be
            appended to them: by codes, and by keys.
    """

    table: IdTable
    keys: NDArray[Any]
    sizes: Doubles
    terms: Floats | None
    regular: Mask | None
    live: Mask | None = None
    owned: bool = True
    shadows: tuple[Shadow, Shadow] = field(default_factory=lambda: (Shadow(), Shadow()))

    @property
    def ids(self) -> Ids:
        """Int64 ``(n,)``."""
        return self.table.ids

    @cached_property
    def count(self) -> int:
        """Rows not removed."""
        return len(self) if self.live is None else int(np.count_nonzero(self.live))

    def __len__(self) -> int:
        return len(self.sizes)


def make_block(
    coarse: Coarse,
    ids: Ids,
    keys: NDArray[Any],
    sizes: Doubles,
    *,
    live: Mask | None = None,
    owned: bool = True,
    shadows: tuple[Shadow, Shadow] | None = None,
) -> Block:
    """Put rows together with what the first pass needs to know of them."""
    regular = coarse.regular_rows(sizes)
    return Block(
        table=IdTable(ids),
        keys=keys,
        sizes=sizes,
        terms=coarse.terms(sizes),
        regular=None if regular.all() else regular,
        live=live,
        owned=owned,
        shadows=shadows or (Shadow(), Shadow()),
    )


@dataclass(frozen=True, eq=False)
class _Runs:
    """Ids that count up by one: first id, length and first slot of each run; which rows live."""

    firsts: Ids
    lengths: Ids
    starts: Ids
    live: Mask | None


class Snapshot:
    """All rows of an index at one moment. Rows are numbered through all blocks: their *slots*.

    Args:
        blocks: None of them empty.
    """

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        self.blocks = tuple(blocks)
        self.starts = np.cumsum([0, *(len(block) for block in self.blocks)])
        self.slots = int(self.starts[-1])
        self.count = sum(block.count for block in self.blocks)
        self.derived: dict[Any, Any] = {}  # what searches have worked out and can use again

    def locate(self, ids: Ids) -> NDArray[np.intp]:
        """Find the slots of live rows; -1 for ids that are not here. Intp ``(n,)``."""
        runs = self._runs
        if runs is not None:
            number = np.searchsorted(runs.firsts, ids, side="right") - 1
            rows = ids - runs.firsts[number]
            slots = np.where((number >= 0) & (rows < runs.lengths[number]), rows, -1)
            slots += np.where(slots >= 0, runs.starts[number], 0)
            if runs.live is not None:
                slots[~runs.live[slots]] = -1  # -1 itself names some row, and stays
            return slots
        slots = np.full(len(ids), -1, np.intp)
        for start, block in zip(self.starts, self.blocks, strict=False):
            at, rows = block.table.find(ids)
            if block.live is not None:
                alive = block.live[rows]
                at, rows = at[alive], rows[alive]
            slots[at] = rows + start
        return slots

    @cached_property
    def _runs(self) -> _Runs | None:
        """Where ids lie, if there are no gaps between those of a block and blocks stand apart."""
        tables = [block.table for block in self.blocks]
        if not tables or not all(table.gapless for table in tables):
            return None
        firsts = np.array([table.ids[0] for table in tables], np.int64)
        lengths = np.array([len(table.ids) for table in tables], np.int64)
        order = np.argsort(firsts)
        firsts, lengths = firsts[order], lengths[order]
        if (firsts[:-1] + lengths[:-1] > firsts[1:]).any():
            return None
        live = None
        if any(block.live is not None for block in self.blocks):
            live = np.ones(self.slots, bool)
            for start, block in zip(self.starts, self.blocks, strict=False):
                if block.live is not None:
                    live[start : start + len(block)] = block.live
        return _Runs(firsts, lengths, self.starts[:-1][order], live)

    def pointers(self, slots: NDArray[np.intp]) -> tuple[Ids, Ids, Ids]:
        """Tell where rows lie in memory, for the compiled kernel; valid as long as this is.

        Returns:
            Addresses of keys and of sizes, and the code of the keys' dtype, all int64 and shaped as
            ``slots``; 0 where a slot is negative.
        """
        keys, sizes, strides, dtypes = self._bases
        number = np.searchsorted(self.starts, slots, side="right") - 1
        rows, here = slots - self.starts[number], slots >= 0
        return (
            np.where(here, keys[number] + rows * strides[number], 0),
            np.where(here, sizes[number] + rows * 8, 0),
            dtypes[number],
        )

    @cached_property
    def _bases(self) -> tuple[Ids, Ids, Ids, Ids]:
        facts = [
            (
                block.keys.ctypes.data,
                block.sizes.ctypes.data,
                block.keys.strides[0],
                DTYPES[block.keys.dtype],
            )
            for block in self.blocks
        ]
        keys, sizes, strides, dtypes = np.array(facts, np.int64).reshape(-1, 4).T
        return keys, sizes, strides, dtypes

    def pieces(self, start: int, stop: int) -> Iterator[tuple[Block, slice, slice]]:
        """Cut the slots from ``start`` to ``stop`` at the block boundaries.

        Yields:
            A block, the rows of it, and where these stand counted from ``start``.
        """
        number, at = int(np.searchsorted(self.starts, start, side="right")) - 1, start
        while at < stop:
            base, end = int(self.starts[number]), min(stop, int(self.starts[number + 1]))
            yield self.blocks[number], slice(at - base, end - base), slice(at - start, end - start)
            number, at = number + 1, end

    def ids(self, slots: NDArray[np.intp]) -> Ids:
        """Look up ids. Int64, shaped as ``slots``."""
        ids = np.empty(slots.shape, np.int64)
        for block, at, rows in self._split(slots):
            ids[at] = block.ids[rows]
        return ids

    def gather(self, slots: NDArray[np.intp]) -> tuple[Floats, Doubles]:
        """Copy rows out: float32 ``(n, dim)`` keys and float64 ``(n,)`` sizes."""
        if len(self.blocks) == 1:
            block = self.blocks[0]
            return block.keys[slots].astype(np.float32, copy=False), block.sizes[slots]
        keys = np.empty((len(slots), self.blocks[0].keys.shape[1]), np.float32)
        sizes = np.empty(len(slots))
        for block, at, rows in self._split(slots):
            keys[at] = block.keys[rows]
            sizes[at] = block.sizes[rows]
        return keys, sizes

    def _split(
        self, slots: NDArray[np.intp]
    ) -> Iterator[tuple[Block, NDArray[np.intp] | slice, NDArray[np.intp]]]:
        if len(self.blocks) == 1:
            yield self.blocks[0], slice(None), slots
            return
        numbers = np.searchsorted(self.starts, slots, side="right") - 1
        for number in np.unique(numbers):
            at = np.flatnonzero(numbers == number)
            yield self.blocks[number], at, slots[at] - self.starts[number]


@dataclass(frozen=True, eq=False)
class _Space:
    """The arrays behind a block that can grow. Rows from ``count`` on are not in use yet."""

    ids: Ids
    keys: Floats
    sizes: Doubles
    count: int = 0

    @classmethod
    def empty(cls, rows: int, dim: int) -> _Space:
        """Make room for rows."""
        return cls(np.empty(rows, np.int64), np.empty((rows, dim), np.float32), np.empty(rows))

    def extended(self, ids: Ids, keys: NDArray[Any], sizes: Doubles, limit: int) -> _Space:
        """Write rows behind those in use; doubles the arrays, up to ``limit`` rows, if need be."""
        stop = self.count + len(ids)
        grown = self if stop <= len(self.ids) else self._grown(stop, limit)
        grown.ids[self.count : stop] = ids
        grown.keys[self.count : stop] = keys
        grown.sizes[self.count : stop] = sizes
        return replace(grown, count=stop)

    def _grown(self, needed: int, limit: int) -> _Space:
        # New arrays: snapshots hold on to the old ones for as long as they need them.
        rows = min(limit, max(SMALLEST, 2 * len(self.ids), needed))
        grown = _Space.empty(rows, self.keys.shape[1])
        grown.ids[: self.count] = self.ids[: self.count]
        grown.keys[: self.count] = self.keys[: self.count]
        grown.sizes[: self.count] = self.sizes[: self.count]
        return grown


class Store:
    """The rows of an index and the writes to them; ``snapshot`` is what a search reads.

    Args:
        coarse: The first pass that will read the rows.
        block_rows: Rows in a block of our own, at most.
    """

    def __init__(self, coarse: Coarse, block_rows: int) -> None:
        self._coarse, self._block_rows = coarse, block_rows
        # The rows, and the arrays behind the last block if that can grow: always put in place
        # together, so that a fork finds both as they were before a write or as they are after it.
        self._state: tuple[Snapshot, _Space | None] = (Snapshot(), None)
        self._lock = ProcessLock()

    @property
    def snapshot(self) -> Snapshot:
        """The rows as they are now."""
        return self._state[0]

    @property
    def _space(self) -> _Space | None:
        return self._state[1]

    def add(self, ids: Ids, keys: NDArray[Any], sizes: Doubles) -> None:
        """Copy rows in. Time in proportion to the rows added, on average."""
        with self._lock:
            self._refuse_present(ids)
            self._publish(*self._append(list(self.snapshot.blocks), self._space, ids, keys, sizes))

    def attach(self, ids: Ids, keys: NDArray[Any], sizes: Doubles) -> None:
        """Take rows in without copying the keys."""
        with self._lock:
            self._refuse_present(ids)
            blocks = list(self.snapshot.blocks)
            # The block that can grow stays the last.
            place = len(blocks) - (self._space is not None)
            blocks.insert(place, make_block(self._coarse, ids, keys, sizes, owned=False))
            self._publish(blocks, self._space)

    def remove(self, ids: Ids) -> None:
        """Clear the flags of rows; give back blocks of our own that are mostly empty."""
        with self._lock:
            slots = self.snapshot.locate(ids)
            if (slots < 0).any():
                unknown = ids[slots < 0]
                raise UnknownIds(
                    "no such rows",
                    expected="ids of rows that are in the index",
                    got=f"{len(unknown)} others, the first {int(unknown[0])}",
                    remedy="They may have been removed before; remove only what is there.",
                )
            blocks = list(self.snapshot.blocks)
            starts = self.snapshot.starts
            numbers = np.searchsorted(starts, slots, side="right") - 1
            touched = np.unique(numbers).tolist()
            for number in touched:
                block = blocks[number]
                live = np.ones(len(block), bool) if block.live is None else block.live.copy()
                live[slots[numbers == number] - starts[number]] = False
                blocks[number] = replace(block, live=live)
            self._publish(*self._tidied(blocks, touched))

    def _refuse_present(self, ids: Ids) -> None:
        present = ids[self.snapshot.locate(ids) >= 0]
        if len(present):
            raise DuplicateIds(
                "ids are in the index already",
                expected="new ids",
                got=f"{len(present)} known ones, the first {int(present[0])}",
                remedy="Remove these rows first, or give the new rows ids of their own.",
            )

    def _append(
        self,
        blocks: list[Block],
        space: _Space | None,
        ids: Ids,
        keys: NDArray[Any],
        sizes: Doubles,
    ) -> tuple[list[Block], _Space | None]:
        # An id stands at most once in a block, dead or alive, so that it can be found.
        if space is not None and len(blocks[-1].table.find(ids)[0]):
            space = None
        while len(ids):
            live = shadows = None
            if space is None or space.count >= self._block_rows:
                space = _Space.empty(0, keys.shape[1])
            else:
                last = blocks.pop()
                live, shadows = last.live, last.shadows
            take = min(self._block_rows - space.count, len(ids))
            space = space.extended(ids[:take], keys[:take], sizes[:take], self._block_rows)
            if live is not None:
                live = np.concatenate([live, np.ones(take, bool)])
            used = slice(space.count)
            blocks.append(
                make_block(
                    self._coarse,
                    space.ids[used],
                    space.keys[used],
                    space.sizes[used],
                    live=live,
                    shadows=shadows,
                )
            )
            ids, keys, sizes = ids[take:], keys[take:], sizes[take:]
        return blocks, space

    def _tidied(self, blocks: list[Block], touched: list[int]) -> tuple[list[Block], _Space | None]:
        space = self._space
        sparse = {
            number
            for number in touched
            if not blocks[number].count
            or (blocks[number].owned and 2 * blocks[number].count <= len(blocks[number]))
        }
        if len(blocks) - 1 in sparse:
            space = None
        kept = [block for number, block in enumerate(blocks) if number not in sparse]
        for number in sorted(sparse):
            block = blocks[number]
            rows = np.arange(len(block))[block.live]
            kept, space = self._append(
                kept, space, block.ids[rows], block.keys[rows], block.sizes[rows]
            )
        return kept, space

    def _publish(self, blocks: list[Block], space: _Space | None) -> None:
        self._state = (Snapshot(blocks), space)
