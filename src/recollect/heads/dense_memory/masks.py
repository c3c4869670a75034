"""Labels and values of pixels <-> of cells, on grids of any dimension."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import DimensionMismatch, InvalidLabel, InvalidType, NonFinite
from recollect.readout.grids import Shape
from recollect.types import Doubles, Ids

EXACT = 2.0**53  # the whole numbers to which float64 holds every one
_BYTES = bytes(range(256))
# Codes above are written with two bytes, and above these with four.
_CODES = ((255, np.uint8), (65_535, np.uint16), (2**32 - 1, np.uint32))


def check_mask(
    given: Any,
    name: str,
    size: Shape,
    ignore: int,
    *,
    exact: bool,
    allowed: Sequence[int] | None = None,
) -> NDArray[Any]:
    """Judge a mask of labels.

    Args:
        given: Whole numbers, one a pixel; ``ignore`` where there is no label.
        name: How an error calls it.
        size: Size of the image, or sides of the finest grid.
        ignore: The value that stands for "no label".
        exact: True: the mask has exactly this size. False: no side is shorter.
        allowed: The labels there are; None means all from 0.

    Returns:
        Whole numbers of the mask's size: int64, or uint8 as they were given.

    Raises:
        DimensionMismatch: Another size.
        InvalidLabel: A label below 0, one that is not allowed, or none at all.
        InvalidType: No whole numbers.
    """
    mask = _array(given, name, "whole numbers, one a pixel")
    if mask.dtype.kind == "f" and (np.abs(mask) <= EXACT).all() and (mask == np.rint(mask)).all():
        mask = mask.astype(np.int64)
    if mask.dtype.kind not in "iub":
        raise InvalidType(
            f"{name} is no mask of labels",
            expected="whole numbers",
            got=f"{mask.dtype} of shape {mask.shape}",
            remedy="Use DenseMemoryRegressor for numbers with a fraction.",
        )
    _check_size(mask.shape, name, size, exact=exact)
    if mask.dtype.kind == "u" and int(mask.max()) > np.iinfo(np.int64).max:
        raise InvalidLabel(
            f"{name} holds a label that is too large", expected="labels below 2^63",
            got=int(mask.max()), remedy="Number the labels anew.",
        )  # fmt: skip
    labels = mask if mask.dtype == np.uint8 else mask.astype(np.int64)
    known = labels != ignore
    if not known.any():
        raise InvalidLabel(
            f"{name} has no labelled pixel",
            expected=f"at least one label other than {ignore}",
            got="only pixels to ignore",
            remedy="Leave the sample out, or label a part of it.",
        )
    if labels.dtype != np.uint8 and labels[known].min() < 0:
        raise InvalidLabel(
            f"{name} holds an unknown label",
            expected=f"0 or more, or {ignore} for pixels to ignore",
            got=int(labels[known].min()),
            remedy="Set ignore= to the value that stands for no label.",
        )
    if allowed is not None:
        _check_allowed(labels, known, allowed, name)
    return labels


def _check_allowed(
    labels: NDArray[np.int64], known: NDArray[np.bool_], allowed: Sequence[int], name: str
) -> None:
    strange = known & ~np.isin(labels, np.asarray(allowed, np.int64))
    if strange.any():
        place = tuple(np.argwhere(strange)[0].tolist())
        raise InvalidLabel(
            f"{name} holds an unknown label",
            expected=f"one of {', '.join(map(str, sorted(allowed))):.80}",
            got=f"{labels[place]} at pixel {place}, in {strange.sum()} pixels in all",
            remedy="Add it to labels=, or replace it by the value to ignore.",
        )


def check_target(given: Any, name: str, size: Shape, *, exact: bool) -> NDArray[np.float32]:
    """Judge values of pixels: ``(*size)`` or ``(*size, width)``; NaN where there is none.

    Returns:
        float32 ``(*size, width)``.

    Raises:
        DimensionMismatch: Another size.
        NonFinite: Infinity, or no value at all.
        InvalidType: No numbers.
    """
    target = _array(given, name, "floats, one or several a pixel")
    if target.dtype.kind not in "fiub":
        raise InvalidType(
            f"{name} holds no numbers", expected="floats", got=f"{target.dtype}",
            remedy="Convert it to floats, NaN where there is no value.",
        )  # fmt: skip
    if target.ndim == len(size):
        target = target[..., None]
    _check_size(target.shape[:-1], name, size, exact=exact)
    if not target.shape[-1]:
        raise DimensionMismatch(
            f"{name} holds no number a pixel", expected="one or several", got="none",
            remedy="Give targets as (*size) or (*size, width).",
        )  # fmt: skip
    with np.errstate(over="ignore"):
        values = target.astype(np.float32)
    if np.isinf(values).any():
        raise NonFinite(
            f"{name} holds infinity", expected="finite values, NaN where there is none",
            got="infinity", remedy="Replace it by NaN, or clip it.",
        )  # fmt: skip
    if np.isnan(values).any(axis=-1).all():
        raise NonFinite(
            f"{name} has no value at all", expected="at least one pixel with a value", got="NaN",
            remedy="Leave the sample out.",
        )  # fmt: skip
    return values


def _array(given: Any, name: str, expected: str) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except ValueError as error:  # rows of several lengths
        raise DimensionMismatch(
            f"{name} is no grid", expected=expected, got=f"{error}",
            remedy="Give every row the same length.",
        ) from error  # fmt: skip


def _check_size(got: Shape, name: str, size: Shape, *, exact: bool) -> None:
    fits = (
        got == tuple(size)
        if exact
        else len(got) == len(size)
        and all(side >= least for side, least in zip(got, size, strict=True))
    )
    if not fits:
        raise DimensionMismatch(
            f"{name} is of another size than its sample",
            expected=f"{tuple(size)}" + ("" if exact else " or larger"),
            got=f"{got}",
            remedy="Bring masks to the size of their images without interpolating labels.",
        )


def coded(mask: NDArray[Any], ignore: int) -> dict[str, NDArray[Any]]:
    """Write a mask small: the labels that occur, and a code a pixel, the last for no label.

    Example:
        >>> coded(np.array([7, 255, 7]), 255)["mask"].tolist()
        [0, 1, 0]
    """
    if mask.dtype == np.uint8:
        return _coded_bytes(mask, ignore)
    low, high = int(mask.min()), int(mask.max())
    if high - low < 4 * mask.size:  # a table of all that may occur is faster than sorting
        shifted = mask - low
        there = np.bincount(shifted.ravel()) > 0
        labels = np.flatnonzero(there) + low
        labels = labels[labels != ignore]
        table = np.full(len(there), len(labels), _kind(len(labels)))
        table[labels - low] = np.arange(len(labels))
        codes = table[shifted]
    else:
        labels = np.unique(mask)
        labels = labels[labels != ignore]
        codes = np.searchsorted(labels, mask)
        codes[mask == ignore] = len(labels)
    return {"labels": labels, "mask": codes.astype(_kind(len(labels)), copy=False)}


def _coded_bytes(mask: NDArray[np.uint8], ignore: int) -> dict[str, NDArray[Any]]:
    """The same of a mask of bytes, which Python translates in half of NumPy's time."""
    pixels = mask.tobytes()
    there = np.ones(256, bool)
    there[np.frombuffer(_BYTES.translate(None, delete=pixels), np.uint8)] = False
    labels = np.flatnonzero(there)
    labels = labels[labels != ignore]
    table = np.full(256, min(len(labels), 255), np.uint8)
    table[labels] = np.arange(len(labels))
    codes = np.frombuffer(pixels.translate(table.tobytes()), np.uint8).reshape(mask.shape)
    return {"labels": labels, "mask": codes.astype(_kind(len(labels)), copy=False)}


