"""Coarse-to-fine search: the matches of every cell of a query, level by level (PARMESAN).

On the coarsest level a cell is compared with every cell of the memory. On each finer level it is
compared with the children of what its parent matched, and with nothing else. Only the first step
grows with the memory.

A match has the same bits whatever else is in the memory: see ``refinement``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.cells import Cells
from recollect.heads.dense_memory.plan import Matches, Plan
from recollect.heads.dense_memory.refinement import refine
from recollect.index.exact import ExactIndex
from recollect.readout.grids import Shape, chain, children
from recollect.types import Floats, Ids


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
        found.append(refine(cells, level, found[-1], below, vectors[level], plan))
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
    k = min(k, max(1, cells.living(len(cells.levels) - 1)))
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
        place; zeros for -1.
    """
    last = len(shapes) - 1
    own = _stacked(vectors, [chain(shapes, last, level) for level in range(last + 1)], plan)

    def known(places: Ids) -> Floats:
        """Vectors of finest cells of the memory, joined from those of their ancestors."""
        ancestors = [np.maximum(places, 0)]
        for level in range(len(cells.levels) - 1, 0, -1):
            ancestors.insert(0, cells.levels[level].parent[ancestors[0]])
        found = _stacked([level.vectors for level in cells.levels], ancestors, plan)
        found[places < 0] = 0  # whatever lies at place 0 would count in what is noise
        return found

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
