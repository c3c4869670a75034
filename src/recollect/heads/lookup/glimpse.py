"""The eye: squares of growing size around one place, pooled to the same few cells each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.heads.lookup.layout import Layout


def quantize(x: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Round numbers in [0, 1] to codes; what lies outside is clamped first.

    Args:
        x: Any shape.
        bits: Bits per code, 1 to 8.

    Returns:
        uint8, the same shape: ``floor(x (2**bits - 1) + 0.5)``.

    Example:
        >>> quantize(np.array([-1.0, 0.49, 0.5, 2.0]), bits=1)
        array([0, 0, 1, 1], dtype=uint8)
    """
    levels = (1 << bits) - 1
    codes: NDArray[np.uint8] = np.floor(np.clip(x, 0.0, 1.0) * levels + 0.5).astype(np.uint8)
    return codes


def integral(images: NDArray[Any]) -> NDArray[np.float64]:
    """Add up pixels from the corner, so that any rectangle is four look-ups.

    Args:
        images: ``(n, side, side)``.

    Returns:
        float64 ``(n, side + 1, side + 1)``; exact for whole pixel values.
    """
    n, rows, columns = images.shape
    sums = np.zeros((n, rows + 1, columns + 1))
    np.cumsum(np.cumsum(images, axis=1, dtype=np.float64), axis=2, out=sums[:, 1:, 1:])
    return sums


def glimpse(sums: NDArray[np.float64], locations: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Look at one place of each image.

    A patch of ``size`` pixels around ``i`` covers ``i - size // 2`` and the ``size - 1`` pixels
    after it; outside the image everything is 0.

    Args:
        sums: What :func:`integral` returned, ``(n, side + 1, side + 1)``.
        locations: ``(n, 2)``, whole numbers: column and row.
        layout: Sizes, and the range of pixel values.

    Returns:
        uint8 codes ``(n, phi)``, patch by patch, row by row; float32 in [0, 1] where
        ``phi_bits`` is 0.
    """
    places = np.asarray(locations, np.int64)
    parts = []
    for cell in layout.cell_sides:
        totals = _pooled(sums, places, layout.glimpse, cell)
        parts.append(_codes(totals, cell * cell, layout))
    return np.concatenate(parts, axis=1)


def pool_everywhere(
    sums: NDArray[np.float64], starts: NDArray[np.int64], cell: int, layout: Layout
) -> NDArray[Any]:
    """Pool cells of one size wherever they begin.

    Args:
        sums: What :func:`integral` returned, ``(n, side + 1, side + 1)``.
        starts: First pixels of a cell, along columns and along rows; they may lie outside.
        cell: Side of a cell, in pixels.
        layout: Bits, and the range of pixel values.

    Returns:
        Codes, or floats where ``phi_bits`` is 0: ``(n, len(starts), len(starts))``.
    """
    side = sums.shape[1] - 1
    low, high = np.clip(starts, 0, side), np.clip(starts + cell, 0, side)
    blocks = []
    for start in range(0, len(sums), 2048):  # the differences of all images would be large
        some = sums[start : start + 2048]
        across = some[:, :, high] - some[:, :, low]
        blocks.append(_codes(across[:, high] - across[:, low], cell * cell, layout))
    return np.concatenate(blocks)


def _codes(totals: NDArray[np.float64], area: int, layout: Layout) -> NDArray[Any]:
    span = area * (layout.high - layout.low)
    above = totals - area * layout.low
    if not layout.phi_bits:
        return np.clip(above / span, 0.0, 1.0).astype(np.float32)
    levels = (1 << layout.phi_bits) - 1
    # One division of what is exact for whole pixel values: the same bits in every language.
    codes = np.floor((2 * levels * above + span) / (2 * span))
    return np.clip(codes, 0, levels).astype(np.uint8)


def _pooled(
    sums: NDArray[np.float64], locations: NDArray[np.int64], cells: int, cell: int
) -> NDArray[np.float64]:
    """Sum the pixels of each cell of one patch."""
    side = sums.shape[1] - 1
    size = cells * cell
    edges = np.arange(cells + 1) * cell - size // 2
    columns = np.clip(locations[:, 0, None] + edges, 0, side)
    rows = np.clip(locations[:, 1, None] + edges, 0, side)
    image = np.arange(len(sums))[:, None, None]
    corners = sums[image, rows[:, :, None], columns[:, None, :]]
    totals: NDArray[np.float64] = np.diff(np.diff(corners, axis=1), axis=2)
    return totals.reshape(len(sums), cells * cells)