def _kind(labels: int) -> Any:
    """The smallest dtype that holds so many codes, and one for no label."""
    return next(dtype for most, dtype in _CODES if labels <= most)


@lru_cache(maxsize=16)
def cell_of_pixel(size: Shape, grid: Shape) -> Ids:
    """Return the cell of every pixel: on each axis ``floor(pixel * cells / pixels)``.

    Example:
        >>> cell_of_pixel((5,), (2,)).tolist()
        [0, 0, 0, 1, 1]
    """
    total: NDArray[np.int64] = np.zeros((), np.int64)
    for pixels, cells in zip(size, grid, strict=True):
        total = total[..., None] * cells + np.arange(pixels) * cells // pixels
    cells_of = total.ravel()
    cells_of.flags.writeable = False  # one array serves every caller
    return cells_of


@lru_cache(maxsize=16)
def _slot_of_pixel(size: Shape, grid: Shape, codes: int) -> Ids:
    """The first slot of each pixel's cell, where every cell has a slot for each code."""
    slots: Ids = cell_of_pixel(size, grid) * codes
    slots.flags.writeable = False
    return slots


def cell_counts(mask: NDArray[Any], classes: int, grid: Shape) -> NDArray[np.int64]:
    """Count the labels in every cell.

    Args:
        mask: Codes ``(*size)``; those from ``classes`` on are not counted.
        classes: How many codes are counted.
        grid: Sides of the grid, none longer than those of the mask.

    Returns:
        int64 ``(cells, classes)``.

    Example:
        >>> cell_counts(np.array([0, 0, 1, 2]), 2, (2,)).tolist()
        [[2, 0], [0, 1]]
    """
    cells = int(np.prod(grid))
    slots = _slot_of_pixel(mask.shape, grid, classes + 1) + np.minimum(mask.ravel(), classes)
    counts = np.bincount(slots, minlength=cells * (classes + 1)).reshape(cells, classes + 1)
    return counts[:, :classes]


def cell_means(target: NDArray[np.float32], grid: Shape) -> tuple[Doubles, NDArray[np.bool_]]:
    """Average values over every cell.

    Args:
        target: ``(*size, width)``, NaN where there is none.
        grid: Sides of the grid.

    Returns:
        float64 ``(cells, width)``, 0 where a cell has no value, and which cells have one.
    """
    cells, width = int(np.prod(grid)), target.shape[-1]
    place = cell_of_pixel(target.shape[:-1], grid)
    flat = target.reshape(-1, width)
    known = ~np.isnan(flat).any(axis=1)
    counts = np.bincount(place[known], minlength=cells)
    sums = np.stack(
        [np.bincount(place[known], flat[known, column], cells) for column in range(width)], axis=1
    )
    return sums / np.maximum(counts, 1)[:, None], counts > 0


def enlarge(values: NDArray[Any], grid: Shape, size: Shape) -> NDArray[np.float32]:
    """Interpolate values of cells linearly to pixels; cells and pixels meet at their borders.

    Args:
        values: ``(cells, width)``.
        grid: Sides of the grid.
        size: Size wanted.

    Returns:
        float32 ``(*size, width)``.

    Example:
        >>> enlarge(np.array([[0.0], [1.0]]), (2,), (4,))[:, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    result = values.reshape(*grid, -1).astype(np.float32)
    for axis, (cells, pixels) in enumerate(zip(grid, size, strict=True)):
        if cells == pixels:
            continue
        place = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, cells - 1)
        share = (place - low).astype(np.float32)
        share = share.reshape(-1, *[1] * (result.ndim - axis - 1))
        lower = np.take(result, low, axis=axis)
        lower += (np.take(result, high, axis=axis) - lower) * share
        result = lower
    return result
