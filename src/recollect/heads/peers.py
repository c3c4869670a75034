"""What the rows of a memory say of each other: who can be trusted, and how near is usual.

All of it comes from one table, each row's nearest others, and is computed once for each version of
the memory. Nothing is written into the memory; all of it can be thrown away at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.memory.followed import one_at_a_time
from recollect.memory.leave_one_out import BLOCK, DEEPEST, PAIRS, LeaveOneOut, Progress
from recollect.memory.memory import Memory
from recollect.readout.reliability import (
    Reliability,
    Tally,
    apply,
    factors,
    factors_of,
    factors_without_own,
    tally,
)
from recollect.types import Codes, Doubles, Ids, Mask, Neighbors


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows, each asked about with itself left out.

    Attributes:
        ids: int64 ``(rows,)``. The rows asked about.
        truth: int64 ``(rows,)``. Codes of their own labels; -1 in a memory of numbers.
        values: ``(rows,)``. What they hold.
        near: Their neighbors, as a vote without reliability sees them.
        judged: The same neighbors under each reliability that was asked for; None stands for none.
    """

    ids: Ids
    truth: Codes
    values: Any
    near: Neighbors
    judged: dict[Reliability | None, Neighbors]


@dataclass(frozen=True, slots=True)
class _Told:
    """What was computed of one version; entries are added, never changed."""

    version: int
    derived: dict[Any, Any]


class Peers:
    """The rows of one memory, asked about each other.

    Args:
        memory: The rows.
        deepest: Neighbors of a row that may be asked for.
        pairs: Most pairs of rows to compare; of a memory with more a sample is asked.
    """

    def __init__(self, memory: Memory, *, deepest: int = DEEPEST, pairs: int = PAIRS) -> None:
        self.memory = memory
        self._turn = RLock()
        self._table = LeaveOneOut(memory, deepest=deepest, pairs=pairs)
        self._told = _Told(-1, {})

    @property
    def deepest(self) -> int:
        """Neighbors of a row that may be asked for."""
        return self._table.deepest

    def follow(self, progress: Progress | None = None) -> LeaveOneOut:
        """Bring everything to the memory's version; returns the table of nearest others."""
        return self._table.update(progress)

    def keep(self) -> bool:
        """Keep the table in the cache of a durable memory that is open for writing."""
        return self.follow().keep()

    def derived(self, name: Any, compute: Callable[[], Any]) -> Any:
        """Compute something once for each version of the memory."""

        def ask() -> tuple[_Told, Any]:
            """May be run twice, so the value is stored only after the version held."""
            version = self.follow().version
            told = self._told
            if told.version != version:
                told = self._told = _Told(version, {})
            return told, told.derived[name] if name in told.derived else compute()

        with one_at_a_time(self.memory, self._turn):
            told, value = self.memory.in_one_version(ask)
            return told.derived.setdefault(name, value)

    def judged(self, near: Neighbors, reliability: Reliability | None) -> Neighbors:
        """Let what a question found vote with its reliability.

        Ask inside `Memory.in_one_version`, as the question was, so that both are of one version.
        """
        if reliability is None:
            return near
        counts, weights = self.derived(("factors", reliability), lambda: self._weighed(reliability))
        return apply(near, factors_of(near.ids, counts, weights), reliability)

    def _weighed(self, reliability: Reliability) -> tuple[Tally, Doubles]:
        counts = self.counts(reliability.counted)
        return counts, factors(counts, reliability)

    def counts(self, counted: int) -> Tally:
        """How often each row was retrieved among the first ``counted`` neighbors, and how."""

        def compute() -> Tally:
            """Every row is a question here, and not among its own neighbors."""
            table = self.follow()
            near = table.neighbors(counted)
            return tally(near, self.own(table.ids).codes, share=table.share)

        counts: Tally = self.derived(("tally", counted), compute)
        return counts

    def own(self, ids: Ids) -> Own:
        """Labels or numbers of rows themselves."""
        found = self.memory.look_up(ids[:, None], np.ones((len(ids), 1), np.float32))
        codes = np.full(len(ids), -1) if found.codes is None else found.codes[:, 0]
        return Own(codes, found.values[:, 0])

    def blocks(
        self, k: int, reliabilities: Sequence[Reliability | None] = (None,)
    ) -> Iterator[Block]:
        """Ask each row with itself left out, some thousands at a time.

        Under a reliability a row's neighbors are judged by all rows but itself. Go through them
        inside `Memory.in_one_version` if others may write meanwhile.
        """
        table = self.follow()
        for ids, near in table.blocks(k):
            own = self.own(ids)
            judged = {
                reading: near if reading is None else self._without_own(near, own.codes, reading)
                for reading in reliabilities
            }
            yield Block(ids, own.codes, own.values, near, judged)

    def blocks_of(
        self, rows: Ids, k: int, reliabilities: Sequence[Reliability | None] = (None,)
    ) -> Iterator[Block]:
        """Ask exactly these rows, in no order: those that the table has not asked are searched for.

        Of a memory of more than 65,536 rows the table is about a sample. A row outside of it has
        said nothing of others, so nothing has to be left out of what is known of its neighbors.
        """
        asked = self.follow().ids
        for block in self.blocks(k, reliabilities):
            wanted = np.isin(block.ids, rows, assume_unique=True)
            if wanted.any():
                yield block if wanted.all() else _part(block, wanted)
        others = np.setdiff1d(rows, asked, assume_unique=True)
        for start in range(0, len(others), BLOCK):
            ids = others[start : start + BLOCK]
            near = self.memory.search(self.memory.keys(ids), k, exclude=ids)
            own = self.own(ids)
            judged = {reading: self.judged(near, reading) for reading in reliabilities}
            yield Block(ids, own.codes, own.values, near, judged)

    def _without_own(self, near: Neighbors, truth: Codes, reading: Reliability) -> Neighbors:
        counts, share = self.counts(reading.counted), self._table.share
        return apply(near, factors_without_own(counts, near, truth, reading, share=share), reading)


def _part(block: Block, rows: Mask) -> Block:
    return Block(
        block.ids[rows],
        block.truth[rows],
        block.values[rows],
        queries_of(block.near, rows),
        {reading: queries_of(near, rows) for reading, near in block.judged.items()},
    )


def queries_of(near: Neighbors, rows: Mask | NDArray[np.intp]) -> Neighbors:
    """What was found for some of the queries, or for all in another order."""
    codes = None if near.codes is None else near.codes[rows]
    return Neighbors(
        near.ids[rows],
        near.similarity[rows],
        near.values[rows],
        near.weights[rows],
        codes,
        near.classes,
    )


@dataclass(frozen=True, slots=True)
class Own:
    """What rows hold themselves.

    Attributes:
        codes: int64 ``(rows,)``: codes of their labels, or -1.
        values: ``(rows,)`` labels or numbers, or ``(rows, width)`` vectors.
    """

    codes: Codes
    values: Any
