"""Answers at full size: each match pastes the pixels of its cell, not their summary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.dense_memory.cells import Cells
from recollect.heads.dense_memory.masks import cell_of_pixel
from recollect.readout.grids import Shape
from recollect.types import Ids

Lookup = Callable[[int, tuple[NDArray[np.int64], ...]], NDArray[Any]]


def paste(
    cells: Cells,
    best: Ids,
    grid: Shape,
    size: Shape,
    lookup: Lookup,
    size_of: Callable[[int], Shape],
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Read every pixel of a query where it would lie in the cell that its own cell matched.

    Args:
        cells: The memory.
        best: int64 ``(query cells,)``: the match of each; -1 where there is none.
        grid: Sides of the query's finest grid.
        size: Size wanted.
        lookup: Reads pixels of a sample: position in the layout, and indices on every axis.
        size_of: Size of a sample's mask, by position.

    Returns:
        Pixels that have a match, as flat indices, and what ``lookup`` gave for them.
    """
    cell = cell_of_pixel(size, grid)
    match = best[cell]
    pixels = np.flatnonzero(match >= 0)
    finest = cells.levels[-1]
    sample, node = finest.sample[match[pixels]], finest.node[match[pixels]]
    order = np.argsort(sample, kind="stable")
    starts = np.flatnonzero(np.diff(sample[order], prepend=-1))
    read: list[NDArray[Any]] = []
    for part in np.split(order, starts[1:]):
        position = int(sample[part[0]])
        shape = cells.shapes[position][-1]
        there = _places(pixels[part], grid, size, node[part], shape, size_of(position))
        read.append(lookup(position, there))
    return pixels[order], np.concatenate(read)


def _places(
    pixels: Ids, grid: Shape, size: Shape, node: Ids, shape: Shape, stored: Shape
) -> tuple[NDArray[np.int64], ...]:
    """Where each pixel lies in the stored mask, as far into its cell as in the query's."""
    into = np.unravel_index(pixels, size)
    cell = np.unravel_index(node, shape)
    found = []
    for axis in range(len(grid)):
        share = (into[axis] * grid[axis] % size[axis]) / size[axis]
        place = ((cell[axis] + share) * stored[axis] / shape[axis]).astype(np.int64)
        low = -(-cell[axis] * stored[axis] // shape[axis])
        high = -(-(cell[axis] + 1) * stored[axis] // shape[axis]) - 1
        found.append(np.clip(place, low, high))
    return tuple(found)
