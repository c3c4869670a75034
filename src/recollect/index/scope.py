"""What a search is over: its rows, its queries, and how much it works on at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from recollect.index.blocks import Snapshot
from recollect.types import Doubles, Floats, Ids, Mask

Places: TypeAlias = NDArray[np.int64]

SPARSE = 4  # copy the rows that take part if fewer than one in this many does
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST_CORES = 16  # each has its share in memory at the same time
THREADS = "RECOLLECT_THREADS"  # environment variable: threads of a search


def default_cores() -> int:
    """Count the threads of a search: what ``RECOLLECT_THREADS`` says, else one for each core."""
    asked = os.environ.get(THREADS, "")
    cores = int(asked) if asked.isdecimal() and int(asked) else CORES
    return min(cores, MOST_CORES)


@dataclass(frozen=True)
class Limits:
    """How much a search works on at a time. No answer depends on it, only memory and speed.

    Attributes:
        batch: Queries in a block.
        query_numbers: Numbers of queries in a block: 16 MiB as float32.
        table: Scores in the table of a tile: 8 MiB, which a third-level cache holds.
        keys: Numbers of keys copied out at a time: 4 MiB as float32.
        share: Numbers of keys that a thread takes at a time: 8 MiB as float32.
        room: Candidates kept for one block of queries.
        opened: Groups opened at a time.
        window: Rows scored pair by pair before the best are sorted out.
        thread: Multiplications of codes worth one more thread. Reading so many takes some
            milliseconds, and so may waking a processor that sleeps.
        cores: Threads that share work which BLAS does not spread, at most 16;
            ``RECOLLECT_THREADS`` sets the default.
    """

    batch: int = 1024
    query_numbers: int = 1 << 22
    table: int = 1 << 21
    keys: int = 1 << 20
    share: int = 1 << 21
    room: int = 1 << 19
    opened: int = 1 << 14
    window: int = 1 << 12
    thread: int = 1 << 26
    cores: int = field(default_factory=default_cores)


@dataclass(frozen=True, eq=False)
class Scope:
    """The rows that take part in a search.

    The first pass goes through *places*: the slots that take part if these are few (``chosen``),
    else all slots.

    Attributes:
        snapshot: The rows.
        places: How many places there are.
        chosen: Slots that take part, ascending, or None where a place is a slot.
        banned: Bool ``(places,)``, True where a place takes no part; None where all do.
        irregular: Slots that take part and are left out of the first pass, ascending.
        count: Rows that take part.
    """

    snapshot: Snapshot
    places: int
    chosen: Places | None
    banned: Mask | None
    irregular: Places
    count: int

    def slots(self, places: Places) -> Places:
        """Turn places into slots."""
        return places if self.chosen is None else self.chosen[places]

    def only(self, slots: Places) -> Scope:
        """Return the scope of these slots, as if each was regular."""
        return Scope(self.snapshot, len(slots), slots, None, slots[:0], len(slots))

    def windows(self, rows: int) -> Iterator[Places]:
        """Go through the slots that take part in the first pass, at most ``rows`` at a time."""
        for start in range(0, self.places, rows):
            places = np.arange(start, min(start + rows, self.places))
            if self.banned is not None:
                places = places[~self.banned[places]]
            yield self.slots(places)


def make_scope(snapshot: Snapshot, allowed: Ids | None, sparse: int = SPARSE) -> Scope:
    """Find the rows that take part: live, and allowed if only some are.

    Args:
        snapshot: All rows.
        allowed: Ids of those that are allowed, or None.
        sparse: Rows are chosen one by one if fewer than one in this many takes part.
    """
    if allowed is None and sparse in snapshot.derived:
        known: Scope = snapshot.derived[sparse]
        return known
    scope = _found_scope(snapshot, allowed, sparse)
    if allowed is None:
        snapshot.derived[sparse] = scope
    return scope


def _found_scope(snapshot: Snapshot, allowed: Ids | None, sparse: int) -> Scope:
    banned = _lacking([block.live for block in snapshot.blocks], snapshot)
    if allowed is not None:
        slots = snapshot.locate(allowed)  # live ones only
        banned = np.ones(snapshot.slots, bool)
        banned[slots[slots >= 0]] = False
    irregular = _lacking([block.regular for block in snapshot.blocks], snapshot)
    odd = np.empty(0, np.int64)
    count = snapshot.slots if banned is None else int(np.count_nonzero(~banned))
    if irregular is not None:
        odd = np.flatnonzero(irregular if banned is None else irregular & ~banned)
        banned = irregular if banned is None else irregular | banned
    if banned is not None and sparse * (count - len(odd)) < snapshot.slots:
        chosen = np.flatnonzero(~banned)
        return Scope(snapshot, len(chosen), chosen, None, odd, count)
    return Scope(snapshot, snapshot.slots, None, banned, odd, count)


def _lacking(flags: list[Mask | None], snapshot: Snapshot) -> Mask | None:
    """Mark the slots whose flag is not set; None where all flags are."""
    if all(flag is None for flag in flags):
        return None
    lacking = np.zeros(snapshot.slots, bool)
    for start, flag in zip(snapshot.starts, flags, strict=False):
        if flag is not None:
            np.logical_not(flag, out=lacking[start : start + len(flag)])
    return lacking


@dataclass(frozen=True, eq=False)
class Batch:
    """A block of queries.

    Attributes:
        queries: float32 ``(queries, dim)``.
        sizes: float64 ``(queries,)``, as ``Coarse.measure`` gives them.
        barred: int64 ``(2, n)``: pairs of a query and a slot that it must not be given; or None.
    """

    queries: Floats
    sizes: Doubles
    barred: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, which: NDArray[np.intp]) -> Batch:
        """Return some of the queries; ``which`` is ascending."""
        if len(which) == len(self):
            return self
        if self.barred is None:
            return Batch(self.queries[which], self.sizes[which], None)
        number = np.full(len(self), -1)
        number[which] = np.arange(len(which))
        query, slot = number[self.barred[0]], self.barred[1]
        barred = np.stack([query[query >= 0], slot[query >= 0]])
        return Batch(self.queries[which], self.sizes[which], barred)
