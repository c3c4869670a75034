"""How the cells of grids hang together: parents, children and neighbors, in any dimension.

A grid has 1, 2, 3 or more axes; its cells are numbered in raster (C) order. PARMESAN
(arXiv 2403.11743) searches and reads a pyramid of such grids, coarsest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from recollect.types import Ids

Shape = tuple[int, ...]


@lru_cache(maxsize=256)
def parents(fine: Shape, coarse: Shape) -> Ids:
    """Return the parent of every cell of a finer grid.

    On each axis the parent of place c is ``floor(c * coarse / fine)``: every cell has exactly one
    parent, also where the sides are no multiples of each other.

    Args:
        fine: Sides of the finer grid, none smaller than those of ``coarse``.
        coarse: Sides of the coarser grid, as many.

    Returns:
        int64 ``(cells of fine,)``, read-only.

    Example:
        >>> parents((4,), (2,)).tolist(), parents((3,), (2,)).tolist()
        ([0, 0, 1, 1], [0, 0, 1])
    """
    places = np.indices(fine).reshape(len(fine), -1)
    above = [axis * small // large for axis, large, small in zip(places, fine, coarse, strict=True)]
    return _frozen(np.ravel_multi_index(above, coarse).astype(np.int64))


@lru_cache(maxsize=256)
def children(fine: Shape, coarse: Shape) -> Ids:
    """Return the children of every cell of a coarser grid, ascending, padded with -1.

    Returns:
        int64 ``(cells of coarse, most children)``, read-only.

    Example:
        >>> children((3,), (2,)).tolist()
        [[0, 1], [2, -1]]
    """
    above = parents(fine, coarse)
    counts = np.bincount(above, minlength=int(np.prod(coarse)))
    below = np.full((len(counts), int(counts.max())), -1, np.int64)
    order = np.argsort(above, kind="stable")
    first = np.cumsum(counts) - counts
    below[above[order], np.arange(len(above)) - first[above[order]]] = order
    return _frozen(below)


def chain(shapes: Sequence[Shape], fine: int, coarse: int) -> Ids:
    """Return the ancestor on level ``coarse`` of every cell of level ``fine``.

    Example:
        >>> chain([(1,), (2,), (4,)], 2, 0).tolist()
        [0, 0, 0, 0]
    """
    above = np.arange(int(np.prod(shapes[fine])))
    for level in range(fine, coarse, -1):
        above = parents(shapes[level], shapes[level - 1])[above]
    return above


@lru_cache(maxsize=256)
def neighbors(shape: Shape, radius: int) -> Ids:
    """Return the cells within a Chebyshev radius of every cell, ascending, itself left out.

    Returns:
        int64 ``(cells, (2 * radius + 1) ** axes - 1)``, read-only; -1 stands for a place beyond the
        border.

    Example:
        >>> neighbors((3,), 1).tolist()
        [[-1, 1], [0, 2], [1, -1]]
    """
    places = np.indices(shape).reshape(len(shape), -1)
    found = []
    for offset in product(range(-radius, radius + 1), repeat=len(shape)):
        if not any(offset):
            continue
        moved = [axis + step for axis, step in zip(places, offset, strict=True)]
        inside = np.ones(places.shape[1], bool)
        for axis, side in zip(moved, shape, strict=True):
            inside &= (axis >= 0) & (axis < side)
        there = np.ravel_multi_index(moved, shape, mode="clip")
        found.append(np.where(inside, there, -1))
    width = len(found)
    several = np.stack(found, axis=1) if width else np.empty((places.shape[1], 0))
    return _frozen(several.astype(np.int64))


def _frozen(array: NDArray[np.int64]) -> Ids:
    # One array serves every caller.
    array.flags.writeable = False
    return array
