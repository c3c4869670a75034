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
Novelty = Literal["mean", "max"]


def novelty(features: Floats, shape: Shape, *, radius: int = 1, of: Novelty = "mean") -> Doubles:
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
    pyramid: Pyramid,
    sparse_levels: int,
    *,
    keep: int = 1,
    radius: int = 1,
    of: Novelty = "mean",
    order: Order = "coarse_first",
) -> list[NDArray[np.int64] | None]:
    """Choose the cells of a sample that a sparse memory keeps.

    Coarser levels stay whole. On each of the finest ``sparse_levels`` levels the ``keep`` most
    novel children of every kept parent stay, ties to the lowest cell; the paper keeps one. With
    ``order="fine_first"`` the most novel finest cells below each cell of the last whole level stay,
    as many as ``keep`` to the power of the sparse levels, with their ancestors.

    Returns:
        Per level the cells kept, ascending, or None for all.
    """
    levels = len(pyramid.features)
    kept: list[NDArray[np.int64] | None] = [None] * levels
    first = levels - sparse_levels
    if not sparse_levels:
        return kept
    if order == "fine_first":
        score = novelty(pyramid.features[-1], pyramid.shapes[-1], radius=radius, of=of)
        return _finest_first(pyramid, score, first, keep**sparse_levels)
    above = np.arange(len(pyramid.features[first - 1]))
    for level in range(first, levels):
        score = novelty(pyramid.features[level], pyramid.shapes[level], radius=radius, of=of)
        below = children(pyramid.shapes[level], pyramid.shapes[level - 1])[above]
        above = np.sort(_most_novel(score, below, keep))
        kept[level] = above
    return kept


def _most_novel(score: Doubles, below: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
    """Of each row of cells those with the highest scores, ties to the lowest."""
    scores = np.where(below >= 0, score[below], -np.inf)
    first = np.argsort(-scores, axis=1, kind="stable")[:, :keep]
    best: NDArray[np.int64] = np.take_along_axis(below, first, axis=1)
    return best[best >= 0]


def _finest_first(
    pyramid: Pyramid, score: Doubles, first: int, keep: int
) -> list[NDArray[np.int64] | None]:
    levels = len(pyramid.features)
    kept: list[NDArray[np.int64] | None] = [None] * levels
    ancestor = chain(pyramid.shapes, levels - 1, first - 1)
    order = np.lexsort((np.arange(len(score)), -score, ancestor))
    begin = np.unique(ancestor[order], return_index=True)[1]
    rank = np.arange(len(order)) - np.repeat(begin, np.diff(begin, append=len(order)))
    chosen = order[rank < keep]
    for level in range(levels - 1, first - 1, -1):
        kept[level] = np.unique(chosen)
        if level > first:
            chosen = parents(pyramid.shapes[level], pyramid.shapes[level - 1])[chosen]
    return kept
