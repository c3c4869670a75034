"""Coarse-to-fine search: the matches of every cell of a query, level by level (PARMESAN).

On the coarsest level a cell is compared with every cell of the memory. On each finer level it is
compared with the children of what its parent matched, and with nothing else. Only the first step
grows with the memory.

Which cells are compared at all is decided by block matrix products with a known error; what comes
out is compared again, pair by pair in float64 in one fixed order, so a match has the same bits
whatever else is in the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.cells import Cells, Level
from recollect.index.exact import ExactIndex
from recollect.index.scoring import CHUNK, sum_terms
from recollect.readout.grids import Shape, chain, children
from recollect.types import Floats, Ids

Kernel = Literal["children", "overlap"]
Score = Literal["level", "path"]

SLACK = 8  # candidates compared again beyond k
ULP = 2.0**-23
QUICKEST = 8 << 20  # bytes of candidates at once: more leave the caches, and take a third longer


@dataclass(frozen=True, slots=True)
class Matches:
    """What the cells of one level of a query matched, best first, ties by sample and cell.

    Attributes:
        cells: int64 ``(cells, k)``: places in the cell layout; -1 where fewer were found.
        similarity: float32 ``(cells, k)``; -inf where none.
        score: float32 ``(cells, k)``: what they are ranked by: the similarity, or the weighted mean
            of the similarities along the path.
    """

    cells: Ids
    similarity: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search.

    Attributes:
        ks: Matches kept on each level.
        score: ``"level"`` ranks by the similarity on the level alone, ``"path"`` by the weighted
            mean of the similarities from the coarsest level on.
        weights: Weight of each level in a path.
        block_bytes: Bytes of candidates gathered at once.
    """

    ks: tuple[int, ...]
    score: Score = "level"
    weights: tuple[float, ...] = ()
    block_bytes: int = 32 << 20


def coarse_to_fine(
    cells: Cells,
    shapes: Sequence[Shape],
    vectors: Sequence[Floats],
    plan: Plan,
    *,
    allowed: Ids | None = None,
) -> list[Matches]:
    """Find the matches of every cell of a query on every level.

    Args:
        cells: The memory.
        shapes: Sides of the query's grids, coarsest first.
        vectors: float32 ``(cells, width)`` of each level, of length 1 or 0.
        plan: How to search.
        allowed: Samples that take part, as positions in the layout; None means all.

    Returns:
        Matches of each level, coarsest first.
    """
    found = [_whole_level(cells, vectors[0], plan, allowed)]
    for level in range(1, len(shapes)):
        below = children(shapes[level], shapes[level - 1])
        found.append(_refine(cells, level, found[-1], below, vectors[level], plan))
    return found


def flat(
    cells: Cells,
    shapes: Sequence[Shape],
    vectors: Sequence[Floats],
    plan: Plan,
    k: int,
    *,
    allowed: Ids | None = None,
) -> Matches:
    """Compare every finest cell of a query with every labelled finest cell of the memory.

    This is what the coarse-to-fine search stands in for: the same score, no pruning. The memory's
    cells are laid out a few samples at a time.

    Args:
        cells: The memory.
        shapes: As for ``coarse_to_fine``.
        vectors: As for ``coarse_to_fine``.
        plan: Says by what cells are ranked, and how much is laid out at once.
        k: Matches of each cell.
        allowed: As for ``coarse_to_fine``.
    """
    samples = np.flatnonzero(cells.alive) if allowed is None else allowed
    k = min(k, max(1, len(cells.levels[-1])))
    queries, known = path_vectors(cells, shapes, vectors, plan)
    size = max(len(cells.levels[-1]) // max(len(cells.ids), 1), 1) * 4 * queries.shape[1]
    step = max(1, 8 * plan.block_bytes // size)
    best = np.full((len(queries), k), -1)
    score = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, len(samples), step):
        places = cells.levels[-1].places_of(samples[start : start + step])
        places = places[cells.valid[places]]
        index = ExactIndex(queries.shape[1], "dot")
        index.add(places, known(places))
        found = index.search(queries, k)
        places = np.concatenate([best, found[0]], axis=1)
        scores = np.concatenate([score, found[1]], axis=1)
        # Places grow from block to block, so a stable sort keeps the order by place.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, score = (np.take_along_axis(each, order, axis=1) for each in (places, scores))
    return Matches(best, score, score)


def path_vectors(
    cells: Cells, shapes: Sequence[Shape], vectors: Sequence[Floats], plan: Plan
) -> tuple[Floats, Callable[[Ids], Floats]]:
    """Write what finest cells are ranked by as one vector each: its dot product is the score.

    Returns:
        Vectors of the query's finest cells, and a function that gives those of the memory's, by
        place; -1 reads any.
    """
    last = len(shapes) - 1
    own = _stacked(vectors, [chain(shapes, last, level) for level in range(last + 1)], plan)

    def known(places: Ids) -> Floats:
        """Vectors of finest cells of the memory, joined from those of their ancestors."""
        ancestors = [np.maximum(places, 0)]
        for level in range(len(cells.levels) - 1, 0, -1):
            ancestors.insert(0, cells.levels[level].parent[ancestors[0]])
        return _stacked([level.vectors for level in cells.levels], ancestors, plan)

    return own, known


def _stacked(vectors: Sequence[NDArray[Any]], ancestors: Sequence[Ids], plan: Plan) -> Floats:
    """Vectors side by side whose dot product is the score: of the path, or of the last level."""
    if plan.score == "level":
        return vectors[-1][ancestors[-1]].astype(np.float32, copy=False)
    shares = np.sqrt(np.array(plan.weights) / sum(plan.weights)).astype(np.float32)
    parts = [
        share * level[above].astype(np.float32, copy=False)
        for share, level, above in zip(shares, vectors, ancestors, strict=True)
    ]
    return np.concatenate(parts, axis=-1)


def _cells_of(cells: Cells, level: int, samples: Ids | None) -> Ids | None:
    return None if samples is None else cells.levels[level].places_of(samples)


def _whole_level(cells: Cells, vectors: Floats, plan: Plan, allowed: Ids | None) -> Matches:
    # More matches than there are cells would be padding alone.
    k = min(plan.ks[0], max(1, len(cells.index)))
    places, similarity = cells.index.search(vectors, k, allowed=_cells_of(cells, 0, allowed))
    return Matches(places, similarity, similarity)


def _refine(
    cells: Cells, level: int, above: Matches, below: Ids, vectors: Floats, plan: Plan
) -> Matches:
    """Compare the children of each query cell with the children of what it matched."""
    k, rows = min(plan.ks[level], max(1, len(cells.levels[level]))), len(vectors)
    places = np.full((rows, k), -1)
    similarity = np.full((rows, k), -np.inf, np.float32)
    score = np.full((rows, k), -np.inf, np.float32)
    memory = cells.levels[level]
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
        for into, values in zip((places, similarity, score), best, strict=True):
            into[row, :asked] = values
    return Matches(places, similarity, score)


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
    # Vectors have length 1 or less, so a float32 product errs by less than this.
    error = np.float32(2.0 * (width + 8) * ULP)
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
