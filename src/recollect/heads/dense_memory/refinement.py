"""One step of the search from coarse to fine: children against children of what was matched.

Which cells can be among the best is decided by rough products with a known error; those are
compared again, pair by pair in float64 in one fixed order, so a match has the same bits whatever
else is in the memory. The compiled way and the one in NumPy give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.cells import Cells, Level
from recollect.heads.dense_memory.plan import Matches, Plan
from recollect.index.refining import find_refining, refine_compiled
from recollect.index.scoring import CHUNK, sum_terms
from recollect.index.standard import standard_arithmetic
from recollect.types import Floats, Ids

SLACK = 8  # candidates compared again beyond k
ULP = 2.0**-23
QUICKEST = 8 << 20  # bytes of candidates at once: more leave the caches, and take a third longer


def refine(
    cells: Cells, level: int, above: Matches, below: Ids, vectors: Floats, plan: Plan
) -> Matches:
    """Compare the children of each query cell with the children of what it matched.

    Args:
        cells: The memory.
        level: From 1.
        above: What the query's cells matched on the level before.
        below: int64 ``(cells of the level before, children)``: their children, padded with -1.
        vectors: float32 ``(cells, width)`` of the level, of length 1 or 0.
        plan: How to search.
    """
    k, rows = min(plan.ks[level], max(1, cells.living(level))), len(vectors)
    found = Matches(
        np.full((rows, k), -1),
        np.full((rows, k), -np.inf, np.float32),
        np.full((rows, k), -np.inf, np.float32),
    )
    way = refine_in_blocks if find_refining() is None else refine_at_once
    way(cells, level, above, below, vectors, plan, found)
    return found


def refine_at_once(
    cells: Cells, level: int, above: Matches, below: Ids, vectors: Floats, plan: Plan,
    into: Matches,
) -> None:  # fmt: skip
    """Fill in the matches by the compiled library."""
    memory, before = cells.levels[level], cells.levels[level - 1]
    carried, own = _shares(plan, level)
    refine_compiled(
        memory.vectors,
        valid=cells.valid if level == len(cells.levels) - 1 else None,
        links=before.children,
        beside=before.around if cells.kernel == "overlap" else None,
        queries=vectors,
        below=below,
        matches=above.cells,
        path=None if plan.score == "level" else above.score,
        shares=(carried, own),
        error=float(_error(memory.width)),
        out=(into.cells, into.similarity, into.score),
        most_bytes=plan.block_bytes,
    )


@standard_arithmetic()
def refine_in_blocks(
    cells: Cells, level: int, above: Matches, below: Ids, vectors: Floats, plan: Plan,
    into: Matches,
) -> None:  # fmt: skip
    """Fill in the matches by NumPy, a block of query cells at a time."""
    k, memory = into.cells.shape[1], cells.levels[level]
    widest = cells.levels[level - 1].fan_out(cells.kernel) * above.cells.shape[1]
    bytes_each = 4 * memory.width * (widest + 4 * below.shape[1] * min(widest, k + SLACK))
    step = max(1, min(plan.block_bytes, QUICKEST) // max(1, bytes_each))
    for start in range(0, len(below), step):
        block = slice(start, start + step)
        candidates, via = cells.candidates(level, above.cells[block])
        if not candidates.shape[1]:
            continue
        path = None if plan.score == "level" else _carried(above.score[block], via)
        queries = below[block]
        best = _best(memory, vectors, queries, candidates, path, k, _shares(plan, level))
        row, asked = queries[queries >= 0], best[0].shape[1]
        outs: tuple[NDArray[Any], ...] = (into.cells, into.similarity, into.score)
        for out, values in zip(outs, best, strict=True):
            out[row, :asked] = values


def _error(width: int) -> np.float32:
    """How far a product in float32 may be off: vectors have length 1 or less."""
    return np.float32(2.0 * (width + 8) * ULP)


def _carried(score: Floats, via: Ids) -> Floats:
    carried: Floats = np.take_along_axis(score, np.maximum(via, 0), axis=1)
    return carried


def _shares(plan: Plan, level: int) -> tuple[float, float]:
    """How much the path so far and this level count in a weighted mean."""
    if plan.score == "level":
        return 0.0, 1.0
    total = float(sum(plan.weights[: level + 1]))
    own = plan.weights[level] / total if total else 1.0
    return 1.0 - own, own


def _best(
    memory: Level,
    vectors: Floats,
    queries: Ids,
    candidates: Ids,
    path: Floats | None,
    k: int,
    shares: tuple[float, float],
) -> tuple[Ids, Floats, Floats]:
    """The k best candidates of each query cell of a block of parents.

    Args:
        memory: The level of the memory.
        vectors: ``(query cells, width)``.
        queries: ``(parents, children)``, -1 where there is none.
        candidates: ``(parents, several)``, ascending, -1 behind them.
        path: Score of the match that each candidate is a child of, or None.
        k: How many.
        shares: Of path and level in the score.

    Returns:
        Places, similarity and score, ``(queries of the block, up to k)``.
    """
    parent, child = np.nonzero(queries >= 0)
    asked = vectors[np.maximum(queries, 0)]
    known = memory.gather(candidates)
    rough = np.matmul(asked, known.transpose(0, 2, 1))[parent, child]
    if path is not None:
        rough = np.float32(shares[1]) * rough + np.float32(shares[0]) * path[parent]
    there = candidates[parent] >= 0
    rough[~there] = -np.inf
    wanted = min(k, rough.shape[1])
    chosen = _shortlist(rough, wanted, memory.width)
    rows = np.arange(len(rough))[:, None]
    exact = _rescored(vectors, queries[parent, child], known, parent, chosen)
    score: NDArray[Any] = exact
    if path is not None:
        score = shares[1] * exact + shares[0] * path[parent[:, None], chosen].astype(np.float64)
    score = np.where(there[rows, chosen], score, -np.inf).astype(np.float32)
    place = candidates[parent[:, None], chosen]
    order = np.argsort(-score, axis=1, kind="stable")[:, :wanted]
    ranked = np.take_along_axis(score, order, axis=1)
    similarity = np.take_along_axis(exact, order, axis=1).astype(np.float32)
    missing = ranked == -np.inf
    similarity[missing] = -np.inf
    return np.where(missing, -1, np.take_along_axis(place, order, axis=1)), similarity, ranked


def _shortlist(rough: Floats, k: int, width: int) -> Ids:
    """Columns, ascending, that certainly hold the k best of each row."""
    columns = rough.shape[1]
    count = min(columns, k + SLACK)
    if count == columns:
        return np.broadcast_to(np.arange(columns), rough.shape)
    part = np.argpartition(-rough, (k - 1, count - 1), axis=1)[:, :count]
    kth = np.take_along_axis(rough, part[:, k - 1 : k], axis=1)[:, 0]
    last = np.take_along_axis(rough, part[:, count - 1 : count], axis=1)[:, 0]
    error = _error(width)
    if (last >= kth - 2 * error).any() and np.isfinite(kth).any():
        close = (rough >= (kth - 2 * error)[:, None]).sum(axis=1)
        count = min(columns, int(np.max(np.where(np.isfinite(kth), close, 0), initial=count)))
        part = np.argpartition(-rough, count - 1, axis=1)[:, :count]
    return np.sort(part, axis=1)


def _rescored(vectors: Floats, query: Ids, known: Floats, parent: Ids, chosen: Ids) -> Floats:
    """Products pair by pair, summed in one fixed order, a few rows at a time."""
    exact = np.empty(chosen.shape, np.float32)
    step = max(1, CHUNK // (chosen.shape[1] * vectors.shape[1]))
    for start in range(0, len(chosen), step):
        rows = slice(start, start + step)
        others = known[parent[rows, None], chosen[rows]]
        terms = np.multiply(vectors[query[rows], None], others, dtype=np.float64)
        # Ranked by what float32 holds, as every similarity of the library is; 0 for -0.
        exact[rows] = np.clip(sum_terms(terms), -1.0, 1.0)
    exact += np.float32(0.0)
    return exact
