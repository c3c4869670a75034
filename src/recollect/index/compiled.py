"""The compiled way through a search: codes or keys are scanned, candidates scored, in one call."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recollect.index.blocks import Snapshot
from recollect.index.coarse import Coarse
from recollect.index.kernel import (
    BLOCK,
    DTYPES,
    GROUP,
    MOST_VIRTUAL,
    PAIR,
    ROW_POINTERS,
    Choice,
    Kernel,
    Request,
    SpaceArrays,
)
from recollect.index.mapped import budget
from recollect.index.quantized import WIDEST, Quantizer, Unquantized, is_stale, make_quantizer
from recollect.types import Doubles, Floats, Ids, Mask

if TYPE_CHECKING:
    from recollect.index.scope import Batch, Limits, Scope

FEW = 4  # queries that are taken in two planes: the memory is slower than twice the arithmetic
CANDIDATES = 1 << 22  # held for one block of queries at first: 64 MiB
SPARE = 4  # times the room of a shortlist: lists that are too short are all begun anew
LEAST_CHOICE = 1 << 19  # multiplications worth a thread, of candidates: they lie far apart
# Codes of rows that have none are made for so many queries at once or one after the other: making
# them takes as long as some ten passes over the keys. For fewer numbers it takes no time worth it.
AWAITED, SMALL = 8, 1 << 25
SPARSE = 64  # copy the rows that take part if fewer than one in this many does


class Engine:
    """What all searches of one index share: the kernel and the codes' center.

    Args:
        kernel: The compiled functions.
        coarse: The metric.
        quantize: False scores keys only, for comparison.
    """

    def __init__(self, kernel: Kernel, coarse: Coarse, *, quantize: bool = True) -> None:
        self.kernel, self.coarse = kernel, coarse
        nothing = np.zeros(coarse.dim, np.float32)
        self._measured = SpaceArrays(coarse.metric, coarse.dim, nothing, coarse.measuring_weights)
        self.plain = Unquantized(kernel, coarse)
        self.quantizes = quantize and coarse.metric != "manhattan" and coarse.dim <= WIDEST
        self._quantizer: Quantizer | None = None
        self._waited = 0

    def quantizer(self, snapshot: Snapshot) -> Quantizer:
        """Return the quantizer in use; a new one if there are many more rows than when made."""
        made = self._quantizer
        if made is None or is_stale(snapshot.slots, made.rows):
            made = self._quantizer = make_quantizer(self.kernel, self.coarse, snapshot)
        return made

    def codes_pay(self, snapshot: Snapshot, queries: int) -> bool:
        """Tell whether to make codes of rows that have none yet, rather than read the keys.

        The first answer after opening a large memory is there sooner without, and the same.
        """
        bare = [block for block in snapshot.blocks if not block.shadows[0].made]
        numbers = sum(len(block) for block in bare) * self.coarse.dim
        if numbers <= SMALL or 4 * numbers > budget():
            return True  # keys that memory does not hold are not read more often than need be
        self._waited += queries
        return self._waited > AWAITED

    def measure(self, rows: NDArray[Any], threads: int) -> Doubles:
        """Measure rows or queries as ``Coarse.measure`` does, to the same bits."""
        sizes = np.empty(len(rows))
        self.kernel.measure(self._measured, rows, sizes, threads)
        return sizes

    def choose(
        self,
        snapshot: Snapshot,
        queries: Floats,
        sizes: Doubles,
        ids: Ids,
        slots: NDArray[np.intp],
        k: int,
        threads: int,
    ) -> tuple[Ids, Floats]:
        """Score candidates and keep the best of each query.

        Args:
            snapshot: The rows.
            queries: float32 ``(queries, dim)``, C-contiguous.
            sizes: float64 ``(queries,)``.
            ids: int64 ``(queries, n)``, of candidates.
            slots: Where they are, ``(queries, n)``; -1 where there is none.
            k: Rows wanted.
            threads: At most so many.

        Returns:
            Ids and similarity, ``(queries, k)``, padded with -1 / -inf.
        """
        found = np.full((len(queries), k), -1)
        similarity = np.full((len(queries), k), -np.inf, np.float32)
        arrays = (queries, sizes, ids, *snapshot.pointers(slots))
        keys, lengths, dtypes = arrays[3:]
        work = slots.size * self.coarse.dim // LEAST_CHOICE + 1
        choice = Choice(
            threads=min(threads, work), count=len(queries), k=k, width=slots.shape[1],
            space=ctypes.pointer(self.plain.space.pointers),
            queries=queries.ctypes.data, sizes=sizes.ctypes.data, names=ids.ctypes.data,
            keys=keys.ctypes.data, dtypes=dtypes.ctypes.data, lengths=lengths.ctypes.data,
            ids=found.ctypes.data, similarity=similarity.ctypes.data,
        )  # fmt: skip
        assert all(array.flags.c_contiguous for array in arrays)
        self.kernel.choose(choice)
        return found, similarity


class CompiledPass:
    """Answers queries over the rows of one scope.

    Args:
        engine: The kernel and its codes.
        scope: The rows; every place is a slot.
        k: Rows wanted by each query, at most as many as take part.
        limits: Memory and threads.
        maker: What the rows are scored by.
    """

    def __init__(
        self, engine: Engine, scope: Scope, k: int, limits: Limits, maker: Quantizer | Unquantized
    ) -> None:
        self._engine, self._scope, self._k, self._limits = engine, scope, k, limits
        self._maker = maker
        self._blocks = _blocks(scope, maker, limits.cores)

    def suits(self, sizes: Doubles) -> bool:
        """Tell whether all queries are regular."""
        return bool(self._engine.coarse.regular_queries(sizes).all())

    @property
    def queries(self) -> int:
        """How many queries can be answered at a time."""
        return max(1, CANDIDATES // (self._limits.cores * (4 * self._k + 64)))

    def answer(
        self, batch: Batch, which: NDArray[np.intp], ids: Ids, similarity: Floats
    ) -> NDArray[np.intp]:
        """Answer regular queries; return those that have too many candidates."""
        call = _Call(self._engine, self._maker, self._blocks, batch, self._k, self._limits)
        self._engine.kernel.search(call.bounded(self._engine.coarse, batch))
        return _written(call, which, ids, similarity)

    def exhaust(self, batch: Batch, which: NDArray[np.intp], ids: Ids, similarity: Floats) -> None:
        """Answer queries, regular or not, from every pair."""
        call = _Call(self._engine, self._maker, self._blocks, batch, self._k, self._limits)
        self._engine.kernel.exhaust(call.request)
        _written(call, which, ids, similarity)


class _Call:
    """One request with the arrays that it points to."""

    def __init__(
        self,
        engine: Engine,
        maker: Quantizer | Unquantized,
        blocks: NDArray[Any],
        batch: Batch,
        k: int,
        limits: Limits,
    ) -> None:
        count = len(batch)
        self.ids = np.full((count, k), -1)
        self.similarity = np.full((count, k), -np.inf, np.float32)
        self.given_up = np.zeros(count, np.uint8)
        rows = int(blocks["rows"].sum())
        work = rows * engine.coarse.dim * count // limits.thread + 1
        self.request = Request(
            threads=min(limits.cores, work),
            count=count,
            k=k,
            planes=(2 if count <= FEW else 1) if maker.coded else 0,
            room=SPARE * limits.room,
            block_count=len(blocks),
            space=ctypes.pointer(maker.space.pointers),
        )
        self._kept: list[Any] = [maker]
        self._point("blocks", blocks)
        self._point("queries", batch.queries)
        self._point("sizes", batch.sizes)
        self._point("ids", self.ids)
        self._point("similarity", self.similarity)
        self._point("given_up", self.given_up)
        if batch.barred is not None:
            query, slots = batch.barred
            order = np.lexsort((slots, query))
            self._point("barred", np.ascontiguousarray(slots[order]))
            self._point("barred_starts", np.searchsorted(query[order], np.arange(count + 1)))

    def bounded(self, coarse: Coarse, batch: Batch) -> Request:
        """Return the request with what a first pass over regular queries needs."""
        self._point("gain", coarse.gain(batch.sizes))
        self._point("shift", np.zeros(len(batch)))
        if not self.request.planes:
            self._scored_by_keys(coarse, batch)
        return self.request

    def _point(self, name: str, array: NDArray[Any]) -> None:
        assert array.flags.c_contiguous
        self._kept.append(array)
        setattr(self.request, name, array.ctypes.data)

    def _scored_by_keys(self, coarse: Coarse, batch: Batch) -> None:
        reach, slack = coarse.query_bounds(batch.sizes)
        padding = (0, MOST_VIRTUAL)
        self._point("plain", coarse.scaled(batch.queries, batch.sizes))
        for name, bound in (("reach", reach), ("blur", 0.0 * reach), ("slack", slack)):
            self._point(name, np.pad(bound, padding).astype(np.float32))
        self._point("weights", coarse.falling_weights)
        if coarse.metric == "euclidean":
            self._point("shift", batch.sizes * batch.sizes)


def _blocks(scope: Scope, maker: Quantizer | Unquantized, threads: int) -> NDArray[Any]:
    """Describe the rows to the kernel; the arrays stay alive with the snapshot."""
    snapshot = scope.snapshot
    known = snapshot.derived.get(maker)
    if known is None:
        known = snapshot.derived[maker] = _table(snapshot, maker, threads)
    table: NDArray[Any] = known[0]
    if scope.banned is not None:
        table = _inhabited(table, scope.banned, snapshot)
        table["out"] = scope.banned.ctypes.data + table["start"].astype(np.uint64)
    return table


def _inhabited(table: NDArray[Any], banned: Mask, snapshot: Snapshot) -> NDArray[Any]:
    """Leave out stretches of rows that take no part: the cost of a search follows those that do."""
    parts = [table[:0]]
    for entry, block in zip(table, snapshot.blocks, strict=True):
        rows, start = int(entry["rows"]), int(entry["start"])
        taken = np.add.reduceat(~banned[start : start + rows], np.arange(0, rows, PAIR)) > 0
        edges = np.flatnonzero(np.diff(taken, prepend=False, append=False)).reshape(-1, 2)
        part = np.repeat(entry[None], len(edges))
        part["start"] += PAIR * edges[:, 0]
        part["rows"] = np.minimum(PAIR * edges[:, 1], rows) - PAIR * edges[:, 0]
        dim = block.keys.shape[1]
        widths = {"codes": 4 * -(-dim // 4), "keys": block.keys.strides[0], "ids": 8, "sizes": 8}
        for name in ROW_POINTERS:
            wide = PAIR * widths.get(name, 4) // (GROUP if name.startswith("group") else 1)
            part[name] += np.where(part[name] > 0, edges[:, 0] * wide, 0).astype(np.uint64)
        parts.append(part)
    return np.concatenate(parts)


def _table(
    snapshot: Snapshot, maker: Quantizer | Unquantized, threads: int
) -> tuple[NDArray[Any], list[Any]]:
    table = np.zeros(len(snapshot.blocks), BLOCK)
    kept: list[Any] = []
    names = BLOCK.names
    assert names is not None
    for entry, block, start in zip(table, snapshot.blocks, snapshot.starts, strict=False):
        codes = block.shadows[0 if maker.coded else 1].of(block, maker, threads)
        entry["rows"], entry["start"] = len(block), start
        entry["codes"] = 0 if codes.codes is None else codes.codes.ctypes.data
        first = names.index("alpha")
        for name, term in zip(names[first:], codes.terms, strict=False):
            entry[name] = term.ctypes.data
        entry["keys"], entry["ids"] = block.keys.ctypes.data, block.ids.ctypes.data
        entry["sizes"], entry["dtype"] = block.sizes.ctypes.data, DTYPES[block.keys.dtype]
        kept.append(codes)
    return table, kept


def _written(
    call: _Call, which: NDArray[np.intp], ids: Ids, similarity: Floats
) -> NDArray[np.intp]:
    """Copy answers to where they belong; return the queries that were given up."""
    given_up: NDArray[np.bool_] = call.given_up.view(bool)
    if not given_up.any():
        ids[which], similarity[which] = call.ids, call.similarity
        return which[:0]
    done = ~given_up
    ids[which[done]], similarity[which[done]] = call.ids[done], call.similarity[done]
    left: NDArray[np.intp] = which[given_up]
    return left
