"""How unlike its surroundings a cell is, and which cells a sparse memory keeps (PARMESAN)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.pyramids import Pyramid
from recollect.readout.grids import Shape, chain, children, neighbors, parents
from recollect.readout.propagation import unit_rows
from recollect.types import Doubles, Floats

Order = Literal["coarse_first", "fine_first"]


def novelty(features: Floats, shape: Shape, *, radius: int = 1, of: str = "mean") -> Doubles:
    """Return 1 minus the cosine similarity of each cell to the cells around it.

    Args:
        features: ``(cells, width)`` in raster order.
        shape: Sides of the grid.
        radius: Chebyshev radius of the surroundings.
        of: ``"mean"`` similarity to the cells around, or ``"max"``, the most similar one.

    Returns:
        float64 ``(cells,)``; 1 for a cell that has nothing around it.

    Example:
        >>> novelty(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), (3,)).tolist()
        [0.0, 0.5, 1.0]
    """
    unit = unit_rows(features.astype(np.float64))
    around = neighbors(shape, radius)
    counts = (around >= 0).sum(axis=1)
    total = np.zeros(len(unit)) if of == "mean" else np.full(len(unit), -np.inf)
    for column in range(around.shape[1]):
        there = around[:, column] >= 0
        similarity = np.einsum("nd,nd->n", unit[there], unit[around[there, column]])
        if of == "mean":
            total[there] += similarity
        else:
            total[there] = np.maximum(total[there], similarity)
    if of == "mean":
        total /= np.maximum(counts, 1)
    return np.where(counts > 0, 1.0 - total, 1.0)


def kept_cells(
    pyramid: Pyramid, sparse_levels: int, *, radius: int = 1, order: Order = "coarse_first"
) -> list[NDArray[np.int64] | None]:
    """Choose the cells of a sample that a sparse memory keeps.

    Coarser levels stay whole. On each of the finest ``sparse_levels`` levels one child of every
    kept parent stays: the most novel one, ties to the lowest cell. With ``order="fine_first"`` the
    most novel finest cell below each cell of the last whole level stays, with its ancestors.

    Returns:
        Per level the cells kept, ascending, or None for all.
    """
    levels = len(pyramid.features)
    kept: list[NDArray[np.int64] | None] = [None] * levels
    first = levels - sparse_levels
    if not sparse_levels:
        return kept
    if order == "fine_first":
        return _finest_first(pyramid, first, radius)
    above = np.arange(len(pyramid.features[first - 1]))
    for level in range(first, levels):
        score = novelty(pyramid.features[level], pyramid.shapes[level], radius=radius)
        below = children(pyramid.shapes[level], pyramid.shapes[level - 1])[above]
        above = np.sort(_most_novel(score, below))
        kept[level] = above
    return kept


def _most_novel(score: Doubles, below: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each row of cells the one with the highest score, ties to the lowest."""
    scores = np.where(below >= 0, score[below], -np.inf)
    best: NDArray[np.int64] = below[np.arange(len(below)), scores.argmax(axis=1)]
    return best


def _finest_first(pyramid: Pyramid, first: int, radius: int) -> list[NDArray[np.int64] | None]:
    levels = len(pyramid.features)
    kept: list[NDArray[np.int64] | None] = [None] * levels
    score = novelty(pyramid.features[-1], pyramid.shapes[-1], radius=radius)
    ancestor = chain(pyramid.shapes, levels - 1, first - 1)
    order = np.lexsort((np.arange(len(score)), -score, ancestor))
    chosen = order[np.unique(ancestor[order], return_index=True)[1]]
    for level in range(levels - 1, first - 1, -1):
        kept[level] = np.unique(chosen)
        if level > first:
            chosen = parents(pyramid.shapes[level], pyramid.shapes[level - 1])[chosen]
    return kept
